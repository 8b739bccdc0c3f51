"""The adversarial game, its clock and its checkpoints."""

from wplus.training.gan import GanGame
from wplus.training.recipe import Recipe, explain
from wplus.training.run import Schedule, fit
from wplus.training.samples import Exporter
from wplus.training.setup import Place, make_game

__all__ = ["Exporter", "GanGame", "Place", "Recipe", "Schedule", "explain", "fit", "make_game"]
