"""scikit-learn's own checks, on 2-D input: a table is n images of one patch (or one map row)."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from skstructcore import CoresetBank, RandomProjection, RoutedKNNScorer, StructCoreScorer

_HELD_OUT = "fit_transform scores training samples held out, as TargetEncoder does"

EXPECTED_FAILED_CHECKS = {
    "RoutedKNNScorer": {
        "check_transformer_general": _HELD_OUT,
        "check_transformer_data_not_an_array": _HELD_OUT,
    },
}
# These checks score the training samples that they were fitted on, and want one of 300 rejected.
_NO_OUTLIER = dict.fromkeys(
    ["check_outliers_fit_predict", "check_outliers_train"],
    "their scores have a lighter tail than is assumed; passes with false_alarm_rate=0.1",
)

_DEFAULTS = StructCoreScorer().get_params()


def expected_failed_checks(estimator):
    if isinstance(estimator, StructCoreScorer) and estimator.get_params() == _DEFAULTS:
        return _NO_OUTLIER
    return EXPECTED_FAILED_CHECKS.get(type(estimator).__name__, {})


@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks(
    [
        RandomProjection(2),
        CoresetBank(0.5, random_state=0),
        RoutedKNNScorer(n_neighbors=1),
        StructCoreScorer(),
        StructCoreScorer(false_alarm_rate=0.1),
        StructCoreScorer(threshold="guaranteed"),
        StructCoreScorer("l2", descriptors=("std", "top1", "tv"), threshold="quantile"),
    ],
    expected_failed_checks=expected_failed_checks,
)
def test_scikit_learn_check(estimator, check):
    check(estimator)


def test_checks_are_really_run():
    # Tags that refuse 2-D input would silently leave no check to run.
    for estimator in (RandomProjection(), CoresetBank(), RoutedKNNScorer(), StructCoreScorer()):
        assert estimator.__sklearn_tags__().input_tags.two_d_array
