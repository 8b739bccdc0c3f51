"""What a folder and a zip have in common: sorted names, the bytes behind a name, perhaps a `dataset.json`."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Protocol

from PIL import Image

LABEL_FILE = "dataset.json"
RECORD_FILE = "wplus.json"
"""What `prepare` writes about how a zip was made."""


class Reader(Protocol):
    """A container of image files; names are relative, use `/`, and are sorted; threads may call `read` at once."""

    source: str
    """The path that the user gave, for messages."""
    names: list[str]
    """The files with an image's extension."""
    other_names: list[str]
    """The other files, hidden ones and those that belong to the format left out."""

    def read(self, name: str) -> bytes:
        """The file's bytes; OSError, or UserError, when they cannot be had."""
        ...

    def label_file(self) -> bytes | None:
        """The content of `dataset.json` at the top, None where there is none."""
        ...

    def signature(self, name: str) -> tuple[int, ...]:
        """Numbers that change when the file's content does (size and time, or a checksum), without reading it."""
        ...


def sort_names(files: Iterable[str]) -> tuple[list[str], list[str]]:
    """Relative names of all files -> the sorted names of the images, and of the other files that someone may miss."""
    visible = sorted(name for name in files if not _is_hidden(name) and name not in (LABEL_FILE, RECORD_FILE))
    images = [name for name in visible if _has_image_extension(name)]
    return images, [name for name in visible if not _has_image_extension(name)]


@lru_cache(maxsize=1)
def image_extensions() -> frozenset[str]:
    """All extensions, lower case with the dot, that Pillow can read here."""
    return frozenset(extension for extension, form in Image.registered_extensions().items() if form in Image.OPEN)


def _has_image_extension(name: str) -> bool:
    return "." in name and "." + name.rsplit(".", 1)[1].lower() in image_extensions()


def _is_hidden(name: str) -> bool:
    """Whether any part of the relative name starts with a dot, or is what macOS puts into zips."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
