"""Images as they come in, what is known of them, and the way from maps back to their pixels."""

from .annotations import Annotations
from .geometry import Geometry
from .image_list import (
    IMAGE_SUFFIXES,
    ImageList,
    Unreadable,
    as_images,
    find_unreadable,
    list_images,
)
from .labels import (
    ANOMALOUS,
    DEFECT_WORDS,
    GOOD,
    GOOD_WORDS,
    defect_types,
    is_anomalous,
    is_defect_in_training,
    means_defect,
    means_good,
)
from .masks import mask_as_seen, read_mask
from .reading import ImageReadError, source_box
from .resampling import ignored_pixels, place_on_image, upsample_counted, upsample_maps

__all__ = [
    "ANOMALOUS",
    "DEFECT_WORDS",
    "GOOD",
    "GOOD_WORDS",
    "IMAGE_SUFFIXES",
    "Annotations",
    "Geometry",
    "ImageList",
    "ImageReadError",
    "Unreadable",
    "as_images",
    "defect_types",
    "find_unreadable",
    "ignored_pixels",
    "is_anomalous",
    "is_defect_in_training",
    "list_images",
    "mask_as_seen",
    "means_defect",
    "means_good",
    "place_on_image",
    "read_mask",
    "source_box",
    "upsample_counted",
    "upsample_maps",
]
