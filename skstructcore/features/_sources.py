"""Where a network comes from: what an estimator has to say to get another backbone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any

    import torch


class NetworkSource(ABC):
    """A frozen network that is not loaded yet.

    A loaded network is called with levels from 0 to 255, a tensor `(b, H, W, 3)` of uint8 or
    float32. It returns features `(b, h, w, d)`, a float32 tensor on the CPU, and has a method
    `output_shape(H, W)` that gives `(h, w, d)`.
    """

    #: What tells apart networks with the same weights and recipe in one process.
    identity: Hashable = None

    @abstractmethod
    def checksum(self) -> str:
        """Digest of the weights, without building the network if possible."""

    @abstractmethod
    def name(self) -> str:
        """Text that says where the weights come from."""

    @abstractmethod
    def recipe(self) -> dict[str, Any]:
        """The parameters that decide over the features, as JSON can write them."""

    @abstractmethod
    def load(self, device: torch.device, dtype: torch.dtype) -> Callable:
        """Build the network, with its weights, on a device."""

    def computation(self) -> dict[str, Any]:
        """What makes features differ by rounding, beside device and precision."""
        return {}
