"""The evidence of a change, image by image, as a picture."""

import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline

from skstructcore import CoresetBank, RoutedKNNScorer, StructCoreScorer, make_structcore
from skstructcore.display import DriftDisplay
from skstructcore.lifecycle import DriftMonitor


def test_drift_display_marks_alarms_and_needs_a_limit_for_every_test(texts):
    evidence = pd.DataFrame({"a": [0.0, 2.5], "b": [0.0, 0.1]})
    ax = DriftDisplay(evidence, {"a": 2.0, "b": 2.0}, [(1, "a")]).plot().ax_
    assert "a: 1" in texts(ax) and texts(ax).count("alarm") == 1
    with pytest.raises(ValueError, match=r"no entry for the tests \['b'\]"):
        DriftDisplay(evidence, {"a": 2.0})


def test_alarms_say_of_which_route_they_are():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(200, 4)) + np.repeat([[0.0], [50.0]], 100, axis=0)
    pipe = make_structcore(bank__ratio=0.2)[2:]
    pipe.fit(X, bank__categories=["a"] * 100 + ["b"] * 100)
    stream = rng.normal(size=(60, 4)) * 3 + 50  # of b, wider than before
    display = DriftDisplay.from_estimator(pipe, stream)
    named = {name for _, name in display.alarms}
    assert named and named <= set(display.log10_evidence) and all("b: " in name for name in named)


def test_drift_display_keeps_what_a_monitor_says_after_every_image():
    X = np.random.default_rng(1).normal(size=(220, 4))
    pipe = make_pipeline(
        CoresetBank(0.1, random_state=0), RoutedKNNScorer(), StructCoreScorer(descriptors=["max"])
    ).fit(X[:100])
    stream = np.r_[X[100:150], X[150:] + 2]
    display = DriftDisplay.from_estimator(pipe, stream)
    monitor = DriftMonitor(pipe)
    monitor.update(stream)
    assert display.alarms == [(alarm.image, alarm.kind) for alarm in monitor.alarms_]
    assert display.alarms and min(position for position, _ in display.alarms) >= 50
    last = monitor.evidence().set_index("kind")["log10_evidence"]
    np.testing.assert_allclose(display.log10_evidence.iloc[-1][last.index], last)
    display.plot().figure_.draw_without_rendering()
    with pytest.raises(ValueError, match="no images to watch"):
        DriftDisplay.from_predictions(pd.DataFrame(), monitor)
    described, n_images = pipe[-1].describe(pipe[:-1].transform(stream)), monitor.n_images_
    described.loc[9, "p_value"] = np.nan
    with pytest.raises(ValueError, match="got nan for image 9"):
        DriftDisplay.from_predictions(described, monitor)
    assert monitor.n_images_ == n_images
