"""Every kind of pipeline with every operation: right by an independent check, or a clear error.

The default run takes a diagonal of the matrix; ``-m slow`` takes all of it.
"""

import io

import joblib
import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from scipy.ndimage import gaussian_filter
from sklearn.base import clone

from skstructcore import (
    ConvFeatures,
    DriftMonitor,
    JoinedFeatures,
    add_category,
    audit,
    describe,
    estimate_memory,
    forget,
    load,
    make_structcore,
    operating_points,
    recalibrate,
    regions,
    remove_category,
    save,
    update,
)
from skstructcore.datasets import ImageSet
from skstructcore.evaluation import evaluate
from skstructcore.inference import score_images
from skstructcore.report import report
from skstructcore.scoring.decision import rejected_at

pytestmark = pytest.mark.filterwarnings("ignore")

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
    "floats": (lambda seed: pictures(seed) / np.float32(255),
               lambda: on_pictures(ConvFeatures(image_size=32, window=(0, 1))), {}),
    "16 bits": (lambda seed: pictures(seed).astype(np.uint16) * 40, on_pictures, {}),
}  # fmt: skip
ROUTED = {"categories", "n_routes", "guaranteed", "ignore by category"}
HELD_IN = {"in-sample", "paper"}
PICTURES = {"pictures", "ignore", "ignore by category", "tiles", "joined", "streamed", "floats",
            "16 bits"}  # fmt: skip


class Case:
    """A fitted pipeline, the images that it knows, and others like them."""

    def __init__(self, kind):
        data, make, words = KINDS[kind]
        self.kind, self.fit, self.new, self.test = kind, data(0), data(1)[:N_NEW], data(2)[:N_TEST]
        self.pipe = make().fit(self.fit, **words)
        self.unfitted = make()
        self.is_routed = kind in ROUTED

    def like(self, seed):
        return KINDS[self.kind][0](seed)


@pytest.fixture(scope="module")
def cases():
    return {}


# --- checks: said in all places alike ------------------------------------------------------------


def says_alike(pipe, images):
    """Decisions of predict, describe, p-values, operating points and the threshold agree."""
    table, scorer = describe(pipe, images), pipe[-1]
    rejected = table["is_anomalous"].to_numpy()
    np.testing.assert_array_equal(pipe.predict(images), np.where(rejected, -1, 1))
    np.testing.assert_array_equal(pipe.score_samples(images), -table["anomaly_score"])
    np.testing.assert_array_equal(pipe.decision_function(images) < 0, rejected)
    routes = table.get("nearest_route", pd.Series("all", table.index))
    rates = routes.map({name: d.rate for name, d in scorer.decisions_.items()})
    np.testing.assert_array_equal(table["p_value"] <= rates + 1e-12, rejected)
    assert table["p_value"].between(0, 1).all()
    for rate in (0.1, 0.3):
        other = recalibrate(pipe, false_alarm_rate=rate)
        points = operating_points(pipe, false_alarm_rates=[rate])
        thresholds = {name: d.threshold for name, d in other[-1].decisions_.items()}
        assert dict(zip(points["route"], points["threshold"], strict=True)) == thresholds
        found = rejected_at(table, scorer.decisions_, rate)
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


# --- operations: what is done, and what holds then -----------------------------------------------


def op_decide(case, path):
    says_alike(case.pipe, case.test)


def op_save(case, path):
    save(case.pipe, path / "model")
    same(load(path / "model"), case.pipe, case.test)


def op_joblib(case, path):
    same(stored(case.pipe), case.pipe, case.test)


def op_rate(case, path):
    changed = recalibrate(case.pipe, false_alarm_rate=0.35)
    assert {d.asked_rate for d in changed[-1].decisions_.values()} == {0.35}
    says_alike(changed, case.test)
    same(recalibrate(changed, false_alarm_rate=0.2), recalibrate(case.pipe, false_alarm_rate=0.2),
         case.test)  # fmt: skip


def op_fresh(case, path):
    changed = recalibrate(case.pipe, case.like(3), groups=None, force=True)
    says_alike(changed, case.test)
    report = changed[-1].recalibration_
    decided = changed.predict(case.like(3)) == -1
    np.testing.assert_array_equal(report.decisions["is_anomalous"], decided)


