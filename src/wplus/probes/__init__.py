"""Probes of a generator's training: pictures, numbers and messages at every snapshot.

A probe is a function from a `ProbeContext`, one moment of the run, to a `ProbeResult`. Adding one is one function, one
file in configs/probes/ and one test.
"""

from wplus.probes.probe import ProbeContext, ProbeData
from wplus.probes.runner import Probe, ProbeRunner

__all__ = ["Probe", "ProbeContext", "ProbeData", "ProbeRunner"]
