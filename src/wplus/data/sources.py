"""Folders of images and zips of images with an optional `dataset.json` (the format of NVlabs' tools) as ImageSets."""

import os
import zipfile
import zlib
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
        super().__init__(path, "folder", list(_files_below(self._root)))

    def read(self, name: str) -> bytes:
        """The file's bytes."""
        return (self._root / name).read_bytes()

    def signature(self, name: str) -> tuple[int, ...]:
        """Size in bytes and time of the last change in nanoseconds."""
        status = (self._root / name).stat()
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
        super().__init__(path, "zip", self._checksums)

    def read(self, name: str) -> bytes:
        """The member's bytes, its checksum verified; OSError when it is damaged or encrypted."""
        try:
            return self._zip().read(name)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError, zlib.error) as error:
            raise OSError(f"damaged in the zip: {error}") from error

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


def _files_below(root: Path) -> Iterator[str]:
    for folder, subfolders, files in os.walk(root, followlinks=True):
        here, real = Path(folder).relative_to(root), os.path.realpath(folder)
        # A link to one of the folders that it lies in would go on for ever.
        if here != Path() and any(os.path.realpath(root / parent) == real for parent in here.parents):
            subfolders.clear()
        else:
            yield from ((here / file).as_posix() for file in files)
