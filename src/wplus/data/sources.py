"""Folders of images and zips of images with an optional `dataset.json` (the format of NVlabs' tools) as ImageSets."""

import contextlib
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wplus.data.build import build_dataset, with_dataset_options
from wplus.data.image_set import ImageSet
from wplus.data.reader import Reader
from wplus.errors import UserError


@with_dataset_options
def folder_images(path: str, **options: Any) -> ImageSet:
    """The images below the folder `path`, any format that Pillow reads; see `build_dataset` for the options."""
    return build_dataset(FolderReader(path), **options)


@with_dataset_options
def zip_images(path: str, **options: Any) -> ImageSet:
    """The images in the zip at `path`; see `build_dataset` for the options."""
    return build_dataset(ZipReader(path), **options)


class FolderReader(Reader):
    """The image files below a folder. Links to folders are followed, but not in circles."""

    def __init__(self, path: str | Path) -> None:
        self._root = Path(path).expanduser()
        if not self._root.is_dir():
            what = "is a file, not a folder" if self._root.exists() else "does not exist"
            raise UserError(f"The image folder '{path}' {what}.")
        super().__init__(path, "folder", ((name, name) for name in _files_below(self._root)))

    def read(self, name: str) -> bytes:
        """The file's bytes; OSError for a link to nothing, a pipe, and what else would never end."""
        path = self._root / self.stored[name]
        if not path.is_file():
            raise OSError("it is no file, or a link to none")
        return path.read_bytes()

    def signature(self, name: str) -> tuple[int, ...]:
        """Size in bytes and time of the last change in nanoseconds."""
        path = self._root / self.stored[name]
        status = path.stat() if path.is_file() else path.lstat()
        return status.st_size, status.st_mtime_ns


class ZipReader(Reader):
    """The image files in a zip, compressed or not."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path).expanduser()
        self._opened: zipfile.ZipFile | None = None
        if not self._path.is_file():
            what = "is a folder, not a zip" if self._path.is_dir() else "does not exist"
            raise UserError(f"The image zip '{path}' {what}.")
        members = [info for info in self._zip().infolist() if not info.is_dir()]
        self._checksums = {info.filename: (info.file_size, info.CRC) for info in members}
        super().__init__(path, "zip", ((_text(info), info.filename) for info in members))

    def read(self, name: str) -> bytes:
        """The member's bytes, its checksum verified; OSError when it is damaged or encrypted."""
        try:
            return self._zip().read(self.stored[name])
        except Exception as error:  # damage makes each of the decompressors fail in its own way
            raise OSError(f"damaged in the zip: {error}") from error

    def signature(self, name: str) -> tuple[int, ...]:
        """Size in bytes and CRC-32, from the zip's directory."""
        return self._checksums[self.stored[name]]

    def _zip(self) -> zipfile.ZipFile:
        if self._opened is None:
            try:
                self._opened = zipfile.ZipFile(self._path)
            except Exception as error:  # an absurd header fails wherever it is trusted
                raise UserError(f"'{self._path}' is not a whole zip file ({error}).") from error
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}  # the handle is opened anew in another process


def _text(info: zipfile.ZipInfo) -> str:
    """A member's name; where no flag says that it is UTF-8, Python reads code page 437, and many wrote UTF-8."""
    if not info.flag_bits & 0x800:
        with contextlib.suppress(UnicodeError):
            return info.filename.encode("cp437").decode()
    return info.filename


def _refuse(error: OSError) -> None:
    raise UserError(f"The folder '{error.filename}' cannot be listed ({error.strerror}).") from error


def _files_below(root: Path) -> Iterator[str]:
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=_refuse):
        here, real = Path(folder).relative_to(root), os.path.realpath(folder)
        # A link to one of the folders that it lies in would go on for ever.
        if here != Path() and any(os.path.realpath(root / parent) == real for parent in here.parents):
            subfolders.clear()
        else:
            yield from ((here / file).as_posix() for file in files)
