"""Folders and zips of pictures in two domains, for translation: pairs in several layouts, or two unpaired sets.

        two folders    data.path=A data.path_b=B          pictures with the same name, up to the extension, are a pair
        side by side   data.path=AB                       the left half belongs to domain a, the right half to b
    suffixes       data.path=AB data.layout=suffixes  1_a.png beside 1_b.png

Files are treated as in `build_dataset`: each is decoded once up front, and bad ones are refused or left out by name,
together with their partners.
"""

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from wplus.core.files import at_home
from wplus.data.build import build_dataset, with_options_of
from wplus.data.decode import Box
from wplus.data.domains import TwoDomains, same_names
from wplus.data.image_set import ImageSet
from wplus.data.names import without_extension
from wplus.data.reader import Reader
from wplus.data.sources import FolderReader, ZipReader
from wplus.errors import UserError, check_choice

LAYOUTS = ("side_by_side", "suffixes")
SUFFIXES = ("_a", "_b")
_WIDEST = 1.5  # largest aspect ratio of a half
_TURNED = (5, 6, 7, 8)  # EXIF orientations that swap width and height
_EXIF_ORIENTATION = 0x0112


def _sets(
    readers: Sequence[Reader],
    *,
    is_halved: bool = False,
    resolution: int,
    swap: bool = False,
    split: str = "train",
    held_out_fraction: float = 0.1,
    num_images: int | None = None,
    fit: str = "crop",
    resize: str = "lanczos",
    channels: int = 3,
    bad_files: str = "refuse",
    memory_limit_gb: float = 4.0,
    num_threads: int | None = None,
    cache_dir: str | None = None,
) -> list[ImageSet]:
    """The images of domain a and of b.

    Args:
        readers: those of a and b. If `is_halved`, both read the same pictures, with a in the left half and b in the
            right.
        swap: swap domains a and b.
        split, held_out_fraction: pictures are assigned to splits by a hash of their names.
        fit: treatment of pictures that are not square; side by side it applies to each half, and "pad" is not allowed.
        resolution, num_images, resize, channels, bad_files, memory_limit_gb, num_threads, cache_dir: as in
            `build_dataset`; `num_images` counts each domain.
    """
    boxes = _halves(readers[0], fit) if is_halved else (None, None)
    sets = [
        build_dataset(
            reader, boxes=cut, resolution=resolution, split=split, held_out_fraction=held_out_fraction,
            num_images=num_images, fit=fit, resize=resize, channels=channels, bad_files=bad_files,
            memory_limit_gb=memory_limit_gb, num_threads=num_threads, cache_dir=cache_dir,
        )
        for reader, cut in zip(readers, boxes, strict=True)
    ]  # fmt: skip
    return sets[::-1] if swap else sets


@with_options_of(_sets, without=["is_halved"])
def pairs(path: str, *, path_b: str | None = None, layout: str = "side_by_side", **options: Any) -> TwoDomains:
    """Pairs of pictures from folders or zips; see above. The other options are those of `_sets`.

    Args:
        path, path_b: a folder or zip of domain a, or of both domains; and one of domain b, with the same names.
        layout: layout of a single folder with both domains: "side_by_side" or "suffixes".

    Raises:
        UserError: as in `build_dataset`, and for pictures without a partner or an unknown layout.
    """
    check_choice("layout", layout, LAYOUTS)
    reader, is_halved = _reader(path), False
    if path_b is not None:
        readers = _of_one_name(reader, _reader(path_b))
    elif layout == "suffixes":
        readers = _of_suffixes(reader)
    else:
        readers, is_halved = (reader, reader), True
    return TwoDomains.pairs(*same_names(*_sets(readers, is_halved=is_halved, **options)))


@with_options_of(_sets, without=["is_halved"])
def unpaired(path: str, path_b: str, **options: Any) -> TwoDomains:
    """Two unpaired folders or zips of pictures of any sizes; the other options are those of `_sets`."""
    return TwoDomains.unpaired(*_sets([_reader(each) for each in (path, path_b)], is_halved=False, **options))


