"""Every kind of pipeline with every operation: right by an independent check, or a clear error.

The default run takes a diagonal of the matrix; ``-m slow`` takes all of it.
"""

import copy
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from kinds import (
    HELD_IN,
    KINDS,
    N_FIT,
    N_NEW,
    N_TEST,
    PICTURES,
    PRODUCTS,
    ROUTED,
    Case,
    features,
    on_features,
    same,
    says_alike,
    stored,
)
from PIL import Image
from sklearn import config_context
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV

from skstructcore import (
    DriftMonitor,
    add_category,
    audit,
    describe,
    estimate_memory,
    forget,
    info,
    load,
    recalibrate,
    regions,
    remove_category,
    save,
    save_maps,
    update,
)
from skstructcore import display as displays
from skstructcore.cli import main
from skstructcore.datasets import ImageSet
from skstructcore.evaluation import evaluate
from skstructcore.inference import score_images
from skstructcore.model_selection import OneClassKFold, aupro_scorer, image_auroc_scorer
from skstructcore.report import report

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def cases():
    return {}


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
    assert {d.asked_rate for d in changed[-1].routes_.decisions.values()} == {0.35}
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
    heavy = recalibrate(case.pipe, case.new, weight_old=1.0, force=True)
    routes = [pipe[-1].routes_.decisions.values() for pipe in (changed, heavy)]
    for half, whole in zip(*routes, strict=True):
        assert whole.held_out.fresh <= half.held_out.fresh  # old scores count for more


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


def another_product(case, seed):
    return case.like(seed)[:10] if case.kind in PICTURES else features(seed)[:10] - 20


def op_product(case, path):
    grown = add_category(case.pipe, another_product(case, 4), "third")
    says_alike(grown, case.test)
    # An image that is not sent to the new product is judged as before, to the bit.
    old = describe(grown, case.test)["nearest_route"] != "third"
    scores = [pipe.score_samples(case.test)[old] for pipe in (case.pipe, grown)]
    np.testing.assert_array_equal(*scores)
    same(remove_category(grown, "third"), case.pipe, case.test)


def op_chain(case, path):
    """Chains of four random operations; what is in the bank, and what is said, after each."""
    for seed in range(1 if case.kind in PICTURES else 3):
        rng = np.random.default_rng([seed, sorted(KINDS).index(case.kind)])
        pipe, there, to_come = case.pipe, list(range(N_FIT)), list(case.new)
        n_images, steps = N_FIT, []
        for step in rng.choice(["update", "forget", "rate", "fresh", "save", "product"], 4):
            steps.append(str(step))
            if step == "update":
                pipe = update(pipe, np.stack([to_come.pop(), to_come.pop()]), force=True)
                n_images += 2
            elif step == "forget":
                pipe = forget(pipe, case.fit[[there.pop(), there.pop(0)]])
                n_images -= 2
            elif step == "rate":
                pipe = recalibrate(pipe, false_alarm_rate=float(rng.uniform(0.1, 0.4)))
            elif step == "fresh":
                fresh = case.like(10 + len(steps))
                pipe = recalibrate(pipe, fresh, weight_old=float(rng.choice([0, 0.5])), force=True)
            elif step == "save":
                pipe = stored(pipe)
            elif case.kind in ROUTED:
                name = f"product {len(steps)}"
                pipe = add_category(pipe, another_product(case, 20 + len(steps)), name)
                if rng.random() < 0.5:
                    pipe = remove_category(pipe, name)
                else:
                    n_images += 10
            assert pipe["bank"].n_images_ == n_images, steps
            assert len(pipe[-1].training_) == n_images or case.kind == "streamed", steps
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
    if case.kind == "foreground":  # with half a patch to each side
        peaks = table[["peak_row", "peak_col"]]
        assert ((peaks > 12) & (peaks < 52)).all(axis=None)


def op_clone(case, path):
    rate = {"structcore__false_alarm_rate": 0.3, "structcore__quantile": None}
    again = clone(case.pipe).set_params(**rate).fit(case.fit, **case.words)
    same(again, recalibrate(case.pipe, false_alarm_rate=0.3), case.test)


def op_output(case, path):
    """Steps hand on no tables, whatever scikit-learn is told."""
    pipe = copy.deepcopy(case.pipe).set_output(transform="pandas")
    with config_context(transform_output="pandas"):
        same(pipe, case.pipe, case.test)
        assert isinstance(pipe.transform(case.test), np.ndarray)


