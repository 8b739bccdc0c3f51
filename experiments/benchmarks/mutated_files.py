"""Pass damaged images and archives to every reader: `python experiments/benchmarks/mutated_files.py`.

Every file is read by `data=folder`, `data=zip`, `prepare` and the reader of `invert`. Each must be read, or named in
one sentence. Another exception, a sentence without the name, or more than `--limit` seconds is a failure, listed with
the file's number.
"""

import argparse
import contextlib
import io
import tempfile
import time
import warnings
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from wplus.data import folder_images, zip_images
from wplus.data.prepare import prepare
from wplus.data.user_images import user_images
from wplus.errors import UserError

FORMS = {"PNG": ".png", "JPEG": ".jpg", "GIF": ".gif", "BMP": ".bmp", "TIFF": ".tif", "WEBP": ".webp", "PPM": ".ppm",
         "TGA": ".tga", "ICO": ".ico", "JPEG2000": ".jp2"}  # fmt: skip
MODES = ("RGB", "RGBA", "L", "P", "1", "CMYK", "I;16")


def main() -> None:
    """Count the outcomes over the files, and print the failures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=20.0, help="seconds for one file on one way")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    counts, failures = campaign(options.num, options.seed, options.limit)
    for (way, outcome), count in sorted(counts.items()):
        print(f"{way:<8} {outcome:<8} {count}")
    print(*failures, f"{len(failures)} failures", sep="\n")
    raise SystemExit(1 if failures else 0)


def campaign(num: int, seed: int, limit: float = 20.0) -> tuple[Counter[tuple[str, str]], list[str]]:
    """Count how often each reader read or named a file, and list failures; a file depends only on seed and number."""
    counts: Counter[tuple[str, str]] = Counter()
    failures = []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(num):
            place = Path(folder) / str(number)
            name, content, kind = mutated(number, seed)
            for way, run in ways(place, name, content, is_archive=number % 4 == 3).items():
                begun = time.monotonic()
                outcome = outcome_of(run, name, place)
                late = time.monotonic() - begun > limit
                counts[way, "failed" if late or outcome not in ("read", "named") else outcome] += 1
                if late or outcome not in ("read", "named"):
                    failures.append(f"file {number} ({kind}, {name}), {way}: {'too slow' if late else outcome}")
    return counts, failures


def outcome_of(run: Callable[[], object], name: str, place: Path) -> str:
    """Return "read", "named", or a description of what else happened."""
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # hides progress bars
            run()
    except UserError as error:
        told = str(error)
        return "named" if (name in told or str(place) in told) and "\n" not in told else f"without its name: {told}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "read"


def ways(place: Path, name: str, content: bytes, *, is_archive: bool) -> dict[str, Callable[[], object]]:
    """Prepare the four readers for one file: beside a good image, in a zip, or as the zip itself."""
    place.mkdir(parents=True)
    reading = {"resolution": 8, "cache_dir": str(place)}
    inverting = {"held_out": None, "resolution": 8, "channels": 3}
    archive, out = place / "set.zip", place / "out.zip"
    if is_archive:
        archive.write_bytes(content)
        return {
            "zip": lambda: zip_images(str(archive), split="all", **reading),
            "prepare": lambda: prepare(archive, out, resolution=8, bad_files="refuse"),
            "invert": lambda: user_images(archive, **inverting),
        }
    (place / "in").mkdir()
    (place / "in" / name).write_bytes(content)
    (place / "in" / "good.png").write_bytes(picture("PNG", "RGB", 0))
    with zipfile.ZipFile(archive, "w") as members:
        for each in ("good.png", name):
            members.write(place / "in" / each, each)
    return {
        "folder": lambda: folder_images(str(place / "in"), split="all", **reading),
        "zip": lambda: zip_images(str(archive), split="all", **reading),
        "prepare": lambda: prepare(place / "in", out, resolution=8, bad_files="refuse"),
        "invert": lambda: user_images(place / "in" / name, **inverting),
    }


def mutated(number: int, seed: int) -> tuple[str, bytes, str]:
    """Return name, content and kind of damage of file `number`: three of four are images, the fourth a zip of them."""
    rng = np.random.default_rng([seed, number])
    form = str(rng.choice(list(FORMS)))
    content = picture(form, str(rng.choice(MODES)), number)
    name = f"file{number}{FORMS[form]}"
    if number % 4 == 3:
        name, content = f"file{number}.zip", archive_of(number, rng)
    kind = str(rng.choice(list(DAMAGES)))
    if kind == "extension" and number % 4 != 3:
        name = f"file{number}{rng.choice(list(FORMS.values()))}"
    return name, DAMAGES[kind](bytearray(content), rng), kind


def picture(form: str, mode: str, number: int) -> bytes:
    """Encode random pixels as an intact file; formats that lack the mode get RGB."""
    pixels = np.random.default_rng(number).integers(0, 256, (12 + number % 7, 14, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    for each in (mode, "RGB"):
        file = io.BytesIO()
        try:
            image.convert("L" if each == "I;16" else each).convert(each).save(file, format=form)
            return file.getvalue()
        except (OSError, ValueError):
            continue
    raise AssertionError(form)


def archive_of(number: int, rng: np.random.Generator) -> bytes:
    """Make a zip of a few images and labels, with one of the compression methods."""
    file = io.BytesIO()
    with zipfile.ZipFile(
        file, "w", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA][rng.integers(3)]
    ) as made:
        for index in range(3):
            made.writestr(f"00000/img{index:08d}.png", picture("PNG", "RGB", number + index))
        made.writestr("dataset.json", '{"labels": null}')
    return file.getvalue()


def _flip(content: bytearray, rng: np.random.Generator) -> bytes:
    for position in rng.integers(0, len(content), rng.integers(1, 30)):
        content[position] ^= 1 << rng.integers(8)
    return bytes(content)


def _swap(content: bytearray, rng: np.random.Generator) -> bytes:
    a, b, size = *rng.integers(0, len(content), 2), rng.integers(1, 64)
    content[a : a + size], content[b : b + size] = content[b : b + size], content[a : a + size]
    return bytes(content)


def _absurd(content: bytearray, rng: np.random.Generator) -> bytes:
    """Set numbers in the header, or in the directory at the end of a zip, to their maximum."""
    position = int(rng.integers(0, min(64, len(content)))) if rng.random() < 0.6 else -int(rng.integers(4, 64))
    content[position : position + 4 if position + 4 else None] = rng.choice(
        [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\0"]
    )
    return bytes(content)


DAMAGES: dict[str, Callable[[bytearray, np.random.Generator], bytes]] = {
    "truncated": lambda content, rng: bytes(content[: rng.integers(0, len(content))]),
    "bits flipped": _flip,
    "chunks swapped": _swap,
    "absurd header": _absurd,
    "extension": lambda content, rng: bytes(content),
    "noise": lambda content, rng: rng.bytes(len(content)),
    "something behind": lambda content, rng: bytes(content) + rng.bytes(50),
}


if __name__ == "__main__":
    main()
