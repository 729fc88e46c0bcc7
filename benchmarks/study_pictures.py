"""What pays on pictures: turned copies in training, images in their own shape, counts of patches.

    python benchmarks/study_pictures.py ../shared/data --cache CACHE [--parts augment aspect ...]

* augment: 4, 8 and 16 training images with and without turned and mirrored copies, which are held
  out with their image and take no part in the calibration.
* aspect: images of 4 : 3 to 2 : 1 squeezed into a square, and at as many pixels in their own shape.
  Sets of square images are cropped to these shapes first.
* counts: how often each kind of patch occurs in an image (nearest of k-means centres), as a
  descriptor beside the default score; loosely placed screws among the sets.
* align: images shifted by up to a tenth of their sides, as they are and brought back by phase
  correlation (scikit-image) with the mean training image or the first one; whole and cropped.

Nothing is tuned: every set judges what was fixed before.
"""

import argparse
import warnings
from pathlib import Path

import numpy as np
from _measure import spread, table
from PIL import Image, ImageDraw
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.metrics import roc_auc_score

from skstructcore import make_structcore
from skstructcore.datasets import load_mvtec_ad, make_photographs
from skstructcore.images import as_images

PHOTOGRAPHS = ("brick", "gravel", "coins", "hubble")
RATE = 0.1
N_SEEDS = 3
COPIES = {
    "none": [(0, False)],
    "flip": [(0, False), (0, True)],
    "rot180": [(0, False), (2, False)],
    "rot90": [(k, False) for k in range(4)],
    "all eight": [(k, flip) for k in range(4) for flip in (False, True)],
}
#: Sets of one thing a picture, upright or not; of the last two only who has them can judge.
ALIGNED = ("cookie", "circuitboard", "kolektor", "screw")
SHAPES = {"4 : 3": 4 / 3, "3 : 2": 3 / 2, "2 : 1": 2.0}


def data_sets(root, most, rng):
    """Names, and arrays of training images, good and defective test images."""
    for path in sorted(Path(root).iterdir()):
        if path.is_dir():
            yield path.name, *_arrays(load_mvtec_ad(path), most, rng)
    for name in PHOTOGRAPHS:
        yield name, *_arrays(make_photographs(name), most, rng)


def _arrays(data, most, rng):
    test = data.test
    for part in (data.train, test[test.y == "good"], test[test.y != "good"]):
        images = as_images(part)
        rows = np.sort(rng.permutation(len(images))[:most])
        yield [np.asarray(images.read(i)) for i in rows]


def turned(image, quarters, flip):
    return np.ascontiguousarray(np.rot90(image[:, ::-1] if flip else image, quarters))


def judged(pipe, train, good, bad):
    """AUROC ± standard deviation over three seeds of projection and bank, and mean rates."""
    found = []
    for seed in range(N_SEEDS):
        seeded = clone(pipe).set_params(projection__random_state=seed, bank__random_state=seed)
        found.append(rates(seeded.fit(train), good, bad))
    return summed_up(found)


def summed_up(found):
    areas, *shares = np.transpose(found)
    return spread(areas), *map(np.mean, shares)


def rates(pipe, good, bad):
    above = [-pipe.decision_function(part) for part in (good, bad)]
    y = np.repeat([0, 1], [len(good), len(bad)])
    rejected = [(part > 0).mean() for part in above]
    return 100 * np.array([roc_auc_score(y, np.concatenate(above)), *rejected])


def augment(root, cache):
    rng = np.random.default_rng(0)
    pipe = make_structcore(
        "efficientnet_lite0", features__memory=cache, structcore__false_alarm_rate=RATE
    )
    for name, train, good, bad in data_sets(root, 40, rng):
        square = len({a.shape[0] == a.shape[1] for a in train}) == 1
        square = square and train[0].shape[0] == train[0].shape[1]
        for n in (4, 8, 16):
            pipe.set_params(structcore__threshold="guaranteed" if n < 5 else "expected")
            draws = [rng.permutation(len(train))[:n] for _ in range(N_SEEDS)]
            for kind, turns in COPIES.items():
                if not square and kind in ("rot90", "all eight"):
                    continue
                found = []
                for seed, rows in enumerate(draws):
                    pipe.set_params(projection__random_state=seed, bank__random_state=seed)
                    images = [turned(train[i], *turn) for turn in turns for i in rows]
                    found.append(rates(fit_with_copies(pipe, images, n), good, bad))
                yield name, n, kind, *summed_up(found)


