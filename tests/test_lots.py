"""Lots along the sequence: reported, and held out only if that is asked for."""

import numpy as np

from skstructcore import CoresetBank, make_structcore


def in_lots(n_lots=10, size=12, seed=0, spread=2.0):
    """Images whose patches move from lot to lot."""
    rng = np.random.default_rng(seed)
    moved = spread * rng.normal(size=(n_lots, 1, 1, 1, 8))
    X = moved + rng.normal(size=(n_lots, size, 4, 4, 8))
    return X.reshape(-1, 4, 4, 8).astype(np.float32)


def fitted(X, **params):
    options = {"bank__ratio": 0.2, "structcore__false_alarm_rate": 0.1, **params}
    return make_structcore(**options)[2:].fit(X)


def test_lots_are_reported_and_do_not_move_the_threshold():
    X = in_lots(spread=0.4)
    pipe = fitted(X)
    dependence = pipe["bank"].dependence_["all"]
    assert dependence.found == "sequence" and dependence.are_lots
    assert "come in lots" in str(dependence)
    assert len(np.unique(pipe["bank"].groups_)) == len(X)  # each image by itself
    apart = make_structcore(bank__ratio=0.2, structcore__false_alarm_rate=0.1)[2:]
    apart.fit(X, bank__groups=None)
    assert pipe[-1].offset_ == apart[-1].offset_
    lots = pipe[-1].lots_
    assert lots.n_images.sum() == len(X) and 0 <= lots.mean <= lots.worst <= 1
    assert "each left out in turn" in str(lots)


def test_a_lot_that_training_never_saw_is_announced():
    # The announced share comes near what a new lot brings.
    X = in_lots(spread=0.8)
    pipe = fitted(X[:96])
    new = in_lots(n_lots=40, seed=1, spread=0.8)
    realised = (pipe.predict(new) == -1).mean()
    # 10 % were asked for.
    assert realised > 0.2 and abs(pipe[-1].lots_.mean - realised) < 0.2


def test_hold_out_sets_the_threshold_for_new_lots():
    X = in_lots(spread=0.4)
    reported, held_out = fitted(X), fitted(X, bank__lots="hold-out")
    assert held_out[-1].offset_ < reported[-1].offset_
    assert len(np.unique(held_out["bank"].groups_)) < len(X)


def test_near_duplicates_in_a_row_are_held_out_in_any_case():
    rng = np.random.default_rng(0)
    parts = rng.normal(size=(20, 1, 4, 4, 8))
    X = (parts + 0.05 * rng.normal(size=(20, 5, 4, 4, 8))).reshape(-1, 4, 4, 8)
    bank = CoresetBank(0.5, random_state=0).fit(X.astype(np.float32))
    assert not bank.dependence_["all"].are_lots
    assert len(np.unique(bank.groups_)) <= 20


def test_given_groups_are_asked_as_lots_too():
    X = in_lots(spread=0.0)
    groups = np.repeat(np.arange(10), 12)
    pipe = make_structcore(bank__ratio=0.2)[2:].fit(X, bank__groups=groups)
    assert pipe[-1].lots_.lots.tolist() == list(range(10))
    assert (pipe[-1].lots_.rates < 0.2).all()
