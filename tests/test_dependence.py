"""Training images that come in lots are found and held out together; independent ones stay."""

import logging

import numpy as np
import pytest

from skstructcore import CoresetBank, RoutedKNNScorer, StructCoreScorer
from skstructcore.bank.dependence import (
    Explanations,
    cluster,
    dependence_reach,
    who_explains_whom,
)
from skstructcore.scoring.decision import decide

GRID = (8, 8, 8)


def in_lots(n_images, length, strength=2.0, seed=0):
    """Images whose patches share a random part with all of their lot."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(-(-n_images // length), *GRID))
    own = rng.normal(size=(n_images, *GRID))
    return (strength * np.repeat(shared, length, axis=0)[:n_images] + own).astype(np.float32)


def independent(n_images=60, seed=0):
    return np.random.default_rng(seed).normal(size=(n_images, *GRID)).astype(np.float32)


def fit(X, lots="report", **params):
    bank = CoresetBank(ratio=0.02, lots=lots, random_state=0)
    return bank, bank.fit_transform(X, **params)


@pytest.mark.parametrize("seed", range(5))
def test_independence_changes_nothing(seed):
    X, new = independent(seed=seed), independent(10, seed=100 + seed)
    scores = []
    for groups in ("auto", None):
        bank, patches = fit(X, groups=groups)
        knn = RoutedKNNScorer()
        scorer = StructCoreScorer(false_alarm_rate=0.05).fit(knn.fit_transform(patches))
        scores.append((scorer.score_samples(knn.transform(bank.transform(new))), scorer.offset_))
        np.testing.assert_array_equal(bank.groups_, np.arange(60))
    np.testing.assert_array_equal(scores[0][0], scores[1][0])
    assert scores[0][1] == scores[1][1]


def test_independent_images_are_rarely_taken_for_dependent():
    """At a level of 1 %, with the least ratio asked for: none of 40."""
    found = [fit(independent(40, seed=s))[0].dependence_["all"].found for s in range(40)]
    assert found.count("independent") >= 39


@pytest.mark.parametrize("length", [3, 6, 10])
def test_lots_are_found_and_held_out_together(length):
    bank, patches = fit(in_lots(120, length), "hold-out")
    dependence = bank.dependence_["all"]
    assert dependence.found == "sequence"
    assert abs(dependence.reach - length) <= max(1, 0.2 * length)
    assert dependence.block_length == 2 * dependence.reach
    assert dependence.ratio[0] > dependence.limit[0] > 1
    assert dependence.n_groups == len(np.unique(bank.groups_)) == round(60 / dependence.reach)
    np.testing.assert_array_equal(bank.bank_.groups, bank.groups_[bank.bank_.image_index])
    np.testing.assert_array_equal(patches.groups, bank.groups_)
    assert np.ptp(np.bincount(bank.groups_)) <= 1  # blocks are of nearly equal size
    assert dependence.are_lots and patches.lots is None


def test_lots_that_are_only_reported_change_no_score_and_say_what_a_new_one_would_cost():
    X = in_lots(120, 10)
    bank, patches = fit(X)
    np.testing.assert_array_equal(bank.groups_, np.arange(120))
    held_out, plain = fit(X, "hold-out")[1], fit(X, groups=None)[1]
    np.testing.assert_array_equal(patches.lots, held_out.groups)
    maps = RoutedKNNScorer().fit_transform(patches)
    np.testing.assert_array_equal(maps.values, RoutedKNNScorer().fit_transform(plain).values)
    apart = RoutedKNNScorer().fit_transform(held_out)
    np.testing.assert_allclose(maps.without_lot.values, apart.values, rtol=1e-5)
    scorer = StructCoreScorer(false_alarm_rate=0.05).fit(maps)
    # Each lot left out in turn, by hand.
    scores, rates = -scorer.score_samples(maps.without_lot), []
    for lot in scorer.lots_.lots:
        of_lot = patches.lots == lot
        others = decide(scorer.calibration_.decision.scores[~of_lot], 0.05)
        rates.append((scores[of_lot] > others.threshold).mean())
    np.testing.assert_allclose(scorer.lots_.rates, rates)
    assert scorer.lots_.rates.max() == max(rates) > 0.05


def test_calibration_counts_a_found_group_as_one():
    _, patches = fit(in_lots(120, 10), "hold-out")
    maps = RoutedKNNScorer().fit_transform(patches)
    with pytest.warns(UserWarning, match="120 training images in 6 groups the best guarantee is"):
        StructCoreScorer(false_alarm_rate=0.05, threshold="guaranteed").fit(maps)
    # Held out with its lot, an image is farther from the bank.
    _, alone = fit(in_lots(120, 10), groups=None)
    assert maps.values.mean() > 1.02 * RoutedKNNScorer().fit_transform(alone).values.mean()


def test_clusters_are_found_in_any_order():
    n_groups, order = 15, np.random.default_rng(1).permutation(60)
    tone = 3 * np.random.default_rng(2).normal(size=(15, 1, 1, 8))
    X, true = (independent() + np.repeat(tone, 4, axis=0))[order], (np.arange(60) // 4)[order]
    bank, _ = fit(X)
    assert bank.dependence_["all"].found == "clusters"
    same, truly = (g[:, np.newaxis] == g for g in (bank.groups_, true))
    assert same[~truly].sum() == 0 and same[truly].mean() > 0.8
    assert n_groups <= bank.dependence_["all"].n_groups <= 1.4 * n_groups


def test_a_few_clusters_are_variants_of_a_product_not_lots():
    variant = np.random.default_rng(1).permutation(np.arange(60) % 3)
    X = independent() + 20 * np.eye(8, dtype=np.float32)[variant][:, np.newaxis, np.newaxis]
    np.testing.assert_array_equal(fit(X)[0].groups_, np.arange(60))


def test_given_groups_win_and_none_turns_it_off():
    X = in_lots(60, 6)
    bank, _ = fit(X, groups=np.arange(60) // 2)
    np.testing.assert_array_equal(bank.groups_, np.arange(60) // 2)
    assert bank.dependence_ is None
    bank, _ = fit(X, groups=None)
    np.testing.assert_array_equal(bank.groups_, np.arange(60))
    assert bank.dependence_ is None


def test_each_category_is_looked_at_by_itself():
    X = np.concatenate([independent(40), 30 + in_lots(40, 5, seed=1)])
    # In turn, so that neighbours in the sequence are of different categories.
    order = np.arange(80).reshape(2, 40).T.ravel()
    kinds = np.repeat(["bolt", "nut"], 40)
    bank, _ = fit(X[order], categories=kinds[order])
    assert bank.dependence_["bolt"].found == "independent"
    assert bank.dependence_["nut"].found == "sequence"
    is_bolt = kinds[order] == "bolt"
    assert len(np.unique(bank.groups_[is_bolt])) == 40
    assert not set(bank.groups_[is_bolt]) & set(bank.groups_[~is_bolt])


def test_the_log_says_what_was_found(caplog):
    with caplog.at_level(logging.INFO, "skstructcore"):
        fit(independent())
        fit(in_lots(120, 10))
    records = [r for r in caplog.records if r.name.endswith("dependence")]
    assert [r.levelno for r in records] == [logging.INFO, logging.WARNING]
    assert "none are alike more often than by chance" in records[0].getMessage()
    assert "120 good images come in lots: neighbours" in records[1].getMessage()


@pytest.mark.parametrize("X", [independent(8), np.random.default_rng(0).normal(size=(60, 8))])
def test_few_images_and_tables_are_left_alone(X):
    bank = CoresetBank(ratio=8, random_state=0).fit(X)
    np.testing.assert_array_equal(bank.groups_, np.arange(len(X)))
    assert not bank.dependence_


def test_equal_images_do_no_harm():
    bank, _ = fit(np.repeat(independent(1), 30, axis=0))
    assert len(bank.groups_) == 30


def test_ignored_patches_say_nothing():
    X = in_lots(120, 6)
    X[:, :, :4] = np.nan
    assert fit(X)[0].dependence_["all"].found == "sequence"


def test_near_duplicates_are_found_by_the_few_patches_that_are_not_ignored():
    rng = np.random.default_rng(0)
    pairs = np.repeat(rng.normal(size=(65, 2, 2, 3)), 2, axis=0)
    X = np.full((130, 20, 20, 3), np.nan, dtype=np.float32)
    corners = np.repeat(rng.integers(0, 19, (65, 2)), 2, axis=0)
    for image, patches, (y, x) in zip(X, pairs, corners, strict=True):
        image[y : y + 2, x : x + 2] = patches + rng.normal(0, 0.01, (2, 2, 3))
    found = CoresetBank(ratio=1.0, random_state=0).fit(X).dependence_["all"]
    assert (found.found, found.n_groups, found.explained) == ("clusters", 65, 1.0)


# --- the statistic, by hand --------------------------------------------------------------------


def test_who_explains_whom_names_the_image_of_the_nearest_entry():
    X = np.array([0.0, 1.0, 10.0, 11.5]).reshape(4, 1, 1, 1).astype(np.float32)
    bank = CoresetBank(ratio=1.0, random_state=0).fit(X, groups=None).bank_
    found = who_explains_whom(X, np.arange(4), bank, 4)
    pairs = dict(zip(found.owner.tolist(), found.source.tolist(), strict=True))
    assert pairs == {0: 1, 1: 0, 2: 3, 3: 2}
    np.testing.assert_array_equal(found.weight, 1)
    np.testing.assert_array_equal(found.shares, 0.25)


def test_ratio_is_what_is_explained_over_what_the_shares_let_expect():
    # Four images in a row, each explained by the next (the last by the first); an equal share
    # of the entries each. Expected of each other image: 1/3. Lag 1: 3 of 6 ordered pairs carry
    # weight 1, ratio 3 / (6 / 3) = 1.5. Lag 2: none of 4 pairs. Both lags: 3 / (10 / 3) = 0.9.
    owner, source = np.arange(4), np.array([1, 2, 3, 0])
    found = Explanations(owner, source, np.ones(4), np.full(4, 0.25))
    ratio, limit, p_value, baseline = found.lag_profile()
    np.testing.assert_allclose(ratio, [1.5, 0], atol=1e-9)
    assert limit.shape == (2,) and 0 < p_value <= 1 and baseline == pytest.approx(0.9)


def test_reach_of_lots_is_their_length():
    for m in (2, 4, 8, 16, 32):
        ratio = 1 + 3 * np.maximum(0, 1 - np.arange(1, 120) / m)
        assert abs(dependence_reach(ratio, 1.0) - m) <= max(1, 0.1 * m)


def test_a_chain_is_not_one_cluster():
    found = np.eye(40, k=1) + np.eye(40, k=-1)
    labels = cluster(found / 2, np.full((40, 40), 1 / 39))
    assert np.bincount(labels).max() <= 8
