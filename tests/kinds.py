"""Kinds of pipelines, for tests that combine them with operations."""

import io
from functools import cached_property

import joblib
import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.base import clone

from skstructcore import (
    ConvFeatures,
    JoinedFeatures,
    describe,
    make_structcore,
    operating_points,
    recalibrate,
    save,
)
from skstructcore.scoring.table import rejections

N_FIT, N_NEW, N_TEST = 40, 8, 12


# --- kinds: what is fitted, on what, and with which words to fit ---------------------------------


def features(seed):
    """Patch features of 4 x 4, every other image of another product."""
    X = np.random.default_rng(seed).normal(size=(N_FIT, 4, 4, 6)).astype(np.float32)
    X[1::2] += 12
    return X


def alike(seed):
    X = features(seed)
    X[1::2] -= 12
    return X


def pictures(seed, size=32):
    """Grey textures, every other one coarser."""
    noise = np.random.default_rng(seed).normal(size=(N_FIT, size, size))
    for start, sigma in ((0, 1.0), (1, 3.0)):
        noise[start::2] = gaussian_filter(noise[start::2], (0, sigma, sigma))
        noise[start::2] /= noise[start::2].std()
    return (120 + 25 * noise).clip(1, 254).astype(np.uint8)


def parts_on_black(seed):
    """A bright square part on a plain background."""
    images = np.full((N_FIT, 64, 64), 10, dtype=np.uint8)
    images[:, 16:48, 16:48] = pictures(seed) // 2 + 100
    return images


def on_features(**parameters):
    parameters = {"bank__ratio": 0.1, "structcore__false_alarm_rate": 0.2} | parameters
    return make_structcore("efficientnet_lite0", **parameters)[2:]


def on_pictures(backbone=None, **parameters):
    parameters = {"bank__ratio": 0.2, "structcore__false_alarm_rate": 0.2} | parameters
    return make_structcore(backbone or ConvFeatures(image_size=32), **parameters)


