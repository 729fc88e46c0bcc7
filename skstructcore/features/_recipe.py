"""All that decides over the features of an image, beside the image."""

from __future__ import annotations

import json
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING

from ..images.reading import Intensity

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Literal

    from ._picture import Picture


@dataclass(frozen=True, eq=False)
class Recipe:
    """The recipe of one feature estimator.

    Parameters
    ----------
    estimator : str
        Name of its class.
    weights : str
        Checksum of the weights.
    dtype : str
        Precision of the computation.
    network : mapping
        Parameters of the network, as JSON can write them.
    computation : mapping
        What makes the features of this machine differ by rounding.
    picture : Picture
    tiles : tuple of int or None
        Height, width and overlap of the tiles.
    window : "auto" or sequence of 2 floats
        As it was given; `picture` holds what it came to.
    image_size : "native", float, int or sequence of 2 int
        As it was given; `picture` holds what it came to.
    ignore_digest : str or None
        Digest of `ignore` as it was given.
    """

    estimator: str
    weights: str
    dtype: str
    network: Mapping[str, Any]
    computation: Mapping[str, Any]
    picture: Picture
    tiles: tuple[int, ...] | None
    window: Literal["auto"] | Sequence[float]
    image_size: Any
    ignore_digest: str | None

    def for_cache(self) -> dict[str, Any]:
        """What the features of one image on disk depend on; ignored patches are marked later."""
        return {
            "weights": self.weights,
            "scaling": self.picture.scaling,
            "dtype": self.dtype,
            **({"region": region} if (region := self.picture.region) else {}),
            **self.computation,
            **self._of_the_method(),
        }

    def for_fit(self) -> dict[str, Any]:
        """What must be the same after `fit`: all but the weights and where it is computed.

        Weights are compared when the network is loaded, with a message of their own.
        """
        window = None if isinstance(self.window, str) else [float(end) for end in self.window]
        recipe = {
            **self._of_the_method(),
            **{"image_size": self.image_size, "window": window, "ignore": self.ignore_digest},
            "crop": self.picture.region or self.picture.resize or self.picture.crop,
        }
        return json.loads(json.dumps(recipe))  # tuples and lists become the same

    def _of_the_method(self):
        intensity = self.picture.intensity
        return {
            "estimator": self.estimator,
            # The usual case has no entry, so that what is cached of it stays valid.
            **({"intensity": astuple(intensity)} if intensity != Intensity() else {}),
            **self.network,
            **({"tiles": self.tiles} if self.tiles else {}),
        }
