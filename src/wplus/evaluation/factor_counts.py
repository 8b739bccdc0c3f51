"""Counts of a factor's values as a classifier names them, judged by what it misnames."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import poisson

NUM_STEPS = 200  # of expectation maximisation
SURE, DEVIATIONS = 0.999, 3.0  # what misnamed images alone may give: a quantile of counts, errors of their mean


@dataclass(frozen=True)
class Factor:
    """A factor in the data, and how well the classifier knows it.

    name       of the factor
    values     names of its K values
    shares     (K,) of the real images
    confusion  (K, K): C[i, j], of images of value i the share that is called j; one image is added to each row, for an
               error that did not occur among some may occur among many
    spread     (K, K): variance of each entry, for it is estimated from few images
    accuracy   share of the images that are named right
    """

    name: str
    values: Sequence[str]
    shares: np.ndarray
    confusion: np.ndarray
    spread: np.ndarray
    accuracy: float

    @property
    def expected(self) -> np.ndarray:
        """(K,): how often each value would be named if the generated images were like the data."""
        return self.shares @ self.confusion

    def corrected(self, counts: np.ndarray) -> np.ndarray:
        """(..., K): the shares p that make counts (..., K) most likely, counts ~ p C, by expectation maximisation."""
        q = counts / counts.sum(axis=-1, keepdims=True)
        p = np.full(q.shape, 1 / q.shape[-1])
        for _ in range(NUM_STEPS):
            p = p * (q / (p @ self.confusion) @ self.confusion.T)
        return p

    def present(self, counts: np.ndarray) -> np.ndarray:
        """(..., K) bool of counts (..., K): named more often than misnamed images of the others would be."""
        true = counts.sum(axis=-1, keepdims=True) * self.corrected(counts)
        misnamed = true @ self.confusion - true * np.diag(self.confusion)
        variance = true**2 @ self.spread - true**2 * np.diag(self.spread)
        return counts > most(misnamed, variance)

    def chi2(self, counts: np.ndarray) -> float:
        """sum (q - e)^2 / e of the shares q against the expected ones: the same instrument on both sides."""
        expected, found = self.expected, counts / counts.sum()
        return float(((found - expected) ** 2 / expected).sum())


def factor_of(name: str, values: Sequence[str], real: np.ndarray, known: np.ndarray, named: np.ndarray) -> Factor:
    """From the numbers of the true values of the real images, and of known images beside what these are called."""
    num = len(values)
    counts = np.zeros((num, num))
    np.add.at(counts, (known[known >= 0], named[known >= 0]), 1)  # below 0: a value that the classifier does not know
    shares = np.bincount(real, minlength=num) / len(real)
    confusion = (counts + 1 / num) / (counts.sum(axis=1, keepdims=True) + 1)
    spread = confusion * (1 - confusion) / (counts.sum(axis=1, keepdims=True) + 2)  # Dirichlet's
    return Factor(name, list(values), shares, confusion, spread, float(np.trace(counts) / counts.sum()))


def most(misnamed: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """What a count of misnamed images surely does not exceed, of which so many are expected, give or take."""
    return poisson.ppf(SURE, misnamed + DEVIATIONS * np.sqrt(np.maximum(variance, 0)))


def covered(joint: np.ndarray, a: Factor, b: Factor) -> np.ndarray:
    """(K_a, K_b) bool: pairs that are named in more images (joint, (K_a, K_b)) than misnamed ones would be."""
    true, q = np.full(joint.shape, 1 / joint.size), joint / joint.sum()
    for _ in range(NUM_STEPS):  # as in `corrected`
        true = true * (a.confusion @ (q / (a.confusion.T @ true @ b.confusion)) @ b.confusion.T)
    true = joint.sum() * true
    misnamed = _elsewhere(true, a.confusion, b.confusion)
    variance = _elsewhere(true**2, a.spread, b.confusion**2) + _elsewhere(true**2, a.confusion**2, b.spread)
    return joint > most(misnamed, variance)


def _elsewhere(joint: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """sum over (i, j) of joint[i, j] a[i, k] b[j, l], without (i, j) = (k, l): (K_a, K_b)."""
    return a.T @ joint @ b - joint * np.outer(np.diag(a), np.diag(b))


def num_pairs(named: np.ndarray, factors: Sequence[Factor]) -> int:
    """How many of the data's pairs of values of two factors are covered by named images (N, factors)."""
    total = 0
    for (i, a), (j, b) in itertools.combinations(enumerate(factors), 2):
        joint = np.zeros((len(a.values), len(b.values)))
        np.add.at(joint, (named[:, i], named[:, j]), 1)
        total += int((covered(joint, a, b) & (np.outer(a.shares, b.shares) > 0)).sum())
    return total
