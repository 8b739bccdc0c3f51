"""Two unpaired domains of bundled pictures: cats with two kinds of fur, without and with a hat, or cats and robots.

Every cat of one domain has a counterpart that differs in the domain's factor alone. Counterparts are not images of the
other domain but can be drawn, which provides a ground truth for translation learned without pairs. For cats and robots
there is none.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image

from wplus.core.random import uniforms
from wplus.data import cat_render, robot_render
from wplus.data.build import with_options_of
from wplus.data.cat_render import FACTORS, NUISANCES, draw_factors, load_layers
from wplus.data.cats import Drawing, draw_cat, drawn_images, select_cats
from wplus.data.domains import TwoDomains
from wplus.data.image_set import ImageSet
from wplus.data.reader import select
from wplus.errors import check_choice, check_number

CHANGED = {"fur": ("fur", 4, 8), "hat": ("accessory", 15, 5)}
"""Task -> the factor in which the domains differ, and its class in a and b: patches, dots; nothing, a top hat."""
TASKS = (*CHANGED, "robots")
CATS, ROBOTS = "cats (robohash set4, David Revoy, CC-BY-4.0)", "robots (robohash set3, Julian Peter Arias, CC-BY-3.0)"
_PARTS = 300  # the random streams that draw robots
Attributes = dict[str, np.ndarray]


@with_options_of(Drawing)
def cat_domains(*, task: str = "fur", **options: Any) -> TwoDomains:
    """Cats with fur 4 (domain a) and 8 (b), without a hat (a) and with one (b), or cats (a) and robots (b); see above.

    Args:
        task: "fur", "hat" or "robots".
        options: those of `cat_images`, with these differences. split: "train", "held_out" (which includes the true
            counterparts) or "all". num_images: total over both domains and both splits; no cat is in both domains.
            held_out_fraction: approximate share of the combinations of the other factors held out in both domains.

    Raises:
        UserError: an option that is not allowed, or an empty split.
    """
    check_choice("task", task, TASKS)
    drawing = Drawing(**options)
    check_number("num_images", drawing.num_images, lowest=2, whole=True)
    numbers = [np.arange(first, drawing.num_images, 2) for first in (0, 1)]  # numbers of the pictures in a and b
    if task == "robots":
        cats = _Cats(numbers[0], task, drawing)
        return TwoDomains.unpaired(cats.images(cats.attributes), _robots(numbers[1], task, drawing))
    factor, *classes = CHANGED[task]
    sides = [_Cats(each, task, drawing, {factor: chosen}) for each, chosen in zip(numbers, classes, strict=True)]
    a, b = (side.images(side.attributes) for side in sides)
    if drawing.split != "held_out":
        return TwoDomains.unpaired(a, b)
    counterparts = [side.images({**side.attributes, factor: np.full_like(side.attributes[factor], other)})
                    for side, other in zip(sides, reversed(classes), strict=True)]  # fmt: skip
    return TwoDomains.unpaired(a, b, a_as_b=counterparts[0], b_as_a=counterparts[1])


def _policies(task: str, drawing: Drawing) -> dict[str, Any]:
    return {"split": drawing.split, "task": task, "held_out_fraction": drawing.held_out_fraction, **drawing.asked}


class _Cats:
    """The cats `numbers` of a seed, with the factors in `changes` set to fixed values."""

    def __init__(
        self, numbers: np.ndarray, task: str, drawing: Drawing, changes: Mapping[str, int] | None = None
    ) -> None:
        self.numbers, self.task, self.drawing, self.changes = numbers, task, drawing, dict(changes or {})
        layers = load_layers(drawing.resolution, drawing.cache_dir)
        self.num_choices = {factor: len(layers[factor]) for factor in FACTORS}
        self.attributes = draw_factors(numbers, drawing.seed, self.num_choices, drawing.strengths)
        for factor, chosen in self.changes.items():
            self.attributes[factor][:] = chosen

    def images(self, attributes: Attributes) -> ImageSet:
        """The cats of the split, drawn with `attributes`; the split does not depend on the factors that are set."""
        drawing, others = self.drawing, [factor for factor in FACTORS if factor not in self.changes]
        kept = select_cats(attributes, self.num_choices, drawing.split, drawing.held_out_fraction, others)
        classes = {factor: int(attributes[factor][0]) for factor in self.changes}
        key = {"version": cat_render.RENDER_VERSION, "pillow": Image.__version__, "first": int(self.numbers[0]),
               "num_images": len(self.numbers), "classes": classes, **drawing.asked}  # fmt: skip
        draw = partial(draw_cat, attributes, drawing.resolution, drawing.cache_dir)
        return ImageSet(
            drawn_images(draw, key, kept, name=f"cats-{self.task}", **drawing.kept),
            None,
            [f"cat{self.numbers[index]:06d}" for index in kept],
            attributes={name: torch.from_numpy(values[kept]) for name, values in attributes.items()},
            policies={"source": CATS, **_policies(self.task, drawing), **classes},
        )


def _robots(numbers: np.ndarray, task: str, drawing: Drawing) -> ImageSet:
    """The robots among `numbers` that belong to the split, by a hash of their names."""
    layers = robot_render.load_parts(drawing.resolution, drawing.cache_dir)
    framing = draw_factors(numbers, drawing.seed, dict.fromkeys(FACTORS, 1), drawing.strengths)
    attributes = {name: framing[name] for name in NUISANCES}
    for stream, part in enumerate(robot_render.PARTS):
        drawn = uniforms(numbers, drawing.seed, _PARTS + stream)
        attributes[part] = np.floor(drawn * len(layers[part])).astype(np.int64)

    def draw(index: int) -> np.ndarray:
        robot = {name: int(values[index]) for name, values in attributes.items()}
        return robot_render.render_robot(robot, drawing.resolution, layers)

    names = [f"robot{number:06d}" for number in numbers]
    kept = select(names, drawing.split, drawing.held_out_fraction)
    key = {"version": robot_render.RENDER_VERSION, "pillow": Image.__version__, "num_images": len(numbers),
           **drawing.asked}  # fmt: skip
    return ImageSet(
        drawn_images(draw, key, kept, name="robots", **drawing.kept), None, [names[index] for index in kept],
        attributes={name: torch.from_numpy(values[kept]) for name, values in attributes.items()},
        policies={"source": ROBOTS, **_policies(task, drawing)},
    )  # fmt: skip
