from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from wplus.checkpoint import Models
from wplus.errors import UserError
from wplus.evaluation.measure import Deferred, check_images, measure, report, table
from wplus.measurement import Measurement
from wplus.tracking import Sink, Tracker


def constant(models: Models, *, value: float, **shared: Any) -> Iterator[Measurement]:
    yield Measurement(
        "constant", value, {"seed": shared["seed"], "batch_size": shared["batch_size"]}, (value - 1, value + 1)
    )


def test_measurements_come_one_by_one_with_their_time(models: Models) -> None:
    def broken(models: Models, **shared: Any) -> Iterator[Measurement]:
        yield Measurement("first", 1.0)
        raise RuntimeError("stop")

    stream = measure(models, {"a": broken}, real=None, batch_size=4)
    assert next(stream).protocol["seconds"] >= 0
    with pytest.raises(RuntimeError, match="stop"):
        next(stream)


def test_every_metric_gets_what_is_shared(models: Models) -> None:
    import functools

    metrics = {"a": functools.partial(constant, value=1.0), "b": functools.partial(constant, value=2.0)}
    found = list(measure(models, metrics, real=None, batch_size=4, seed=7))
    assert [m.value for m in found] == [1.0, 2.0]
    assert found[0].protocol["seed"] == 7
    assert found[0].protocol["batch_size"] == 4


def test_data_of_another_size_is_refused(models: Models, real: Any) -> None:
    check_images(models.generator, real)
    real.images = real.images[:, :, :8, :8]
    with pytest.raises(UserError, match="16 px with 3 channels and the data has 8 px with 3"):
        check_images(models.generator, real)


def test_deferred_images_are_read_once_and_only_when_needed(real: Any) -> None:
    reads = []
    deferred = Deferred(lambda: reads.append(1) or real)
    assert not reads
    assert (len(deferred), deferred.resolution, deferred.fingerprint) == (40, 16, real.fingerprint)
    assert len(reads) == 1


def test_report_logs_each_measurement_and_a_table() -> None:
    class Recorder(Sink):
        def __init__(self) -> None:
            self.values: dict[str, Any] = {}

        def summary(self, values: dict[str, Any]) -> None:
            self.values |= values

        def table(self, key: str, columns: Any, rows: Any) -> None:
            self.values[key] = [dict(zip(columns, row, strict=True)) for row in rows]

    recorder, made = Recorder(), [Measurement("fd", 1.5, {"seed": 0}, (1.0, 2.0)), Measurement("ppl", 2.5)]
    stream = report(made, Tracker([recorder]))
    assert next(stream) is made[0]
    assert recorder.values == {"fd": {"value": 1.5, "protocol": {"seed": 0}, "interval": (1.0, 2.0)}}
    assert list(stream) == made[1:]
    assert [row["low"] for row in recorder.values["evaluation/metrics"]] == [1.0, None]


def test_an_empty_batch_is_refused(models: Models) -> None:
    with pytest.raises(UserError, match="batch_size=0"):
        next(measure(models, {"a": constant}, real=None, batch_size=0))


def test_a_checkpoint_without_generator_is_refused() -> None:
    with pytest.raises(UserError, match="no generator"):
        next(measure(Models(), {"a": constant}, real=None, batch_size=4))


def test_a_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(UserError, match="fd came out as nan"):
        Measurement("fd", float("nan"))


def test_the_table_shows_value_interval_and_protocol() -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(table([Measurement("fd_net", 12.3456, {"extractor": "net", "num_real": 40}, (11.0, 13.5))]))
    shown = console.file.getvalue()
    assert all(part in shown for part in ("fd_net", "12.35", "11 .. 13.5", "extractor net, num real 40"))