def op_weighted(case, path):
    changed = recalibrate(case.pipe, case.new, weight_old=0.5, force=True)
    says_alike(changed, case.test)
    n_old = sum(len(d.scores) for d in case.pipe[-1].decisions_.values())
    assert sum(len(d.scores) for d in changed[-1].decisions_.values()) == n_old + N_NEW


def op_update(case, path):
    grown = update(case.pipe, case.new, force=True)
    assert grown["bank"].n_images_ == N_FIT + N_NEW
    assert grown["bank"].n_images_per_route_.sum() == N_FIT + N_NEW
    says_alike(grown, case.test)
    with pytest.raises(ValueError, match="in the bank already"):
        update(grown, case.new[:1], force=True)


def op_forget(case, path):
    less = forget(case.pipe, case.fit[:4])
    assert less["bank"].n_images_ == N_FIT - 4
    assert not np.isin(less["bank"].bank_.image_index, range(4)).any()
    says_alike(less, case.test)


def op_undo(case, path):
    back = forget(update(case.pipe, case.new, force=True), case.new)
    same(back, case.pipe, case.test, rtol=1e-5, atol=1e-6)


def op_product(case, path):
    new = case.like(4)[:10] if case.kind in PICTURES else features(4)[:10] - 20
    grown = add_category(case.pipe, new, "third")
    says_alike(grown, case.test)
    # An image that is not sent to the new product is judged as before, to the bit.
    old = describe(grown, case.test)["nearest_route"] != "third"
    scores = [pipe.score_samples(case.test)[old] for pipe in (case.pipe, grown)]
    np.testing.assert_array_equal(*scores)
    same(remove_category(grown, "third"), case.pipe, case.test)


def op_chain(case, path):
    pipe = case.pipe
    rng = np.random.default_rng(0)
    there, to_come = list(range(N_FIT)), list(case.new)
    for step in rng.permutation(["update", "forget", "rate", "save"] * 2):
        if step == "update":
            pipe = update(pipe, np.stack([to_come.pop() for _ in range(4)]), force=True)
        elif step == "forget":
            pipe = forget(pipe, case.fit[[there.pop(), there.pop(0)]])
        elif step == "rate":
            pipe = recalibrate(pipe, false_alarm_rate=float(rng.uniform(0.1, 0.4)))
        else:
            pipe = stored(pipe)
        assert np.isfinite(pipe.score_samples(case.test)).all()
    assert pipe["bank"].n_images_ == N_FIT - 4 + 8
    says_alike(pipe, case.test)


def op_monitor(case, path):
    images, table = DriftMonitor(case.pipe), DriftMonitor(case.pipe)
    images.update(case.test)
    table.update(describe(case.pipe, case.test))
    pd.testing.assert_frame_equal(images.evidence(), table.evidence())
    again = DriftMonitor.from_dict(case.pipe, images.to_dict())
    assert again.update(case.new) == images.update(case.new)


def op_audit(case, path):
    table = audit(case.pipe)
    assert len(table) == len(case.pipe[-1].training_)
    assert table["p_value"].between(0, 1).all()


def op_regions(case, path):
    table = regions(case.pipe, case.test)
    maps = case.pipe[:-1].transform(case.test)
    assert table["n_patches"].sum() <= maps.values.size
    if maps.geometry is not None:
        assert (table[["top", "left"]] >= 0).all(axis=None)
        assert (table["bottom"] <= table["height"]).all() and (
            table["right"] <= table["width"]
        ).all()
    if case.kind == "ignore":  # nothing is found where nothing is looked at
        assert not ((table["peak_row"] < 16) & (table["peak_col"] < 16)).any()


def op_clone(case, path):
    again = clone(case.unfitted).set_params(structcore__false_alarm_rate=0.2)
    words = KINDS[case.kind][2]
    if case.kind != "paper":
        same(again.fit(case.fit, **words), case.pipe, case.test)


def op_estimate(case, path):
    assert estimate_memory(case.unfitted, case.fit).peak > 0


