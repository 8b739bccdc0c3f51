"""Short, unambiguous labels of what varies between the members of a sweep: "w+ perceptual=0.1 s1"."""

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wplus.core.claim import PATHS

SEED = "seed"
Point = Mapping[str, Any]
"""Key -> value of a job for the keys that vary between jobs."""


def value_text(value: object) -> str:
    """A value as written in an override."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(value_text, value))}]"
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{value_text(item)}' for key, item in value.items())}}}"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


def labels(points: Sequence[Point], always: Collection[str] = ()) -> list[str]:
    """A label for each point, from the varying keys only: words alone, numbers with their key.

    A key is shortened to its last part if that is unambiguous; a word that occurs for several keys keeps its key. Keys
    that do not vary, and are not in `always`, are left out: the label of a single point is empty.
    """
    named = {*varying_keys(points), *always}
    keys = sorted(dict.fromkeys(key for point in points for key in point if key in named), key=lambda key: key == SEED)
    short = short_keys(keys)
    texts = {key: short_texts([point[key] for point in points if key in point], key) for key in keys}
    words = Counter(word for key in keys for word in set(texts[key].values()))
    return [" ".join(_part(key, short[key], texts[key][value_text(point[key])], words)
                     for key in keys if key in point) for point in points]  # fmt: skip


def varying_keys(points: Sequence[Point]) -> list[str]:
    """The keys with several values, in order of appearance, the seed last; a missing key counts as a value."""
    keys = dict.fromkeys(key for point in points for key in point)
    texts = {key: {value_text(point[key]) if key in point else None for point in points} for key in keys}
    return sorted((key for key in keys if len(texts[key]) > 1), key=lambda key: key == SEED)


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """Key -> its last part, or as many of its last parts as needed to distinguish it from the others."""
    found = {}
    for key in keys:
        parts = key.split(".")
        endings = (".".join(parts[-count:]) for count in range(1, len(parts) + 1))
        found[key] = next(
            (each for each in endings if sum(f".{other}".endswith(f".{each}") for other in keys) == 1), key
        )
    return found


def _part(key: str, short: str, text: str, words: Counter[str]) -> str:
    if key == SEED:
        return f"s{text}"
    is_word = re.fullmatch(r"[A-Za-z][\w.+-]*", text) and text not in ("true", "false", "null", "inf", "nan")
    return text if is_word and words[text] == 1 else f"{short}={text}"


def short_texts(values: Iterable[Any], key: str) -> dict[str, str]:
    """Text -> shorter text, if all remain distinct: the last part of paths, four digits of long numbers."""
    is_path = key.rpartition(".")[2] in PATHS  # a space such as f/w+ is not a path
    found = {value_text(value): _short_text(value, is_path=is_path) for value in values}
    return found if len(set(found.values())) == len(found) else {text: text for text in found}


def plain_text(value: object) -> str:
    """A value for display: as in an override, without the backslashes of Hydra's grammar."""
    return re.sub(r"\\(?=[^\w\s])", "", value_text(value))


def _short_text(value: object, *, is_path: bool) -> str:
    text = plain_text(value)
    if isinstance(value, float) and len(text) > 6:
        return f"{value:.4g}"
    return Path(text).name if is_path and os.sep in text and not text.startswith("[") else text
