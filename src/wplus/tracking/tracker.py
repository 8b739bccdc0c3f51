"""The object that commands and callbacks log to; its sinks determine where the records go."""

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
"""The axis of every curve: thousands of training images seen."""

DERIVED = "derived/"
"""Prefix of the names of settings derived from others."""

KEYS = {"train": ["train", "val", "probe", "progress", "samples", "derived"], "classifier": ["train", "classifier"]}
"""Prefixes of keys, by command; for other commands it is the command's name. Space, path and model are recorded in the
configuration, never in a key."""
Level = Literal["info", "warning"]
AnyPath = str | Path
Plain = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Run:
    """The identity of a run, shared by all sinks."""

    output_dir: Path
    job_type: str
    """Type of job: train, invert, interpolate, evaluate, ..."""
    name: str
    """Short name for display."""
    group: str | None = None
    """The sweep or study that the run belongs to."""
    sweep_dir: Path | None = None
    """Folder shared by all runs of a sweep; None for a standalone run."""
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
    """A destination of records. Every method is a no-op by default; sinks override those they support."""

    def log(self, values: Mapping[str, float], *, kimg: float | None = None) -> None:
        """Log one row of scalars, once per step; names start with the prefixes in `KEYS`."""

    def describe(self, info: Mapping[str, MetricInfo]) -> None:
        """Set the meanings of scalars of `log`, by name; later calls add to them."""

    def image(self, key: str, path: AnyPath, *, caption: str = "", kimg: float | None = None) -> None:
        """Log an existing picture file, preferably inside the run's output folder."""

    def video(self, key: str, path: AnyPath, *, kimg: float | None = None) -> None:
        """Log an existing video file (mp4, gif)."""

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Log a finished table; cells that are paths to pictures are shown as pictures."""

    def methods(self, key: str, values: Mapping[str, Plain]) -> None:
        """Log metrics of several methods for comparison: method (a path, an inverter) -> name -> as for `summary`.

        A table `<key>_paired` (`wplus.core.tables.PAIRED_CELLS`) and pictures `<key>_<what>` belong to it.
        """

    def histogram(self, key: str, values: np.ndarray, *, kimg: float | None = None) -> None:
        """Log the distribution of a flat float64 array."""

    def log_message(self, text: str, *, level: Level = "info", kimg: float | None = None) -> None:
        """Log a sentence about the run; sinks should notify the user of warnings."""

    def artifact(
        self, path: AnyPath | None, *, name: str, kind: str, aliases: Sequence[str] = (), metadata: Plain | None = None
    ) -> None:
        """Log an output of this run with its provenance; without a path it consists only of metadata."""

    def use_artifact(self, path: AnyPath | None, *, name: str, kind: str, metadata: Plain | None = None) -> None:
        """Log an input of this run: the counterpart of `artifact`."""

    def decided(self, values: Plain) -> None:
        """Record values that the configuration left undetermined (`auto`, null), by dotted key, once they are known."""

    def summary(self, values: Plain) -> None:
        """Record final values: `MetricResult.entry()`, or a mapping with a subset of its keys that includes `value`.

        Names are `<command>/<number>`: space, path and model are recorded in the configuration. Those that start with
        `derived/` were chosen by a preset; the entry `why` of their protocol gives the reason.
        """

    def rewind(self, kimg: float | None) -> None:
        """Discard the rows after `kimg`, or all for None: a resumed run writes them again.

        Called once, before any logging.
        """

    def finish(self, status: Status = "finished") -> None:
        """Close the record; called once, even after a failure, with the status finished, interrupted or failed."""


class Tracker(Sink):
    """Passes all calls on to its sinks. Without sinks it is a null tracker that records nothing.

    As a context manager it always closes the record, and an exception marks the run as failed or interrupted:

        with build(cfg["tracking"], output_dir=folder, job_type="train", name=name, config=cfg) as tracker:
            tracker.log({"train/generator/loss": 0.7}, kimg=1.5)
    """

    def __init__(self, sinks: Sequence[Sink] = (), *, job_type: str = "run") -> None:
        self.sinks, self.job_type = tuple(sinks), job_type

    def add(self, sink: Sink) -> None:
        """Add a sink, called after the existing ones."""
        self.sinks = (*self.sinks, sink)

    def log(self, values: Mapping[str, float], *, kimg: float | None = None) -> None:
        """Log numbers of any type that `float` accepts, including zero-dimensional tensors."""
        self._tell("log", {key: float(_detached(value)) for key, value in values.items()}, kimg=kimg)

    def table(self, key: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Log a table; zero-dimensional tensors and arrays in cells become plain numbers."""
        self._tell("table", key, columns, [[_plain(cell) for cell in row] for row in rows])

    def histogram(self, key: str, values: Any, *, kimg: float | None = None) -> None:
        """Log the distribution of numbers of any shape: a tensor on any device, an array, a list."""
        self._tell("histogram", key, np.asarray(_detached(values), dtype=np.float64).ravel(), kimg=kimg)

    def summary(self, values: Plain) -> None:
        """Record final values; a plain number or string is a value without a protocol."""
        self._tell("summary", {key: _entry(value) for key, value in values.items()})

    def results(self, results: Iterable[MetricResult]) -> None:
        """Record results in the summary, each named `<job_type>/<its name>`."""
        self.summary({f"{self.job_type}/{result.name}": result.entry() for result in results})

    def finish(self, status: Status = "finished") -> None:
        """Close every sink once; later calls have no effect."""
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


# Methods passed on without conversion.
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
    """Detach a tensor and move it to the CPU, in a dtype that numpy supports; other values are unchanged."""
    return values.detach().double().cpu() if hasattr(values, "detach") else values
