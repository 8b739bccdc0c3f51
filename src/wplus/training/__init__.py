"""Games that networks learn by, their clock and their checkpoints."""

from wplus.training.build import Training, make_game
from wplus.training.encoder import EncoderModule
from wplus.training.gan import GanModule
from wplus.training.hparams import Hparams, explain
from wplus.training.loop import Schedule, fit
from wplus.training.runtime import Runtime
from wplus.training.settings import GanSpec
from wplus.training.snapshot import Exporter
from wplus.training.transfer import Transfer

__all__ = [
    "EncoderModule",
    "Exporter",
    "GanModule",
    "GanSpec",
    "Hparams",
    "Runtime",
    "Schedule",
    "Training",
    "Transfer",
    "explain",
    "fit",
    "make_game",
]
