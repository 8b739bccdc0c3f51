"""Inversion by an encoder: in one pass, or in several passes of refinement (ReStyle)."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from wplus.core.runtime import float32_convolutions, now
from wplus.errors import UserError, check_number
from wplus.inversion.objective import LOSS_WEIGHTS, all_loss_weights, objectives
from wplus.inversion.result import Inversion, Record
from wplus.inversion.task import InversionTask, Progress, for_spaces, needs_encoder
from wplus.latents.space import LatentSpace, Space, space_named, space_of
from wplus.models.encoders.base import Encoder
from wplus.models.generator import GeneratorNetwork

NUM_PASSES = 5  # of an iterative encoder (ReStyle, Alaluf et al. 2021, section 4)


@needs_encoder
@for_spaces(lambda space, options: _check_space(space))
def encode(
    task: InversionTask,
    *,
    loss_weights: Mapping[str, float] = LOSS_WEIGHTS,  # of the terms in the history; they do not affect the latents
) -> Inversion:
    """Images -> latents by one pass of the encoder, in w or w+ or mapped from there. The result is deterministic: seed,
    names and labels do not matter.

    An iterative encoder only makes its first pass, see `restyle` for more. `seconds` include encoder and generator.
    """
    return _invert_by_passes(task, num_passes=1, return_best=False, loss_weights=loss_weights)


@needs_encoder
@for_spaces(lambda space, options: _check_space(space))
def restyle(
    task: InversionTask,
    *,
    num_passes: int = NUM_PASSES,  # passes of the encoder
    loss_weights: Mapping[str, float] = LOSS_WEIGHTS,  # of the terms of the loss
    return_best: bool = True,  # return the pass with the lowest loss; false: the last one (ReStyle)
) -> Inversion:
    """Images -> latents in w or w+: w = w + E(target, G(w)), starting from the mean latent, `num_passes` times.

    UserError for an encoder that does not take its own reconstruction as input.
    """
    check_number("num_passes", num_passes, lowest=1, whole=True)
    if task.encoder is not None and not task.encoder.is_iterative:
        raise UserError(
            "inverter=restyle needs an encoder that sees its own reconstruction, got one that does not: train with "
            "encoder.is_iterative=true, or use inverter=encoder or inverter=hybrid."
        )
    return _invert_by_passes(task, num_passes=num_passes, return_best=return_best, loss_weights=loss_weights)


@float32_convolutions()
@torch.no_grad()
def _invert_by_passes(
    task: InversionTask, *, num_passes: int, return_best: bool, loss_weights: Mapping[str, float]
) -> Inversion:
    """Run and measure all passes. Time spent measuring counts only if it decides which pass is returned."""
    _check_space(task.latent_space)
    encoder, num, seconds, asked = check_encoder(task.encoder, task.generator, task.space), len(task.images), 0.0, task
    task = answering(task)
    weighted = objectives(task, all_loss_weights(task, loss_weights))
    chunks = [(passes(objective.task, num_passes), objective) for _, objective in weighted]
    mean = encoder.latent_avg.expand(num, -1, -1)
    record = Record(num_passes, num, [mean[:, 0] if task.space == "w" else mean, task.images])
    for step in range(1, num_passes + 1):
        began = now(task.device)
        found = [next(answers) for answers, _ in chunks]
        passed = now(task.device)
        latents, images = (task.join(parts) for parts in zip(*found, strict=True))
        terms = [each.terms(image, [latent]) for (_, each), (latent, image) in zip(chunks, found, strict=True)]
        joined = {name: task.join([each[name] for each in terms]) for name in terms[0]}
        record.add(joined, [latents, images])
        seconds += (now(task.device) if return_best else passed) - began
        if task.callback is not None:
            task.callback(Progress(step, num_passes, joined["loss"], images))
    latents, images = record.best if return_best else (latents, images)
    history = {name: rows.cpu() for name, rows in record.finished_history().items()}
    if task.space != asked.space:
        latents = task.join([_in_space(latents[rows], part, asked.latent_space) for rows, part in task.chunks()])
    return Inversion(latents, images, None, history, torch.full((num,), seconds / num))


@torch.no_grad()
def passes(task: InversionTask, num_passes: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Latents (N, ...) and their images (N, C, R, R) after each pass of the task's encoder.

    An iterative encoder takes the target and its current reconstruction, initially the image of the mean latent, and
    corrects the latent (ReStyle, Alaluf et al. 2021, https://arxiv.org/abs/2104.02699). Any other needs one pass.

    With masks, each target is blended by its mask with the image of the mean latent.
    """
    encoder, targets, masks = task.encoder, task.images, task.masks
    assert encoder is not None
    ws, image = encoder.latent_avg.expand(len(targets), -1, -1), targets
    if encoder.is_iterative or masks is not None:
        image = task.generator.synthesis(ws, noise_mode="const")
    if masks is not None:
        targets = targets * masks + image * (1 - masks)
    for _ in range(num_passes):
        ws = ws + encoder.offsets(torch.cat([targets, image], dim=1)) if encoder.is_iterative else encoder(targets)
        latents = ws[:, 0] if task.space == "w" else ws
        ws = task.to_ws(latents)
        image = task.generator.synthesis(ws, noise_mode="const")
        yield latents, image


