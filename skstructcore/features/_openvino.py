"""Convolutional networks run by OpenVINO instead of torch, on the CPU."""

import threading

import joblib
import torch
from torch import nn

from ._networks import Network, join_maps


def import_openvino():
    try:
        import openvino
    except ImportError as error:
        raise ImportError(
            'runtime="openvino" needs OpenVINO: pip install "skstructcore[openvino]"'
        ) from error
    return openvino


class _Maps(nn.Module):
    """What is left to OpenVINO: from levels `(1, H, W, 3)` to the averaged maps of all layers."""

    def __init__(self, network):
        super().__init__()
        self.module = network.module
        self.run = network.maps  # not its own: a part of it

    def forward(self, pixels):
        return tuple(self.run(pixels))


class OpenVinoNetwork(Network):
    """The same features as those of a `ConvNetwork` (on the CPU, float32), up to rounding.

    An image runs on one thread; as many as call at the same time run beside each other. So the
    features depend neither on the batch nor on the number of threads.
    """

    def __init__(self, network):
        self._eager = network
        self._core = import_openvino().Core()
        self._compiled = {}
        self._lock = threading.Lock()
        self._requests = threading.local()

    @property
    def eager(self):
        return self._eager

    def output_shape(self, height, width):
        return self._eager.output_shape(height, width)

    def __call__(self, pixels):
        request = self._request(tuple(pixels.shape[1:3]))
        features = []
        for image in pixels:
            request.infer([image[None].float().numpy()])
            maps = [torch.from_numpy(t.data.copy()) for t in request.output_tensors]
            features.append(join_maps(maps))
        return torch.cat(features)

    def _request(self, size):
        """This thread's own place to run images of one size in."""
        requests = vars(self._requests)
        if size not in requests:
            with self._lock:
                if size not in self._compiled:
                    self._compiled[size] = self._compile(*size)
            requests[size] = self._compiled[size].create_infer_request()
        return requests[size]

    def _compile(self, height, width):
        # Not by openvino.convert_model, which reports to its makers that it was used.
        from openvino.frontend import FrontEndManager
        from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

        black = torch.zeros(1, height, width, 3)
        with torch.inference_mode(False), torch.no_grad():
            traced = torch.jit.trace(_Maps(self._eager), black, check_trace=False)
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
