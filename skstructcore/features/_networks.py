"""Networks from pixels to patch features: named layers, by torch or OpenVINO, DINOv2's, timm's."""

import difflib
import functools
import inspect
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor

import joblib
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .._utils.versions import import_extra
from ._backbone import IMAGENET_SCALING
from ._extraction import compute_in_one_thread


class _AllCaptured(Exception):
    """Ends a forward pass once the last layer that is needed has run."""


class _Capture(threading.local):
    """What the hooks of one network have caught in the pass that runs in this thread."""

    maps = None  # a dict while a pass runs

    def __reduce__(self):  # a copy of the module has hooks that catch for nobody
        return type(self), ()


class Network:
    """A loaded network: called with levels, it returns the features of patches.

    Levels are from 0 to 255, a tensor `(b, H, W, 3)` of uint8 or float32; features `(b, h, w, d)`
    a float32 tensor on the CPU. `mean` and `std` are those of pixels between 0 and 1.
    """

    module: nn.Module | None = None  # of which not all may run; None: what runs is all

    def __init__(self, mean, std, device, dtype):
        self.device, self.dtype = device, dtype
        # Of pixels from 0 to 255.
        self._mean = torch.tensor(mean, device=device).view(1, 3, 1, 1) * 255
        self._scale = 1 / (torch.tensor(std, device=device).view(1, 3, 1, 1) * 255)

    @property
    def eager(self):
        """The network in plain torch: itself, unless something else runs it."""
        return self

    def scaled(self, pixels):
        """Levels `(b, H, W, 3)` as the network was trained with them, `(b, 3, H, W)`."""
        x = pixels.to(self.device).permute(0, 3, 1, 2).float()
        return ((x - self._mean) * self._scale).to(self.dtype)

    def output_shape(self, height, width):
        """Height, width and number of features of the grid for images of this size."""
        return tuple(self.on_black(height, width).shape[1:])

    def on_black(self, height, width):
        """Features of one black image of this size."""
        with torch.inference_mode():
            return self(torch.zeros(1, height, width, 3, dtype=torch.uint8))

    def pass_memory(self, height, width):
        """Bytes on the CPU of the weights, and the most that one image takes beside them.

        A black image runs through the network, and the tensors that are alive are counted.
        """
        counter = _LiveTensors()

        def run():
            compute_in_one_thread()
            with counter:
                self.on_black(height, width)

        with ThreadPoolExecutor(1) as pool:
            pool.submit(run).result()
        return counter.given, counter.peak


class ConvNetwork(Network):
    """The outputs of named layers of a module, as one grid of patch features.

    Each output is averaged over 3x3 positions and scaled to the finest of the grids. Its vectors
    are scaled to length 1 and joined to those of the others. The module, which is put into
    evaluation mode and moved to the device, runs no further than the last of the layers.
    """

    def __init__(self, module, layers, *, mean, std, device, dtype):
        super().__init__(mean, std, device, dtype)
        self.module = module.eval().to(device, dtype, memory_format=torch.channels_last)
        self.layers = tuple(layers)
        self._capture = _Capture()
        self._handles = []
        for name in self.layers:
            hook = functools.partial(_keep, name, len(self.layers), self._capture)
            self._handles.append(_layer(module, name).register_forward_hook(hook))

    def __del__(self):
        for handle in getattr(self, "_handles", ()):
            handle.remove()

    def __call__(self, pixels):
        return join_maps(self.maps(pixels))

    def maps(self, pixels):
        """The averaged outputs `(b, d, h, w)` of the layers."""
        if any(part.training for part in self.module.modules()):
            self.module.eval()  # somebody has trained it since
        self._capture.maps = captured = {}
        try:
            self.module(self.scaled(pixels))
        except _AllCaptured:
            pass
        finally:
            self._capture.maps = None
        for name in self.layers:
            if name not in captured:
                raise ValueError(f"The layer {name!r} does not run in the module's forward pass.")
        return [captured[name].float() for name in self.layers]


def average_3x3(maps):
    """Means over 3x3 positions, of those that lie on the map."""
    return F.avg_pool2d(maps, 3, 1, 1, count_include_pad=False)


def join_maps(maps):
    """Maps `(b, d, h, w)` of layers as features `(b, h, w, d)` at the finest of their grids.

    The vectors of each layer have length 1.
    """
    size = max((m.shape[-2:] for m in maps), key=lambda s: s[0] * s[1])
    maps = [m if m.shape[-2:] == size else F.interpolate(m, size, mode="bilinear") for m in maps]
    maps = [F.normalize(m, dim=1) for m in maps]
    return torch.cat(maps, dim=1).permute(0, 2, 3, 1).contiguous().cpu()


def _keep(name, n_layers, capture, module, inputs, output):
    """The hook of a layer."""
    if capture.maps is None:  # the user, or another network, runs the module
        return
    if not isinstance(output, torch.Tensor) or output.ndim != 4:
        shape = tuple(getattr(output, "shape", ())) or type(output).__name__
        raise ValueError(
            f"The layer {name!r} gives {shape}; patch features need maps of the shape "
            "(images, channels, height, width)."
        )
    # Averaged at once: what follows may work in place on the output itself.
    capture.maps[name] = average_3x3(output)
    if len(capture.maps) == n_layers:
        raise _AllCaptured