class _Renamed(Reader):
    """Some files of a reader, under different names."""

    def __init__(self, reader: Reader, names: Mapping[str, str]) -> None:
        self._reader, self.source = reader, reader.source
        self.stored, self.names, self.other_names = dict(names), sorted(names), []

    def read(self, name: str) -> bytes:
        """As the reader."""
        return self._reader.read(self.stored[name])

    def signature(self, name: str) -> tuple[int, ...]:
        """As the reader."""
        return self._reader.signature(self.stored[name])

    def unread(self) -> str:
        """As the reader."""
        return self._reader.unread()


def _reader(path: str | Path) -> Reader:
    is_zip = at_home(path).is_file() and at_home(path).suffix.lower() == ".zip"
    return ZipReader(path) if is_zip else FolderReader(path)


def _of_one_name(a: Reader, b: Reader) -> tuple[Reader, Reader]:
    """Match readers by name without extension; pairs get the name in a. UserError for a picture without a partner."""
    stems = [_stems(reader) for reader in (a, b)]
    for own, other in ((0, 1), (1, 0)):
        alone = sorted(stems[own].keys() - stems[other].keys())
        if alone:
            sources = [reader.source for reader in (a, b)]
            raise UserError(
                f"{len(alone)} of {len(stems[own])} image(s) in '{sources[own]}' have no partner of the same name in "
                f"'{sources[other]}', the first is '{stems[own][alone[0]]}'."
            )
    return a, _Renamed(b, {name: stems[1][stem] for stem, name in stems[0].items()})


def _stems(reader: Reader) -> dict[str, str]:
    """Name without extension -> name; UserError if two names differ only in their extension."""
    found: dict[str, str] = {}
    for name in reader.names:
        stem = without_extension(name)
        if stem in found:
            raise UserError(f"'{found[stem]}' and '{name}' in '{reader.source}' differ in their extension alone.")
        found[stem] = name
    return found


def _of_suffixes(reader: Reader) -> tuple[Reader, Reader]:
    stems = _stems(reader)
    parts: list[dict[str, str]] = [{}, {}]
    for stem, name in stems.items():
        part = next((number for number, suffix in enumerate(SUFFIXES) if stem.endswith(suffix)), None)
        other = None if part is None else f"{stem.removesuffix(SUFFIXES[part])}{SUFFIXES[1 - part]}"
        if part is None or other not in stems:
            raise UserError(
                f"'{name}' in '{reader.source}' has no partner: with layout=suffixes each NAME_a.png needs its "
                "NAME_b.png; pictures side by side take layout=side_by_side."
            )
        parts[part][stem.removesuffix(SUFFIXES[part])] = name
    return _Renamed(reader, parts[0]), _Renamed(reader, parts[1])


def _halves(reader: Reader, fit: str) -> tuple[dict[str, Box], dict[str, Box]]:
    """The central squares of the left and right halves of every readable picture; others are reported when decoded."""
    if fit == "pad":
        raise UserError("fit=pad is not allowed for pictures side by side: use crop or refuse, or give two folders.")
    left: dict[str, Box] = {}
    right: dict[str, Box] = {}
    for name in reader.names:
        size = _size(reader, name)
        if size is None:
            continue
        width, height = size[0] / 2, size[1]
        if width != height and (fit == "refuse" or not 1 / _WIDEST <= width / height <= _WIDEST):
            raise UserError(
                f"'{name}' in '{reader.source}' is {size[0]}x{size[1]}: two pictures side by side are "
                f"{'' if fit == 'refuse' else 'about '}twice as wide as high; see --help data=pairs for other layouts."
            )
        side = min(width, height)
        top, start = (height - side) / 2, (width - side) / 2
        left[name] = (start, top, start + side, top + side)
        right[name] = (width + start, top, width + start + side, top + side)
    return left, right


def _size(reader: Reader, name: str) -> tuple[int, int] | None:
    """Width and height after EXIF rotation; None for a file that cannot be opened."""
    try:
        with Image.open(io.BytesIO(reader.read(name))) as image:
            is_turned = image.getexif().get(_EXIF_ORIENTATION, 1) in _TURNED
            return (image.height, image.width) if is_turned else image.size
    except Exception:  # the decoder reports what is wrong with it
        return None
