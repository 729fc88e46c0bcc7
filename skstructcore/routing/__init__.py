"""Which route an image is of: prototypes, profiles, and clusters of images."""

#: The route of an image of no known product; no category may have this name.
UNKNOWN = "unknown"
