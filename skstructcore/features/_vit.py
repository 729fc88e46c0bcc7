"""DINOv2 vision transformers as networks from pixels to patch features."""

import torch
import torch.nn.functional as F

from ._backbone import IMAGENET_SCALING
from ._networks import Network


class VitNetwork(Network):
    """The patch tokens after some blocks of a DINOv2 transformer, of length 1, joined.

    `model` is one of transformers. Blocks that are not needed are dropped from it.
    """

    def __init__(self, model, blocks, *, device, dtype):
        super().__init__(*IMAGENET_SCALING, device, dtype)
        embeddings = model.embeddings
        self.patch_size = model.config.patch_size
        self.n_features = model.config.hidden_size * len(blocks)
        self.blocks = list(blocks)
        self._has_registers = hasattr(embeddings, "register_tokens")
        self._positions = embeddings.position_embeddings.detach().float()
        self._position_cache = {}
        self._project = embeddings.patch_embeddings.to(device, dtype)
        first = [embeddings.cls_token.detach() + self._positions[:, :1]]
        if self._has_registers:  # they have no position
            first.append(embeddings.register_tokens.detach())
        self._first_tokens = torch.cat(first, dim=1).to(device, dtype)
        self._layers = model.encoder.layer[: max(blocks)].to(device, dtype)

    def output_shape(self, height, width):
        """Height, width and number of features of the grid for images of this size."""
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
        grid = x.shape[2] // self.patch_size, x.shape[3] // self.patch_size
        tokens = self._tokens(x, self._grid_positions(grid))
        tokens = [F.normalize(t.float(), dim=-1) for t in tokens]
        return torch.cat(tokens, dim=-1).unflatten(1, grid).cpu()

    def _tokens(self, x, positions):
        x = self._project(x) + positions
        x = torch.cat([self._first_tokens.expand(len(x), -1, -1), x], dim=1)
        n_first = self._first_tokens.shape[1]
        kept = {}
        for number, layer in enumerate(self._layers, start=1):
            x = layer(x)
            x = x[0] if isinstance(x, tuple) else x  # transformers before 5
            if number in self.blocks:
                kept[number] = x[:, n_first:]
        return [kept[number] for number in self.blocks]

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