def fit_with_copies(pipe, images, n):
    """Fit on the first `n` images and copies of them; copies are in the bank alone."""
    steps = [step for _, step in pipe.steps]
    features = steps[1].fit_transform(steps[0].fit_transform(images))
    groups = np.arange(len(images)) % n
    patches = steps[2].fit_transform(features, groups=groups)[np.arange(n)]
    steps[4].fit(steps[3].fit_transform(patches))
    return pipe


def cropped(image, shape):
    """The middle of an image, of this ratio of its longer to its shorter side."""
    height, width = image.shape[:2]
    if max(height, width) >= shape * min(height, width) * 0.99:
        return image
    new = round(width / shape) if height <= width else height
    columns = width if height <= width else round(height / shape)
    top, left = (height - new) // 2, (width - columns) // 2
    return np.ascontiguousarray(image[top : top + new, left : left + columns])


def aspect(root, cache):
    rng = np.random.default_rng(0)
    for name, *parts in data_sets(root, 40, rng):
        for word, shape in SHAPES.items():
            cut = [[cropped(image, shape) for image in part] for part in parts]
            ratio = np.median([a.shape[0] / a.shape[1] for a in cut[0]])
            own = [max(1, round(256 * s / 8)) * 8 for s in (ratio**0.5, ratio**-0.5)]
            for seen, size in (("square", (256, 256)), ("own shape", tuple(own))):
                pipe = make_structcore(
                    "efficientnet_lite0",
                    features__image_size=size,
                    features__memory=cache,
                    structcore__false_alarm_rate=RATE,
                )
                yield name, word, seen, *judged(pipe, *cut)
            if min(parts[0][0].shape[:2]) * 1.3 < max(parts[0][0].shape[:2]):
                break  # has a shape of its own


def screws(n, rng):
    """A bag of n screws, as in the case 20 of the issue."""
    image = Image.new("L", (260, 250), 120)
    draw, places = ImageDraw.Draw(image), []
    while len(places) < n:
        p = rng.uniform(25, [235, 225])
        if all(np.hypot(*(p - q)) > 45 for q in places):
            places.append(p)
    for x, y in places:
        draw.ellipse((x - 16, y - 16, x + 16, y + 16), fill=190, outline=70, width=2)
        a = rng.uniform(0, np.pi)
        ends = (x - 12 * np.cos(a), y - 12 * np.sin(a), x + 12 * np.cos(a), y + 12 * np.sin(a))
        draw.line(ends, fill=60, width=4)
    noisy = np.asarray(image) + rng.normal(0, 4, (250, 260))
    return np.stack([np.clip(noisy, 0, 255).astype(np.uint8)] * 3, axis=-1)


def counts(root, cache):
    rng = np.random.default_rng(0)
    bags = [[screws(k, rng) for _ in range(40)] for k in (6, 6, 5)]
    for name, train, good, bad in [("screws", *bags), *data_sets(root, 60, rng)]:
        found = [_counted(train, good, bad, cache, seed) for seed in range(N_SEEDS)]
        yield name, *map(spread, np.transpose(found))


