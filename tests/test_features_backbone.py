"""What all feature estimators share: a network of one's own beside it, and what help() shows."""

import inspect
import re

import numpy as np
import pytest

from skstructcore import ConvFeatures, DinoFeatures, TimmFeatures
from skstructcore.features._backbone import PatchFeatures

PHOTOS = np.random.default_rng(0).integers(0, 256, (3, 16, 24, 3), dtype=np.uint8)


class Cells:
    """A loaded network: the mean colour of each cell of 8 x 8 pixels."""

    def output_shape(self, height, width):
        return height // 8, width // 8, 3

    def __call__(self, levels):
        n, height, width, _ = levels.shape
        return levels.float().reshape(n, height // 8, 8, width // 8, 8, 3).mean(dim=(2, 4))


class CellFeatures(PatchFeatures):
    """Mean colours.

    Parameters
    ----------
    version : str
    image_size : int or (int, int)
    crop, tile_size, tile_overlap, window, channels, ignore : see `ConvFeatures`
    batch_size, device, dtype, n_jobs, memory, verbose : see `ConvFeatures`
    """

    _parameter_constraints = {**PatchFeatures._parameter_constraints, "version": [str]}

    def __init__(
        self, version="a", *, image_size=(16, 24), crop=False, tile_size=None, tile_overlap=0,
        window="auto", channels=None, ignore=None, batch_size=16, device="cpu", dtype="auto",
        n_jobs=None, memory=None, verbose=0,
    ):  # fmt: skip
        self._store_parameters(locals())

    def _weights(self):
        return self.version * 64, "cells"

    def _network_recipe(self):
        return {"cells": 8}

    def _load(self, device, dtype):
        return Cells()


@pytest.mark.parametrize("settings", [{}, {"tile_size": 8}, {"memory": True}])
def test_a_backbone_is_a_constructor_and_three_methods(settings, tmp_path):
    settings = {**settings, **({"memory": tmp_path} if "memory" in settings else {})}
    features = CellFeatures(**settings).fit(PHOTOS)
    expected = PHOTOS.astype(float).reshape(3, 2, 8, 3, 8, 3).mean(axis=(2, 4))
    for _ in range(2):
        np.testing.assert_allclose(np.asarray(features.transform(PHOTOS)), expected, rtol=1e-6)
    assert features.model_source_ == "cells"
    assert features.recipe_["cells"] == 8
    assert sorted(features.get_params()) == sorted(inspect.signature(CellFeatures).parameters)


def test_its_patches_can_be_ignored_and_its_weights_must_stay():
    mask = np.zeros((16, 24), bool)
    mask[:8, :8] = True
    features = CellFeatures(ignore=mask).fit(PHOTOS)
    ignored = np.isnan(np.asarray(features.transform(PHOTOS))).all(axis=-1)
    assert ignored.sum() == 3 and ignored[:, 0, 0].all()
    with pytest.raises(ValueError, match=r"weights of CellFeatures \(cells\) have the checksum b"):
        np.asarray(features.set_params(version="b").transform(PHOTOS))


@pytest.mark.parametrize("cls", [ConvFeatures, DinoFeatures, TimmFeatures, CellFeatures])
def test_help_shows_every_parameter(cls):
    parameters = cls.__doc__.partition("Parameters\n")[2].partition("Attributes\n")[0]
    entries = re.findall(r"^    (\w+(?:, \w+)*) : ", parameters, re.MULTILINE)
    documented = [name for entry in entries for name in entry.split(", ")]
    assert sorted(documented) == sorted(inspect.signature(cls).parameters)


def test_no_threads_are_refused_before_the_work():
    with pytest.raises(ValueError, match="The 'n_jobs' parameter of CellFeatures must be None"):
        CellFeatures(n_jobs=0).fit(PHOTOS)
