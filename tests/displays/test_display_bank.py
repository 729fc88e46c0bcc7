"""What the bank holds, and which training images explain each other, as pictures."""

from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline

from skstructcore import CoresetBank, RoutedKNNScorer, StructCoreScorer, forget
from skstructcore.display import BankDisplay, DependenceDisplay


def test_bank_display_projects_the_entries_and_counts_them_by_image(pipe, texts):
    display = BankDisplay.from_estimator(pipe)
    bank = pipe["bank"].bank_
    assert display.coordinates.shape == (len(bank), 2)
    assert display.entries_per_image().sum() == len(bank)
    centred = bank.values - bank.values.mean(axis=0)
    explained = (np.linalg.svd(centred, compute_uv=False) ** 2)[:2].sum() / (centred**2).sum()
    assert display.explained == pytest.approx(explained, rel=1e-3)
    (marks,) = display.plot().ax_.collections
    np.testing.assert_array_equal(marks.get_array(), bank.image_index)
    named = texts(display.plot_images().ax_)
    assert named[0] == str(display.entries_per_image().argmax())


def test_training_images_without_an_entry_are_counted():
    X = np.tile(np.random.default_rng(0).normal(size=(6, 4)), (2, 1))  # the last six are copies
    pipe = make_pipeline(CoresetBank(6, random_state=0), RoutedKNNScorer(), StructCoreScorer())
    counts = BankDisplay.from_estimator(pipe.fit(X, coresetbank__groups=None)).entries_per_image()
    assert counts.reshape(2, 6).sum(axis=0).tolist() == [1] * 6 and counts[-1] == 0


def test_images_that_were_forgotten_do_not_count_in_the_mean():
    X = np.random.default_rng(0).normal(size=(40, 4))
    pipe = make_pipeline(CoresetBank(1.0), RoutedKNNScorer(), StructCoreScorer()).fit(X)
    display = BankDisplay.from_estimator(forget(pipe, X[:15]))
    assert display.entries_per_image().tolist() == [0] * 15 + [1] * 25
    assert display.plot_images().ax_.lines[0].get_ydata()[0] == 1


def test_bank_of_one_feature_can_be_drawn():
    pipe = make_pipeline(CoresetBank(ratio=1.0), RoutedKNNScorer(), StructCoreScorer())
    pipe.fit(np.arange(9.0)[:, None])
    assert not BankDisplay.from_estimator(pipe).coordinates[:, 1].any()


def test_dependence_display_shades_a_block(labels):
    display = DependenceDisplay([1, 2, 4], [5.0, 3.0, 1.0], limit=[1.5, 1.4, 1.2], block_length=3)
    ax = display.plot().ax_
    assert "blocks of 3" in labels(ax)
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), [5, 3, 1])


def test_dependence_that_a_bank_has_found_is_drawn_by_its_route():
    found = SimpleNamespace(lags=np.arange(1, 40), ratio=np.ones(39), limit=1.2, block_length=1)
    X = np.random.default_rng(1).normal(size=(30, 4))
    pipe = make_pipeline(CoresetBank(0.5), RoutedKNNScorer(), StructCoreScorer()).fit(X)
    with pytest.raises(ValueError, match="did not look for dependence"):
        DependenceDisplay.from_estimator(pipe)
    pipe[0].dependence_ = {"nut": found}
    display = DependenceDisplay.from_estimator(pipe, route="nut")
    assert display.block_length is None  # no two images are of one block
    ticks = [tick.get_text() for tick in display.ax_.get_xticklabels()]
    assert ticks == ["1", "2", "4", "8", "16", "32"]
    assert DependenceDisplay.from_estimator(pipe).lags is display.lags  # the only route
    with pytest.raises(ValueError, match="one of 'nut'"):
        DependenceDisplay.from_estimator(pipe, route="bolt")