def labelled(case):
    """Test images; every other one is called defective."""
    y = ["good", "spot"] * (N_TEST // 2)
    categories = PRODUCTS[:N_TEST] if "category" in case.kind else None
    return ImageSet(list(case.test), y, categories=categories)


def op_evaluate(case, path):
    found = evaluate(case.pipe, labelled(case))
    pd.testing.assert_frame_equal(found.scores.select_dtypes("number"),
                                  describe(case.pipe, case.test).select_dtypes("number"),
                                  check_index_type=False)  # fmt: skip
    rejected, good = case.pipe.predict(case.test) == -1, np.arange(N_TEST) % 2 == 0
    rate = case.pipe[-1].false_alarm_rate
    counts = found.rates([rate]).iloc[0]
    assert counts["false_alarms"] == (rejected & good).sum()
    assert counts["found"] == (rejected & ~good).sum()


def op_report(case, path):
    page = report(case.pipe, list(case.test), path / "page.html").read_text()
    assert f"{(case.pipe.predict(case.test) == -1).sum()} of {N_TEST}" in page


def op_processes(case, path):
    save(case.pipe, path / "model")
    table = score_images(path / "model", list(case.test), n_jobs=2, shard_size=5)
    np.testing.assert_array_equal(-table["anomaly_score"], case.pipe.score_samples(case.test))


OPERATIONS = {name[3:]: op for name, op in list(globals().items()) if name.startswith("op_")}

_NO_ROUTES = "The pipeline has no routes"
#: What is no right answer but a clear error: its words.
REFUSED = (
    {(kind, "product"): _NO_ROUTES for kind in KINDS if kind not in ROUTED}
    | {(kind, "audit"): "was calibrated in-sample" for kind in HELD_IN}
)  # fmt: skip

#: What takes images: pipelines that start with features have no such cell.
OF_IMAGES = {"evaluate", "report", "processes"}
_CELLS = [
    (kind, name)
    for kind in KINDS
    for name in OPERATIONS
    if kind in PICTURES or name not in OF_IMAGES
]
# A diagonal: each operation with some kind, and each kind of features with some operation.
_FAST = {
    (kind, name)
    for j, name in enumerate(name for name in OPERATIONS if name not in OF_IMAGES)
    for i, kind in enumerate(kind for kind in KINDS if kind not in PICTURES)
    if (i + j) % 4 == 0
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        pytest.param(*cell, marks=[] if cell in _FAST else pytest.mark.slow, id="-".join(cell))
        for cell in _CELLS
    ],
)
def test_cell(cases, tmp_path, kind, name):
    if kind not in cases:
        cases[kind] = Case(kind)
    case, message = cases[kind], REFUSED.get((kind, name))
    if message is None:
        OPERATIONS[name](case, tmp_path)
        return
    with pytest.raises(ValueError, match=message):
        OPERATIONS[name](case, tmp_path)


# --- chains of operations on the lifecycle -------------------------------------------------------


