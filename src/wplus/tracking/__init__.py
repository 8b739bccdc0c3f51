"""What a run leaves behind: curves, pictures, files with their origin, one result, one report."""

from wplus.tracking.tracker import Run, Sink, Tracker

__all__ = ["Run", "Sink", "Tracker"]
