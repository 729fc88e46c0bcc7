"""The curve of per-region overlap, as a picture."""

import numpy as np
import pytest

from skstructcore.datasets import NoMasksError
from skstructcore.display import RegionOverlapDisplay
from skstructcore.metrics import aupro_score, pro_curve


def test_pro_curve_has_the_area_that_aupro_says():
    rng = np.random.default_rng(0)
    masks = rng.random((3, 12, 12)) > 0.7
    maps = np.round(rng.random((3, 12, 12)) + 0.3 * masks, 1)  # many equal scores
    rates, overlap = pro_curve(masks, maps)
    assert (np.diff(rates) >= 0).all() and (np.diff(overlap) >= 0).all()
    for most in (0.3, 1.0):
        inside = rates <= most
        x = np.r_[rates[inside], most]
        y = np.r_[overlap[inside], np.interp(most, rates, overlap)]
        area = np.sum(np.diff(x) * (y[1:] + y[:-1])) / 2 / most
        assert area == pytest.approx(aupro_score(masks, maps, max_fpr=most))


def test_region_overlap_draws_the_curve_and_names_its_area():
    rng = np.random.default_rng(0)
    masks = [np.add.outer(np.arange(80), np.arange(80)) < 60]
    maps = [rng.random((80, 80)) + 0.5 * masks[0]]
    display = RegionOverlapDisplay.from_predictions(masks, maps, name="ours")
    assert display.aupro == pytest.approx(aupro_score(masks, maps))
    assert display.line_.get_ydata()[-1] == 1
    assert display.line_.get_label() == f"ours: AUPRO {100 * display.aupro:.1f} %"
    display.line_.set_label("renamed")
    other = RegionOverlapDisplay([0, 1], [0, 1], name="chance").plot(display.ax_)
    assert other.line_.get_linestyle() == "--"


def test_region_overlap_shades_up_to_its_end_beside_lines_of_others():
    from matplotlib.figure import Figure

    ax = Figure().add_subplot()
    ax.plot([0, 1], [0, 1])
    display = RegionOverlapDisplay([0, 0.5, 1], [0, 0.8, 1]).plot(ax)
    assert display.line_.get_linestyle() == "-"
    (shade,) = ax.collections
    # Up to 0.3, where the curve, straight up to (0.5, 0.8), has reached 0.48.
    np.testing.assert_allclose(shade.get_paths()[0].get_extents().max, [0.3, 0.48])


def test_region_overlap_of_images_without_masks_is_an_error_that_says_so(pipe, images):
    with pytest.raises(NoMasksError, match="pass the images as an ImageSet, not list"):
        RegionOverlapDisplay.from_estimator(pipe, images[:2].paths)
