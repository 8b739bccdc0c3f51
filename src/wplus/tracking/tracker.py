"""The one object that commands and callbacks log to; where it all goes is decided by the sinks it is made of."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

import numpy as np

from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.tracking.run_folder import Status, status_of

KIMG = "progress/kimg"
"""The one axis of every curve: thousands of training images seen."""

DERIVED = "derived/"
"""Before the names of settings that were derived from others."""

KEYS = {"train": ["train", "val", "probe", "progress", "samples", "derived"], "classifier": ["train", "classifier"]}
"""What keys begin with, by command; those of all others begin with the command's name. Space, path and model stand in
the configuration, never in a key."""
Level = Literal["info", "warning"]
AnyPath = str | Path
Plain = Mapping[str, Any]


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
    sweep_dir: Path | None = None
    """A folder that all runs of a sweep share; None for a run that stands alone."""
    swept: Plain = field(default_factory=dict)
    """Key -> value of what the sweep varies."""
    tags: Sequence[str] = ()
    notes: str = ""
    """The command that started the run."""
    config: Plain = field(default_factory=dict)
    """The complete, resolved configuration as plain values."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "output_dir", Path(self.output_dir).resolve())


class Sink:
    """A place that a run is recorded in. Every method does nothing: a sink overrides what it can show."""

    def log(self, values: Mapping[str, float], *, kimg: float | None = None) -> None:
        """One row of scalars, once per step; names begin as `KEYS` says."""

    def describe(self, info: Mapping[str, MetricInfo]) -> None:
        """What the scalars of `log` mean, by name; later calls add to it."""

    def image(self, key: str, path: AnyPath, *, caption: str = "", kimg: float | None = None) -> None:
        """A picture file that has been written, best below the run's output folder."""

    def video(self, key: str, path: AnyPath, *, kimg: float | None = None) -> None:
        """A video file (mp4, gif) that has been written."""

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A finished table; a cell that is a Path to a picture shows the picture."""

    def methods(self, key: str, values: Mapping[str, Plain]) -> None:
        """Numbers of several methods side by side: method (a path, an inverter) -> name -> what `summary` takes.

        A table `<key>_paired` (`wplus.core.tables.PAIRED_CELLS`) and pictures `<key>_<what>` belong to it.
        """

    def histogram(self, key: str, values: np.ndarray, *, kimg: float | None = None) -> None:
        """The distribution of a flat float64 array."""

    def log_message(self, text: str, *, level: Level = "info", kimg: float | None = None) -> None:
        """A sentence about the run for whoever follows it; a warning should reach them where they are."""

    def artifact(
        self, path: AnyPath | None, *, name: str, kind: str, aliases: Sequence[str] = (), metadata: Plain | None = None
    ) -> None:
        """Something this run made: its origin goes with it. Without a path the metadata are all there is."""

    def use_artifact(self, path: AnyPath | None, *, name: str, kind: str, metadata: Plain | None = None) -> None:
        """Something this run was given: the other end of the line that `artifact` begins."""

    def decided(self, values: Plain) -> None:
        """What the configuration left open (`auto`, null), by dotted key, as it was decided while the command ran."""

    def summary(self, values: Plain) -> None:
        """Final values: what `MetricResult.entry()` gives, or a mapping of some of that, of at least `value`.

        Names are `<command>/<number>`: space, path and model stand in the configuration. Those that start with
        `derived/` are what a preset chose; the entry `why` of their protocol says why.
        """

    def rewind(self, kimg: float | None) -> None:
        """Forget the rows after `kimg`, or all for None: a run that is continued writes them again.

        Called once, before anything is logged.
        """

    def finish(self, status: Status = "finished") -> None:
        """Close the record; called once, also after a failure: finished, interrupted or failed."""


class Tracker(Sink):
    """Passes everything on to its sinks. Without sinks it is the null tracker: the same calls, and nothing is kept.

    As a context manager it closes the record in any case, and an exception marks the run as failed or interrupted:

        with build(cfg["tracking"], output_dir=folder, job_type="train", name=name, config=cfg) as tracker:
            tracker.log({"train/generator/loss": 0.7}, kimg=1.5)
    """

    def __init__(self, sinks: Sequence[Sink] = (), *, job_type: str = "run") -> None:
        self.sinks, self.job_type = tuple(sinks), job_type

    def add(self, sink: Sink) -> None:
        """Let one more hear of everything, after those that are there."""
        self.sinks = (*self.sinks, sink)

    def log(self, values: Mapping[str, float], *, kimg: float | None = None) -> None:
        """Numbers of any kind that `float` takes, zero-dimensional tensors included."""
        self._tell("log", {key: float(_detached(value)) for key, value in values.items()}, kimg=kimg)

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Zero-dimensional tensors and arrays in cells become plain numbers."""
        self._tell("table", key, columns, [[_plain(cell) for cell in row] for row in rows])

    def histogram(self, key: str, values: Any, *, kimg: float | None = None) -> None:
        """Numbers of any shape: a tensor on any device, an array, a list."""
        self._tell("histogram", key, np.asarray(_detached(values), dtype=np.float64).ravel(), kimg=kimg)

    def summary(self, values: Plain) -> None:
        """A bare number or word is a value without a protocol."""
        self._tell("summary", {key: _entry(value) for key, value in values.items()})

    def results(self, results: Iterable[MetricResult]) -> None:
        """The summary of results, each called `<job_type>/<its name>`."""
        self.summary({f"{self.job_type}/{result.name}": result.entry() for result in results})

    def finish(self, status: Status = "finished") -> None:
        """Close every sink once; later calls do nothing."""
        sinks, self.sinks = self.sinks, ()
        for sink in sinks:
            sink.finish(status)

    def _tell(self, method: str, *values: Any, **options: Any) -> None:
        for sink in self.sinks:
            getattr(sink, method)(*values, **options)

    def __enter__(self) -> Tracker:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.finish(status_of(error))


def _passed_on(method: str) -> Callable[..., None]:
    return lambda tracker, *values, **options: tracker._tell(method, *values, **options)


# What a sink takes as it is.
_PASSED_ON = ["describe", "image", "video", "log_message", "methods", "artifact", "use_artifact", "decided", "rewind"]
for _method in _PASSED_ON:
    setattr(Tracker, _method, _passed_on(_method))


def with_decided(config: Plain, values: Plain) -> dict[str, Any]:
    """A copy of a configuration with `values` at their dotted keys."""
    changed = copy.deepcopy(dict(config))
    for key, value in values.items():
        *parents, last = key.split(".")
        node = changed
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return changed


def _entry(value: object) -> dict[str, Any]:
    entry = dict(value) if isinstance(value, Mapping) else {"value": value, "protocol": {}}
    return entry | {"value": _plain(entry["value"])}


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _detached(values: Any) -> Any:
    """A tensor without its graph, on the CPU, in a type that numpy has; anything else as it is."""
    return values.detach().double().cpu() if hasattr(values, "detach") else values
