"""Pictures and videos embedded in a page: shrunk to fit its size limit, each stored once, with notes on omissions."""

import base64
import hashlib
import io
import math
import mimetypes
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from wplus.errors import UserError

PICTURES_MB, FILMS_MB = 9.0, 4.5
"""Limit on the embedded files of a page; base64 adds a third, which leaves 7 of 25 MB for the script and the data."""
SIDES = (1280, 960, 720, 512, 384, 256, 192, 128, 96, 64)  # sides of squares that limit the pictures' size
MAX_FILMS = 24
_EXACT_PX = 128  # larger pictures are compressed lossily
_SAMPLE = 24  # number of pictures for estimating the total size
_QUALITY = 82
_FILM_SIDE, _FILM_CRF = 320, 32


@dataclass
class Media:
    """Collects files by name; `embed` then turns them into data URIs within the page's size limits."""

    pictures: dict[str, Path] = field(default_factory=dict)
    films: dict[str, Path] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    """Name -> data URI, after `embed`; missing for files that cannot be shown."""
    exact: set[str] = field(default_factory=set)
    """Names of small pictures, which are enlarged without smoothing."""
    notes: list[str] = field(default_factory=list)
    """Notes on what is left out or reduced, and why."""
    _told: set[str] = field(default_factory=set)

    def add(self, path: Path) -> str | None:
        """Add a file; returns the name of its content, equal for equal files, or None if it is no picture or video."""
        form = mimetypes.guess_type(path.name)[0] or ""
        kinds = {"image": self.pictures, "video": self.films}
        kind = form.partition("/")[0]
        if kind not in kinds or not path.is_file():
            return None
        name = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        kinds[kind].setdefault(name, path)
        return name

    def once(self, name: str) -> str:
        """The data URI on the first request, and an empty string later, when the page already contains it."""
        if name in self._told:
            return ""
        self._told.add(name)
        return self.sources[name]

    def embed(self) -> None:
        """Fill `sources`."""
        self._embed_pictures()
        self._embed_films()

    def _embed_pictures(self) -> None:
        limit, paths = PICTURES_MB * 1e6, self.pictures
        few = list(paths.values())[:: max(1, len(paths) // _SAMPLE)]
        largest = max((math.prod(_pixels(path)) for path in paths.values()), default=0)
        for side in _sides(largest):
            if _size(few, side) * len(paths) / max(1, len(few)) > limit and side != SIDES[-1]:
                continue
            found = {name: encoded(path, side) for name, path in paths.items()}
            if sum(len(content) for _, content in found.values()) <= limit or side == SIDES[-1]:
                break
        self.exact = {name for name, path in paths.items() if is_small(path)}
        if side**2 < largest:
            self.notes.append(f"Pictures are shown at no more than about {side} by {side} pixels.")
        self._take(found, limit, "picture")

    def _embed_films(self) -> None:
        limit = FILMS_MB * 1e6
        shown = dict(list(self.films.items())[:MAX_FILMS])
        share = limit / max(1, len(shown))
        found = {name: _film(path, share) for name, path in shown.items()}
        if len(shown) < len(self.films):
            self.notes.append(f"The first {MAX_FILMS} of {len(self.films)} videos are shown.")
        self._take(found, limit, "video")

    def _take(self, found: dict[str, tuple[str, bytes]], limit: float, noun: str) -> None:
        spent, missing = 0, 0
        for name, (form, content) in found.items():
            spent += len(content)
            if not content or spent > limit:
                spent, missing = spent - len(content), missing + 1
            else:
                self.sources[name] = f"data:{form};base64,{base64.b64encode(content).decode()}"
        if missing:
            self.notes.append(f"{missing} {noun}(s) are left out to limit the page's size; see the runs' folders.")


def encoded(path: Path, side: int) -> tuple[str, bytes]:
    """MIME type and content of a picture with at most as many pixels as a square of `side`; empty if unreadable.

    Small pictures are kept lossless, animations unchanged.
    """
    try:
        with Image.open(path) as image:
            if getattr(image, "is_animated", False):
                return f"image/{(image.format or 'gif').lower()}", path.read_bytes()
            factor = side / math.sqrt(image.width * image.height)
            shown = image if image.mode in ("RGB", "RGBA", "L") else image.convert("RGBA")
            if factor < 1:
                size = (max(1, round(image.width * factor)), max(1, round(image.height * factor)))
                shown = shown.resize(size, Image.Resampling.LANCZOS)
            file = io.BytesIO()
            is_exact = max(image.size) <= _EXACT_PX
            shown.save(file, format="WEBP", lossless=is_exact, quality=_QUALITY, method=2)
            return "image/webp", file.getvalue()
    except (OSError, ValueError):
        return "", b""


def _sides(largest: int) -> list[int]:
    """The first side that leaves a picture of this many pixels unchanged, and all smaller ones."""
    smaller = [side for side in SIDES if side**2 < largest]
    return [*SIDES[: len(SIDES) - len(smaller)][-1:], *smaller]


def _pixels(path: Path) -> tuple[int, int]:
    """Width and height; zeros for a file that cannot be read."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError):
        return 0, 0


def is_small(path: Path) -> bool:
    """Whether a picture is kept lossless."""
    return 0 < max(_pixels(path)) <= _EXACT_PX


def _size(paths: Iterable[Path], side: int) -> int:
    return sum(len(encoded(path, side)[1]) for path in paths)


def _film(path: Path, share: float) -> tuple[str, bytes]:
    """A video unchanged or, if it exceeds its share, reduced; empty if that does not suffice."""
    form = mimetypes.guess_type(path.name)[0] or "video/mp4"
    if path.stat().st_size <= share:
        return form, path.read_bytes()
    small = _smaller(path)
    return ("video/mp4", small) if small and len(small) <= share else (form, b"")


def _smaller(path: Path) -> bytes:
    from wplus.core.video import find_ffmpeg  # imports torch, which other pages do not need

    try:
        ffmpeg = find_ffmpeg()
    except UserError:
        return b""
    scaled = (
        f"scale='min({_FILM_SIDE},iw)':'min({_FILM_SIDE},ih)':force_original_aspect_ratio=decrease:force_divisible_by=2"
    )
    options: Sequence[str] = ("-vf", scaled, "-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", str(_FILM_CRF), "-an")
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "small.mp4"
        command = [ffmpeg, "-y", "-nostdin", "-loglevel", "error", "-i", str(path), *options, str(target)]
        done = subprocess.run(command, capture_output=True)
        return target.read_bytes() if done.returncode == 0 and target.is_file() else b""
