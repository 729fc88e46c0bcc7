"""Where images were sent, as a picture."""

import numpy as np
import pandas as pd
import pytest

from skstructcore import AnomalyMaps, StructCoreScorer
from skstructcore.display import RoutingDisplay


@pytest.fixture
def routed():
    rng = np.random.default_rng(0)
    maps = AnomalyMaps(
        rng.random((60, 4, 4)),
        route=np.repeat(["nut", "bolt"], 30),
        route_distance=np.exp(0.1 * rng.normal(size=60)),
    )
    return StructCoreScorer(false_alarm_rate=0.1).fit(maps)


def test_ratio_above_one_is_what_describe_calls_unknown(routed):
    distances = np.exp(np.linspace(-1, 1, 40))
    new = AnomalyMaps(np.ones((40, 4, 4)), route=np.repeat("nut", 40), route_distance=distances)
    parts = routed.describe(new)
    display = RoutingDisplay.from_predictions(parts, routed)
    np.testing.assert_array_equal(display.ratio > 1, parts["route"] == "unknown")
    assert 0 < (display.ratio > 1).sum() < 40


def test_plot_has_a_dot_an_image_in_the_row_of_its_route():
    display = RoutingDisplay(["a", "b", "b"], [0.5, 2, 3], ["a", "b"], ["x", "y", "x"])
    ax = display.plot().ax_
    dots = {line.get_label(): line.get_xydata() for line in ax.lines[:2]}
    np.testing.assert_allclose(dots["x"][:, 0], [0.5, 3])
    np.testing.assert_array_equal(dots["x"][:, 1].round(), [0, 1])
    assert len(dots["y"]) == 1


def test_without_routes_there_is_nothing_to_draw(scorer):
    with pytest.raises(ValueError, match="has no routes"):
        RoutingDisplay.from_predictions(pd.DataFrame(), scorer)
