"""Images as they come in, what is known of them, and the way from maps back to their pixels."""

from .files import list_images
from .geometry import Geometry, place_on_image, upsample_maps
from .image_list import Annotations, ImageList, as_images, find_unreadable
from .labels import GOOD, is_anomalous
from .masks import read_mask
from .reading import ImageReadError

__all__ = [
    "GOOD",
    "Annotations",
    "Geometry",
    "ImageList",
    "ImageReadError",
    "as_images",
    "find_unreadable",
    "is_anomalous",
    "list_images",
    "place_on_image",
    "read_mask",
    "upsample_maps",
]
