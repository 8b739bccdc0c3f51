"""Meanings of the numbers that the training of a GAN logs."""

from collections.abc import Mapping, Sequence

from wplus.core.metric_result import MetricInfo, described
from wplus.training.penalties import Penalty


def gan_infos(penalties: Sequence[Penalty], phases: Mapping[str, str]) -> dict[str, MetricInfo]:
    """Name -> meaning; `phases` are those of a step, name -> network."""
    logits = {"": "Mean", "_std": "Standard deviation", "_sign": "Mean sign"}
    kinds = {"real": "real images, as augmentation shows them", "fake": "generated images"}
    meanings = {
        "train/generator/loss": "The generator's adversarial loss, mean over images.",
        "train/discriminator/loss": "The discriminator's adversarial loss, mean over pairs, with no penalty.",
        "train/path_length/penalty": "(|J^T y| - a)^2, mean over images: how unequal the lengths of paths are.",
        "train/path_length/mean": "a, the running mean of the path lengths |J^T y|.",
        "train/lod": "Level of detail of networks that grow: 0 is the whole resolution, each 1 more half of it.",
        **{f"train/logits/{kind}{suffix}": f"{what} of the discriminator's logits of {images}."
           for kind, images in kinds.items() for suffix, what in logits.items()},
        **{f"train/{penalty.name}/penalty": f"{type(penalty).__doc__} Here without its weight, mean over images."
           for penalty in penalties},
        **{f"train/{phase}/grad_norm": f"Norm of the {network}'s gradient in the phase {phase}."
           for phase, network in phases.items()},
    }  # fmt: skip
    return described(meanings)
