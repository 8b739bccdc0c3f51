"""Images from the bundled cats, a folder or a zip, as uint8 with labels; endless batches; the zip maker."""

from wplus.data.build import assemble
from wplus.data.cats import cat_images
from wplus.data.decode import BadImage, read_image
from wplus.data.image_set import ImageSet, LazyImages
from wplus.data.loader import Batches
from wplus.data.nvlabs_zip import zip_images
from wplus.data.sources import folder_images

__all__ = [
    "BadImage",
    "Batches",
    "ImageSet",
    "LazyImages",
    "assemble",
    "cat_images",
    "folder_images",
    "read_image",
    "zip_images",
]
