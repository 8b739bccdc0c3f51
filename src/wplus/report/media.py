"""Pictures and films inside a page: shrunk as far as its size demands, each told once, what is left out is named."""

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
"""Of files in one page; as text they are a third larger, which leaves 7 of 25 MB for the script and the numbers."""
SIDES = (1280, 960, 720, 512, 384, 256, 192, 128, 96, 64)  # pictures are no larger than a square of these
MAX_FILMS = 24
_EXACT_PX = 128  # longer sides are compressed with losses
_SAMPLE = 24  # pictures from which the size of all is told
_QUALITY = 82
_FILM_SIDE, _FILM_CRF = 320, 32


@dataclass
class Media:
    """Collects files by name; `embed` then makes data URIs of them within the limits of a page."""

    pictures: dict[str, Path] = field(default_factory=dict)
    films: dict[str, Path] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    """Name -> data URI, once embedded; a file that cannot be shown has none."""
    exact: set[str] = field(default_factory=set)
    """Small pictures, which are enlarged pixel by pixel."""
    notes: list[str] = field(default_factory=list)
    """What is not shown as it is, and why."""
    _told: set[str] = field(default_factory=set)

    def add(self, path: Path) -> str | None:
        """The name of a file's content, the same for equal files; None where it is neither picture nor film."""
        form = mimetypes.guess_type(path.name)[0] or ""
        kinds = {"image": self.pictures, "video": self.films}
        kind = form.partition("/")[0]
        if kind not in kinds or not path.is_file():
            return None
        name = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        kinds[kind].setdefault(name, path)
        return name

    def once(self, name: str) -> str:
        """The data URI the first time that it is asked for, and nothing later: the page has it then."""
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
            self.notes.append(f"The first {MAX_FILMS} of {len(self.films)} films are shown.")
        self._take(found, limit, "film")

    def _take(self, found: dict[str, tuple[str, bytes]], limit: float, noun: str) -> None:
        spent, missing = 0, 0
        for name, (form, content) in found.items():
            spent += len(content)
            if not content or spent > limit:
                spent, missing = spent - len(content), missing + 1
            else:
                self.sources[name] = f"data:{form};base64,{base64.b64encode(content).decode()}"
        if missing:
            self.notes.append(f"{missing} {noun}(s) are not in this page, for its size; they lie in the runs' folders.")


def encoded(path: Path, side: int) -> tuple[str, bytes]:
    """Form and content of a picture with no more pixels than a square of `side`; nothing for one that cannot be read.

    Small ones are kept exact, animations as they are.
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
    """The first that leaves a picture of so many pixels as it is, and those that are smaller."""
    smaller = [side for side in SIDES if side**2 < largest]
    return [*SIDES[: len(SIDES) - len(smaller)][-1:], *smaller]


def _pixels(path: Path) -> tuple[int, int]:
    """Width and height; nothing for a file that cannot be read."""
    try:
        with Image.open(path) as image:
            return image.size
    except (OSError, ValueError):
        return 0, 0


def is_small(path: Path) -> bool:
    """Whether a picture is kept exact."""
    return 0 < max(_pixels(path)) <= _EXACT_PX


def _size(paths: Iterable[Path], side: int) -> int:
    return sum(len(encoded(path, side)[1]) for path in paths)


def _film(path: Path, share: float) -> tuple[str, bytes]:
    """A film as it is, or where it is larger than its share smaller; nothing where that does not help."""
    form = mimetypes.guess_type(path.name)[0] or "video/mp4"
    if path.stat().st_size <= share:
        return form, path.read_bytes()
    small = _smaller(path)
    return ("video/mp4", small) if small and len(small) <= share else (form, b"")


def _smaller(path: Path) -> bytes:
    from wplus.core.video import find_ffmpeg  # brings torch, which other pages do not need

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
