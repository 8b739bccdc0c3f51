"""Pivotal tuning: a code first, then the generator's weights, for one image alone (Roich et al. 2021, 2106.05744).

What is saved per image is its code and a low-rank change of the weights (`weight_delta`); the code alone shows what
the generator makes of it untuned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from wplus.checkpoint import fingerprint
from wplus.core.runtime import now
from wplus.errors import UserError
from wplus.inversion.objective import Objective, weights_by_name
from wplus.inversion.optimize import optimize
from wplus.inversion.pti_locality import WEIGHTS, Locality, Others
from wplus.inversion.pti_tuning import Schedule, Tuned, Tuner
from wplus.inversion.result import Callback, Inversion, Progress
from wplus.latents.latent import Space, to_ws
from wplus.latents.weight_delta import WeightDelta, code_digest
from wplus.losses.image_pair import ImageDistance
from wplus.losses.perceptual import PerceptualDistance
from wplus.losses.pixel import L2


def pivotal(
    generator: Any,
    targets: Tensor,
    *,
    space: Space,
    perceptual: PerceptualDistance | None,
    seed: int = 0,
    names: Sequence[str] | None = None,
    labels: Tensor | None = None,
    callback: Callback | None = None,
    encoder: Any = None,
    masks: Tensor | None = None,
    losses: Mapping[str, ImageDistance] | None = None,
    pivot: Callable[..., Inversion] = optimize,
    steps: int = 350,
    lr: float = 1e-3,
    rank: int = 4,
    weights: Mapping[str, float] | None = None,
    stop_at: float | None = 0.06,
    locality_interval: int | None = 4,
    locality_weights: Mapping[str, float] | None = None,
    locality_alpha: float = 30.0,
    locality_psi: float = 0.5,
    num_others: int = 16,
    others_psi: float = 0.7,
) -> Inversion:
    """Images -> codes and, in `deltas`, a `WeightDelta` each. The images are those of code and delta together.

    Every image has a generator of its own, so that they are tuned one after the other. The generator that was given
    stays as it is.

    The first arguments are those of every inverter, see `wplus.inversion.result`. The others:

    pivot              the inverter that finds the codes, with its options bound
    steps, lr          at most so many updates, by Adam at this rate
    rank               of the change of each weight matrix
    weights            of the image terms, by name, see `objective.weights_by_name`
    stop_at            perceptual distance at which an image is done; None: never, all steps are made
    locality_interval  steps from one to the next that also hold another picture; None: no locality term
    locality_weights   of its l2 and perceptual part; those not named are as published, 0.1
    locality_alpha     how far from the pivot the held pictures are, over all layers together
    locality_psi       truncation of the samples in whose direction they are
    num_others         seeded samples that say how far other pictures moved: their mean distances are the scores
                       `locality_l2` and `locality_` with the perceptual's name; 0: not measured
    others_psi         truncation of these samples
    """
    schedule, named_weights = Schedule(steps, lr, rank, stop_at), weights_by_name(weights, losses or ())
    if stop_at is not None and not named_weights["perceptual"]:
        raise UserError(f"stop_at={stop_at} is a perceptual distance: give that term a weight, or set stop_at=null.")
    locality = None
    if locality_interval is not None:
        parts = {**WEIGHTS, **(locality_weights or {})}
        locality = Locality(perceptual, parts, locality_alpha, locality_psi, locality_interval)
    names = [str(index) for index in range(len(targets))] if names is None else list(names)
    compared = {"perceptual": perceptual, "losses": losses, "weights": named_weights}
    objectives = _objectives(generator, targets, masks, **compared)
    watch = _Watch(callback, len(names), steps)
    found = pivot(
        generator, targets, space=space, perceptual=perceptual, seed=seed, names=names, labels=labels,
        callback=watch.pivot if callback else None, encoder=encoder, masks=masks, losses=losses,
    )  # fmt: skip
    watch.begin_tuning(found.images)
    pivots, tuned, seconds = _pivots(found, space, generator, labels), [], []
    for row, name in enumerate(names):
        began = now(targets.device)
        tuner = Tuner(objectives[row], **pivots[row], locality=locality, seed=seed, name=name)
        tuned.append(tuner.run(schedule, watch.tuning(row)))
        seconds.append(now(targets.device) - began)
    deltas = _deltas(tuned, found.codes, names, generator)
    return Inversion(
        codes=found.codes,
        images=torch.cat([one.image for one in tuned]),
        noise=found.noise,
        history=_joined(found.history, [one.history for one in tuned]),
        seconds=found.seconds + torch.tensor(seconds),
        deltas=deltas,
        scores=_moved(generator, deltas, perceptual, num=num_others, psi=others_psi, seed=seed),
    )


def _objectives(generator: Any, targets: Tensor, masks: Tensor | None, **compared: Any) -> list[Objective]:
    """The loss of each image alone; UserError for what does not fit."""
    own_masks = [None] * len(targets) if masks is None else masks.to(targets.device).split(1)
    pairs = zip(targets.split(1), own_masks, strict=True)
    return [Objective(generator, target, space="w+", masks=mask, **compared) for target, mask in pairs]


@torch.no_grad()
def _pivots(found: Inversion, space: Space, generator: Any, labels: Tensor | None) -> list[dict[str, Any]]:
    """Styles (1, num_ws, w_dim) and noise of each image."""
    labels = None if labels is None else labels.to(found.codes.device)
    ws = to_ws(found.codes, space, generator, labels=labels).split(1)
    layers = [] if found.noise is None else [layer.split(1) for layer in found.noise]
    noises = zip(*layers, strict=True) if layers else [None] * len(ws)
    return [{"ws": own_ws, "noise": own_noise} for own_ws, own_noise in zip(ws, noises, strict=True)]


def _deltas(tuned: Sequence[Tuned], codes: Tensor, names: Sequence[str], generator: Any) -> list[WeightDelta]:
    ours = fingerprint(generator)
    return [
        WeightDelta(one.changes, generator=ours, latent=code_digest(code), metadata={"image": name})
        for one, code, name in zip(tuned, codes, names, strict=True)
    ]


def _moved(
    generator: Any, deltas: Sequence[WeightDelta], perceptual: PerceptualDistance | None, *, num: int, **sampling: Any
) -> dict[str, Tensor]:
    """How far each delta moved the pictures of other codes: score -> (N,)."""
    if num < 1:
        return {}
    terms: dict[str, ImageDistance] = {"l2": L2(), **({} if perceptual is None else {perceptual.name: perceptual})}
    others = Others(generator, terms, num=num, **sampling)
    moved = [others.distances(delta.applied(generator)) for delta in deltas]
    return {f"locality_{name}": torch.stack([one[name] for one in moved]) for name in terms}


def _joined(pivot: Mapping[str, Tensor], tuning: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """History of the pivot (steps, N), then that of the tuning; NaN where one of them lacks a term."""
    tuned = {name: torch.stack([one[name] for one in tuning], dim=1) for name in tuning[0]}
    lengths = [len(next(iter(terms.values()), ())) for terms in (pivot, tuned)]
    absent = [torch.full((length, len(tuning)), float("nan")) for length in lengths]
    names = [*tuned, *(name for name in pivot if name not in tuned)]
    return {name: torch.cat([pivot.get(name, absent[0]), tuned.get(name, absent[1])]) for name in names}


class _Watch:
    """Tells the caller of both phases as one: a step is an evaluation of one image, of which one of the pivot is N."""

    def __init__(self, callback: Callback | None, num: int, steps: int) -> None:
        self._callback, self._num, self._tuning_steps = callback, num, steps
        self._pivot_steps, self._loss, self._images = 0, torch.zeros(num), torch.empty(0)

    def pivot(self, progress: Progress) -> None:
        self._pivot_steps, self._loss = progress.num_steps, progress.loss
        self._tell(progress.step * self._num, progress.loss, progress.images)

    def begin_tuning(self, images: Tensor) -> None:
        self._images, self._loss = images.clone(), self._loss.clone().to(images.device)

    def tuning(self, row: int) -> Callable[[int, Tensor, Tensor], None]:
        """What hears of the steps of one image."""

        def heard(step: int, loss: Tensor, image: Tensor) -> None:
            if self._callback is None:
                return
            self._loss[row], self._images[row] = loss[0], image[0]
            done = self._pivot_steps * self._num + row * self._tuning_steps + step
            self._tell(done, self._loss.clone(), self._images.clone())

        return heard

    def _tell(self, done: int, loss: Tensor, images: Tensor) -> None:
        num_steps = (self._pivot_steps + self._tuning_steps) * self._num
        self._callback(Progress(done, num_steps, loss, images))
