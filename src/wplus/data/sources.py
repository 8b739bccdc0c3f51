"""Folders of images and zips of images with an optional `dataset.json` (the format of NVlabs' tools) as ImageSets."""

import contextlib
import os
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wplus.core.files import at_home
from wplus.data.build import build_dataset, with_options_of
from wplus.data.image_set import ImageSet
from wplus.data.reader import Reader
from wplus.errors import UserError


@with_options_of(build_dataset)
def folder_images(path: str, **options: Any) -> ImageSet:
    """The images below the folder `path`, in any format that Pillow reads; see `build_dataset` for the options."""
    return build_dataset(FolderReader(path), **options)


@with_options_of(build_dataset)
def zip_images(path: str, **options: Any) -> ImageSet:
    """The images in the zip at `path`; see `build_dataset` for the options."""
    return build_dataset(ZipReader(path), **options)


class FolderReader(Reader):
    """The image files below a folder. Symbolic links to folders are followed, except in cycles."""

    cure = "make them UTF-8, as in convmv -r --notest -f gbk -t utf8 FOLDER"

    def __init__(self, path: str | Path) -> None:
        self._root = at_home(path)
        if not self._root.is_dir():
            what = "is a file, not a folder" if self._root.exists() else "does not exist"
            raise UserError(f"The image folder '{path}' {what}.")
        super().__init__(path, "folder", ((_of_bytes(name), name) for name in _files_below(self._root)))

    def read(self, name: str) -> bytes:
        """The file's bytes; OSError for a broken link, a pipe, and anything else that would block."""
        path = self._root / self.stored[name]
        if not path.is_file():
            raise OSError("it is not a file, or is a broken link")
        return path.read_bytes()

    def signature(self, name: str) -> tuple[int, ...]:
        """Size in bytes and modification time in nanoseconds."""
        path = self._root / self.stored[name]
        status = path.stat() if path.is_file() else path.lstat()
        return status.st_size, status.st_mtime_ns


class ZipReader(Reader):
    """The image files in a zip, compressed or not."""

    cure = "unpack it with theirs, as in unzip -O gbk FILE.zip, and give the folder"

    def __init__(self, path: str | Path) -> None:
        self._path = at_home(path)
        self._opened: zipfile.ZipFile | None = None
        if not self._path.is_file():
            what = "is a folder, not a zip" if self._path.is_dir() else "does not exist"
            raise UserError(f"The image zip '{path}' {what}.")
        members = [info for info in self._zip().infolist() if not info.is_dir()]
        self._checksums = {info.filename: (info.file_size, info.CRC) for info in members}
        super().__init__(path, "zip", ((_of_member(info), info.filename) for info in members))

    def read(self, name: str) -> bytes:
        """The member's bytes, with verified checksum; OSError if it is damaged or encrypted."""
        try:
            return self._zip().read(self.stored[name])
        except Exception as error:  # each decompressor fails in its own way on damaged data
            raise OSError(f"damaged in the zip: {error}") from error

    def signature(self, name: str) -> tuple[int, ...]:
        """Size in bytes and CRC-32, from the zip's directory."""
        return self._checksums[self.stored[name]]

    def _zip(self) -> zipfile.ZipFile:
        if self._opened is None:
            try:
                self._opened = zipfile.ZipFile(self._path)
            except Exception as error:  # a corrupt header can raise almost anything
                raise UserError(f"'{self._path}' is not a complete zip file ({error}).") from error
        return self._opened

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}  # other processes reopen the file


def _of_bytes(name: str) -> str | bytes:
    """A file's name, as bytes if it is not UTF-8 (which Python represents with lone surrogates)."""
    return os.fsencode(name) if re.search("[\udc80-\udcff]", name) else name


def _of_member(info: zipfile.ZipInfo) -> str | bytes:
    """A member's name, as bytes if neither a flag nor an extra field declares it to be UTF-8.

    Python decodes such names with code page 437, the format's original encoding, but many tools wrote their system's.
    """
    name = info.orig_filename.partition("\0")[0]
    if info.flag_bits & 0x800 or name.isascii():
        return name
    raw = name.encode("cp437")
    return _unicode_path(info.extra, raw) or raw


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    """Info-ZIP's Unicode Path Extra Field (APPNOTE 4.6.9), if its checksum matches this name."""
    while len(extra) >= 4:
        kind, size = struct.unpack("<HH", extra[:4])
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == 0x7075 and field[:5] == struct.pack("<BL", 1, zlib.crc32(raw)):
            with contextlib.suppress(UnicodeDecodeError):
                return field[5:].decode()
    return None


def _refuse(error: OSError) -> None:
    raise UserError(f"The folder '{error.filename}' cannot be listed ({error.strerror}).") from error


def _files_below(root: Path) -> Iterator[str]:
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=_refuse):
        here, real = Path(folder).relative_to(root), os.path.realpath(folder)
        # A link to one of its own parent folders would recurse forever.
        if here != Path() and any(os.path.realpath(root / parent) == real for parent in here.parents):
            subfolders.clear()
        else:
            yield from ((here / file).as_posix() for file in files)
