"""Comparison of paths between real images: many pairs, many methods, one table, one picture per pair."""

from wplus.evaluation.interpolation.metric import Interpolation

__all__ = ["Interpolation"]
