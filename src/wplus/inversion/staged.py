"""Inversion in two stages: first in w or w+, then, starting from that result, in the requested space.

The usual way to search S and F/W+ (BDInvert, Kang et al. 2021; Barbershop, Zhu et al. 2021): in a high-dimensional
space, a search from the mean goes astray, while one from the best w+ stays near the generator's images.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import torch

from wplus.errors import UserError
from wplus.inversion.optimize import optimize
from wplus.inversion.result import Inversion
from wplus.inversion.task import Callback, InversionTask, Inverter, Progress, check_inverter, describe, for_spaces
from wplus.latents.space import LatentSpace, Space, space_named


@for_spaces(lambda space, options: _check_space(space, options))
@torch.no_grad()
def staged(
    task: InversionTask,
    *,
    first: Inverter = optimize,  # in w+, or in w if the space has one vector for all layers
    second: Inverter = optimize,  # in the requested space; its term `delta` is the distance from the first result
) -> Inversion:
    """Images -> latents of the second search; its history is appended to that of the first. UserError in z and z+."""
    before = replace(task, space=first_space(task.latent_space), start=None)
    steps = [_num_steps(each) for each in (first, second)]
    found = first(replace(before, callback=_heard(task.callback, 0, sum(steps))))
    starts = [task.latent_space.from_ws(part.to_ws(found.latents[rows]), task.generator)
              for rows, part in before.chunks()]  # fmt: skip
    last = second(replace(task, start=task.join(starts), callback=_heard(task.callback, steps[0], sum(steps))))
    terms = [name for name in found.history if name in last.history]
    history = {name: torch.cat([found.history[name], last.history[name]]) for name in terms}
    return replace(last, history=history, seconds=found.seconds + last.seconds)


def first_space(space: LatentSpace) -> Space:
    """w+, or w if the space has one vector for all layers; UserError if these cannot be mapped to the space."""
    name = "w+" if space.of_layers else "w"
    if not space.reaches(space_named(name)):
        raise UserError(f"inverter=staged starts in {name}, which cannot be mapped to {space}: choose another space.")
    return name


def _check_space(space: LatentSpace, options: Mapping[str, Any]) -> None:
    check_inverter(options.get("first", optimize), space_named(first_space(space)))
    check_inverter(options.get("second", optimize), space)


def _num_steps(search: Inverter) -> int:
    options = describe(search)
    return int(options.get("num_steps", 1)) * (1 + int(options.get("restarts", 0)))


def _heard(callback: Callback | None, before: int, num_steps: int) -> Callable[[Progress], object] | None:
    """A callback that reports the steps of one search as steps of both."""
    if callback is None:
        return None
    return lambda told: callback(told._replace(step=before + told.step, num_steps=num_steps))
