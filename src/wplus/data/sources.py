"""A folder of images, searched recursively, as an ImageSet."""

from __future__ import annotations

import os
from pathlib import Path

from wplus.data.build import assemble, with_options_of_assemble
from wplus.data.image_set import ImageSet
from wplus.data.reader import LABEL_FILE, sort_names
from wplus.errors import UserError


class FolderReader:
    """The image files below a folder; see `reader.Reader`. Links to folders are followed, but not in circles."""

    def __init__(self, path: str | Path) -> None:
        self.source, self._root = str(path), Path(path).expanduser()
        if not self._root.is_dir():
            what = "is a file, not a folder" if self._root.exists() else "does not exist"
            raise UserError(f"The image folder '{path}' {what}.")
        self.names, self.other_names = sort_names(_files_below(self._root))
        if not self.names:
            raise UserError(f"The image folder '{path}' has no file with an image's extension (.png, .jpg, ...) in it.")

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


@with_options_of_assemble
def folder_images(path: str, **options: object) -> ImageSet:
    """The images below the folder `path`, any format that Pillow reads; see `assemble` for the options."""
    return assemble(FolderReader(path), **options)


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