PRODUCTS = np.array(["a", "b"] * (N_FIT // 2))
CORNER = np.zeros((32, 32), dtype=bool)
CORNER[:16, :16] = True

#: kind: (data, pipeline, words to fit)
KINDS = {
    "plain": (alike, on_features, {}),
    "groups": (alike, on_features, {"bank__groups": np.arange(N_FIT) // 2}),
    "categories": (features, on_features, {"bank__categories": PRODUCTS}),
    "n_routes": (features, lambda: on_features(bank__n_routes=2), {}),
    "k-fold": (alike, lambda: on_features(knn__calibration="k-fold"), {}),
    "in-sample": (alike, lambda: on_features(knn__calibration="in-sample"), {}),
    "paper": (alike, lambda: on_features(preset="paper", structcore__quantile=0.8), {}),
    "approximate": (alike, lambda: on_features(knn__algorithm="approximate"), {}),
    "quantile": (alike, lambda: on_features(structcore__threshold="quantile"), {}),
    "guaranteed": (features, lambda: on_features(structcore__threshold="guaranteed"),
                   {"bank__categories": PRODUCTS}),
    "contamination": (alike, lambda: on_features(bank__contamination=0.1), {}),
    "pictures": (pictures, on_pictures, {}),
    "ignore": (pictures, lambda: on_pictures(ConvFeatures(image_size=32, ignore=CORNER)), {}),
    "ignore by category": (
        pictures,
        lambda: on_pictures(ConvFeatures(image_size=32, ignore={"a": CORNER, "b": CORNER[::-1]})),
        {"bank__categories": PRODUCTS},
    ),
    "tiles": (lambda seed: pictures(seed, 64),
              lambda: on_pictures(ConvFeatures(image_size=32, tile_size=32)), {}),
    "joined": (pictures, lambda: on_pictures(
        JoinedFeatures([ConvFeatures(image_size=32, layers=[f"_blocks.{i}"]) for i in (2, 4)])
    ), {}),
    "streamed": (pictures, lambda: on_pictures(bank__ratio=20, bank__max_memory=900_000), {}),
    "foreground": (parts_on_black,
                   lambda: on_pictures(ConvFeatures(image_size=64, ignore="background")), {}),
    "cache": (pictures, on_pictures, {}),
    "floats": (lambda seed: pictures(seed) / np.float32(255),
               lambda: on_pictures(ConvFeatures(image_size=32, window=(0, 1))), {}),
    "16 bits": (lambda seed: pictures(seed).astype(np.uint16) * 40, on_pictures, {}),
    "16 bits, window": (lambda seed: pictures(seed).astype(np.uint16) * 40,
                        lambda: on_pictures(ConvFeatures(image_size=32, window=(0, 10_200))), {}),
}  # fmt: skip
ROUTED = {"categories", "n_routes", "guaranteed", "ignore by category"}
HELD_IN = {"in-sample", "paper"}
PICTURES = {kind for kind, (data, _, _) in KINDS.items() if data not in (features, alike)}


class Case:
    """A fitted pipeline, the images that it knows, and others like them; files in a folder."""

    def __init__(self, kind, folder):
        data, make, words = KINDS[kind]
        self.kind, self.folder, self.words = kind, folder, words
        self.fit, self.new, self.test = data(0), data(1)[:N_NEW], data(2)[:N_TEST]
        self.unfitted = make()
        if kind == "cache":
            self.unfitted.set_params(features__memory=folder / "cache")
        self.pipe = clone(self.unfitted).fit(self.fit, **words)

    def like(self, seed):
        return KINDS[self.kind][0](seed)

    @cached_property
    def model(self):
        """File of the model."""
        save(self.pipe, self.folder / "model")
        return self.folder / "model"

    def files(self, name):
        """Folder with the images "fit", "new" or "test", each a file of its name and product."""
        folder = self.folder / name
        if not folder.exists():
            folder.mkdir()
            suffix = "tif" if self.kind == "floats" else "png"
            for i, (pixels, product) in enumerate(zip(getattr(self, name), PRODUCTS, strict=False)):
                Image.fromarray(pixels).save(folder / f"{i:02d}-{product}.{suffix}")
        return folder


# --- checks: said in all places alike ------------------------------------------------------------


def says_alike(pipe, images):
    """Decisions of predict, describe, p-values, operating points and the threshold agree."""
    table, scorer = describe(pipe, images), pipe[-1]
    rejected = table["is_anomalous"].to_numpy()
    np.testing.assert_array_equal(pipe.predict(images), np.where(rejected, -1, 1))
    np.testing.assert_array_equal(pipe.score_samples(images), -table["anomaly_score"])
    np.testing.assert_array_equal(pipe.decision_function(images) < 0, rejected)
    routes = table.get("nearest_route", pd.Series("all", table.index))
    rates = routes.map({name: d.rate for name, d in scorer.routes_.decisions.items()})
    np.testing.assert_array_equal(table["p_value"] <= rates + 1e-12, rejected)
    assert table["p_value"].between(0, 1).all()
    for rate in (0.1, 0.3):
        other = recalibrate(pipe, false_alarm_rate=rate)
        points = operating_points(pipe, false_alarm_rates=[rate])
        thresholds = {name: d.threshold for name, d in other[-1].routes_.decisions.items()}
        assert dict(zip(points["route"], points["threshold"], strict=True)) == thresholds
        (found,) = rejections(table, scorer, [rate])
        np.testing.assert_array_equal(found, other.predict(images) == -1)


def same(one, other, images, **tolerance):
    """Both say the same, to the bit or within a tolerance."""
    tables = [describe(pipe, images).select_dtypes("number") for pipe in (one, other)]
    if tolerance:
        np.testing.assert_allclose(*tables, **tolerance)
    else:
        pd.testing.assert_frame_equal(*tables, check_exact=True)


def stored(pipe):
    """The pipeline, saved and loaded."""
    file = io.BytesIO()
    joblib.dump(pipe, file)
    file.seek(0)
    return joblib.load(file)
