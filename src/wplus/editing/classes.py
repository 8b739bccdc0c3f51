"""Attributes become two classes: `body=3` (one against the rest), `accessory!=0`, `age>40`, or every value in turn."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from wplus.errors import UserError

_COMPARISONS = {
    "!=": np.not_equal,
    ">=": np.greater_equal,
    "<=": np.less_equal,
    "=": np.equal,
    ">": np.greater,
    "<": np.less,
}
_MOST_CLASSES = 20  # more values than this are a scale, which is cut at its median


def expand(wanted: Sequence[str], attributes: Mapping[str, np.ndarray]) -> list[str]:
    """Comparisons stay; a bare name becomes one for each of its values (of two, for the second alone).

    An attribute of more than 20 values is a scale: above its median against the rest.
    """
    specs: list[str] = []
    for spec in wanted:
        name, comparison, _ = split(spec)
        values = np.unique(_values(name, attributes))
        if comparison:
            specs.append(spec)
        elif len(values) > _MOST_CLASSES and values.dtype.kind in "if":
            specs.append(f"{name}>{np.median(attributes[name]):g}")
        else:
            specs += [f"{name}={value}" for value in (values[1:] if len(values) == 2 else values)]
    return list(dict.fromkeys(specs))


def split(spec: str) -> tuple[str, str, str]:
    """`body=3` -> ("body", "=", "3"); a bare name has an empty comparison."""
    found = re.fullmatch(r"(.+?)(!=|>=|<=|=|>|<)(.+)", spec)
    return (found[1].strip(), found[2], found[3].strip()) if found else (spec.strip(), "", "")


def members(spec: str, attributes: Mapping[str, np.ndarray]) -> np.ndarray:
    """Which samples fulfil a comparison: booleans (N,); UserError for an attribute or value that makes no sense."""
    name, comparison, text = split(spec)
    values = _values(name, attributes)
    try:
        wanted = values.dtype.type(text) if values.dtype.kind in "U" else float(text)
    except ValueError:
        raise UserError(f"'{spec}' compares the number '{name}' with a word; its values are numbers.") from None
    return _COMPARISONS[comparison](values, wanted)


def _values(name: str, attributes: Mapping[str, np.ndarray]) -> np.ndarray:
    if name not in attributes:
        raise UserError(f"There is no attribute '{name}'; the samples have {', '.join(attributes) or 'none'}.")
    return attributes[name]
