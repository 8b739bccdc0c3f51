"""The identity of a run: a digest of its configuration without bookkeeping, with files replaced by their content."""

import contextlib
import functools
import hashlib
import json
import math
import os
import zipfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from wplus.core.files import at_home, sha256

DIGITS = 12
# Keys that do not affect results: at the top level of a configuration, in a training's schedule, and at any level.
_BOOKKEEPING = (
    "run_dir", "device", "tracking", "hydra", "name", "group", "tags", "batch_size", "probes",
    "objective", "num_samples", "video", "frames",
)  # fmt: skip
_SCHEDULE = ("kimg", "minutes", "log_kimg", "snapshot_kimg", "keep_checkpoints", "max_skipped_in_a_row")
_ANYWHERE = ("cache_dir", "num_workers", "num_threads", "threads", "memory_limit_gb", "download", "progress")
# Keys of files and folders. A folder is identified by the names and sizes of its files, by their contents, or by its
# path if it may grow, such as a folder of images to invert.
PATHS = {"checkpoint", "directions", "folder", "folders", "generated", "input", "inputs", "latents", "output", "path",
         "path_b", "run_dir", "attributes", "boxes", "masks", "ground_truth", "deltas"}  # fmt: skip
_IMAGE_SETS, _SMALL_SETS = ("path", "path_b", "generated"), ("checkpoint", "latents", "inputs")
_NAMED = ("input", "inputs", "latents")  # the names of these files appear in the results
_WORDS = ("held_out", "encoder", "none", "alpha")  # values of these keys that are not files


def question(config: Mapping[str, Any], also: Collection[str] = ()) -> dict[str, Any]:
    """Dotted key -> plain value for everything in `config` that affects a command's results, and for keys in `also`."""
    is_training = "trainer" in config
    found = {
        key: _value(key.rpartition(".")[2], value)
        for key, value in _leaves(config)
        if value is not None
        and (not _is_bookkeeping(key, is_training) or any(f"{key}.".startswith(f"{each}.") for each in also))
    }
    return dict(sorted(found.items()))


def digest(asked: Mapping[str, Any]) -> str:
    """`DIGITS` hexadecimal digits that identify the result of `question`."""
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:DIGITS]


def difference(before: Mapping[str, Any], now: Mapping[str, Any], *, most: int = 3) -> str:
    """The keys that differ, with both values: "seed was 0 and is now 1"."""
    changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
    words = [
        f"{key.removesuffix('._target_')} was {_shown(before.get(key))} and is now {_shown(now.get(key))}"
        for key in changed[:most]
    ]
    return ", ".join([*words, *([f"and {len(changed) - most} more"] if len(changed) > most else [])])


def _is_bookkeeping(key: str, is_training: bool) -> bool:
    top, _, rest = key.partition(".")
    is_length = top == "schedule" and rest in _SCHEDULE  # for a classifier it determines the learning rates
    is_of_training = is_training and (is_length or top == "extractor")  # only used by probes there
    return top in _BOOKKEEPING or key.rpartition(".")[2] in _ANYWHERE or is_of_training


def _leaves(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _value(key: str, value: object) -> Any:
    """Canonical form of equivalent values: 1 for 1.0, x for [x], a file's content for its path."""
    if isinstance(value, Mapping):
        return {str(name): _value(str(name), item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        items = [_value(key, item) for item in value]
        return items[0] if len(items) == 1 else items
    if isinstance(value, float):
        return str(value) if not math.isfinite(value) else int(value) if value.is_integer() else value
    return _text(key, value) if isinstance(value, str) else value


def _text(key: str, text: str) -> str:
    is_key = key in PATHS and text not in _WORDS
    path = at_home(text)
    try:
        looks_like_one = is_key or (not key.startswith("_") and (os.sep in text or path.suffix))
        if not looks_like_one or not path.exists():
            return os.path.normpath(text) if is_key and "://" not in text else text
        if path.is_file():
            about = f"content {_content(path, path.stat().st_mtime_ns)}"
        elif key in (*_IMAGE_SETS, *_SMALL_SETS):
            return f"content {_listing(path, with_contents=key in _SMALL_SETS)}"
        else:
            return str(path.resolve())
    except (OSError, ValueError):  # too long a name, an unreadable file: reported by the command itself
        return text
    return f"{path.name}, {about}" if key in _NAMED else about


@functools.cache
def _content(path: Path, _: int) -> str:
    """Digest of a file; for an archive, which may have gigabytes, of its members' names, sizes and checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _short([(each.filename, each.file_size, each.CRC) for each in archive.infolist()])
    except Exception:  # not an archive, or a damaged one, whose header can cause any error
        return sha256(path)[:DIGITS]


def _listing(folder: Path, *, with_contents: bool) -> str:
    """Digest of all files below a folder."""
    files = (Path(place, name) for place, _, names in os.walk(folder) for name in names)
    found = []
    for file in files:
        with contextlib.suppress(OSError):  # a broken link
            about = file.stat()
            content = _content(file, about.st_mtime_ns) if with_contents else about.st_size
            found.append((str(file.relative_to(folder)), content))
    return _short(sorted(found, key=str))


def _short(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:DIGITS]


def _shown(value: object) -> str:
    return json.dumps(value)
