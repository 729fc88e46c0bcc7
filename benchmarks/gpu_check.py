"""One GPU against the CPU: same neighbours, same decisions, how fast, how much memory.

Command: ``python benchmarks/gpu_check.py [--n-images 64]``; some minutes. Without a GPU it says so
and ends. It needs torch and this package; random weights stand for DINOv2's, whose speed they have.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from skstructcore import ConvFeatures, make_structcore
from skstructcore.neighbors import NeighborIndex, greedy_k_center

SCORE_TOLERANCE = 1e-3  # relative to the threshold, in float32


def seconds(function, n=3):
    function()
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(n):
        function()
    torch.cuda.synchronize()
    return (time.perf_counter() - began) / n


def compare_pipelines(X):
    new = np.concatenate([X[:16], 255 - X[:8]])
    on_cpu, on_gpu = (
        make_structcore(
            ConvFeatures(image_size=256, device=device, dtype="float32"),
            bank__device=device,
            knn__device=device,
        ).fit(X)
        for device in ("cpu", "cuda")
    )
    scores = [-pipe.score_samples(new) for pipe in (on_cpu, on_gpu)]
    scale = np.maximum(np.abs(scores[0]), abs(on_cpu[-1].offset_))
    difference = float((np.abs(scores[0] - scores[1]) / scale).max())
    flipped = int((on_cpu.predict(new) != on_gpu.predict(new)).sum())
    print(f"scores, CPU and GPU: {difference:.1e} apart at most, {flipped} decisions flip")
    assert difference < SCORE_TOLERANCE and flipped == 0


def compare_search():
    rng = np.random.default_rng(0)
    bank, rows = rng.normal(size=(20_000, 128)), rng.normal(size=(8192, 128))
    bank, rows = bank.astype(np.float32), rows.astype(np.float32)
    cpu, gpu = (NeighborIndex(bank, device=device) for device in ("cpu", "cuda"))
    same = float((cpu.query(rows, 5)[1] == gpu.query(rows, 5)[1]).mean())
    times = [seconds(lambda index=index: index.query(rows, 5)) for index in (cpu, gpu)]
    print(f"search: {same:.4%} of neighbours equal; CPU {times[0]:.3f} s, GPU {times[1]:.3f} s")
    picks = [greedy_k_center(bank, 500, device=device)[0] for device in ("cpu", "cuda")]
    times = [
        seconds(lambda device=device: greedy_k_center(bank, 500, device=device), 1)
        for device in ("cpu", "cuda")
    ]
    same = float((picks[0] == picks[1]).mean())
    print(f"k-center: {same:.2%} of picks equal; CPU {times[0]:.2f} s, GPU {times[1]:.2f} s")


def measure_backbone(X, dtype):
    features = ConvFeatures(image_size=256, device="cuda", dtype=dtype).fit(X)
    torch.cuda.reset_peak_memory_stats()
    whole = seconds(lambda: np.asarray(features.transform(X)))
    peak = torch.cuda.max_memory_allocated() / 2**30
    network, pixels = features.network(), torch.from_numpy(X[:16])

    def bare():
        with torch.inference_mode():
            network(pixels)

    rate = len(X) / whole, 16 / seconds(bare)
    print(
        f"EfficientNet-Lite0, {dtype}: {rate[0]:.0f} images/s, the bare network {rate[1]:.0f}; "
        f"peak {peak:.2f} GB"
    )


def measure_decoding(X):
    """Images a second from JPEG files beside those that are in memory: decoding starves nothing."""
    features = ConvFeatures(image_size=256, device="cuda", dtype="bfloat16").fit(X)
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, f"{i}.jpg")) for i in range(len(X))]
        for path, image in zip(paths, X, strict=True):
            Image.fromarray(image).resize((1024, 1024)).save(path)
        rates = [
            len(X) / seconds(lambda images=images: np.asarray(features.transform(images)))
            for images in (X, paths)
        ]
    print(
        f"decoding of 1024 x 1024 JPEG on {os.cpu_count()} cores: {rates[1]:.0f} images/s, from "
        f"memory at 256 x 256 {rates[0]:.0f}: the network waits {1 - rates[1] / rates[0]:.0%}"
    )


def measure_dinov2(dtype):
    try:
        from transformers import Dinov2Config, Dinov2Model
    except ImportError:
        print("DINOv2-B is not measured: transformers is not installed")
        return
    config = Dinov2Config(hidden_size=768, num_hidden_layers=12, num_attention_heads=12)
    model = Dinov2Model(config).eval().to("cuda", getattr(torch, dtype))
    pixels = torch.zeros(16, 3, 392, 392, device="cuda", dtype=getattr(torch, dtype))

    def run():
        with torch.inference_mode():
            model(pixels)

    print(f"DINOv2-B (random weights), 392 px, {dtype}: {16 / seconds(run):.0f} images/s, bare")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-images", type=int, default=64)
    n_images = parser.parse_args().n_images
    if not torch.cuda.is_available():
        print("There is no CUDA GPU here: nothing is compared.")
        return
    print(torch.cuda.get_device_name(), torch.__version__)
    X = np.random.default_rng(0).normal(120, 25, (n_images, 256, 256, 3))
    X = np.clip(X, 0, 255).astype(np.uint8)
    compare_pipelines(X)
    compare_search()
    for dtype in ("float32", "bfloat16"):
        measure_backbone(X, dtype)
        measure_dinov2(dtype)
    measure_decoding(X)


if __name__ == "__main__":
    main()
