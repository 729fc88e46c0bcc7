"""A station from its fit to months later: recalibrate, update, forget, audit, drift, choose.

    python benchmarks/study_field.py magnetic_tile/ cookie/ --cache CACHE --plot drift.png

Each part prints its own comparison; `--parts` runs some of them. Features come from the cache if it
is filled; changed images are new ones, for which the backbone runs.
"""

import argparse
import time
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
from _measure import spread, table
from PIL import Image, ImageEnhance, ImageFilter

from skstructcore import (
    DriftMonitor,
    audit,
    forget,
    make_structcore,
    operating_points,
    recalibrate,
    update,
)
from skstructcore.datasets import ImageSet, load_mvtec_ad
from skstructcore.images import as_images
from skstructcore.images.masks import read_mask
from skstructcore.lifecycle._drift_tests import RouteTests
from skstructcore.metrics import image_auroc_score
from skstructcore.scoring.decision import decide

PARTS = ("recalibrate", "update", "audit", "points", "streams", "drift")
SHIFTS = ("brightness", "blur", "contrast", "shift")
STRENGTHS = (0.25, 0.5, 0.75, 1.0)


def pipeline(cache, level=0.05, seed=None):
    return make_structcore(
        "efficientnet_lite0",
        random_state=seed,
        features__memory=cache,
        structcore__false_alarm_rate=level,
    )


def parts_of(pipe, images):
    return pipe[-1].describe(pipe[:-1].transform(images))


def groups_of(images):
    return np.arange(len(images)) if images.groups is None else images.groups


def split(images, share, rng):
    """Two sets of whole groups; the first has about `share` of the images."""
    groups = groups_of(images)
    names = rng.permutation(np.unique(groups))
    first = np.isin(groups, names[: max(1, round(share * len(names)))])
    return images[first], images[~first]


def joined(*sets):
    groups = None
    if all(images.groups is not None for images in sets):
        groups = np.concatenate([images.groups.astype(str) for images in sets])
    paths = [path for images in sets for path in images.paths]
    y = np.concatenate([images.y for images in sets])
    return ImageSet(paths, y, groups=groups)


