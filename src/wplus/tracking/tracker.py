"""The one object that entry points and callbacks log to; where it all goes is decided by the sinks it is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

KIMG = "progress/kimg"
"""The one axis of every curve: thousands of training images seen."""

Status = Literal["finished", "failed"]
Level = Literal["info", "warning"]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What identifies a run, the same for every sink."""

    output_dir: Path
    job_type: str
    """What was done: train, invert, interpolate, evaluate, ..."""
    name: str
    """Short, for people."""
    group: str | None = None
    """The sweep or study that the run belongs to."""
    tags: Sequence[str] = ()
    notes: str = ""
    """The command that started the run."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The complete, resolved configuration as plain values."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "output_dir", Path(self.output_dir).resolve())


class Sink:
    """A place that a run is recorded in. Every method does nothing: a sink overrides what it can show."""

    def log(self, values: Mapping[str, float], *, kimg: float | None = None) -> None:
        """One row of scalars, once per step; names are `train/<net>/<term>`, `val/<metric>`, `progress/<what>`."""

    def image(self, key: str, path: str | Path, *, caption: str = "", kimg: float | None = None) -> None:
        """A picture file that has been written, best below the run's output folder."""

    def video(self, key: str, path: str | Path, *, kimg: float | None = None) -> None:
        """A video file (mp4, gif) that has been written."""

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A finished table; a cell that is a Path to a picture shows the picture."""

    def histogram(self, key: str, values: np.ndarray, *, kimg: float | None = None) -> None:
        """The distribution of a flat float64 array."""

    def say(self, text: str, *, level: Level = "info", kimg: float | None = None) -> None:
        """A sentence about the run for whoever follows it; a warning should reach them where they are."""

    def artifact(
        self,
        path: str | Path | None,
        *,
        name: str,
        kind: str,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        """Something this run made and others use: kind is model, latents, dataset, ...; path None: metadata only."""

    def use_artifact(
        self, path: str | Path | None, *, name: str, kind: str, metadata: Mapping[str, Any] | None = None
    ) -> None:
        """Something this run was given: the other end of the line that `artifact` begins."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Final values: each a mapping of `value`, `protocol` (a mapping) and perhaps `interval` (low, high) and
        `meaning` (a sentence for a newcomer).

        Names that start with `derived/` are what a preset chose; the entry `why` of their protocol says why.
        """

    def rewind(self, kimg: float) -> None:
        """Forget the rows after `kimg`: a resumed run writes them again."""

    def finish(self, status: Status = "finished") -> None:
        """Close the record; called once, also after a failure."""


class Tracker(Sink):
    """Passes everything on to its sinks. Without sinks it is the null tracker: the same calls, and nothing is kept.

    As a context manager it closes the record in any case, and an exception marks the run as failed:

        with build(cfg["tracking"], output_dir=folder, job_type="train", name=name, config=cfg) as tracker:
            tracker.log({"train/generator/loss": 0.7}, kimg=1.5)
    """

    def __init__(self, sinks: Sequence[Sink] = ()) -> None:
        self.sinks = tuple(sinks)

    def log(self, values: Mapping[str, float], *, kimg: float | None = None) -> None:
        """Numbers of any kind that `float` takes, zero-dimensional tensors included."""
        row = {key: float(_detached(value)) for key, value in values.items()}
        for sink in self.sinks:
            sink.log(row, kimg=kimg)

    def image(self, key: str, path: str | Path, *, caption: str = "", kimg: float | None = None) -> None:
        for sink in self.sinks:
            sink.image(key, path, caption=caption, kimg=kimg)

    def video(self, key: str, path: str | Path, *, kimg: float | None = None) -> None:
        for sink in self.sinks:
            sink.video(key, path, kimg=kimg)

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Zero-dimensional tensors and arrays in cells become plain numbers."""
        cells = [[cell.item() if hasattr(cell, "item") else cell for cell in row] for row in rows]
        for sink in self.sinks:
            sink.table(key, columns, cells)

    def histogram(self, key: str, values: Any, *, kimg: float | None = None) -> None:
        """Numbers of any shape: a tensor on any device, an array, a list."""
        numbers = np.asarray(_detached(values), dtype=np.float64).ravel()
        for sink in self.sinks:
            sink.histogram(key, numbers, kimg=kimg)

    def say(self, text: str, *, level: Level = "info", kimg: float | None = None) -> None:
        for sink in self.sinks:
            sink.say(text, level=level, kimg=kimg)

    def artifact(
        self,
        path: str | Path | None,
        *,
        name: str,
        kind: str,
        aliases: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        for sink in self.sinks:
            sink.artifact(path, name=name, kind=kind, aliases=aliases, metadata=metadata)

    def use_artifact(
        self, path: str | Path | None, *, name: str, kind: str, metadata: Mapping[str, Any] | None = None
    ) -> None:
        for sink in self.sinks:
            sink.use_artifact(path, name=name, kind=kind, metadata=metadata)

    def summary(self, values: Mapping[str, Any]) -> None:
        """A bare number or word is a value without a protocol."""
        entries = {key: _entry(value) for key, value in values.items()}
        for sink in self.sinks:
            sink.summary(entries)

    def rewind(self, kimg: float) -> None:
        for sink in self.sinks:
            sink.rewind(kimg)

    def finish(self, status: Status = "finished") -> None:
        """Close every sink once; later calls do nothing."""
        sinks, self.sinks = self.sinks, ()
        for sink in sinks:
            sink.finish(status)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.finish("failed" if error else "finished")


def _entry(value: Any) -> dict[str, Any]:
    entry = dict(value) if isinstance(value, Mapping) else {"value": value, "protocol": {}}
    number = entry["value"]
    return entry | {"value": number.item() if hasattr(number, "item") else number}


def _detached(values: Any) -> Any:
    """A tensor without its graph, on the CPU, in a type that numpy has; anything else as it is."""
    return values.detach().double().cpu() if hasattr(values, "detach") else values
