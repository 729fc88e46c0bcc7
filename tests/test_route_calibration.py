import warnings
from dataclasses import replace

import numpy as np
import pytest

from skstructcore import AnomalyMaps, StructCoreScorer
from skstructcore.containers import TrainingImages


def routed_maps(sizes, scales, seed=0, route_scale=0.1):
    """Maps of routes that differ in scale, with log-normal route distances around 5."""
    rng = np.random.default_rng(seed)
    values = [scale * (1 + rng.random((n, 6, 6))) for n, scale in zip(sizes, scales, strict=True)]
    names = np.repeat([f"p{i}" for i in range(len(sizes))], sizes)
    distances = 5 * np.exp(route_scale * rng.normal(size=len(names)))
    return AnomalyMaps(np.concatenate(values), route=names, route_distance=distances)


def fitted(maps, **params):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return StructCoreScorer(**params).fit(maps)


def test_each_route_is_judged_as_if_it_were_alone():
    maps = routed_maps([40, 40], [1, 100])
    new = routed_maps([20, 20], [1, 100], seed=1)
    together = fitted(maps)
    for name in ("p0", "p1"):
        old, mine = maps[maps.route == name], new[new.route == name]
        alone = fitted(AnomalyMaps(old.values)).describe(AnomalyMaps(mine.values))
        found = together.describe(mine)
        for column in ("base", "d_struct", "z_max", "p_value", "is_anomalous", "area_over"):
            np.testing.assert_allclose(
                found[column].astype(float), alone[column].astype(float), err_msg=column
            )


def test_standardised_scores_are_0_for_normal_images_and_1_at_the_threshold():
    maps = routed_maps([40, 60], [1, 100])
    scorer = fitted(maps, unknown_level=1e-9)
    assert scorer.offset_ == -1
    scores = -scorer.score_samples(maps)
    for name, route in scorer.routes_.items():
        mine = scores[maps.route == name]
        assert np.median(mine) == pytest.approx(0)
        decision = route.calibration.decision
        threshold, training = decision.threshold, decision.scores
        median = np.median(training)
        expected = (training - median) / (threshold - median)
        np.testing.assert_allclose(mine, expected)


def test_far_images_are_unknown_and_anomalous_whatever_their_map():
    maps = routed_maps([40, 40], [1, 1])
    scorer = fitted(maps)
    perfect = AnomalyMaps(
        np.ones((3, 6, 6)), route=np.repeat("p1", 3), route_distance=np.array([5.0, 9.0, 30.0])
    )
    parts = scorer.describe(perfect)
    assert parts["route"].tolist() == ["p1", "unknown", "unknown"]
    assert parts["nearest_route"].tolist() == ["p1"] * 3
    assert parts["is_anomalous"].tolist() == [False, True, True]
    assert scorer.predict(perfect).tolist() == [1, -1, -1]
    assert parts["anomaly_score"][2] > parts["anomaly_score"][1] > 1
    tail = scorer.routes_["p1"].tail
    np.testing.assert_allclose(parts["route_p_value"], tail.p_values(perfect.route_distance))


def test_a_stricter_level_calls_fewer_images_unknown():
    maps, new = routed_maps([60], [1]), routed_maps([200], [1], seed=1, route_scale=0.2)
    shares = [
        (fitted(maps, unknown_level=level).describe(new)["route"] == "unknown").mean()
        for level in (0.2, 0.05, 0.001)
    ]
    assert shares[0] > shares[1] > shares[2]


def test_a_route_of_few_images_takes_the_pooled_statistics_and_says_so():
    maps = routed_maps([40, 5], [1, 1])
    with pytest.warns(UserWarning, match="Fewer than 8 independent training images of p1"):
        scorer = StructCoreScorer().fit(maps)
    assert scorer.routes_["p1"].is_pooled and not scorer.routes_["p0"].is_pooled
    assert scorer.routes_["p1"].calibration is scorer.calibration_
    assert len(scorer.calibration_.decision.scores) == 45


def test_images_of_one_group_count_as_one_for_a_route():
    maps = routed_maps([40, 16], [1, 1])
    groups = np.concatenate([np.arange(40), np.repeat([50, 51], 8)])
    maps = AnomalyMaps(
        maps.values,
        images=TrainingImages(groups),
        route=maps.route,
        route_distance=maps.route_distance,
    )
    assert fitted(maps).routes_["p1"].is_pooled


def test_routes_that_cannot_guarantee_the_rate_are_told_once():
    maps = routed_maps([40, 20, 300], [1, 1, 1])
    with pytest.warns(UserWarning, match=r"2 of 3 routes .*'p1' .* is 4.8%") as told:
        StructCoreScorer(threshold="guaranteed").fit(maps)
    assert len(told) == 1


def test_so_are_those_that_are_judged_together():
    with pytest.warns(UserWarning, match=r"3 of 3 routes .*with 18 training .* is 5.3%") as told:
        StructCoreScorer(threshold="guaranteed").fit(routed_maps([6, 6, 6], [1, 1, 1]))
    assert len(told) == 1 and "Fewer than 8 independent" in str(told[0].message)


def test_statistics_of_routes_cannot_be_taken_away():
    routes = fitted(routed_maps([12, 12], [1, 1])).routes_
    with pytest.raises(AttributeError):
        routes.pop("p0")


def test_maps_of_an_unlearned_route_or_of_none_are_errors():
    scorer = fitted(routed_maps([10], [1]))
    with pytest.raises(ValueError, match="the route 'p1', for which nothing was learned"):
        scorer.predict(routed_maps([10, 10], [1, 1]))
    with pytest.raises(ValueError, match="The training maps had routes"):
        scorer.predict(np.ones((2, 6, 6)))


def test_too_few_groups_to_call_anything_unknown_are_told():
    with pytest.warns(UserWarning, match=r"Fewer than 5 independent .* of p1: hardly any") as told:
        StructCoreScorer().fit(routed_maps([300, 4], [1, 1]))
    assert len(told) == 1


def test_a_distance_to_the_product_that_is_no_number_is_never_an_acceptance():
    maps = routed_maps([40, 40], [1, 1])
    scorer = fitted(maps)
    new = replace(maps[:4], route_distance=np.full(4, np.nan))
    found = scorer.describe(new)
    assert found["is_anomalous"].all() and (found["route"] == "unknown").all()
    assert (scorer.predict(new) == -1).all()
