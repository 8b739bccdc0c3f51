"""Image sets (bundled cats and digits, folders, zips) as uint8 with labels, endless batches, and `wplus prepare`."""

from wplus.data.build import build_dataset
from wplus.data.cats import cat_images
from wplus.data.decode import BadImage, read_image
from wplus.data.image_set import ImageSet, LazyImages
from wplus.data.loader import Batches
from wplus.data.sources import folder_images, zip_images

__all__ = [
    "BadImage",
    "Batches",
    "ImageSet",
    "LazyImages",
    "build_dataset",
    "cat_images",
    "folder_images",
    "read_image",
    "zip_images",
]
