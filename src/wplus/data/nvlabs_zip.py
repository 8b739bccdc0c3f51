"""A zip of images with an optional `dataset.json`, the format of NVlabs' tools, as an ImageSet."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

from wplus.data.build import assemble, with_options_of_assemble
from wplus.data.image_set import ImageSet
from wplus.data.reader import LABEL_FILE, sort_names
from wplus.errors import UserError


class ZipReader:
    """The image files in a zip, compressed or not; see `reader.Reader`."""

    def __init__(self, path: str | Path) -> None:
        self.source, self._path, self._opened = str(path), Path(path).expanduser(), None
        if not self._path.is_file():
            what = "is a folder, not a zip" if self._path.is_dir() else "does not exist"
            raise UserError(f"The image zip '{path}' {what}.")
        members = [info for info in self._zip().infolist() if not info.is_dir()]
        self._checksums = {info.filename: (info.file_size, info.CRC) for info in members}
        self.names, self.other_names = sort_names(self._checksums)
        if not self.names:
            raise UserError(f"The image zip '{path}' has no file with an image's extension (.png, .jpg, ...) in it.")

    def read(self, name: str) -> bytes:
        """The member's bytes, its checksum verified; OSError when it is damaged or encrypted."""
        try:
            return self._zip().read(name)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError, zlib.error) as error:
            raise OSError(f"damaged in the zip: {error}") from error

    def label_file(self) -> bytes | None:
        """The content of `dataset.json`, None where there is none."""
        try:
            return self.read(LABEL_FILE) if LABEL_FILE in self._checksums else None
        except OSError as error:
            raise UserError(f"{LABEL_FILE} of '{self.source}' cannot be read ({error}).") from error

    def signature(self, name: str) -> tuple[int, ...]:
        """Size in bytes and CRC-32, from the zip's directory."""
        return self._checksums[name]

    def _zip(self) -> zipfile.ZipFile:
        if self._opened is None:
            try:
                self._opened = zipfile.ZipFile(self._path)
            except (zipfile.BadZipFile, OSError) as error:
                raise UserError(f"'{self._path}' is not a whole zip file ({error}).") from error
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}  # the handle is opened anew in another process


@with_options_of_assemble
def zip_images(path: str, **options: object) -> ImageSet:
    """The images in the zip at `path`; see `assemble` for the options."""
    return assemble(ZipReader(path), **options)
