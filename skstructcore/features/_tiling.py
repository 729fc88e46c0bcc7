"""Large images in overlapping tiles, whose grids of features are blended into one."""

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np


def check_tiles(image_size, tile_size, overlap):
    """Raise ValueError if tiles of this size and overlap cannot cover an image of that size."""
    cut = [tile for side, tile in zip(image_size, tile_size, strict=True) if tile < side]
    if overlap >= min(cut, default=np.inf):
        raise ValueError(f"tile_overlap={overlap} must be smaller than tile_size={min(cut)}.")


def tile_starts(side, tile, overlap):
    """Where tiles begin along one axis: as few as cover it, evenly spread, sharing `overlap`.

    Examples
    --------
    >>> tile_starts(32, 16, 0), tile_starts(10, 4, 0)
    ([0, 16], [0, 3, 6])
    """
    if tile >= side:
        return [0]
    n_tiles = -(-(side - overlap) // (tile - overlap))
    return [i * (side - tile) // max(n_tiles - 1, 1) for i in range(n_tiles)]


def blend_weights(starts, tile, side):
    """Share that each tile has in each position that it covers, along one axis.

    It falls linearly from the middle of a tile to its edges, where the network knows least of
    the surroundings; the shares of all tiles at one position add up to 1.

    Examples
    --------
    >>> blend_weights([0, 2], 4, 6)
    array([[1.  , 1.  , 0.75, 0.25],
           [0.25, 0.75, 1.  , 1.  ]])
    """
    position = np.arange(tile) + 0.5
    tent = np.minimum(position, tile - position)
    total = np.zeros(side)
    for start in starts:
        total[start : start + tile] += tent
    return np.stack([tent / total[start : start + tile] for start in starts])


@dataclass(frozen=True)
class Tiling:
    """How a scaled image is cut into tiles, and its grid of features put together.

    All lengths are pixels, heights first, and multiples of `steps`, those from one patch to the
    next; neighbours share at least `overlap`.
    """

    image_size: tuple[int, int]
    tile_size: tuple[int, int]
    overlap: int
    steps: tuple[int, int]

    @classmethod
    def of_grids(cls, image_size, tile_size, overlap, tile_grid, doubled_grid):
        """The tiling for a network that gives a tile, and one twice its size, these grids.

        ValueError if it gives no whole number of pixels a patch, or a length is no multiple.
        """
        steps = []
        for axis, (side, tile) in enumerate(zip(image_size, tile_size, strict=True)):
            more = doubled_grid[axis] - tile_grid[axis]
            step = max(round(tile / max(more, 1)), 1)
            for name, length in (
                ("tile_size", tile),
                ("tile_overlap", overlap),
                ("image_size", side),
            ):
                if length % step:
                    low = length // step * step
                    near = f"{low} and {low + step}" if low else f"{step}"
                    raise ValueError(
                        f"With tiles, {name} must be a multiple of {step}, the pixels from one "
                        f"patch to the next; got {length}, and {near} would do."
                    )
            if tile_grid[axis] * step != tile:
                raise ValueError(
                    f"The network gives {tile_grid[axis]} patches for a tile of {tile} pixels, and "
                    f"{more} more for one twice its size: such tiles do not fit together. Choose "
                    "another tile_size, or None."
                )
            steps.append(step)
        return cls(tuple(image_size), tuple(tile_size), overlap, tuple(steps))

    @property
    def grid_shape(self):
        return tuple(s // step for s, step in zip(self.image_size, self.steps, strict=True))

    @cached_property
    def _axes(self):
        """For each axis: starts in patches, patches of a tile, weights of each tile."""
        axes = []
        for axis, step in enumerate(self.steps):
            side, tile = self.grid_shape[axis], self.tile_size[axis] // step
            starts = tile_starts(side, tile, self.overlap // step)
            axes.append((starts, tile, blend_weights(starts, tile, side).astype(np.float32)))
        return axes

    @cached_property
    def corners(self):
        """Top and left patch of each tile, row by row, with their numbers along both axes."""
        (rows, _, _), (cols, _, _) = self._axes
        return [(top, left, i, j) for (i, top), (j, left) in product(*map(enumerate, (rows, cols)))]

    def __len__(self):
        return len(self.corners)

    def cut(self, pixels, tile):
        """Pixels of one tile: a view of those of the scaled image."""
        top, left, _, _ = self.corners[tile]
        row, col = top * self.steps[0], left * self.steps[1]
        return pixels[row : row + self.tile_size[0], col : col + self.tile_size[1]]

    def blend(self, grid, tile, features):
        """Add the features of a tile, weighted, to the grid of the image, which begins as 0."""
        top, left, i, j = self.corners[tile]
        (_, height, by_row), (_, width, by_col) = self._axes
        weights = by_row[i][:, np.newaxis] * by_col[j]
        place = grid[top : top + height, left : left + width]
        place += weights[..., np.newaxis] * features
