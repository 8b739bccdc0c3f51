"""Experiment tracking: curves, pictures, files with their provenance, and the result of a run."""

from wplus.tracking.tracker import Run, Sink, Tracker

__all__ = ["Run", "Sink", "Tracker"]