def _counted(train, good, bad, cache, seed):
    """AUROC of the default score; of histograms of 8, 32 and 128 kinds, alone and with it."""
    pipe = make_structcore("efficientnet_lite0", random_state=seed, features__memory=cache)
    pipe.fit(train)
    parts = [np.asarray(pipe[:2].transform(part), dtype=np.float32) for part in (good, bad)]
    known = np.asarray(pipe[:2].transform(train), dtype=np.float32)
    y = np.repeat([0, 1], [len(good), len(bad)])
    base = np.concatenate([-pipe.score_samples(part) for part in (good, bad)])
    own = pipe[-1].calibration_.decision.scores
    row = [100 * roc_auc_score(y, base)]
    for k in (8, 32, 128):
        centres = KMeans(k, n_init=1, random_state=seed, max_iter=20)
        centres.fit(known.reshape(-1, known.shape[-1])[:: max(1, known.size // 152 // 20000)])
        histograms = [histogram(centres, part) for part in (known, *parts)]
        mean, scale = histograms[0].mean(axis=0), histograms[0].std(axis=0) + 1e-3
        odd = [np.sqrt((((h - mean) / scale) ** 2).mean(axis=1)) for h in histograms]
        z = (np.concatenate(odd[1:]) - odd[0].mean()) / odd[0].std()
        both = (base - own.mean()) / own.std() + z
        row += [100 * roc_auc_score(y, z), 100 * roc_auc_score(y, both)]
    return row


def align(root, cache):
    for name in ALIGNED:
        if not Path(root, name).is_dir():
            continue
        rng = np.random.default_rng(0)
        parts = list(_arrays(load_mvtec_ad(Path(root, name)), 40, rng))
        size = np.array([round(512 * np.divide(*parts[0][0].shape[:2])), 512])
        parts = [[_resized(image, size) for image in part] for part in parts]
        moved = [[_moved(a, rng.uniform(-0.1, 0.1, 2) * size) for a in part] for part in parts]
        mean = np.mean([_grey(a) for a in moved[0]], axis=0)
        cases = {"as it is": parts, "shifted": moved}
        for word, reference in (("to the mean", mean), ("to the first", _grey(moved[0][0]))):
            cases[word] = [[_brought_back(a, reference) for a in part] for part in moved]
        for crop in (False, (0.15, 0.15, 0.85, 0.85)):
            for case, (train, good, bad) in cases.items():
                pipe = make_structcore(
                    "efficientnet_lite0",
                    features__crop=crop,
                    features__memory=cache,
                    structcore__false_alarm_rate=RATE,
                )
                seen = "70 %" if crop else "whole"
                yield name, seen, case, *judged(pipe, train, good, bad)


def _resized(image, size):
    return np.asarray(Image.fromarray(image).resize(size[::-1].tolist(), Image.Resampling.BOX))


def _grey(image):
    height, width = image.shape[:2]
    small = Image.fromarray(image).convert("L")
    return np.asarray(small.resize((128, round(128 * height / width)), Image.Resampling.BOX), float)


def _moved(image, by):
    from scipy.ndimage import shift

    return shift(image, (*by, 0), order=1, mode="nearest")


def _brought_back(image, reference):
    from skimage.registration import phase_cross_correlation

    by, *_ = phase_cross_correlation(reference, _grey(image), normalization=None, upsample_factor=4)
    return _moved(image, np.array(by) * image.shape[0] / reference.shape[0])


def histogram(centres, patches):
    """Square roots of the shares of patches of each kind, a row an image."""
    n, d = len(patches), patches.shape[-1]
    nearest = centres.predict(patches.reshape(-1, d)).reshape(n, -1)
    found = np.stack([np.bincount(row, minlength=centres.n_clusters) for row in nearest])
    return np.sqrt(found / nearest.shape[1])


PARTS = {
    "augment": (augment, ("set", "n", "copies", "AUROC", "good rejected", "defects found")),
    "aspect": (aspect, ("set", "shape", "seen", "AUROC", "good rejected", "defects found")),
    "align": (align, ("set", "seen", "case", "AUROC", "good rejected", "defects found")),
    "counts": (counts, ("set", "default", "8", "+", "32", "+", "128", "+")),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root")
    parser.add_argument("--cache")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    for part in options.parts:
        study, header = PARTS[part]
        rows = (
            tuple(f"{v:.1f}" if isinstance(v, float) else v for v in row)
            for row in study(options.root, options.cache)
        )
        table(part, header, rows)


if __name__ == "__main__":
    main()
