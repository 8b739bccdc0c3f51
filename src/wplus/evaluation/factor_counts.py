"""Counts of a factor's values as predicted by a classifier, corrected for its known errors."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import poisson

NUM_STEPS = 200  # of expectation maximisation
SURE, DEVIATIONS = 0.999, 3.0  # bound on misclassified counts: quantile of the counts, standard errors of their mean


@dataclass(frozen=True)
class Factor:
    """A factor of the data, and how well the classifier recognises it.

    name       name of the factor
    values     names of its K values
    shares     (K,) frequencies in the real images
    confusion  (K, K): C[i, j] is the share of images of value i classified as j; one image is added to each row, since
               an error not observed among few images may occur among many
    spread     (K, K): variance of each entry, as it is estimated from few images
    accuracy   share of the images classified correctly
    """

    name: str
    values: Sequence[str]
    shares: np.ndarray
    confusion: np.ndarray
    spread: np.ndarray
    accuracy: float

    @property
    def expected(self) -> np.ndarray:
        """Expected predicted share (K,) of each value if the generated images were distributed like the data."""
        return self.shares @ self.confusion

    def corrected(self, counts: np.ndarray) -> np.ndarray:
        """Maximum likelihood shares p (..., K) given counts (..., K) ~ p C, by expectation maximisation."""
        q = counts / counts.sum(axis=-1, keepdims=True)
        p = np.full(q.shape, 1 / q.shape[-1])
        for _ in range(NUM_STEPS):
            p = p * (q / (p @ self.confusion) @ self.confusion.T)
        return p

    def present(self, counts: np.ndarray) -> np.ndarray:
        """Whether values occur, (..., K) bool: their counts (..., K) exceed what misclassified images can explain."""
        true = counts.sum(axis=-1, keepdims=True) * self.corrected(counts)
        misnamed = true @ self.confusion - true * np.diag(self.confusion)
        variance = true**2 @ self.spread - true**2 * np.diag(self.spread)
        return counts > most(misnamed, variance)

    def chi2(self, counts: np.ndarray) -> float:
        """sum (q - e)^2 / e of predicted shares q and the expected predicted ones e, so that both share the errors."""
        expected, found = self.expected, counts / counts.sum()
        return float(((found - expected) ** 2 / expected).sum())


def factor_of(name: str, values: Sequence[str], real: np.ndarray, known: np.ndarray, named: np.ndarray) -> Factor:
    """Build a factor from value indices: true ones of the real images, and true and predicted ones of known images."""
    num = len(values)
    counts = np.zeros((num, num))
    np.add.at(counts, (known[known >= 0], named[known >= 0]), 1)  # below 0: a value the classifier does not know
    shares = np.bincount(real, minlength=num) / len(real)
    confusion = (counts + 1 / num) / (counts.sum(axis=1, keepdims=True) + 1)
    spread = confusion * (1 - confusion) / (counts.sum(axis=1, keepdims=True) + 2)  # Dirichlet's
    return Factor(name, list(values), shares, confusion, spread, float(np.trace(counts) / counts.sum()))


def most(misnamed: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """Upper bound on a count of misclassified images, given its expected value and that estimate's variance."""
    return poisson.ppf(SURE, misnamed + DEVIATIONS * np.sqrt(np.maximum(variance, 0)))


def covered(joint: np.ndarray, a: Factor, b: Factor) -> np.ndarray:
    """Which pairs of values occur, (K_a, K_b) bool: their counts `joint` exceed what misclassified images explain."""
    true, q = np.full(joint.shape, 1 / joint.size), joint / joint.sum()
    for _ in range(NUM_STEPS):  # as in `corrected`
        true = true * (a.confusion @ (q / (a.confusion.T @ true @ b.confusion)) @ b.confusion.T)
    true = joint.sum() * true
    misnamed = _elsewhere(true, a.confusion, b.confusion)
    variance = _elsewhere(true**2, a.spread, b.confusion**2) + _elsewhere(true**2, a.confusion**2, b.spread)
    return joint > most(misnamed, variance)


def _elsewhere(joint: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """sum over (i, j) != (k, l) of joint[i, j] a[i, k] b[j, l]: (K_a, K_b)."""
    return a.T @ joint @ b - joint * np.outer(np.diag(a), np.diag(b))


def num_pairs(named: np.ndarray, factors: Sequence[Factor]) -> int:
    """Number of the data's pairs of values of two factors that predictions (N, factors) cover."""
    total = 0
    for (i, a), (j, b) in itertools.combinations(enumerate(factors), 2):
        joint = np.zeros((len(a.values), len(b.values)))
        np.add.at(joint, (named[:, i], named[:, j]), 1)
        total += int((covered(joint, a, b) & (np.outer(a.shares, b.shares) > 0)).sum())
    return total
