import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.metrics import auc, roc_auc_score

from skstructcore.metrics import (
    aupro_score,
    f1_max_score,
    fpr_at_tpr_score,
    image_ap_score,
    image_auroc_score,
    pixel_auroc_score,
    pro_curve,
)

IMAGE_METRICS = [image_auroc_score, image_ap_score, f1_max_score, fpr_at_tpr_score]
PIXEL_METRICS = [pixel_auroc_score, aupro_score]

Y = ["good", "good", "good", "hole", "hole"]
SCORES = [1.0, 2.0, 4.0, 3.0, 5.0]


def test_image_metrics_of_five_images_by_hand():
    # Pairs (hole, good) in the right order: 3 beats 1 and 2; 5 beats 1, 2 and 4: 5 of 6.
    assert image_auroc_score(Y, SCORES) == pytest.approx(5 / 6)
    # Ranked 5h 4g 3h 2g 1g: precision 1 at the first hole, 2/3 at the second.
    assert image_ap_score(Y, SCORES) == pytest.approx((1 + 2 / 3) / 2)
    # Threshold 3: 2 holes found, 1 false alarm: precision 2/3, recall 1, F1 = 4/5.
    assert f1_max_score(Y, SCORES) == pytest.approx(0.8)
    # All holes need the threshold 3, which rejects one of three good images; half of the
    # holes need the threshold 5, which rejects none.
    assert fpr_at_tpr_score(Y, SCORES) == pytest.approx(1 / 3)
    assert fpr_at_tpr_score(Y, SCORES, tpr=0.5) == 0


def test_fpr_at_tpr_is_not_fooled_by_rounding():
    # 19 of 20 anomalies above all good images: exactly 95 % are found without false alarm.
    y = [0] * 5 + [1] * 20
    scores = [1.0] * 5 + [2.0] * 19 + [0.0]
    assert fpr_at_tpr_score(y, scores, tpr=0.95) == 0


@pytest.mark.parametrize("metric", IMAGE_METRICS)
def test_all_label_codings_give_the_same_value(metric):
    expected = metric(Y, SCORES)
    assert metric([0, 0, 0, 1, 1], SCORES) == expected
    assert metric([1, 1, 1, -1, -1], SCORES) == expected
    assert metric(np.array([False] * 3 + [True] * 2), SCORES) == expected


@pytest.mark.parametrize("metric", IMAGE_METRICS)
def test_bad_image_scores_are_refused(metric):
    with pytest.raises(ValueError, match="only normal"):
        metric(["good", "good"], [0.0, 1.0])
    with pytest.raises(ValueError, match="5 labels"):
        metric(Y, SCORES[:4])
    with pytest.raises(ValueError, match=r"1 of 5 anomaly scores .* position 2: nan"):
        metric(Y, [0, 1, np.nan, 2, 3])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=30))
def test_f1_max_is_the_best_over_all_thresholds(images):
    y, scores = np.array([i[0] for i in images]), np.array([i[1] for i in images])
    if y.all() or not y.any():
        return

    def f1(threshold):
        found = scores >= threshold
        return 2 * np.sum(found & y) / (found.sum() + y.sum())

    assert f1_max_score(y, scores) == pytest.approx(max(map(f1, scores)))


def brute_force_aupro(masks, maps, max_fpr):
    """Every distinct score as a threshold, trapezoids, cut off at max_fpr."""
    masks = [np.asarray(m) != 0 for m in masks]
    fprs, overlaps = [0.0], [0.0]
    normal = np.concatenate([np.ravel(s)[~m.ravel()] for m, s in zip(masks, maps, strict=True)])
    for threshold in np.unique(np.concatenate([np.ravel(s) for s in maps]))[::-1]:
        fprs.append(np.mean(normal >= threshold))
        shares = []
        for mask, scores in zip(masks, maps, strict=True):
            regions, n_regions = ndimage.label(mask, np.ones((3, 3)))
            for region in range(1, n_regions + 1):
                shares.append(np.mean(np.asarray(scores)[regions == region] >= threshold))
        overlaps.append(np.mean(shares))
    fprs, overlaps = np.array(fprs), np.array(overlaps)
    inside = fprs <= max_fpr
    edge = np.interp(max_fpr, fprs, overlaps) if not (fprs == max_fpr).any() else None
    x, y = fprs[inside], overlaps[inside]
    if edge is not None:
        x, y = np.append(x, max_fpr), np.append(y, edge)
    return auc(x, y) / max_fpr


@st.composite
def masks_and_maps(draw):
    seed = draw(st.integers(0, 2**31 - 1))
    levels = draw(st.sampled_from([2, 5, 1000]))
    rng = np.random.default_rng(seed)
    sizes = rng.integers(3, 9, size=(draw(st.integers(1, 4)), 2))
    masks = [rng.random(size) < 0.25 for size in sizes]
    maps = [rng.integers(0, levels, size=size).astype(np.float32) for size in sizes]
    masks[0][0, 0], masks[0][-1, -1] = True, False
    return masks, maps