def encode_chunks(task: InversionTask) -> Tensor:
    """Latents (N, ...) predicted by the encoder; an iterative one makes `NUM_PASSES` passes."""
    encoder = check_encoder(task.encoder, task.generator, task.space)
    num_passes = NUM_PASSES if encoder.is_iterative else 1
    parts = [part for _, part in answering(task).chunks()]
    found = [list(passes(part, num_passes))[-1][0] for part in parts]
    in_space = zip(found, parts, strict=True)
    return task.join([_in_space(latents, part, task.latent_space) for latents, part in in_space])


def _check_space(space: LatentSpace) -> None:
    if not space.keeps_images:
        raise UserError(f"In {space} an encoder's prediction is only a starting point: choose inverter=hybrid.")


def answering(task: InversionTask) -> InversionTask:
    """The task in the space that its encoder predicts: its own, or else one whose latents can be mapped to it."""
    assert task.encoder is not None
    return replace(task, space=answer_space(task.encoder, task.latent_space) or task.space, start=None)


def answer_space(encoder: Encoder, space: LatentSpace) -> Space | None:
    """The space in which an encoder predicts latents for `space`; None if none of its spaces can be mapped there."""
    names = [name for name in encoder.spaces[::-1] if space.reaches(space_named(name))]
    return str(space) if str(space) in names else next(iter(names), None)


def _in_space(latents: Tensor, task: InversionTask, space: LatentSpace) -> Tensor:
    """Latents (N, ...) of the task's space, mapped without loss to another space."""
    return latents if task.space == str(space) else space.from_ws(task.to_ws(latents), task.generator)


def check_encoder(encoder: Encoder | None, generator: GeneratorNetwork, space: Space) -> Encoder:
    """The encoder; UserError unless there is one for such a generator whose predictions can be mapped to the space."""
    if encoder is None:
        raise UserError("This inverter needs an encoder, and the checkpoint has none: train one for its generator.")
    if answer_space(encoder, space_of(space, generator)) is None:
        raise UserError(f"space must be one of {', '.join(encoder.spaces)}, which the encoder predicts, or one that "
                        f"these can be mapped to, got '{space}'.")  # fmt: skip
    theirs = (encoder.num_ws, encoder.w_dim, encoder.img_channels)
    ours = (generator.num_ws, generator.w_dim, generator.img_channels)
    if theirs != ours:
        raise UserError(f"The encoder's (num_ws, w_dim, img_channels) must be the generator's {ours}, got {theirs}.")
    return encoder
