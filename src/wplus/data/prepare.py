"""`wplus prepare SOURCE OUT.zip`: convert any images to the zip format of NVlabs' tools.

The zip contains uncompressed PNGs `00000/img00000000.png`, `dataset.json` with the labels, and `wplus.json` with a
record of how it was made. All unreadable and odd files are reported: one line per kind, and every name in OUT.zip.txt.
"""

import argparse
import contextlib
import io
import json
import re
import sys
import zipfile
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import PIL
import torch
from PIL import Image
from torch import Tensor

from wplus.core.files import atomic_write, ensure_folder
from wplus.core.images import to_pil
from wplus.core.progress import track
from wplus.data.build import BAD_FILES, Decoder, other_sizes
from wplus.data.decode import CHANNELS, FITS, RESIZES, BadImage, Decoded, Policies
from wplus.data.image_set import ordered_map
from wplus.data.reader import LABEL_FILE, LABEL_MODES, RECORD_FILE, Reader, check_resolution, is_one_hot, read_labels
from wplus.data.sources import FolderReader, ZipReader
from wplus.errors import OneLineParser, UserError, check_choice

_LABELS = ("auto", *LABEL_MODES)
_DATE = (1980, 1, 1, 0, 0, 0)  # a fixed date for all members, so that equal images give equal zips


@dataclass
class Report:
    """Findings about the source's files, by name: why a file cannot be used, or what a policy had to fix.

    `ignored` are files without an image extension.
    """

    ignored: list[str]
    bad: dict[str, str] = field(default_factory=dict)
    odd: dict[str, tuple[str, ...]] = field(default_factory=dict)
    num_good: int = 0

    def entries(self) -> list[tuple[str, str]]:
        """(kind, line) for everything noteworthy about a file."""
        found = [(f"bad {_kind(reason)}", f"left out  {name}: {reason}") for name, reason in sorted(self.bad.items())]
        for name, words in sorted(self.odd.items()):
            found += [(f"odd {_kind(word)}", f"odd       {name}: {word}") for word in words]
        return [*found, *(("ignored", f"no image  {name}") for name in self.ignored)]

    def lines(self) -> Iterator[str]:
        """One line per kind of finding, then the counts."""
        lines_of: dict[str, list[str]] = {}
        for kind, line in self.entries():
            lines_of.setdefault(kind, []).append(line)
        for first, *others in lines_of.values():
            yield first + (f"; {len(others):,} more of this kind" if others else "")
        good = f"{self.num_good} good ({len(self.odd)} of them odd)"
        yield f"{good}, {len(self.bad)} left out, {len(self.ignored)} no images"


def _kind(words: str) -> str:
    """The kind of a finding: its text without numbers and details."""
    return re.sub(r"\d+", "", words.split(" (")[0])


