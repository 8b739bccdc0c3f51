"""Classification accuracy score (Ravuri and Vinyals 2019, arXiv:1905.10887): training on generated data

A classifier is trained on generated images only, labelled with the classes they were conditioned on, and evaluated on
real images that neither it nor the generator has seen. For comparison, classifiers are also trained on few real images,
and on these together with the generated ones, i.e. with the generator as data augmentation.

The published score uses a ResNet-50 on ImageNet; scores of the small net of `wplus classifier` have their own name.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wplus.core.images import to_float
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.stats import bootstrap_mean, proportion_interval
from wplus.data import ImageSet
from wplus.errors import UserError, check_number
from wplus.evaluation.context import EvalContext, generator_protocol, split_of
from wplus.evaluation.labelled import Labelled, check_conditional, made, real_in_order
from wplus.evaluation.sampler import Sampling
from wplus.models.generator import NoiseMode
from wplus.pretrained.attribute_classifier import AttributeNet
from wplus.pretrained.attribute_training import Schedule, learning, new_optimizer, seeded_net

MAX_PX = 64  # largest input of the classifier

GENERATED = MetricInfo(
    meaning="Share of held-out images classified correctly by a small classifier trained only on generated images.",
    direction="higher",
)  # fmt: skip
REAL = MetricInfo(
    meaning="Share of held-out images classified correctly by a small classifier trained on this many real images.",
    direction="higher",
)  # fmt: skip
BOTH = MetricInfo(
    meaning="Share of held-out images classified correctly by a small classifier trained on this many real images and "
    "on generated ones, half of each batch.", direction="higher",
)  # fmt: skip
GAIN = MetricInfo(
    meaning="Gain in accuracy on held-out images from adding generated images to this many real ones; below 0 they do "
    "harm.", direction="higher",
)  # fmt: skip


def cas(
    context: EvalContext, *, num_generated: int = 10_000, num_real: Sequence[int] = (100, 1000, 10_000),
    kimg: float = 30.0, width: int = 32, truncation_psi: float = 1.0, truncation_cutoff: int | None = None,
    noise_mode: NoiseMode = "const",
) -> Iterator[MetricResult]:  # fmt: skip
    """Yield cas_small and, for every number of real images, cas_small_real_N, cas_small_both_N and cas_small_gain_N.

    Args:
        num_generated: generated images to train on, equally many of each class.
        num_real: numbers of real images to train on, those with the smallest digests; capped at all there are.
        kimg: thousands of images each classifier is trained for, whatever its data.
        width: width of the classifier, see `AttributeNet`.
        truncation_psi, truncation_cutoff, noise_mode: how the generator is sampled.
    """
    check_number("num_generated", num_generated, lowest=1, whole=True)
    for number in num_real:
        check_number("num_real", number, lowest=1, whole=True)
    check_conditional(context)
    _net(context, width)
    schedule, sampling = Schedule(kimg=kimg, seed=context.seed), Sampling(truncation_psi, truncation_cutoff, noise_mode)

    def results() -> Iterator[MetricResult]:
        assert context.real is not None
        test, real = _held_out(context), real_in_order(context.real, max([*num_real, 1]), max_px=MAX_PX)
        generated = made(context, num_generated, sampling, max_px=MAX_PX)
        nums = sorted({min(number, len(context.real)) for number in num_real})
        shared = _protocol(context, context.real, width) | asdict(sampling) | asdict(schedule) | {
            "num_generated": num_generated, "num_images": len(test.classes)
        }  # fmt: skip

        def right(*parts: Labelled) -> np.ndarray:
            return _right(context, parts, test, schedule, width)

        def result(info: MetricInfo, name: str, hits: np.ndarray, **more: Any) -> MetricResult:
            value = float(hits.mean())
            return MetricResult.of(info, name, value, protocol=shared | more,
                                   interval=proportion_interval(value, len(hits)))  # fmt: skip

        yield result(GENERATED, "cas_small", right(generated))
        for num in nums:
            alone, both = right(real.first(num)), right(real.first(num), generated)
            yield result(REAL, f"cas_small_real_{num}", alone, num_real=num)
            yield result(BOTH, f"cas_small_both_{num}", both, num_real=num)
            gain = bootstrap_mean(both - alone, seed=context.seed)
            protocol = shared | {"num_real": num, "interval": "95 %, percentile bootstrap over held-out images, paired"}
            yield MetricResult.of(GAIN, f"cas_small_gain_{num}", gain.value, protocol=protocol, interval=gain.interval)

    return results()


def _protocol(context: EvalContext, real: ImageSet, width: int) -> dict[str, Any]:
    """Protocol entries that do not depend on the classifier's training data."""
    return generator_protocol(context.models) | {
        "data": real.fingerprint, "split": split_of(real), "labels": "every class equally often",
        "num_classes": context.generator.c_dim, "width": width, "input": f"averaged down to at most {MAX_PX} px",
        "interval": "95 %, Wilson's score interval over images",
    }  # fmt: skip


def _held_out(context: EvalContext) -> Labelled:
    """Return the held-out images with their classes; UserError if there are none or they have no labels."""
    if context.held_out is None or len(context.held_out) == 0:
        raise UserError("Classification accuracy is measured on held-out images, and there are none.")
    return real_in_order(context.held_out, len(context.held_out), max_px=MAX_PX)


def _right(
    context: EvalContext, parts: Sequence[Labelled], test: Labelled, schedule: Schedule, width: int
) -> np.ndarray:
    """Train a classifier on the parts in equal shares; return 1 per correctly classified test image, else 0: (M,)."""
    pool = Labelled(torch.cat([part.images for part in parts]), torch.cat([part.classes for part in parts]))
    rows = balanced([len(part.classes) for part in parts])
    net = _net(context, width)
    optimizer = new_optimizer(net, schedule)
    losses = learning(net, optimizer, lambda numbers: pool.images[rows[numbers]], pool.classes[rows][:, None], schedule)
    for _ in context.progress(losses, "Learning classes (steps)", total=schedule.num_steps):
        pass
    return _hits(net.eval(), test, context.device)


def _net(context: EvalContext, width: int) -> AttributeNet:
    """Create a classifier of the generator's classes; UserError for an invalid width."""
    generator = context.generator
    size = {"input_size": min(generator.resolution, MAX_PX), "img_channels": generator.img_channels, "width": width}
    return seeded_net(context.seed, num_classes=[generator.c_dim], **size).to(context.device)


def balanced(nums: Sequence[int]) -> Tensor:
    """Indices into concatenated parts of sizes `nums`, with each part repeated up to the size of the largest."""
    starts, most = np.cumsum([0, *nums[:-1]]), max(nums)
    return torch.cat([int(start) + torch.arange(most) % num for start, num in zip(starts, nums, strict=True)])


@torch.no_grad()
def _hits(net: torch.nn.Module, test: Labelled, device: torch.device | str) -> np.ndarray:
    named = [net(to_float(part.to(device))).argmax(dim=1).cpu() for part in test.images.split(256)]
    return (torch.cat(named) == test.classes).double().numpy()
