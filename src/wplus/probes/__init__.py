"""What to look at while a generator trains: pictures, numbers and words of every snapshot.

A look is a function from a `ProbeContext`, one moment of the training, to what is `ProbeResult` there. Adding one is one function
here (or anywhere) and one file in configs/train/watch/.
"""

from wplus.probes.scene import ProbeContext, ProbeData
from wplus.probes.watch import Probe, ProbeRunner

__all__ = ["Probe", "ProbeContext", "ProbeData", "ProbeRunner"]
