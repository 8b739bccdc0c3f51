"""How good paths between real images are: many pairs, many methods, one table, one picture per pair."""

from wplus.evaluation.interpolation.metric import Interpolation

__all__ = ["Interpolation"]
