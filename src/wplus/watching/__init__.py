"""What to look at while a generator trains: pictures, numbers and words of every snapshot.

A look is a function from a `Scene`, one moment of the training, to what is `Seen` there. Adding one is one function
here (or anywhere) and one file in configs/train/watch/.
"""

from wplus.watching.scene import Scene, Surroundings
from wplus.watching.watch import Look, Watch

__all__ = ["Look", "Scene", "Surroundings", "Watch"]
