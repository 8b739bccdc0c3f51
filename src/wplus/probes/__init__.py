"""Probes monitor a generator during training: images, metrics and messages at every snapshot.

A probe is a function from a `ProbeContext`, the state of the run at a snapshot, to a `ProbeResult`. Adding one takes a
function, a file in configs/probes/ and a test.
"""

from wplus.probes.probe import ProbeContext, ProbeData
from wplus.probes.runner import Probe, ProbeRunner

__all__ = ["Probe", "ProbeContext", "ProbeData", "ProbeRunner"]
