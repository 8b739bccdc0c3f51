"""Probes of codes: predict an image's true factors from its code with a linear classifier and with nearest neighbours.

Both are fitted to codes of training images and evaluated on held-out ones. The encoder has not seen the factors, unless
it was trained with labels.
"""

import warnings
from collections.abc import Iterator, Sequence

import numpy as np

from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.core.stats import proportion_interval
from wplus.errors import UserError, check_number
from wplus.evaluation.coding import Shown, codes, encoder_of, shown
from wplus.evaluation.context import EvalContext, generator_protocol
from wplus.pretrained.attributes import known_factors

LINEAR = MetricInfo(
    meaning="Share of held-out images whose factor a linear classifier predicts from the code; `share_of_largest` of "
    "the protocol is chance level.", direction="higher",
)  # fmt: skip
NEIGHBOURS = MetricInfo(
    meaning="Share of held-out images whose factor is that of most of the nearest training codes; `share_of_largest` "
    "of the protocol is chance level.", direction="higher",
)  # fmt: skip


def representation(
    context: EvalContext, *, factors: Sequence[str] | None = None, num_train: int | None = 5000,
    num_images: int | None = None, num_neighbours: int = 5, regularisation: float = 1.0, max_iterations: int = 500,
) -> Iterator[MetricResult]:  # fmt: skip
    """Yield linear_probe_<factor> and knn_<factor> for every factor.

    Args:
        factors: true factors of the images; None: all that have 2 to 20 values, or the labels.
        num_train, num_images: number of training and held-out images; None: all.
        num_neighbours: neighbours by Euclidean distance; ties in the vote go to the nearer ones.
        regularisation: C of the logistic regression, on codes standardised to mean 0 and standard deviation 1.
    """
    check_number("num_neighbours", num_neighbours, lowest=1, whole=True)
    check_number("max_iterations", max_iterations, lowest=1, whole=True)
    encoder_of(context)

    def results() -> Iterator[MetricResult]:
        train = shown(context, context.real, num_train, what="training")
        test = shown(context, context.held_out, num_images, what="held-out")
        a, b = codes(context, train), codes(context, test)
        targets = {name: (values, of_shown(test, name)) for name, values in of_all(train, factors).items()}
        shared = generator_protocol(context.models) | {
            "data": train.images.fingerprint, "num_train": len(a), "held_out": test.images.fingerprint,
            "num_images": len(b), "code_dim": a.shape[1], "interval": "95 %, Wilson's score interval over images",
        }  # fmt: skip
        near = nearest(a, b, num_neighbours)
        for name, (known, true) in targets.items():
            largest = float(np.unique(true, return_counts=True)[1].max() / len(true))
            protocol = shared | {"factor": name, "share_of_largest": largest}
            linear = float((linear_probe(a, known, b, regularisation, max_iterations) == true).mean())
            own = protocol | {"regularisation": regularisation, "max_iterations": max_iterations}
            yield MetricResult.of(LINEAR, f"linear_probe_{name}", linear, protocol=own,
                                  interval=proportion_interval(linear, len(b)))  # fmt: skip
            voted = float((votes(known[near]) == true).mean())
            yield MetricResult.of(NEIGHBOURS, f"knn_{name}", voted, protocol=protocol | {"k": num_neighbours},
                                  interval=proportion_interval(voted, len(b)))  # fmt: skip

    return results()


def of_all(some: Shown, factors: Sequence[str] | None) -> dict[str, np.ndarray]:
    """Factor -> values (N,) of these images, for the given factors or all."""
    return {name: values[some.order.numpy()] for name, values in known_factors(some.images, factors).items()}


def of_shown(some: Shown, name: str) -> np.ndarray:
    """Values (N,) of one factor, however many distinct values occur among few images."""
    if some.images.attributes:
        return some.attributes(name).astype(str)
    if some.images.labels is None:
        raise UserError(f"The held-out images have no labels, which factor '{name}' needs.")
    return known_factors(some.images, [name])[name][some.order.numpy()]


def linear_probe(
    codes_a: np.ndarray, known: np.ndarray, codes_b: np.ndarray, regularisation: float, max_iterations: int
) -> np.ndarray:
    """Fit a logistic regression to codes (N, D) and values (N,), and predict the values (M,) of codes (M, D)."""
    from sklearn.exceptions import ConvergenceWarning  # slow to import, needed here only
    from sklearn.linear_model import LogisticRegression

    mean, deviation = codes_a.mean(axis=0), codes_a.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    model = LogisticRegression(C=regularisation, max_iter=max_iterations)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of iterations is part of the protocol
        model.fit((codes_a - mean) / deviation, known)
    return model.predict((codes_b - mean) / deviation)


def nearest(codes_a: np.ndarray, codes_b: np.ndarray, k: int) -> np.ndarray:
    """Indices (M, k) of the codes (N, D) nearest to each of the codes (M, D), nearest first."""
    if k > len(codes_a):
        raise UserError(f"num_neighbours must be at most the {len(codes_a)} training images, got {k}.")
    squares = (codes_b**2).sum(1)[:, None] + (codes_a**2).sum(1) - 2 * codes_b @ codes_a.T
    return np.argsort(squares, axis=1, kind="stable")[:, :k]


def votes(values: np.ndarray) -> np.ndarray:
    """The most frequent value of each row (M, k); ties go to the one that comes first."""
    counts = (values[:, :, None] == values[:, None]).sum(axis=2)  # (M, k)
    return np.take_along_axis(values, counts.argmax(axis=1)[:, None], axis=1)[:, 0]
