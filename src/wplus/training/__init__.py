"""Games that networks learn by, their clock and their checkpoints."""

from wplus.training.encoder import EncoderGame
from wplus.training.gan import GanGame
from wplus.training.place import Place
from wplus.training.recipe import Recipe, explain
from wplus.training.run import Schedule, fit
from wplus.training.samples import Exporter
from wplus.training.settings import Settings
from wplus.training.setup import Training, make_game
from wplus.training.transfer import Transfer

__all__ = [
    "EncoderGame",
    "Exporter",
    "GanGame",
    "Place",
    "Recipe",
    "Schedule",
    "Settings",
    "Training",
    "Transfer",
    "explain",
    "fit",
    "make_game",
]