def _layer(module, name):
    """The submodule of this name; an error that lists near names if there is none."""
    named = {name: part for name, part in module.named_modules() if name}
    if name in named:
        return named[name]
    near = difflib.get_close_matches(name, named, n=5, cutoff=0.4) or list(named)[:10]
    raise ValueError(
        f"The module {type(module).__name__} has no layer {name!r}; names like it are "
        f"{', '.join(map(repr, near)) or 'none: it has no layers'}."
    )


class VitNetwork(Network):
    """The patch tokens after some blocks of a DINOv2 transformer, of length 1, joined.

    `model` is one of transformers. Blocks that are not needed are dropped from it.
    """

    def __init__(self, model, layers, *, device, dtype):
        super().__init__(*IMAGENET_SCALING, device, dtype)
        self.config, embeddings = model.config, model.embeddings
        self.patch_size = self.config.patch_size
        self.n_features = self.config.hidden_size * len(layers)
        self.blocks = layers  # counted from 1
        self._has_registers = hasattr(embeddings, "register_tokens")
        self._positions = embeddings.position_embeddings.detach().float()
        self._position_cache = {}
        self._project = embeddings.patch_embeddings.to(device, dtype)
        first = [embeddings.cls_token.detach() + self._positions[:, :1]]
        if self._has_registers:  # they have no position
            first.append(embeddings.register_tokens.detach())
        self._first_tokens = torch.cat(first, dim=1).to(device, dtype)
        self._layers = model.encoder.layer[: max(layers)].to(device, dtype)

    def output_shape(self, height, width):
        patch = self.patch_size
        wrong = [side for side in (height, width) if side % patch]
        if wrong:
            low = wrong[0] // patch * patch
            near = f"{low} and {low + patch}" if low else f"{patch}"
            raise ValueError(
                f"image_size (with tiles: tile_size) must be a multiple of the patch size {patch}; "
                f"got {wrong[0]}, and {near} would do."
            )
        return height // patch, width // patch, self.n_features

    def __call__(self, pixels):
        x = self.scaled(pixels)
        grid = tuple(int(side) // self.patch_size for side in x.shape[2:])
        x = self._project(x) + self._grid_positions(grid)
        x = torch.cat([self._first_tokens.expand(len(x), -1, -1), x], dim=1)
        n_first, tokens = self._first_tokens.shape[1], {}
        for number, layer in enumerate(self._layers, start=1):
            x = layer(x)
            x = x[0] if isinstance(x, tuple) else x  # transformers before 5
            if number in self.blocks:
                tokens[number] = x[:, n_first:]
        tokens = [F.normalize(tokens[number].float(), dim=-1) for number in self.blocks]
        return torch.cat(tokens, dim=-1).unflatten(1, grid).cpu()

    def _grid_positions(self, grid):
        """Position embeddings `(1, h * w, width)` for a grid, as facebookresearch/dinov2 does it.

        transformers differs from it for models without registers: it does not add the offset
        of 0.1, so that other points of the table are read.
        """
        if grid not in self._position_cache:
            table = self._positions[:, 1:]
            side = round(table.shape[1] ** 0.5)
            if grid != (side, side):
                table = table.unflatten(1, (side, side)).permute(0, 3, 1, 2)
                if self._has_registers:
                    table = F.interpolate(table, size=grid, mode="bicubic", antialias=True)
                else:
                    scale = tuple((n + 0.1) / side for n in grid)
                    table = F.interpolate(table, scale_factor=scale, mode="bicubic")
                table = table.flatten(2).transpose(1, 2)
            self._position_cache[grid] = table.to(self.device, self.dtype)
        return self._position_cache[grid]


class TimmNetwork(Network):
    """The outputs of some layers of a network of timm, as one grid of patch features.

    `layers` are positions from 0; `mean` and `std` are by default what timm says of the weights.
    """

    def __init__(self, module, layers, *, mean, std, device, dtype):
        config = module.pretrained_cfg
        super().__init__(mean or config["mean"], std or config["std"], device, dtype)
        self.layers = layers
        self.module = module.to(device, dtype)
        self._order = sorted(set(self.layers))  # timm gives them from front to back
        self._plain = len({info["reduction"] for info in module.feature_info}) == 1
        options = {"output_fmt": "NCHW", "intermediates_only": True, "stop_early": True}
        accepted = inspect.signature(module.forward_intermediates).parameters
        self._options = {key: value for key, value in options.items() if key in accepted}

    def __call__(self, pixels):
        x = self.scaled(pixels)
        maps = self.module.forward_intermediates(x, indices=self._order, **self._options)
        wrong = [m for m in maps if not isinstance(m, torch.Tensor) or m.ndim != 4]
        if wrong:
            raise ValueError(f"{type(self.module).__name__} gives no maps for its layers.")
        maps = {n: m.float() for n, m in zip(self._order, maps, strict=True)}
        maps = [maps[n] if self._plain else average_3x3(maps[n]) for n in self.layers]
        return join_maps(maps)


class _Maps(nn.Module):
    """What is left to OpenVINO: from levels `(1, H, W, 3)` to the averaged maps of all layers."""

    def __init__(self, network):
        super().__init__()
        self.module = network.module
        self.run = network.maps  # bound, so that torch does not register the network as a part

    def forward(self, pixels):
        return tuple(self.run(pixels))


class OpenVinoNetwork(Network):
    """The same features as those of a `ConvNetwork` (on the CPU, float32), up to rounding.

    An image runs on one thread; as many as call at the same time run beside each other. So the
    features depend neither on the batch nor on the number of threads.
    """

    eager = None  # the other network

    def __init__(self, network):
        self.eager = network
        self._core = import_extra("openvino", "openvino", "runtime='openvino'").Core()
        self._compiled = {}
        self._lock = threading.Lock()
        self._requests = threading.local()  # for each size, what runs images in this thread

    def output_shape(self, height, width):
        return self.eager.output_shape(height, width)

    def __call__(self, pixels):
        size, requests = tuple(pixels.shape[1:3]), vars(self._requests)
        if size not in requests:
            with self._lock:
                if size not in self._compiled:
                    self._compiled[size] = self._compile(*size)
            requests[size] = self._compiled[size].create_infer_request()
        features = []
        for image in pixels:
            requests[size].infer([image[None].float().numpy()])
            maps = [torch.from_numpy(t.data.copy()) for t in requests[size].output_tensors]
            features.append(join_maps(maps))
        return torch.cat(features)

    def _compile(self, height, width):
        # Not by openvino.convert_model, which reports to its makers that it was used.
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        black = torch.zeros(1, height, width, 3)
        with torch.inference_mode(False), torch.no_grad():
            traced = torch.jit.trace(_Maps(self.eager), black, check_trace=False)
            decoder = TorchScriptPythonDecoder(traced)  # has to outlive the conversion
            frontend = FrontEndManager().load_by_framework("pytorch")
            model = frontend.convert(frontend.load(decoder))
        model.reshape([1, height, width, 3])
        n_threads = joblib.cpu_count()
        options = {
            "INFERENCE_PRECISION_HINT": "f32",  # else less where the CPU has it
            "INFERENCE_NUM_THREADS": n_threads,
            "NUM_STREAMS": n_threads,
        }
        return self._core.compile_model(model, "CPU", options)


def efficientnet_lite(name, weights_file):
    """An EfficientNet-Lite with these weights, its batch norms folded into the convolutions."""
    from efficientnet_lite_pytorch import EfficientNet

    # The package pads for one size of images: 256 pads as multiples of 32 need it.
    module = EfficientNet.from_name(name.replace("_", "-"), image_size=256).eval()
    module.load_state_dict(torch.load(weights_file, map_location="cpu", weights_only=True))
    module._conv_stem, module._bn0 = _fold(module._conv_stem, module._bn0)
    module._swish = nn.ReLU6(inplace=True)
    for block in module._blocks:
        if hasattr(block, "_expand_conv"):
            block._expand_conv, block._bn0 = _fold(block._expand_conv, block._bn0)
        block._depthwise_conv, block._bn1 = _fold(block._depthwise_conv, block._bn1)
        block._project_conv, block._bn2 = _fold(block._project_conv, block._bn2)
        block._swish = nn.ReLU6(inplace=True)
    return module


def _fold(conv, norm):
    """One convolution for a padded convolution and its batch norm, and what stays of the norm."""
    folded = fuse_conv_bn_eval(conv, norm)
    padding = folded.static_padding
    sizes = conv.in_channels, conv.out_channels, conv.kernel_size, tuple(conv.stride)
    plain = nn.Conv2d(*sizes, groups=conv.groups)
    plain.load_state_dict(folded.state_dict())
    if isinstance(padding, nn.ZeroPad2d):
        left, right, top, bottom = padding.padding
        if left != right or top != bottom:  # with stride 2 the padding stays a step of its own
            return nn.Sequential(padding, plain), nn.Identity()
        plain.padding = (top, left)
    return plain, nn.Identity()


class _LiveTensors(TorchDispatchMode):
    """Counts the bytes of tensors that operations make while they live, and of those given."""

    def __init__(self):
        super().__init__()
        self.given = self.peak = self._alive = 0
        self._known = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self.given += sum(storage.nbytes() for storage in self._new((args, kwargs)))
        made = function(*args, **kwargs)
        for storage in self._new(made):
            self._alive += storage.nbytes()
            weakref.finalize(storage, self._forget, storage.data_ptr(), storage.nbytes())
        self.peak = max(self.peak, self._alive)
        return made

    def _new(self, values):
        """The memory of tensors on the CPU that is not known yet."""
        tensors = (v for v in tree_leaves(values) if isinstance(v, torch.Tensor))
        for storage in (t.untyped_storage() for t in tensors if t.device.type == "cpu"):
            if storage.nbytes() and storage.data_ptr() not in self._known:
                self._known.add(storage.data_ptr())
                yield storage

    def _forget(self, place, size):
        self._known.discard(place)
        self._alive -= size