class Lifecycle(RuleBasedStateMachine):
    """Whatever comes and goes, the pipeline holds what is left, and says so in all places."""

    def __init__(self):
        super().__init__()
        rng = np.random.default_rng(0)
        self.stock = rng.normal(size=(200, 3, 3, 5)).astype(np.float32)
        self.test = rng.normal(size=(12, 3, 3, 5)).astype(np.float32)

    @initialize(calibration=st.sampled_from(["leave-one-image-out", "k-fold"]))
    def fit(self, calibration):
        X, self.next = np.concatenate([self.stock[:12], self.stock[12:24] + 12]), 24
        self.products, self.compared_at = {"a": list(X[:12]), "b": list(X[12:])}, None
        self.shift = {"a": 0, "b": 12}
        self.pipe = on_features(bank__ratio=0.3, knn__calibration=calibration)
        self.pipe.fit(X, bank__categories=["a"] * 12 + ["b"] * 12)

    def take(self, n, product):
        self.next += n
        return self.stock[self.next - n : self.next] + np.float32(self.shift[product])

    @precondition(lambda self: self.next < 150)
    @rule(n=st.integers(1, 4), data=st.data())
    def update(self, n, data):
        product = data.draw(st.sampled_from(sorted(self.products)))
        new = self.take(n, product)
        grown = update(self.pipe, new, categories=product, force=True)
        back = forget(grown, new)
        same(back, self.pipe_at_training(), self.test, rtol=1e-5, atol=1e-6)
        self.pipe = grown
        self.products[product] += list(new)

    def pipe_at_training(self):
        """The pipeline with thresholds of its training images: what update and forget give."""
        changed = clone(self.pipe[-1])
        changed.__dict__.update(vars(self.pipe[-1]))
        changed.calibrate()
        return type(self.pipe)([*self.pipe.steps[:-1], ("structcore", changed)])

    @rule(n=st.integers(1, 3), data=st.data())
    def forget(self, n, data):
        product = data.draw(st.sampled_from(sorted(self.products)))
        there = self.products[product]
        n = min(n, len(there) - 8)
        if n > 0:
            gone = [there.pop(0) for _ in range(n)]
            self.pipe = forget(self.pipe, np.stack(gone))

    @rule(rate=st.floats(0.05, 0.5))
    def rate(self, rate):
        self.pipe = recalibrate(self.pipe, false_alarm_rate=rate)

    @precondition(lambda self: self.next < 150)
    @rule(weight_old=st.sampled_from([0.0, 0.5]))
    def recalibrate(self, weight_old):
        fresh = np.concatenate([self.take(8, product) for product in sorted(self.products)])
        self.pipe = recalibrate(self.pipe, fresh, weight_old=weight_old, force=True)

    @precondition(lambda self: "c" not in self.products)
    @rule()
    def add(self):
        self.shift["c"] = -12
        new = self.take(10, "c")
        self.pipe = add_category(self.pipe, new, "c")
        self.products["c"] = list(new)

    @precondition(lambda self: "c" in self.products)
    @rule()
    def remove(self):
        self.pipe = remove_category(self.pipe, "c")
        del self.products["c"]

    @rule()
    def store(self):
        again = stored(self.pipe)
        same(again, self.pipe, self.test)
        self.pipe = again

    @invariant()
    def holds_what_is_left(self):
        if not hasattr(self, "pipe"):
            return
        bank, knn, scorer = self.pipe.named_steps.values()
        names = bank.bank_.route_names
        left = {name: len(images) for name, images in self.products.items()}
        assert dict(zip(names, bank.n_images_per_route_, strict=True)) == left
        assert set(scorer.routes_) == set(names) and len(scorer.training_) == bank.n_images_
        assert bank.images_.is_there[bank.bank_.image_index].all()
        for name, expectation in zip(names, knn.expectations_, strict=True):
            n_patches = 9 * left[name]
            assert expectation.sums.totals[0] == n_patches
            assert (expectation.sums.counts >= 0).all()
            # No patch that is left is farther from the bank than it says.
            route = names.index(name)
            rows = np.stack(self.products[name]).reshape(-1, 5)
            entries = bank.bank_.select(route).values
            far = np.linalg.norm(rows[:, None] - entries, axis=2).min(axis=1).max()
            assert far <= bank.radius_[route] + 1e-4
        if self.compared_at == (left, self.next):
            return
        self.compared_at = left, self.next
        X = np.concatenate([np.stack(self.products[name]) for name in names])
        categories = np.repeat(names, [left[name] for name in names])
        refit = clone(self.pipe).fit(X, bank__categories=categories, bank__groups=None)
        for mine, true in zip(knn.expectations_, refit["knn"].expectations_, strict=True):
            assert np.median(mine.scale) == pytest.approx(np.median(true.scale), rel=0.5)

    @invariant()
    def says_alike(self):
        if hasattr(self, "pipe"):
            says_alike(self.pipe, self.test)


LIMITS = {"deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True}
TestLifecycle = Lifecycle.TestCase
TestLifecycle.settings = settings(max_examples=2, stateful_step_count=6, **LIMITS)


class TestLongLifecycle(Lifecycle.TestCase):
    settings = settings(max_examples=25, stateful_step_count=30, **LIMITS)


TestLongLifecycle.pytestmark = [pytest.mark.slow]
