"""Two unpaired domains of bundled pictures: cats of two furs, with a hat and without, or cats and robots.

Every cat of one domain has a counterpart in the other, equal in all else, which is no image of that domain but can be
drawn: a translation that was learned without pairs is compared with the truth. Of cats and robots none is known.
"""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from wplus.core.random import uniforms
from wplus.data import cat_render, robot_render
from wplus.data.cat_render import FACTORS, NUISANCES, Strengths, draw_factors, load_layers
from wplus.data.cats import draw_cat, drawn_images, select_cats
from wplus.data.domains import TwoDomains
from wplus.data.image_set import ImageSet
from wplus.data.reader import check_resolution, check_split, select
from wplus.errors import check_choice, check_number

CHANGED = {"fur": ("fur", 4, 8), "hat": ("accessory", 15, 5)}
"""Task -> the factor in which the domains differ, and its class in either: patches and dots; nothing and a top hat."""
TASKS = (*CHANGED, "robots")
CATS, ROBOTS = "cats (robohash set4, David Revoy, CC-BY-4.0)", "robots (robohash set3, Julian Peter Arias, CC-BY-3.0)"
_PARTS = 300  # the streams of randomness that draw robots
Attributes = dict[str, np.ndarray]


def cat_domains(
    *,
    resolution: int,
    task: str = "fur",
    split: str = "train",
    num_images: int = 20000,
    seed: int = 0,
    held_out_fraction: float = 0.15,
    background: float = 0.0,
    shift: float = 0.03,
    scale: float = 0.08,
    flip: float = 0.5,
    memory_limit_gb: float = 4.0,
    cache_dir: str | None = None,
) -> TwoDomains:
    """Cats of fur 4 (domain a) and 8 (b), without a hat and with one, or cats and robots; see above.

    Args:
        resolution: height and width in pixels, a power of two from 8 to 1024.
        task: "fur", "hat" or "robots".
        split: "train", "held_out", which comes with the true counterparts, or "all".
        num_images: in both domains and both splits together; no cat of one is in the other.
        held_out_fraction: about this share of all combinations of the other factors is held out, of both domains.
        seed, background, shift, scale, flip, memory_limit_gb, cache_dir: see `cat_images`.

    Raises:
        UserError: an option that is not allowed, or a split that comes out empty.
    """
    check_resolution(resolution)
    check_choice("task", task, TASKS)
    check_number("num_images", num_images, lowest=2, highest=10_000_000, whole=True)
    check_number("seed", seed, lowest=0, highest=2**63 - 1, whole=True)
    check_split(split, held_out_fraction)
    strengths = Strengths(background, shift, scale, flip)
    shown = {"memory_limit_gb": memory_limit_gb, "cache_dir": cache_dir}
    asked: dict[str, Any] = {"resolution": resolution, "seed": seed, **asdict(strengths)}
    policies = {"split": split, "task": task, "held_out_fraction": held_out_fraction, **asked}
    numbers = [np.arange(first, num_images, 2) for first in (0, 1)]  # of the pictures of a and b
    if task == "robots":
        cats = _Cats(numbers[0], task, asked, strengths, policies, shown)
        return TwoDomains.unpaired(cats.images(cats.attributes, split), _robots(numbers[1], asked, strengths, policies,
                                   shown, split))  # fmt: skip
    factor, *classes = CHANGED[task]
    sides = [_Cats(each, task, asked, strengths, policies, shown, {factor: chosen})
             for each, chosen in zip(numbers, classes, strict=True)]  # fmt: skip
    a, b = (side.images(side.attributes, split) for side in sides)
    if split != "held_out":
        return TwoDomains.unpaired(a, b)
    counterparts = [side.images({**side.attributes, factor: np.full_like(side.attributes[factor], other)}, split)
                    for side, other in zip(sides, reversed(classes), strict=True)]  # fmt: skip
    return TwoDomains.unpaired(a, b, a_as_b=counterparts[0], b_as_a=counterparts[1])


class _Cats:
    """The cats `numbers` of a seed, with some factors set: `changes`."""

    def __init__(
        self, numbers: np.ndarray, task: str, asked: Mapping[str, Any], strengths: Strengths,
        policies: Mapping[str, Any], shown: Mapping[str, Any], changes: Mapping[str, int] | None = None,
    ) -> None:  # fmt: skip
        self.numbers, self.task, self.asked, self.changes = numbers, task, dict(asked), dict(changes or {})
        self.policies, self.shown = dict(policies), dict(shown)
        self.layers = load_layers(asked["resolution"], shown["cache_dir"])
        self.num_choices = {factor: len(self.layers[factor]) for factor in FACTORS}
        self.attributes = draw_factors(numbers, asked["seed"], self.num_choices, strengths)
        for factor, chosen in self.changes.items():
            self.attributes[factor][:] = chosen

    def images(self, attributes: Attributes, split: str) -> ImageSet:
        """Those of a split, drawn with `attributes`, which the split does not heed in what is set."""
        others = [factor for factor in FACTORS if factor not in self.changes]
        fraction = self.policies["held_out_fraction"]
        kept = select_cats(attributes, self.num_choices, split, fraction, others)
        classes = {factor: int(attributes[factor][0]) for factor in self.changes}
        key = {"version": cat_render.RENDER_VERSION, "pillow": Image.__version__, "first": int(self.numbers[0]),
               "num_images": len(self.numbers), "classes": classes, **self.asked}  # fmt: skip
        draw = partial(draw_cat, attributes, self.asked["resolution"], self.shown["cache_dir"])
        return ImageSet(
            drawn_images(draw, key, kept, name=f"cats-{self.task}", **self.shown),
            None,
            [f"cat{self.numbers[index]:06d}" for index in kept],
            attributes={name: torch.from_numpy(values[kept]) for name, values in attributes.items()},
            policies={"source": CATS, **self.policies, **classes},
        )


def _robots(
    numbers: np.ndarray, asked: Mapping[str, Any], strengths: Strengths, policies: Mapping[str, Any],
    shown: Mapping[str, Any], split: str,
) -> ImageSet:  # fmt: skip
    """The robots `numbers` that belong to a split, by a hash of their names."""
    resolution, seed = asked["resolution"], asked["seed"]
    layers = robot_render.load_parts(resolution, shown["cache_dir"])
    framing = draw_factors(numbers, seed, dict.fromkeys(FACTORS, 1), strengths)
    attributes = {name: framing[name] for name in NUISANCES}
    for stream, part in enumerate(robot_render.PARTS):
        drawn = uniforms(numbers, seed, _PARTS + stream)
        attributes[part] = np.floor(drawn * len(layers[part])).astype(np.int64)

    def draw(index: int) -> np.ndarray:
        robot = {name: int(values[index]) for name, values in attributes.items()}
        return robot_render.render_robot(robot, resolution, layers)

    names = [f"robot{number:06d}" for number in numbers]
    kept = select(names, split, policies["held_out_fraction"])
    key = {"version": robot_render.RENDER_VERSION, "pillow": Image.__version__, "num_images": len(numbers), **asked}
    return ImageSet(
        drawn_images(draw, key, kept, name="robots", **shown), None, [names[index] for index in kept],
        attributes={name: torch.from_numpy(values[kept]) for name, values in attributes.items()},
        policies={"source": ROBOTS, **policies},
    )  # fmt: skip
