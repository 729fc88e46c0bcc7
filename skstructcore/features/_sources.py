"""Where a network comes from: what an estimator has to say to get another backbone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable
    from typing import Any

    import torch

    from ._networks import Network


#: Mean and standard deviation of the pixels, between 0 and 1, of ImageNet's photographs.
IMAGENET_SCALING = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


class NetworkSource(ABC):
    """A frozen network that is not loaded yet; see `Network` of `_networks` for a loaded one."""

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
    def load(self, device: torch.device, dtype: torch.dtype) -> Network:
        """Build the network, with its weights, on a device."""

    def computation(self) -> dict[str, Any]:
        """What makes features differ by rounding, beside device and precision."""
        return {}
