"""EfficientNet-Lite0 on the CPU: torch as ConvFeatures runs it, ONNX Runtime and OpenVINO.

    pip install onnx onnxruntime openvino      # best in an environment of their own
    python benchmarks/bench_runtime.py [--n-images 64] [--repeats 5]

All run the same sub-network (up to block 10, averages over 3x3, scaled, of length 1, joined) on the
same pixels in memory, with two threads: two images at a time with a thread each, or one batch with
both. Rounds of all variants alternate, so that other load on the machine meets all of them. The
last column is the largest difference from ConvFeatures' features, whose vectors have length 1.
"""

import argparse
import io
import os
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
import torch.nn.functional as F
from skimage import data
from torch import nn

from skstructcore.features._networks import ConvNetwork, efficientnet_lite
from skstructcore.features.conv import BUILT_IN, SCALING

N_THREADS = 2
LAYERS = (4, 10)


def images(n_images):
    photos = [data.brick(), data.gravel(), data.grass(), data.coffee(), data.astronaut()]
    rng = np.random.default_rng(0)
    tiles = []
    for number in range(n_images):
        photo = photos[number % len(photos)]
        top, left = (rng.integers(0, side - 256 + 1) for side in photo.shape[:2])
        tile = photo[top : top + 256, left : left + 256]
        tiles.append(tile if tile.ndim == 3 else np.stack([tile] * 3, axis=-1))
    return np.stack(tiles)


class SubNetwork(nn.Module):
    """What ConvNetwork computes, as one module from levels `(b, H, W, 3)` of float32."""

    def __init__(self):
        super().__init__()
        built_in = BUILT_IN["efficientnet_lite0"]
        whole = efficientnet_lite(built_in.name, built_in.weights_file())
        self.stem, self.swish = whole._conv_stem, nn.ReLU6()
        self.blocks = whole._blocks[: max(LAYERS) + 1]
        for part in self.modules():
            if isinstance(part, nn.ReLU6):
                part.inplace = False
        mean, std = SCALING
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255)
        self.register_buffer("scale", 1 / (torch.tensor(std).view(1, 3, 1, 1) * 255))

    def forward(self, pixels):
        x = (pixels.permute(0, 3, 1, 2) - self.mean) * self.scale
        x = self.swish(self.stem(x))
        maps = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in LAYERS:
                maps.append(F.avg_pool2d(x, 3, 1, 1, count_include_pad=False))
        maps[1] = F.interpolate(maps[1], scale_factor=2.0, mode="bilinear")
        return torch.cat([F.normalize(m, dim=1) for m in maps], dim=1).permute(0, 2, 3, 1)


# -- variants: each returns a function from uint8 pixels (n, 256, 256, 3) to features --------------


def by_image(run):
    """Two images at a time, a thread each: how ConvFeatures works."""
    pool = ThreadPoolExecutor(N_THREADS)

    def features(pixels):
        return np.concatenate(list(pool.map(run, (pixels[i : i + 1] for i in range(len(pixels))))))

    return features


def by_batch(run, size=16):
    def features(pixels):
        return np.concatenate([run(pixels[i : i + size]) for i in range(0, len(pixels), size)])

    return features


def torch_runner(network, n_threads):
    def run(pixels):
        if torch.get_num_threads() != n_threads:
            torch.set_num_threads(n_threads)
        with torch.inference_mode():
            return network(torch.from_numpy(pixels)).numpy()

    return run


def conv_network():
    built_in = BUILT_IN["efficientnet_lite0"]
    module = efficientnet_lite(built_in.name, built_in.weights_file())
    mean, std = SCALING
    device, dtype = torch.device("cpu"), torch.float32
    options = dict(mean=mean, std=std, device=device, dtype=dtype)
    return ConvNetwork(module, built_in.layers, **options)


def traced():
    """torch's own fusion for inference: frozen, convolutions and activations in one by oneDNN."""
    module = SubNetwork().eval()
    frozen = torch.jit.freeze(torch.jit.trace(module, torch.zeros(1, 256, 256, 3)))
    frozen = torch.jit.optimize_for_inference(frozen)
    return lambda x: frozen(x.float())


