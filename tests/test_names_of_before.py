"""What 0.2 called otherwise before is understood, with a warning that names the word of today."""

import numpy as np
import pytest

from skstructcore import make_structcore, operating_points, recalibrate, regions

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4, 4, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def pipe():
    return make_structcore("efficientnet_lite0", structcore__false_alarm_rate=0.1)[2:].fit(X[:30])


def test_a_conformal_threshold_is_a_guaranteed_one(pipe):
    now = make_structcore("efficientnet_lite0", structcore__threshold="guaranteed")[2:]
    before = make_structcore("efficientnet_lite0", structcore__threshold="conformal")[2:]
    with pytest.warns(FutureWarning, match="called 'guaranteed' now"):
        before.fit(X[:30])
    assert before[-1].offset_ == now.fit(X[:30])[-1].offset_


def test_keywords_of_before_may_be_none(pipe):
    moved = recalibrate(pipe, quantile=None, false_alarm_rate=0.3)
    assert moved[-1].offset_ == recalibrate(pipe, false_alarm_rate=0.3)[-1].offset_


def test_keywords_of_before_mean_what_those_of_today_do(pipe):
    with pytest.warns(FutureWarning, match="quantile= is called false_alarm_rate= now"):
        moved = recalibrate(pipe, quantile=0.7)
    assert moved[-1].offset_ == recalibrate(pipe, false_alarm_rate=0.3)[-1].offset_
    with pytest.warns(FutureWarning, match="levels= is called false_alarm_rates= now"):
        points = operating_points(pipe, levels=[0.2])
    assert points.equals(operating_points(pipe, false_alarm_rates=[0.2]))
    with pytest.warns(FutureWarning, match="level= is called false_alarm_rate= now"):
        found = regions(pipe, X[30:], level=0.2)
    assert found.equals(regions(pipe, X[30:], false_alarm_rate=0.2))
    with pytest.raises(ValueError, match="give false_alarm_rate alone"):
        recalibrate(pipe, quantile=0.7, false_alarm_rate=0.3)