def part_recalibrate(name, data, pipe, args):
    """False alarms on good test images, a random half of which recalibrates; whole groups."""
    good = data.test[data.test.y == "good"]
    scores, groups = parts_of(pipe, good)["anomaly_score"].to_numpy(), groups_of(good)
    names, levels = np.unique(groups), (0.05, 0.1, 0.2)
    of_fit = {level: -recalibrate(pipe, false_alarm_rate=level)[-1].offset_ for level in levels}
    rows = []
    for seed in range(args.halves):
        rng = np.random.default_rng(seed)
        fresh = np.isin(groups, rng.permutation(names)[: len(names) // 2])
        now = recalibrate(pipe, good[fresh], force=True)  # scores stay, only thresholds move
        for level in levels:
            new = recalibrate(now, false_alarm_rate=level)
            rows.append((level, (scores[~fresh] > of_fit[level]).mean(),
                         (scores[~fresh] > -new[-1].offset_).mean()))  # fmt: skip
    means = pd.DataFrame(rows).groupby(0).mean()
    table(
        f"{name}: false alarms, threshold of the fit and of half of the good test images",
        ("asked", "of the fit", "after recalibrate"),
        [(f"{level:.0%}", *(f"{share:.1%}" for share in row)) for level, row in means.iterrows()],
    )


def part_update(name, data, pipe, args):
    """Update and forget against a refit: time, scores, AUROC. A draw and a seed for each repeat."""
    results = []
    for seed in range(args.repeats):
        rng = np.random.default_rng(seed)
        for share in (0.9, 0.8, 0.5):
            first, more = split(data.train, share, rng)
            base = pipeline(args.cache, seed=seed).fit(first)
            start = time.process_time()
            grown = update(base, more, force=True)
            seconds = time.process_time() - start
            start = time.process_time()
            whole = pipeline(args.cache, seed=seed).fit(joined(first, more))
            of_whole = time.process_time() - start
            results.append((f"update by {1 - share:.0%}", seconds, of_whole,
                            *_compared(grown, whole, data)))  # fmt: skip
            start = time.process_time()
            small = forget(whole, more)
            results.append((f"forget {1 - share:.0%}", time.process_time() - start, np.nan,
                            *_compared(small, base, data)))  # fmt: skip
    rows = []
    for what, group in pd.DataFrame(results).groupby(0, sort=False):
        mean = group.drop(columns=0).mean()
        rows.append((what, f"{mean[1]:.1f}", "" if np.isnan(mean[2]) else f"{mean[2]:.1f}",
                     f"{mean[3]:.4f}", f"{mean[4]:.3f}",
                     spread(100 * group[5]), spread(100 * group[6]),
                     f"{mean[7]:.1%}", f"{mean[8]:.1%}"))  # fmt: skip
    header = ("what", "CPU seconds", "of the refit", "correlation of scores",
              "median difference (sd of good scores)", "AUROC", "AUROC of the refit",
              "threshold passes good", "threshold of the refit passes good")  # fmt: skip
    table(f"{name}: update and forget against a refit", header, rows)


def _compared(pipe, refit, data):
    bad = data.test.y != "good"
    mine, theirs = (-p.score_samples(data.test) for p in (pipe, refit))
    return (
        np.corrcoef(mine, theirs)[0, 1],
        np.median(np.abs(mine - theirs)) / refit[-1].calibration_.decision.scores.std(),
        image_auroc_score(bad, mine),
        image_auroc_score(bad, theirs),
        (mine[~bad] <= -pipe[-1].offset_).mean(),
        (theirs[~bad] <= -refit[-1].offset_).mean(),
    )


def part_audit(name, data, pipe, args):
    """Real defects among the good training images: what is suspected, and what forget brings."""
    bad = data.test[data.test.y != "good"]
    ideals = [pipeline(args.cache, seed=seed).fit(data.train) for seed in range(args.repeats)]
    rows = []
    for share in (0.0, 0.01, 0.05, 0.1):
        suspects, wrong, recall, scores = [], [], [], []
        for seed, ideal in enumerate(ideals):
            rng = np.random.default_rng(seed)
            n = round(share * len(data.train) / (1 - share)) if share else 0
            planted = rng.permutation(len(bad))[: max(n, 1 if share else 0)]
            poison = bad[planted]
            if len(poison):
                poison = ImageSet(
                    poison.paths,
                    groups=None if data.train.groups is None else [f"defect{i}" for i in planted],
                )
            train = joined(data.train, poison) if len(poison) else data.train
            rest = np.setdiff1d(np.arange(len(data.test)),
                                np.flatnonzero(data.test.y != "good")[planted])  # fmt: skip
            test = data.test[rest]
            dirty = pipeline(args.cache, seed=seed).fit(train)
            found = audit(dirty)
            flagged = found.loc[found["suspect"], "image"].to_numpy()
            is_bad = flagged >= len(data.train)
            suspects.append(len(flagged))
            wrong.append((~is_bad).sum() / max(len(flagged), 1))
            recall.append(is_bad.sum() / max(len(planted), 1))
            clean = dirty
            if len(flagged):
                clean = forget(dirty, [train.paths[i] for i in flagged])
            looked_at = dirty
            if is_bad.any():
                looked_at = forget(dirty, [train.paths[i] for i in flagged[is_bad]])
            scores.append([image_auroc_score(test.y != "good", -p.score_samples(test))
                           for p in (dirty, clean, looked_at, ideal)])  # fmt: skip
        rows.append((f"{share:.0%}", len(planted), f"{np.mean(suspects):.1f}",
                     f"{np.mean(wrong):.0%}", f"{np.mean(recall):.0%}" if share else "",
                     *map(spread, 100 * np.transpose(scores))))  # fmt: skip
    header = ("planted", "images", "suspects", "good among them (15 % asked)", "recall",
              "AUROC", "all suspects forgotten", "only the defects among them",
              "without planted defects")  # fmt: skip
    table(f"{name}: audit of contaminated training sets", header, rows)


def part_points(name, data, pipe, args):
    """What painted defects say, and what is found of real ones."""
    bad = data.test[data.test.y != "good"]
    estimates = {}
    for severity in (0.5, 1.0):
        points = operating_points(
            pipe, data.train, false_alarm_rates=(0.05, 0.1, 0.2), severity=severity
        )
        estimates[severity] = points
    real = operating_points(
        pipe, data.test, false_alarm_rates=(0.05, 0.1, 0.2), n_painted=2, sizes=[0.1]
    )
    images, sizes = as_images(bad), np.full(len(bad), np.nan)
    for i, mask in enumerate(bad.masks):
        if mask is not None and (marked := read_mask(mask)).any():
            rows, cols = np.nonzero(marked)
            extent = max(np.ptp(rows), np.ptp(cols)) + 1
            sizes[i] = extent / min(images.size(i))
    p_values = parts_of(pipe, bad)["p_value"].to_numpy()
    rows = []
    for i, row in enumerate(real.itertuples()):
        found = p_values <= row.rate + 1e-9
        half, full = (estimates[s].iloc[i] for s in (0.5, 1.0))
        rows.append((f"{row.false_alarm_rate:.0%}", f"{row.false_alarms:.1%}",
                     f"{half.painted_found:.0%}", f"{full.painted_found:.0%}",
                     f"{row.found:.0%} ({row.found_low:.0%} to {row.found_high:.0%})",
                     _share(half.smallest_found), _share(full.smallest_found),
                     _share(_real_size(sizes, found))))  # fmt: skip
    header = ("asked", "false alarms", "painted found, contrast 0.5", "contrast 1",
              "real found (95 %)", "smallest found, contrast 0.5", "contrast 1",
              "real")  # fmt: skip
    table(f"{name}: operating points (sizes as shares of the shorter side)", header, rows)


def _share(size):
    return "none" if np.isnan(size) else f"{size:.0%}"


def _real_size(sizes, found, least=10):
    """Smallest size such that of at least ten larger defects 90 % are found."""
    known = ~np.isnan(sizes)
    sizes, found = sizes[known], found[known]
    order = np.argsort(sizes)[::-1]
    shares = np.cumsum(found[order]) / np.arange(1, len(order) + 1)
    good = np.flatnonzero(shares[least - 1 :] >= 0.9) + least - 1
    return float(sizes[order][good[-1]]) if len(good) else float("nan")


def page_hinkley(scores, delta=0.5, limit=20.0):
    """First alarm of the Page-Hinkley test on standardised scores, or None."""
    mean, total, least = 0.0, 0.0, 0.0
    for i, score in enumerate(scores):
        mean += (score - mean) / (i + 1)
        total += score - mean - delta
        least = min(least, total)
        if total - least > limit:
            return i
    return None


def one_sigma(scores, width=10):
    """First mean of ten images that is a standard deviation off, or None."""
    means = np.convolve(scores, np.ones(width) / width, mode="valid")
    off = np.flatnonzero(np.abs(means) > 1)
    return int(off[0]) + width - 1 if len(off) else None


def monitored(decision, p_values, rng, alpha=0.01):
    """First alarm of the tests that `DriftMonitor` runs, or None."""
    tests = RouteTests(decision, alpha, 0.1)
    for i, (p, tie) in enumerate(zip(p_values, rng.random((len(p_values), 2)), strict=True)):
        if list(tests.add(i, p, None, tie)):
            return i
    return None


def part_streams(name, data, pipe, args):
    """Alarms of streams on which nothing changes; each has a calibration set of its own."""
    good = data.test[data.test.y == "good"]
    pool = parts_of(pipe, good)["anomaly_score"].to_numpy()
    rows = []
    for source, n_images in (
        ("normal scores", args.n_images),
        (f"scores of {name}, permuted", None),
    ):
        alarms, rng = [], np.random.default_rng(0)
        for _ in range(args.streams):
            if n_images:
                scores = rng.normal(size=100 + n_images)
            else:
                scores = rng.permutation(pool)
            n = 100 if n_images else len(pool) // 2
            decision, new = decide(scores[:n], 0.02, "guaranteed"), scores[n:]
            z = (new - scores[:n].mean()) / scores[:n].std()
            p_values = decision.p_values(new)
            alarms.append([monitored(decision, p_values, rng) is not None,
                           page_hinkley(z) is not None, one_sigma(z) is not None])  # fmt: skip
        shares = np.mean(alarms, axis=0)
        rows.append((source, len(new), args.streams, *(f"{share:.1%}" for share in shares)))
    header = ("unchanged streams", "images each", "streams", "DriftMonitor (1 % asked)",
              "Page-Hinkley", "one sigma")  # fmt: skip
    table("Alarms on unchanged streams", header, rows)


def changed(image, kind, strength):
    """An image as a line that drifts would take it; strength from 0 to 1."""
    if kind == "brightness":
        return ImageEnhance.Brightness(image).enhance(1 + 0.5 * strength)
    if kind == "contrast":
        return ImageEnhance.Contrast(image).enhance(1 - 0.5 * strength)
    if kind == "blur":
        return image.filter(ImageFilter.GaussianBlur(3 * strength))
    step = round(0.15 * strength * image.width)
    moved = np.roll(np.asarray(image), step, axis=1)
    moved[:, :step] = moved[:, step : step + 1]  # the border is repeated, not wrapped
    return Image.fromarray(moved)


def part_drift(name, data, pipe, args):
    """Ramps over 100 images after 100 unchanged ones: delay, and false alarms before and after."""
    good = data.test[data.test.y == "good"]
    # Single images at random, so that both parts are alike: lots are another matter.
    order = np.random.default_rng(0).permutation(len(good))
    n_fresh = round(0.6 * len(good))
    fresh, chosen = good[np.sort(order[:n_fresh])], good[np.sort(order[n_fresh:][: args.n_stream])]
    station = recalibrate(pipe, fresh, groups=None, false_alarm_rate=0.05, force=True)
    calibration = station[-1].calibration_
    images = as_images(chosen)
    tables = {("none", 0.0): parts_of(station, chosen)}
    for kind in SHIFTS:
        for strength in STRENGTHS:
            copies = [changed(images.read(i), kind, strength) for i in range(len(images))]
            tables[kind, strength] = parts_of(station, copies)
    location, scale = calibration.decision.scores.mean(), calibration.decision.scores.std()
    rows, curves = [], {}
    for kind in SHIFTS:
        delays, named = [], []
        for seed in range(args.repeats * 4):
            rng = np.random.default_rng(seed)
            rows_of = rng.integers(len(chosen), size=300)
            steps = np.clip((np.arange(300) - 100) / 100, 0, 1)
            now = [min(3, round(4 * step) - 1) for step in steps]
            at = [("none", 0.0) if i < 0 else (kind, STRENGTHS[i]) for i in now]
            picked = [tables[key].iloc[[row]] for key, row in zip(at, rows_of, strict=True)]
            frame = pd.concat(picked, ignore_index=True)
            monitor = DriftMonitor(station, random_state=seed)
            log = []
            for start in range(0, 300, 5):
                monitor.update(frame.iloc[start : start + 5])
                log.append(monitor.evidence()["log10_evidence"].max())
            z = (frame["anomaly_score"].to_numpy() - location) / scale
            found = [monitor.alarms_[0].image if monitor.alarms_ else None,
                     page_hinkley(z), one_sigma(z)]  # fmt: skip
            delays.append([np.nan if f is None else f - 100 for f in found])
            named += [alarm.descriptor for alarm in monitor.alarms_[:1]]
            if seed == 0:
                curves[kind] = log
        delays = np.array(delays, dtype=float)
        end = tables[kind, 1.0]
        alarms = end["is_anomalous"].mean()
        scores = end["anomaly_score"].to_numpy()
        after = []
        for seed in range(200):
            order = np.random.default_rng(seed).permutation(len(scores))
            half = len(order) // 2
            limit = decide(scores[order[:half]], 0.05).threshold
            after.append((scores[order[half:]] > limit).mean())
        rows.append((kind, *(_delay(delays[:, i]) for i in range(3)),
                     max(set(named), key=named.count) if named else "",
                     f"{alarms:.0%}", f"{np.mean(after):.1%}"))  # fmt: skip
    header = ("ramp", "DriftMonitor", "Page-Hinkley", "one sigma", "largest shift in",
              "false alarms at its end (5 % asked)", "after recalibrate")  # fmt: skip
    before = tables["none", 0.0]["is_anomalous"].mean()
    table(
        f"{name}: images from the start of a ramp to the alarm, median (share of streams that "
        f"alarmed too early, never); {len(chosen)} images, {len(fresh)} recalibrated; without "
        f"change {before:.1%} false alarms",
        header,
        rows,
    )
    if args.plot:
        plot(curves, args.plot)


def _delay(values):
    early, never = (values < 0).mean(), np.isnan(values).mean()
    seen = values[values >= 0]
    middle = "-" if len(seen) == 0 else f"{np.median(seen):.0f}"
    return f"{middle} ({early:.0%} early, {never:.0%} never)"


def plot(curves, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for kind, log in curves.items():
        axes.plot(5 * (np.arange(len(log)) + 1), log, label=kind)
    axes.axhline(np.log10(3 / 0.01), color="0.3", ls="--", lw=1)
    axes.annotate("alarm", (2, np.log10(3 / 0.01)), va="bottom", color="0.3")
    axes.axvspan(100, 200, color="0.9", zorder=0)
    axes.annotate("the ramp", (150, axes.get_ylim()[1]), va="top", ha="center", color="0.3")
    axes.set(xlabel="image", ylabel="evidence, log10", xlim=(0, 300))
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(0.02, 0.85))
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", nargs="+", help="folders in the layout of MVTec AD")
    parser.add_argument("--cache", default=None, help="folder of the feature cache")
    parser.add_argument("--parts", nargs="+", default=PARTS, choices=PARTS)
    parser.add_argument(
        "--repeats", type=int, default=3, help="of planting; four times as many ramps"
    )
    parser.add_argument("--halves", type=int, default=30, help="random halves that recalibrate")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--n-stream", type=int, default=None, help="images that drift, per ramp")
    parser.add_argument("--n-images", type=int, default=500, help="length of unchanged streams")
    parser.add_argument("--n-train", type=int, default=None, help="so many good images, in groups")
    parser.add_argument("--plot", default=None, help="where to write the picture of the ramps")
    args = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    for folder in args.data:
        data, name = load_mvtec_ad(folder, check=False), Path(folder).name
        train = data.train
        if args.n_train is not None and args.n_train < len(train):
            train, _ = split(train, args.n_train / len(train), np.random.default_rng(1))
        data = SimpleNamespace(train=train, test=data.test)
        pipe = pipeline(args.cache).fit(train)
        for part in args.parts:
            globals()[f"part_{part}"](name, data, pipe, args)


if __name__ == "__main__":
    main()
