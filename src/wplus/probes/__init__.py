"""Probes of a generator's training: pictures, numbers and messages at every snapshot.

A probe is a function from a `ProbeContext`, one moment of the run, to a `ProbeResult`. Adding one is one function, one
file in configs/probes/ and one test.
"""

from wplus.probes.probe import Probe, ProbeContext, ProbeData, ProbeRunner

__all__ = ["Probe", "ProbeContext", "ProbeData", "ProbeRunner"]