def op_search(case, path):
    X, y = np.concatenate([case.fit[:24], faulty(case)]), ["good"] * 24 + ["spot"] * 6
    words = {name: np.append(values[:24], values[:6]) for name, values in case.words.items()}
    folds = OneClassKFold(2)
    search = GridSearchCV(case.unfitted, {"structcore__norm": ["sum", "linf"]},
                          scoring=image_auroc_scorer, cv=folds, error_score="raise")  # fmt: skip
    search.fit(X, y, **words)
    train, test = list(folds.split(X, y))[1]
    mine = {name: values[train] for name, values in words.items()}
    pipe = clone(case.unfitted).set_params(structcore__norm="linf").fit(X[train], **mine)
    area = roc_auc_score(np.array(y)[test] == "spot", -pipe.score_samples(X[test]))
    assert search.cv_results_["split1_test_score"][1] == area
    assert search.best_estimator_["bank"].n_images_ == 24  # good ones alone


def faulty(case):
    """Test images with a defect."""
    X = case.like(6)[:6].copy()
    if case.kind in PICTURES:
        X[:, -14:-8, -14:-8] = X.max()
    else:
        X[:, 1, 1] += 9
    return X


def op_estimate(case, path):
    assert estimate_memory(case.unfitted, case.fit).peak > 0