def compiled():
    module = torch.compile(SubNetwork().eval().to(memory_format=torch.channels_last))
    module(torch.zeros(1, 256, 256, 3))
    return lambda x: module(x.float())


def onnx_bytes():
    buffer = io.BytesIO()
    torch.onnx.export(
        SubNetwork().eval(),
        (torch.zeros(1, 256, 256, 3),),
        buffer,
        input_names=["pixels"],
        output_names=["features"],
        dynamic_axes={"pixels": {0: "n"}, "features": {0: "n"}},
        dynamo=False,
    )
    return buffer.getvalue()


def onnxruntime_runner(model, n_threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = n_threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda pixels: session.run(None, {"pixels": pixels.astype(np.float32)})[0]


def openvino_runners():
    import openvino

    core = openvino.Core()
    model = openvino.convert_model(SubNetwork().eval(), example_input=torch.zeros(1, 256, 256, 3))
    exact = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": N_THREADS}

    def streams():
        one = model.clone()
        one.reshape([1, 256, 256, 3])
        found = core.compile_model(one, "CPU", {**exact, "NUM_STREAMS": N_THREADS})
        queue = openvino.AsyncInferQueue(found, N_THREADS)

        def features(pixels):
            out = np.empty((len(pixels), 32, 32, 152), np.float32)

            def keep(request, i):
                out[i] = request.get_output_tensor(0).data[0]

            queue.set_callback(keep)
            for i, image in enumerate(pixels):
                queue.start_async([image[np.newaxis].astype(np.float32)], i)
            queue.wait_all()
            return out

        return features

    def batch():
        many = model.clone()
        many.reshape([16, 256, 256, 3])
        found = core.compile_model(many, "CPU", {**exact, "NUM_STREAMS": 1})
        return by_batch(lambda pixels: found([pixels.astype(np.float32)])[0].copy())

    return streams(), batch()


def variants():
    network = conv_network()
    yield "torch, as ConvFeatures: an image a thread", by_image(torch_runner(network, 1))
    yield "torch, as ConvFeatures: batches of 16", by_batch(torch_runner(network, N_THREADS))
    for name, make in (("traced and fused", traced), ("torch.compile", compiled)):
        try:
            module = make()
            yield f"torch, {name}: an image a thread", by_image(torch_runner(module, 1))
        except Exception as error:  # no compiler, say
            print(f"torch, {name}: {str(error).splitlines()[0]}")
    try:
        model = onnx_bytes()
        yield "ONNX Runtime: an image a thread", by_image(onnxruntime_runner(model, 1))
        yield "ONNX Runtime: batches of 16", by_batch(onnxruntime_runner(model, N_THREADS))
    except ImportError as error:
        print(f"ONNX Runtime is left out: {error}")
    try:
        streams, batch = openvino_runners()
        yield "OpenVINO: an image a stream", streams
        yield "OpenVINO: batches of 16", batch
    except ImportError as error:
        print(f"OpenVINO is left out: {error}")


def timed(features, pixels):
    before, start = os.times(), time.perf_counter()
    found = features(pixels)
    wall, after = time.perf_counter() - start, os.times()
    return wall, after.user + after.system - before.user - before.system, found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-images", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    pixels = images(options.n_images)
    rows = []
    for name, features in variants():
        rows.append((name, features, features(pixels[:32]), []))
    for _ in range(options.repeats):
        for _, features, _, times in rows:
            times.append(timed(features, pixels)[:2])
    print(f"torch {torch.__version__}, {options.n_images} images, median of {options.repeats}")
    print("\n| | wall, ms an image | processor, ms | speed | difference |\n|---|---|---|---|---|")
    reference = rows[0][2]
    first = None
    for name, _, found, times in rows:
        wall, processor = (
            1000 * statistics.median(t) / len(pixels) for t in zip(*times, strict=True)
        )
        first = first or wall
        difference = np.abs(found - reference).max()
        print(f"| {name} | {wall:.2f} | {processor:.2f} | {first / wall:.2f} | {difference:.1e} |")


if __name__ == "__main__":
    main()
