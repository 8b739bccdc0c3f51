"""Anomaly detection: detect images with a factor value unseen in training by how poorly they are reconstructed.

Train without the value (`data.without={digit: [9]}`); held-out images include all values. The checkpoint records
whether the value was left out of training, and so does the protocol.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.stats import rankdata
from torch import Tensor

from wplus.checkpoint import Models
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.stats import Z, proportion_interval
from wplus.errors import UserError, check_number
from wplus.evaluation.coding import draws, encoder_of, of_each, shown
from wplus.evaluation.context import EvalContext, generator_protocol
from wplus.losses.image_pair import ImageDistance
from wplus.losses.pixel import l2
from wplus.losses.variational import kl_to_normal, negative_log_likelihood
from wplus.models.autoencoder import CodeEncoder, Decoder
from wplus.pretrained.seen import marked

AUROC = (
    "Probability that a held-out image of the anomalous value has a higher {} than one of another value: 1 is perfect "
    "separation, 0.5 is chance."
)
DETECTED = (
    "Share of the held-out images of the anomalous value whose {} is above that of {:g} % of those of other values."
)


def anomaly(
    context: EvalContext, *, distance: ImageDistance, factor: str, value: int, num_images: int | None = None,
    quantile: float = 0.95,
) -> Iterator[MetricResult]:  # fmt: skip
    """Yield anomaly_<score>_auroc and anomaly_<score>_detected for the scores pixels, <distance> and, for variational
    autoencoders, nelbo, the negative ELBO.

    Args:
        distance: perceptual distance between an image and its reconstruction.
        factor, value: images with this value of the factor are the anomalies; both come from the data's attributes.
        num_images: number of held-out images; None: all.
        quantile: quantile of the normal images' scores above which an image is classified as an anomaly.
    """
    check_number("quantile", quantile, lowest=0, highest=1)
    encoder, generator = encoder_of(context), context.generator
    is_variational = isinstance(encoder, CodeEncoder) and encoder.variational
    both = (encoder, generator) if isinstance(encoder, CodeEncoder) and isinstance(generator, Decoder) else None

    def results() -> Iterator[MetricResult]:
        some = shown(context, context.held_out, num_images, what="held-out")
        is_odd = some.attributes(factor) == value
        if is_odd.all() or not is_odd.any():
            count = f"{int(is_odd.sum())} of {len(is_odd)}"
            raise UserError(f"Some but not all held-out images must have {factor}={value}, got {count}.")
        scored = distance.to(context.device)

        def measure(images: Tensor, labels: Tensor, digests: list[str]) -> list[Tensor]:
            made = generator.synthesis(encoder(images), noise_mode="const")
            found = [l2(made, images), scored(made, images)]
            if both is not None and is_variational:
                found.append(negative_elbo(*both, images, digests, context.seed))
            return found

        named = marked(distance.name, distance.provenance, context.models.saw)
        scores = of_each(context, some, measure, "Scoring (images)")
        words = {"pixels": "squared error of its reconstruction",
                 named: f"distance {distance.name} from its reconstruction", "nelbo": "negative ELBO"}  # fmt: skip
        protocol = generator_protocol(context.models) | some.protocol | {
            "factor": factor, "value": value, "num_anomalies": int(is_odd.sum()), "seed": context.seed,
            "left_out_of_training": value in left_out(context.models).get(factor, []),
        }  # fmt: skip
        for (name, what), each in zip(words.items(), scores, strict=False):
            yield from _of_score(name, what, each[is_odd], each[~is_odd], quantile, protocol)

    return results()


def _of_score(
    name: str, what: str, odd: np.ndarray, normal: np.ndarray, quantile: float, protocol: dict[str, Any]
) -> Iterator[MetricResult]:
    """Yield how well scores separate odd images (M,) from normal ones (N,)."""
    area, interval = auroc(odd, normal)
    info = MetricInfo(meaning=AUROC.format(what), direction="higher")
    own = protocol | {"interval": "95 %, DeLong"}
    yield MetricResult.of(info, f"anomaly_{name}_auroc", area, protocol=own, interval=interval)
    share = float((odd > np.quantile(normal, quantile)).mean())
    info = MetricInfo(meaning=DETECTED.format(what, 100 * quantile), direction="higher")
    own = protocol | {"quantile": quantile, "interval": "95 %, Wilson's score interval, threshold as given"}
    interval = proportion_interval(share, len(odd))
    yield MetricResult.of(info, f"anomaly_{name}_detected", share, protocol=own, interval=interval)


def left_out(models: Models) -> dict[str, list[int]]:
    """Values left out of the training images according to the checkpoint, {attribute: [value, ...]}."""
    found: dict[str, list[int]] = (models.metadata.get("data") or {}).get("without") or {}
    return found


def negative_elbo(encoder: CodeEncoder, decoder: Decoder, images: Tensor, digests: list[str], seed: int) -> Tensor:
    """Negative ELBO (N,) in nats from one draw of the code; a conditional model uses the label the encoder predicts."""
    posterior = encoder.posterior(images)
    noise = draws(seed, digests, 1, decoder.code_dim, "anomaly")[0].to(images)
    outputs = decoder.synthesis.outputs(decoder.ws(posterior.code(noise), posterior.label()))
    return negative_log_likelihood(decoder, outputs, images) + kl_to_normal(posterior).sum(dim=1)


def auroc(odd: np.ndarray, normal: np.ndarray) -> tuple[float, tuple[float, float]]:
    """P(odd > normal) + P(equal) / 2 for scores (M,) and (N,), with the interval of DeLong et al. 1988.

    The variance is computed from ranks, as that of each side's mean placement within the other (Sun and Xu 2014).
    """
    m, n = len(odd), len(normal)
    every = rankdata(np.concatenate([odd, normal]))
    of_odd = (every[:m] - rankdata(odd)) / n  # share of normal scores below each odd one, ties counting half
    of_normal = 1 - (every[m:] - rankdata(normal)) / m
    area = float(of_odd.mean())
    variance = sum(side.var(ddof=1) / len(side) for side in (of_odd, of_normal) if len(side) > 1)
    reach = Z * float(np.sqrt(variance))
    return area, (max(0.0, area - reach), min(1.0, area + reach))