def labelled(case):
    """Test images; every other one is called defective."""
    y = ["good", "spot"] * (N_TEST // 2)
    categories = PRODUCTS[:N_TEST] if "category" in case.kind else None
    mask = np.zeros(case.test.shape[1:], dtype=np.uint8)
    mask[20:28, 20:28] = 255
    return ImageSet(list(case.test), y, masks=[None, mask] * (N_TEST // 2), categories=categories)


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


# --- displays ------------------------------------------------------------------------------------


def op_anomaly_map_display(case, path):
    shown = displays.AnomalyMapDisplay.from_estimator(case.pipe, labelled(case))
    rejected = case.pipe.predict(case.test) == -1
    assert ["rejected" in title for title in shown.titles] == rejected.tolist()
    (maps,) = shown.maps.values()
    if case.kind == "ignore":
        assert not any(pixels[:12, :12].any() for pixels in maps)
    with_region = {int(name.split()[1]) for name in regions(case.pipe, case.test)["image"]}
    assert {i for i, pixels in enumerate(maps) if np.nanmax(pixels) > 1} <= with_region


def op_bank_display(case, path):
    shown = displays.BankDisplay.from_estimator(case.pipe)
    bank = case.pipe["bank"]
    counts = np.bincount(bank.bank_.image_index, minlength=bank.n_images_)
    np.testing.assert_array_equal(shown.entries_per_image(), counts)
    shown.plot_images()


def rejected_by_hand(case, rate):
    return recalibrate(case.pipe, false_alarm_rate=rate).predict(case.test) == -1


def op_operating_point_display(case, path):
    y = ["good", "spot"] * (N_TEST // 2)
    shown = displays.OperatingPointDisplay.from_estimator(
        case.pipe, case.test, y, false_alarm_rates=[0.1, 0.3]
    )
    for i, rate in enumerate((0.1, 0.3)):
        rejected = rejected_by_hand(case, rate)
        assert shown.found[i] == rejected[1::2].mean()
        assert shown.false_alarms[i] == rejected[::2].mean()


def op_dependence_display(case, path):
    for route in getattr(case.pipe["bank"], "dependence_", None) or [None]:
        shown = displays.DependenceDisplay.from_estimator(case.pipe, route=route)
        assert np.isfinite(shown.ratio).all() and (shown.ratio >= 0).all()


def op_descriptor_display(case, path):
    shown = displays.DescriptorDisplay.from_estimator(case.pipe, case.test)
    table = describe(case.pipe, case.test)
    assert {f"z_{name}" for name in shown.z} <= set(table) and shown.z.columns.is_unique
    for name in shown.z:
        np.testing.assert_array_equal(shown.z[name], table[f"z_{name}"])


def op_drift_display(case, path):
    shown = displays.DriftDisplay.from_estimator(case.pipe, case.test)
    monitor = DriftMonitor(case.pipe)
    monitor.update(case.test)
    evidence = monitor.evidence()["log10_evidence"]
    np.testing.assert_allclose(shown.log10_evidence.iloc[-1], evidence)


def op_overlap_display(case, path):
    images = labelled(case)
    shown = displays.RegionOverlapDisplay.from_estimator(case.pipe, images)
    assert shown.aupro == pytest.approx(aupro_scorer(case.pipe, images))


def op_routing_display(case, path):
    shown = displays.RoutingDisplay.from_estimator(case.pipe, case.test)
    table = describe(case.pipe, case.test)
    np.testing.assert_array_equal(shown.nearest_route, table["nearest_route"])
    np.testing.assert_array_equal(shown.ratio > 1, table["route"] == "unknown")


def op_histogram_display(case, path):
    shown = displays.ScoreHistogramDisplay.from_estimator(case.pipe, case.test)
    rejected = case.pipe.predict(case.test) == -1
    np.testing.assert_array_equal(np.asarray(shown.scores) > shown.threshold, rejected)
    assert len(shown.calibration_scores) in (len(case.pipe[-1].training_), 0)


def op_shift_display(case, path):
    counts = displays.ScoreShiftDisplay.from_estimator(case.pipe, case.test).counts()
    rejected = (case.pipe.predict(case.test) == -1).sum()
    assert counts[["both", "only_score"]].to_numpy().sum() == rejected


# --- files and commands --------------------------------------------------------------------------


def op_files(case, path):
    save_maps(case.pipe, case.test, path / "maps", overlays=path / "overlays",
              masks=path / "masks")  # fmt: skip
    found = regions(case.pipe, case.test)
    for i, original in enumerate(case.test):
        counts, drawn, overlay = (
            np.asarray(Image.open(path / folder / f"image {i}.png"))
            for folder in ("maps", "masks", "overlays")
        )
        assert counts.shape == drawn.shape == overlay.shape[:2] == original.shape
        large = found[(found["image"] == f"image {i}") & ~found["too_small"]]
        assert set(np.unique(drawn)) - {0} <= set(large["region"] + 1) | set(large["region"])
        if case.kind == "ignore":
            assert not drawn[:16, :16].any() and counts[:12, :12].max() <= 1


def command(name, *arguments):
    """What a command says, as JSON; its message as an error."""
    arguments = [str(a) for a in (name, *arguments)]
    result = CliRunner().invoke(main, [*arguments, "--json"])
    if result.exit_code == 2:
        raise ValueError(result.stderr)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def op_command_info(case, path):
    said, known = command("info", case.model), info(case.model)
    assert said == json.loads(json.dumps(known))
    assert said["training"]["n_images"] == N_FIT
    rates = {name: d.rate for name, d in case.pipe[-1].routes_.decisions.items()}
    assert {name: d["rate"] for name, d in said["decisions"].items()} == rates


def op_command_audit(case, path):
    said, table = command("audit", case.model), audit(case.pipe)
    assert said["suspects"] == table["suspect"].sum()
    assert [row["image"] for row in said["images"]] == table["image"].tolist()
    np.testing.assert_array_equal([row["p_value"] for row in said["images"]], table["p_value"])


def op_command_rate(case, path):
    said = command("recalibrate", case.model, "-o", path / "new", "--false-alarms", 0.35)
    changed = recalibrate(case.pipe, false_alarm_rate=0.35)
    same(load(path / "new"), changed, case.test)
    thresholds = [d.threshold for d in changed[-1].routes_.decisions.values()]
    assert [row["new_threshold"] for row in said["thresholds"]] == thresholds


def op_command_remove(case, path):
    name = list(case.pipe[-1].routes_)[-1]
    said = command("remove-category", case.model, name, "-o", path / "new")
    less = remove_category(case.pipe, name)
    assert said["images"] == less["bank"].n_images_ < said["images_before"] == N_FIT
    same(load(path / "new"), less, case.test)


def op_command_score(case, path):
    outputs = ["--maps", path / "maps", "--masks", path / "masks", "--regions", path / "coco"]
    said = command("score", case.model, case.files("test"), *outputs)
    table = describe(case.pipe, case.test)
    assert said["images"] == N_TEST and said["rejected"] == table["is_anomalous"].sum()
    rows = pd.DataFrame(said["scores"])
    for column in ("anomaly_score", "p_value", "is_anomalous"):
        np.testing.assert_array_equal(rows[column], table[column])
    coco = json.loads((path / "coco").read_text())
    assert len(coco["images"]) == N_TEST
    found = regions(case.pipe, case.test)
    assert len(coco["annotations"]) == len(found)
    np.testing.assert_allclose([row["score"] for row in coco["annotations"]], found["peak"])
    save_maps(case.pipe, case.test, path / "mine", masks=path / "my masks")
    for i, name in enumerate(sorted(case.files("test").iterdir())):
        for one, other in (("maps", "mine"), ("masks", "my masks")):
            said = np.asarray(Image.open(path / one / f"{name.stem}.png"))
            mine = np.asarray(Image.open(path / other / f"image {i}.png"))
            np.testing.assert_array_equal(said, mine)


def op_command_monitor(case, path):
    monitor = DriftMonitor(case.pipe)
    for name in ("test", "new"):
        said = command("monitor", case.model, case.files(name), "--state", path / "state")
        alarms = monitor.update(getattr(case, name))
        assert said["images"] == monitor.n_images_
        assert [alarm["kind"] for alarm in said["alarms"]] == [alarm.kind for alarm in alarms]
    state = json.loads((path / "state").read_text())
    pd.testing.assert_frame_equal(DriftMonitor.from_dict(case.pipe, state).evidence(),
                                  monitor.evidence())  # fmt: skip


def op_command_fresh(case, path):
    said = command("recalibrate", case.model, case.files("test"), "-o", path / "new", "--force")
    changed = recalibrate(case.pipe, case.test, force=True)
    same(load(path / "new"), changed, case.new)
    decided = [row["is_anomalous"] for row in said["images"]]
    assert decided == changed[-1].recalibration_.decisions["is_anomalous"].tolist()


def op_command_update(case, path):
    said = command("update", case.model, case.files("new"), "-o", path / "new", "--force")
    assert said["images"] == N_FIT + N_NEW
    same(load(path / "new"), update(case.pipe, case.new, force=True), case.test)
    said = command("forget", path / "new", case.files("new"), "-o", path / "less")
    assert said["images"] == N_FIT
    undone = forget(update(case.pipe, case.new, force=True), case.new)
    same(load(path / "less"), undone, case.test)


def op_command_add(case, path):
    said = command("add-category", case.model, "third", case.files("new"), "-o", path / "new")
    assert said["images"] == N_FIT + N_NEW
    same(load(path / "new"), add_category(case.pipe, case.new, "third"), case.test)


def op_command_report(case, path):
    said = command("report", case.model, case.files("test"), "-o", path / "page.html")
    assert said["images"] == N_TEST
    rejected = (case.pipe.predict(case.test) == -1).sum()
    assert f"{rejected} of {N_TEST}" in (path / "page.html").read_text()


def op_command_latency(case, path):
    said = command("latency", case.model, case.files("test"), "--repeats", 1)
    assert all(value >= 0 for row in said.values() for value in row.values())


def op_command_watch(case, path):
    shutil.copytree(case.files("test"), path / "camera")
    said = command("watch", case.model, path / "camera", "--csv", path / "rows.csv", "--once")
    assert said["images"] == N_TEST
    rows = pd.read_csv(path / "rows.csv").sort_values("file", ignore_index=True)
    table = describe(case.pipe, case.test)
    assert rows["error"].isna().all()
    for column in ("anomaly_score", "p_value"):
        np.testing.assert_allclose(rows[column], table[column], rtol=1e-12)
    np.testing.assert_array_equal(rows["is_anomalous"], table["is_anomalous"])


def op_command_cache(case, path):
    folder = case.pipe[0].memory
    cached = [file for file in Path(folder).rglob("*") if file.is_file() and not file.suffix]
    said = command("cache", folder)
    assert said["results"] == len(cached) > 0
    assert said["bytes"] == sum(file.stat().st_size for file in cached)
    before = case.pipe.score_samples(case.test)
    assert command("cache", folder, "--max-size", 0)["results"] == 0
    np.testing.assert_array_equal(case.pipe.score_samples(case.test), before)


#: What the command `fit` needs to fit as KINDS do; others cannot be said to it.
SQUARES = {
    "a": [[(0, 0), (16, 0), (16, 16), (0, 16)]],
    "b": [[(0, 16), (16, 16), (16, 32), (0, 32)]],
}
SETTINGS = {
    "pictures": [],
    "ignore": [f"features__ignore={SQUARES['a']}"],
    "ignore by category": [f"features__ignore={SQUARES}"],
    "tiles": ["features__tile_size=32"],
    "streamed": ["bank__ratio=20", "bank__max_memory=900_000"],
    "foreground": ["features__image_size=64", "features__ignore=background"],
    "cache": ["features__memory=cache"],
    "floats": ["features__window=(0, 1)"],
    "16 bits": [],
    "16 bits, window": ["features__window=(0, 10_200)"],
}


def settings_of(case, path):
    given = ["features__image_size=32", "bank__ratio=0.2", *SETTINGS[case.kind]]
    given = [text.replace("=cache", f"={path / 'cache'}") for text in given]
    return ["--false-alarms", 0.2, *(word for text in given for word in ("--set", text))]


def op_command_fit(case, path):
    categories = ["--categories", r"-(.)[.]\w+$"] if case.kind in ROUTED else []
    said = command("fit", case.files("fit"), "-o", path / "new", "--no-estimate", *categories,
                   *settings_of(case, path))  # fmt: skip
    same(load(path / "new"), case.pipe, case.test)
    thresholds = {name: d.threshold for name, d in case.pipe[-1].routes_.decisions.items()}
    rows = [row for row in said["operating_points"] if row["false_alarm_rate"] == 0.2]
    assert {row["route"]: row["threshold"] for row in rows} == thresholds


def op_command_evaluate(case, path):
    shutil.copytree(case.files("fit"), path / "set/train/good")
    for kind in ("good", "spot"):
        (path / "set/test" / kind).mkdir(parents=True)
    for i, file in enumerate(sorted(case.files("test").iterdir())):
        shutil.copy(file, path / "set/test" / ("spot" if i % 2 else "good"))
    said = command("evaluate", path / "set", *settings_of(case, path))
    rejected = case.pipe.predict(case.test) == -1
    (row,) = (row for row in said["rates"] if row["false_alarm_rate"] == 0.2)
    assert (row["false_alarms"], row["found"]) == (rejected[::2].sum(), rejected[1::2].sum())


def op_command_export(case, path):
    said = command("export", case.model, "-o", path / "onnx", "--check", case.files("test"))
    checked = command("verify", path / "onnx")
    assert said["n_images"] >= N_TEST and checked["n_images"] > 0
    assert said["n_flipped"] == checked["n_flipped"] == 0


OPERATIONS = {name[3:]: op for name, op in list(globals().items()) if name.startswith("op_")}

_NO_ROUTES = "The pipeline has no routes"
#: What is no right answer but a clear error: its words.
REFUSED = {
    **{(kind, name): _NO_ROUTES for kind in KINDS if kind not in ROUTED
       for name in ("product", "routing_display", "command_remove", "command_add")},
    **{(kind, name): "was calibrated in-sample" for kind in HELD_IN
       for name in ("audit", "command_audit")},
    ("groups", "dependence_display"): "The bank did not look for dependence",
    **{(kind, "command_export"): "No ONNX graph can hold"
       for kind in ("ignore by category", "foreground", "floats", "16 bits", "16 bits, window")},
}  # fmt: skip

#: What takes images: pipelines that start with features have no such cell.
OF_IMAGES = {"evaluate", "report", "processes", "anomaly_map_display", "overlap_display", "files"}
OF_IMAGES |= {name for name in OPERATIONS if name.startswith("command_")}
OF_IMAGES -= {"command_info", "command_audit", "command_rate", "command_remove"}
_CELLS = [
    (kind, name)
    for kind in KINDS
    for name in OPERATIONS
    if (kind in PICTURES or name not in OF_IMAGES)
    and (kind in SETTINGS or name not in ("command_fit", "command_evaluate"))
    and (kind, name) != ("ignore by category", "command_evaluate")  # of one category
    and (kind == "cache" or name != "command_cache")
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
def test_cell(cases, tmp_path, tmp_path_factory, kind, name):
    if kind not in cases:
        cases[kind] = Case(kind, tmp_path_factory.mktemp("case"))
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
            assert expectation.sums[0, -1] == n_patches
            assert (expectation.sums[0, :-1] >= 0).all()
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
