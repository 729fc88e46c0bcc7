"""Several views of one part, and one decision."""

import numpy as np
import pytest
from scipy.stats import false_discovery_control

from skstructcore import describe, describe_parts, load, make_structcore, recalibrate, save
from skstructcore.scoring.parts import score_parts
from skstructcore.scoring.suspects import suspects_of

VIEWS = 5


def views(n_parts, seed, shift=0.0):
    """Patches of `n_parts` parts of five views, each kind of view at a place of its own."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_parts, VIEWS, 3, 3, 6)) + shift
    X += 6 * np.eye(6)[:VIEWS, np.newaxis, np.newaxis]
    return X.reshape(-1, 3, 3, 6).astype(np.float32), np.repeat(np.arange(n_parts), VIEWS)


def fitted(rate=0.1, n_parts=60, **params):
    X, parts = views(n_parts, 0)
    pipe = make_structcore(structcore__false_alarm_rate=rate, bank__ratio=0.1, **params)[2:]
    return pipe.fit(X, bank__parts=parts)


def test_the_score_of_a_part_is_that_of_its_strangest_view_corrected_for_their_number():
    scored = score_parts([0.2, 0.01, 0.5, 0.01], ["b", "b", "a", "c"])
    assert scored.names.tolist() == ["b", "a", "c"]
    # 1 - (1 - 0.01)^2 = 0.0199; one view: the p-value itself.
    np.testing.assert_allclose(np.exp(-scored.scores), [0.0199, 0.5, 0.01])
    assert scored.worst.tolist() == [1, 2, 3] and scored.n_views.tolist() == [2, 1, 1]


def test_the_rate_is_one_of_parts_also_where_views_are_missing():
    pipe = fitted()
    X, parts = views(400, 1)
    table = describe_parts(pipe, X, parts)
    assert len(table) == 400 and (table["n_views"] == VIEWS).all()
    # 10 % of 400 parts; the margin makes it less. By images, 1 - 0.9^5 = 41 % would be rejected.
    assert 0.02 < table["is_anomalous"].mean() < 0.13
    kept = np.random.default_rng(2).random(len(X)) < 0.6
    assert describe_parts(pipe, X[kept], parts[kept])["is_anomalous"].mean() < 0.13


def test_a_defect_in_one_view_rejects_the_part_and_names_the_view():
    pipe = fitted()
    X, parts = views(20, 3)
    X[7, ..., 5] += 12
    row = describe_parts(pipe, X, parts).set_index("part").loc[1]
    assert row["is_anomalous"] and row["worst_view"] == "image 7"
    assert row["p_value"] <= pipe[-1].part_decision_.rate


def test_parts_are_held_out_as_groups_and_views_may_have_routes():
    X, parts = views(30, 0)
    kinds = np.tile([f"camera {i}" for i in range(VIEWS)], 30)
    pipe = make_structcore(structcore__false_alarm_rate=0.1, bank__ratio=0.1)[2:]
    pipe.fit(X, bank__parts=parts, bank__categories=kinds)
    assert len(np.unique(pipe["bank"].groups_)) == 30
    table = describe_parts(pipe, *views(200, 1))
    assert table["is_anomalous"].mean() < 0.15 and set(table["route"]) <= {*kinds, "unknown"}


def test_the_decision_about_parts_is_saved_and_moves_with_the_rate(tmp_path):
    pipe = fitted()
    X, parts = views(50, 4)
    before = describe_parts(pipe, X, parts)
    save(pipe, tmp_path / "parts.structcore")
    again = describe_parts(load(tmp_path / "parts.structcore"), X, parts)
    np.testing.assert_array_equal(again["p_value"], before["p_value"])
    loose = recalibrate(pipe, false_alarm_rate=0.3)
    assert loose[-1].part_decision_.threshold < pipe[-1].part_decision_.threshold


def test_what_cannot_be_is_refused():
    X, parts = views(8, 0)
    plain = make_structcore(bank__ratio=0.1)[2:].fit(X, bank__groups=parts)
    with pytest.raises(ValueError, match=r"fitted without parts.*bank__parts="):
        describe_parts(plain, X, parts)
    pipe = make_structcore(bank__ratio=0.1)[2:].fit(X, bank__parts=parts)
    with pytest.raises(ValueError, match="parts"):
        describe_parts(pipe, X, parts[:-1])
    with pytest.raises(ValueError, match="at least 5 good parts"):
        make_structcore(bank__ratio=0.1)[2:].fit(X[:10], bank__parts=[0, 1] * 5)


def test_suspects_are_those_that_benjamini_and_hochberg_discover():
    pipe = fitted()
    decision = pipe[-1].calibration_.decision
    from skstructcore.scoring.suspects import tail_p_values

    p_values = tail_p_values(decision.scores)
    expected = np.flatnonzero(false_discovery_control(p_values) <= 0.1)
    assert sorted(suspects_of(decision)) == expected.tolist()


def test_fit_names_odd_images_and_says_what_they_cost(caplog, tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(90, 130, (24, 64, 64), dtype=np.uint8)
    images[5] = rng.integers(0, 256, (64, 64))
    pipe = make_structcore("efficientnet_lite0", features__image_size=64)
    with caplog.at_level("INFO", logger="skstructcore"):
        pipe.fit(images)
    said = " ".join(record.getMessage() for record in caplog.records)
    assert "unlike the others: image 5" in said
    assert "rejects about 1 % of good images" in said and "extrapolated from 24 images" in said
    table = describe(pipe, images[:2])
    assert table["image"].tolist() == ["image 0", "image 1"]
