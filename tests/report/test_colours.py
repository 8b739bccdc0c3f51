"""The colours of lines: distinct for colour-blind eyes, and visible on the page, dark and light."""

import itertools
import re
from pathlib import Path

import numpy as np
import pytest

import wplus.report

STYLE = (Path(wplus.report.__file__).parent / "style.css").read_text()
LIGHT, DARK = (dict(re.findall(r"(--\w+): (#[0-9a-f]{6})", part)) for part in STYLE.split("@media", 2)[:2])
# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
EYES = {
    "all": np.eye(3),
    "protanopia": np.array([[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                            [-0.003882, -0.048116, 1.051998]]),
    "deuteranopia": np.array([[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                              [-0.011820, 0.042940, 0.968881]]),
}  # fmt: skip
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)
WHITE = XYZ.sum(axis=1)


def linear(colour: str) -> np.ndarray:
    values = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    ratio = XYZ @ rgb.clip(0, 1) / WHITE
    f = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast(a: str, b: str) -> float:
    """Contrast as defined by WCAG."""
    low, high = sorted(float(XYZ[1] @ linear(colour)) + 0.05 for colour in (a, b))
    return high / low


@pytest.mark.parametrize("eyes", EYES)
@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_lines_are_told_apart(colours, eyes):
    seen = {name: lab(EYES[eyes] @ linear(colours[name])) for name in (f"--c{index}" for index in range(8))}
    close = {(a, b): np.linalg.norm(seen[a] - seen[b]) for a, b in itertools.combinations(seen, 2)}
    assert min(close.values()) > 15, min(close, key=close.get)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_what_is_drawn_and_written_is_seen(colours):
    for name in (f"--c{index}" for index in range(8)):
        assert contrast(colours[name], colours["--card"]) >= 3, name
    for name in ("--ink", "--soft", "--accent", "--good", "--bad"):
        assert contrast(colours[name], colours["--page"]) >= 4.5, name


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_the_scale_goes_one_way_in_lightness(colours):
    lightness = [lab(linear(colours[f"--s{index}"]))[0] for index in range(4)]
    steps = np.diff(lightness)
    assert (steps < -8).all() or (steps > 8).all()
