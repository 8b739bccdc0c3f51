"""Folders of images and zips of images with an optional `dataset.json` (the format of NVlabs' tools) as ImageSets."""

import os
import zipfile
import zlib
from pathlib import Path
from typing import Any

from wplus.data.build import build_dataset, with_dataset_options
from wplus.data.image_set import ImageSet
from wplus.data.reader import LABEL_FILE, sort_names
from wplus.errors import UserError


@with_dataset_options
def folder_images(path: str, **options: Any) -> ImageSet:
    """The images below the folder `path`, any format that Pillow reads; see `build_dataset` for the options."""
    return build_dataset(FolderReader(path), **options)


@with_dataset_options
def zip_images(path: str, **options: Any) -> ImageSet:
    """The images in the zip at `path`; see `build_dataset` for the options."""
    return build_dataset(ZipReader(path), **options)


class FolderReader:
    """The image files below a folder; see `reader.Reader`. Links to folders are followed, but not in circles."""

    def __init__(self, path: str | Path) -> None:
        self.source, self._root = str(path), Path(path).expanduser()
        if not self._root.is_dir():
            what = "is a file, not a folder" if self._root.exists() else "does not exist"
            raise UserError(f"The image folder '{path}' {what}.")
        self.names, self.other_names = sort_names(_files_below(self._root))
        _check_names(self.names, f"folder '{path}'")

    def read(self, name: str) -> bytes:
        """The file's bytes."""
        return (self._root / name).read_bytes()

    def label_file(self) -> bytes | None:
        """The content of `dataset.json`, None where there is none."""
        path = self._root / LABEL_FILE
        return path.read_bytes() if path.is_file() else None

    def signature(self, name: str) -> tuple[int, ...]:
        """Size in bytes and time of the last change in nanoseconds."""
        status = (self._root / name).stat()
        return status.st_size, status.st_mtime_ns


class ZipReader:
    """The image files in a zip, compressed or not; see `reader.Reader`."""

    def __init__(self, path: str | Path) -> None:
        self.source, self._path = str(path), Path(path).expanduser()
        self._opened: zipfile.ZipFile | None = None
        if not self._path.is_file():
            what = "is a folder, not a zip" if self._path.is_dir() else "does not exist"
            raise UserError(f"The image zip '{path}' {what}.")
        members = [info for info in self._zip().infolist() if not info.is_dir()]
        self._checksums = {info.filename: (info.file_size, info.CRC) for info in members}
        self.names, self.other_names = sort_names(self._checksums)
        _check_names(self.names, f"zip '{path}'")

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


def _check_names(names: list[str], place: str) -> None:
    if not names:
        raise UserError(f"The image {place} has no file with an image's extension (.png, .jpg, ...) in it.")


def _files_below(root: Path) -> list[str]:
    names: list[str] = []
    for folder, subfolders, files in os.walk(root, followlinks=True):
        here = Path(folder).relative_to(root)
        if _leads_back(root, here):
            subfolders.clear()
            continue
        names += [(here / file).as_posix() for file in files]
    return names


def _leads_back(root: Path, here: Path) -> bool:
    """Whether the folder is a link to one of the folders that it lies in, which would go on for ever."""
    real = os.path.realpath(root / here)
    return here != Path() and any(os.path.realpath(root / parent) == real for parent in here.parents)