def prepare(
    source: str | Path,
    out: str | Path | None,
    *,
    resolution: int,
    fit: str = "crop",
    resize: str = "lanczos",
    channels: int = 3,
    labels: str = "auto",
    bad_files: str = "skip",
    write: str = "zip",
    num_threads: int | None = None,
) -> Report:
    """Write the images of `source` (a folder or a zip) to the zip `out`; nothing is written if an error occurs.

    Args:
        source, out: paths.
        resolution, fit, resize, channels: see `decode.Policies`; fit=refuse also refuses mixed sizes.
        labels: "auto", which is "json" if there is a `dataset.json`, else "none"; or as in `build_dataset`.
        bad_files: "skip" leaves out unusable files, "refuse" raises an error and writes nothing.
        write: "zip", or "nothing" for a dry run; `out` may then be None.
        num_threads: number of decoding threads; None uses all available cores.

    Raises:
        UserError: an option that is not allowed, a source without usable images, or an output that cannot be written.
    """
    check_choice("bad_files", bad_files, BAD_FILES)
    policies = Policies(resolution=check_resolution(resolution), fit=fit, resize=resize, channels=channels)
    reader = ZipReader(source) if Path(source).is_file() else FolderReader(source)
    decoder = Decoder(reader, policies, num_threads=num_threads)
    image_labels = _labels(reader, labels)
    report = Report(reader.other_names)
    if write == "nothing":
        deque(_good_images(decoder, report), maxlen=0)
        return report
    target = _checked_target(source, out)

    def fill(file: BinaryIO) -> None:
        stored: dict[str, int] = {}
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for number, png in _good_images(decoder, report):
                name = f"{len(stored) // 1000:05d}/img{len(stored):08d}.png"
                archive.writestr(zipfile.ZipInfo(name, _DATE), png)
                stored[name] = number
            _check_result(report, reader.source, bad_files)
            about = {LABEL_FILE: _label_content(stored, *image_labels), RECORD_FILE: _record(decoder, stored, report)}
            for name, content in about.items():
                archive.writestr(zipfile.ZipInfo(name, _DATE), json.dumps(content))

    atomic_write(target, fill)
    listing = "".join(f"{line}\n" for _, line in report.entries())
    atomic_write(f"{target}.txt", lambda file: file.write(listing.encode("utf-8", "surrogateescape")))
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status: 0 on success, 1 after an error message of one sentence."""
    options = vars(_parser().parse_args(arguments))
    try:
        report = prepare(**options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    print(*report.lines(), sep="\n")
    written = f"Wrote {report.num_good} images to {options['out']}; {options['out']}.txt lists every odd file."
    print(written if options["write"] == "zip" else "Nothing was written (--dry-run).")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="wplus prepare", description=__doc__)
    parser.add_argument("source", help="a folder of images, searched recursively, or a zip")
    parser.add_argument("out", nargs="?", help="the zip to write; not needed with --dry-run")
    parser.add_argument("--resolution", type=int, required=True, help="pixels, a power of two from 8 to 1024")
    parser.add_argument("--fit", default="crop", help=f"images that are not square: {' | '.join(FITS)} (default crop)")
    parser.add_argument("--resize", default="lanczos", help=f"{' | '.join(RESIZES)} (default lanczos)")
    parser.add_argument("--channels", type=int, default=3, help=f"{' | '.join(map(str, CHANNELS))} (default 3)")
    parser.add_argument("--labels", default="auto", help=f"{' | '.join(_LABELS)} (default auto: dataset.json if any)")
    parser.add_argument("--bad-files", default="skip", help=f"{' | '.join(BAD_FILES)} (default skip, with a report)")
    parser.add_argument("--num-threads", type=int, help="threads that decode (default: every usable core)")
    parser.add_argument("--dry-run", dest="write", action="store_const", const="nothing", help="only report")
    parser.set_defaults(write="zip")
    return parser


def _checked_target(source: str | Path, out: str | Path | None) -> Path:
    if out is None or Path(out).suffix.lower() != ".zip":
        raise UserError(f"The output must be a file whose name ends in .zip, got '{out}'.")
    target = Path(out)
    if target.resolve() == Path(source).resolve():
        raise UserError(f"The output must be another file than the source, got '{out}' for both.")
    ensure_folder(target.parent)
    return target


def _labels(reader: Reader, labels: str) -> tuple[Tensor | None, list[str] | None]:
    check_choice("labels", labels, _LABELS)
    if labels != "auto":
        return read_labels(reader, labels)
    label_file = reader.label_file()
    with contextlib.suppress(ValueError, AttributeError, RecursionError):  # read_labels reports what is wrong with it
        # NVlabs' tools write {"labels": null} for a set without labels.
        if label_file is None or json.loads(label_file).get("labels") is None:
            return None, None
    return read_labels(reader, "json")


def _good_images(decoder: Decoder, report: Report) -> Iterator[tuple[int, bytes]]:
    """Yield number and PNG of every usable image, and fill in the report."""
    names = decoder.reader.names
    report.bad.update(other_sizes(_square_sizes(decoder.reader)) if decoder.policies.fit == "refuse" else {})
    numbers = [number for number, name in enumerate(names) if name not in report.bad]
    results = ordered_map(partial(_encoded, decoder), numbers, num_threads=decoder.num_threads)
    for number, (result, png) in zip(numbers, track(results, "Preparing images", total=len(numbers)), strict=True):
        if isinstance(result, BadImage):
            report.bad[names[number]] = result.reason
            continue
        report.odd.update({names[number]: result.oddities} if result.oddities else {})
        report.num_good += 1
        yield number, png


def _square_sizes(reader: Reader) -> dict[str, tuple[int, int]]:
    """Sizes of the square images, from their headers; others are refused when they are decoded."""
    sizes = {}
    for name in reader.names:
        with contextlib.suppress(Exception), Image.open(io.BytesIO(reader.read(name))) as image:
            sizes[name] = image.size
    return {name: size for name, size in sizes.items() if size[0] == size[1]}


def _encoded(decoder: Decoder, number: int) -> tuple[Decoded | BadImage, bytes]:
    png, result = io.BytesIO(), decoder.attempt(number)
    if isinstance(result, Decoded):
        to_pil(torch.from_numpy(result.pixels)).save(png, format="PNG", compress_level=0)
    return result, png.getvalue()


def _check_result(report: Report, source: str, bad_files: str) -> None:
    listing = "; ".join(f"{name}: {reason}" for name, reason in sorted(report.bad.items()))
    if report.num_good == 0:
        raise UserError(f"No image in '{source}' can be used: {listing}.")
    if report.bad and bad_files == "refuse":
        raise UserError(f"{len(report.bad)} image(s) in '{source}' cannot be used and nothing was written: {listing}.")


def _label_content(stored: dict[str, int], labels: Tensor | None, label_names: list[str] | None) -> dict[str, Any]:
    """The content of `dataset.json`: class numbers for one-hot labels, else lists of numbers; null without labels."""
    if labels is None:
        return {"labels": None}
    kept = labels[list(stored.values())]
    values = kept.argmax(dim=1).tolist() if is_one_hot(kept) else kept.tolist()
    names = {"label_names": label_names} if label_names else {}
    return {"labels": [[name, value] for name, value in zip(stored, values, strict=True)], **names}


def _record(decoder: Decoder, stored: dict[str, int], report: Report) -> dict[str, Any]:
    """The content of `wplus.json`."""
    kinds = Counter(word.split(" (")[0] for words in report.odd.values() for word in words)
    return {
        "source": decoder.reader.source,
        **{key: value for key, value in asdict(decoder.policies).items() if key != "alpha"},
        "pillow": PIL.__version__,
        "num_images": len(stored),
        "num_left_out": len(report.bad),
        "left_out": report.bad,
        "num_odd": len(report.odd),
        "odd": dict(kinds),
        "files": {name: decoder.reader.names[number] for name, number in stored.items()},
    }


if __name__ == "__main__":
    sys.exit(main())
