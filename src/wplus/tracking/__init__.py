"""The record of a run: curves, pictures, files with their origin, one result, one report."""

from wplus.tracking.tracker import Run, Sink, Tracker

__all__ = ["Run", "Sink", "Tracker"]
