"""How long one image takes from file to decision, beside anomalib's PatchCore.

    python benchmarks/bench_latency.py FOLDER [--model resnet18] [--side 256] [--entries 1024]

Both read the same files in turn, run the same network of timm (random weights: they do not change
the time) and search a bank with the same number of entries. anomalib is left out if it cannot be
imported (`pip install anomalib`, best in an environment of its own). Processor time, of all
threads, is what to compare where other programs share the machine.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import timm
import torch
from _measure import table

from skstructcore import TimmFeatures, make_structcore, warm_up
from skstructcore.images import list_images

try:
    from anomalib.data.utils import read_image
    from anomalib.models import Patchcore
except ImportError as error:
    Patchcore, missing = None, error

STAGES = (2, 3)  # of ResNets: layer2 and layer3, anomalib's own choice


def ours(args, weights, good):
    features = TimmFeatures(args.model, STAGES, weights, image_size=args.side)
    pipe = make_structcore(features, projection__n_components=args.components)
    n_patches = len(good) * (args.side // 8) ** 2
    warm_up(pipe.set_params(bank__ratio=args.entries / n_patches).fit(good))
    print(f"bank of {len(pipe['knn'].bank_)}, {pipe['projection'].n_components} features")
    return lambda path: pipe.predict([path])


def anomalib(args, good):
    """Its own reading, pre-processing, model and post-processing; the bank is random patches."""
    size = (args.side, args.side)
    model = Patchcore(
        args.model,
        ("layer2", "layer3"),
        pre_trained=False,
        pre_processor=Patchcore.configure_pre_processor(size),
    )

    def judge(path):
        with torch.inference_mode():
            return model(read_image(path, as_tensor=True)[None])

    model.model.train()
    for path in good:
        model.model(model.pre_processor(read_image(path, as_tensor=True)[None]))
    patches = torch.vstack(model.model.embedding_store)
    model.model.embedding_store.clear()
    chosen = torch.randperm(len(patches), generator=torch.Generator().manual_seed(0))
    model.model.memory_bank = patches[chosen[: args.entries]].clone()
    model.eval()
    return judge


def bare(args, network):
    pixels = torch.zeros(1, 3, args.side, args.side)
    wanted = {"indices": [*STAGES], "stop_early": True, "intermediates_only": True}

    def run(_):
        with torch.inference_mode():
            network.forward_intermediates(pixels, **wanted)

    return run


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("folder")
    options.add_argument("--model", default="resnet18", help="A ResNet of timm.")
    options.add_argument("--side", type=int, default=256)
    options.add_argument("--entries", type=int, default=1024)
    options.add_argument("--components", type=int, default=128)
    options.add_argument("--repeats", type=int, default=100)
    args = options.parse_args()
    good = list_images(args.folder)[:30]
    network = timm.create_model(args.model, pretrained=False, num_classes=0).eval()
    with tempfile.TemporaryDirectory() as folder:
        weights = Path(folder, "random.pth")
        torch.save(network.state_dict(), weights)
        judges = {"bare network": bare(args, network), "skstructcore": ours(args, weights, good)}
        if Patchcore is None:
            print(f"anomalib is left out: {missing}")
        else:
            judges["anomalib PatchCore"] = anomalib(args, good)
        compare(args, judges, good)


def compare(args, judges, good):
    times = {name: [] for name in judges}
    for i in range(args.repeats + 3):  # by turns, as the machine's other load changes
        for name, judge in judges.items():
            began = time.perf_counter(), time.process_time()
            judge(good[i % len(good)])
            if i >= 3:
                times[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    load, threads = os.getloadavg()[0], torch.get_num_threads()
    print(f"torch {torch.__version__}, {threads} threads, load average {load:.1f}")
    rows = []
    for name, found in times.items():
        wall, processor = 1000 * np.array(found).T
        p50, p99 = np.quantile(wall, [0.5, 0.99])
        rows.append((name, f"{np.median(processor):.1f}", f"{p50:.1f}", f"{p99:.1f}"))
    header = ("", "processor, ms", "wall p50, ms", "wall p99, ms")
    table(f"One image, {args.model} at {args.side} px", header, rows)


if __name__ == "__main__":
    main()