@settings(max_examples=60, deadline=None)
@given(masks_and_maps(), st.sampled_from([0.05, 0.3, 1.0]))
def test_aupro_equals_the_sweep_over_all_thresholds(case, max_fpr):
    masks, maps = case
    expected = brute_force_aupro(masks, maps, max_fpr)
    assert aupro_score(masks, maps, max_fpr=max_fpr) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(masks_and_maps())
def test_pixel_auroc_equals_scikit_learn_on_all_pixels(case):
    masks, maps = case
    expected = roc_auc_score(
        np.concatenate([m.ravel() for m in masks]), np.concatenate([s.ravel() for s in maps])
    )
    assert pixel_auroc_score(masks, maps) == pytest.approx(expected, abs=1e-12)


def test_aupro_counts_each_region_the_same_by_hand():
    # A region of four pixels that is found before any normal pixel, and one of a single
    # pixel that is found after one of ten normal pixels: overlap 1/2 up to a false positive
    # rate of 0.1, then 1. Area up to 0.3: 0.05 + 0.2.
    mask = np.array([[1, 1, 1, 1, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]])
    scores = np.array([[9, 9, 9, 9, 8], [0, 0, 0, 0, 0], [7, 0, 0, 0, 0]])
    assert aupro_score([mask], [scores]) == pytest.approx(0.25 / 0.3)


def test_aupro_joins_regions_that_touch_at_a_corner():
    # As one region of two pixels, half of it is found at once: overlap 1/2 until all of the
    # six normal pixels that tie with the rest, so a slope from 1/2 to 1.
    mask = np.array([[1, 0], [0, 1], [0, 0], [0, 0]])
    scores = np.array([[1, 0], [0, 0], [0, 0], [0, 0]])
    assert aupro_score([mask], [scores], max_fpr=1.0) == pytest.approx(0.75)


def test_aupro_of_perfect_and_of_constant_maps():
    mask = np.zeros((4, 4), int)
    mask[1, 1] = 1
    assert aupro_score([mask], [mask]) == 1
    # A constant map: the curve is the diagonal, the mean of 0 to 0.3.
    assert aupro_score([mask], [np.zeros((4, 4))]) == pytest.approx(0.15)


@pytest.mark.parametrize("metric", PIXEL_METRICS)
def test_bad_maps_are_refused(metric):
    mask, scores = np.eye(3), np.zeros((3, 3))
    with pytest.raises(ValueError, match="1 masks, 2 maps"):
        metric([mask], [scores, scores])
    with pytest.raises(ValueError, match="position 1"):
        metric([mask, mask], [scores, np.zeros((3, 4))])
    with pytest.raises(ValueError, match="position 0 is not finite"):
        metric([mask], [np.full((3, 3), np.nan)])
    with pytest.raises(ValueError, match="mask of image 1 holds values that are no finite"):
        metric([mask, np.where(mask, np.nan, mask)], [scores, scores])
    with pytest.raises(ValueError, match="no anomalous pixel"):
        metric([np.zeros((3, 3))], [scores])
    with pytest.raises(ValueError, match="no normal pixel"):
        metric([np.ones((3, 3))], [scores])
    with pytest.raises(ValueError, match="no anomalous pixel"):
        metric([], [])


def test_rates_out_of_range_are_refused():
    with pytest.raises(ValueError, match="tpr must be a float in"):
        fpr_at_tpr_score(Y, SCORES, tpr=0)
    with pytest.raises(ValueError, match="max_fpr must be a float in"):
        aupro_score([np.eye(2)], [np.eye(2)], max_fpr=30)


def test_scores_that_are_no_real_numbers_are_refused():
    with pytest.raises(ValueError, match="Anomaly scores must be real numbers, got complex128"):
        image_auroc_score([0, 1], [1j, 2j])


def test_a_defect_that_ignored_pixels_cross_is_one():
    mask = np.zeros((7, 9))
    mask[1, :7] = 1  # crossed by what is ignored, and found
    mask[5, :3] = 1  # missed: one of two
    ignored = np.zeros(mask.shape, dtype=bool)
    ignored[:, 3:5] = True
    found = np.where((mask > 0) & (np.arange(7) < 3)[:, np.newaxis], 1.0, 0.0)
    rates, overlap = pro_curve([mask], [found], ignored=[ignored])
    assert overlap[rates == 0].max() == pytest.approx(0.5)


def test_maps_may_hold_anything_where_they_are_ignored():
    mask, ignored = np.eye(4), np.zeros((4, 4), dtype=bool)
    ignored[0] = True
    scored = np.arange(16.0).reshape(4, 4)
    unseen = np.where(ignored, np.nan, scored)
    for metric in (pixel_auroc_score, aupro_score):
        expected = metric([mask], [scored], ignored=[ignored])
        assert metric([mask], [unseen], ignored=[ignored]) == expected
    with pytest.raises(ValueError, match="position 0 is not finite"):
        pixel_auroc_score([mask], [unseen])


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.float16, np.float64, np.longdouble])
def test_masks_of_every_dtype_have_the_same_overlap(dtype):
    mask = np.zeros((4, 4), dtype)
    mask[0, 0] = 1
    # 3 of 15 normal pixels score as high as the defect: the curve rises from 0 to 1 until 0.2.
    assert aupro_score([mask], [np.eye(4)]) == pytest.approx((0.3 - 0.1) / 0.3)
