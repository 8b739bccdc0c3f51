"""N + M images straight are N, then M after a restart, bit for bit; in one process, through Lightning."""

import os
import signal
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from wplus.core.runtime import Runtime
from wplus.data import Batches
from wplus.errors import UserError
from wplus.training.checkpoints import checkpoint_path, latest_checkpoint
from wplus.training.gan import GanModule
from wplus.training.loop import Diverged, Schedule, fit

CPU = Runtime(device=torch.device("cpu"))


@pytest.fixture(autouse=True)
def _signals(signals_restored):
    """Every run gives the process's handlers back."""


@pytest.fixture
def train(make_tiny, make_images, recorder):
    """train(folder, images, ...): a fresh game, trained in `folder` up to so many images."""

    def run(
        folder: Path,
        images: int,
        *,
        export=lambda game: None,
        snapshot: int = 8,
        keep: int = 9,
        max_skipped: int = 4,
        game: GanModule | None = None,
        status: int | None = None,
        **changes: Any,
    ) -> GanModule:
        game = game or make_tiny(**{"c_dim": 3, "num_micro": 2, "ema_rampup": 0.05, **changes})
        batches = Batches(make_images(c_dim=3), 4, mirror="x", start_nimg=lambda: game.images_seen)
        schedule = Schedule(
            kimg=images / 1000,
            log_kimg=0.008,
            snapshot_kimg=snapshot / 1000,
            keep_checkpoints=keep,
            max_skipped_in_a_row=max_skipped,
        )
        found = fit(game, batches, schedule=schedule, runtime=CPU, output_dir=folder, tracker=recorder, export=export)
        assert found == status
        return game

    return run


def assert_same(a: Any, b: Any, path: str = "") -> None:
    """Equal trees of containers, numbers and tensors, bit for bit."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for index, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, f"{path}.{index}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), path
    else:
        assert a == b, path


def state(folder: Path) -> dict[str, Any]:
    """What defines the rest of a run, from its newest checkpoint."""
    content = torch.load(latest_checkpoint(folder / "checkpoints"), weights_only=True)
    return {key: content[key] for key in ("state_dict", "optimizer_states", "run_fingerprint")}


@pytest.mark.parametrize("first", [4, 20])
def test_a_resumed_run_equals_an_uninterrupted_one(train, tmp_path, first):
    """`first` images, then the rest: wherever the pause lies among the intervals of the phases."""
    straight = train(tmp_path / "straight", 32)
    train(tmp_path / "parts", first)
    resumed = train(tmp_path / "parts", 32)
    assert_same(resumed.state_dict(), straight.state_dict())
    assert_same(state(tmp_path / "parts"), state(tmp_path / "straight"))
    assert resumed.images_seen == 32
    assert resumed.pl_mean > 0
    assert state(tmp_path / "parts")["state_dict"]["nimg"] == 32


def test_a_run_depends_on_every_part_of_its_state(train, tmp_path):
    """The comparison above can fail: a checkpoint with one part changed leads elsewhere."""
    train(tmp_path, 8)
    path = latest_checkpoint(tmp_path / "checkpoints")
    content = torch.load(path, weights_only=True)
    expected = train(tmp_path, 16, snapshot=1000).state_dict()

    def changed(change) -> dict[str, torch.Tensor]:
        for file in (tmp_path / "checkpoints").iterdir():
            file.unlink()
        damaged = torch.load(path_of_copy, weights_only=True)
        change(damaged)
        torch.save(damaged, path)
        return train(tmp_path, 16, snapshot=1000).state_dict()

    path_of_copy = tmp_path / "copy"
    torch.save(content, path_of_copy)
    assert_same(changed(lambda c: None), expected)
    changes = {
        "average": lambda c: c["state_dict"]["ema.synthesis.b4.const"].add_(1),
        "path length mean": lambda c: c["state_dict"]["pl_mean"].add_(1),
        "clock": lambda c: c["state_dict"]["nimg"].sub_(4),
        "generator's Adam": lambda c: c["optimizer_states"][0]["state"][0]["exp_avg_sq"].add_(1),
        "discriminator's Adam": lambda c: c["optimizer_states"][1]["state"][0]["step"].add_(5),
    }
    for what, change in changes.items():
        found = changed(change)
        assert any(not torch.equal(found[name], expected[name]) for name in expected), what


def test_sessions_of_any_length(train, tmp_path):
    straight = train(tmp_path / "straight", 24)
    for images in (4, 12, 16, 24):
        resumed = train(tmp_path / "parts", images)
    assert_same(resumed.state_dict(), straight.state_dict())


def test_a_truncated_checkpoint_costs_only_the_way_to_it(train, tmp_path):
    straight = train(tmp_path / "straight", 24)
    train(tmp_path / "parts", 16)
    newest = latest_checkpoint(tmp_path / "parts" / "checkpoints")
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="truncated or damaged"):
        resumed = train(tmp_path / "parts", 24)
    assert_same(resumed.state_dict(), straight.state_dict())


def test_a_finished_run_is_not_trained_further(train, tmp_path):
    exported: list[int] = []
    first = train(tmp_path, 8)
    again = train(tmp_path, 8, export=lambda game: exported.append(game.images_seen))
    assert_same(again.state_dict(), first.state_dict())
    assert exported == [8]


def test_snapshots_and_exports_follow_the_clock(train, tmp_path):
    exported: list[int] = []
    train(tmp_path, 28, snapshot=12, keep=2, export=lambda game: exported.append(game.images_seen))
    assert exported == [0, 12, 24, 28]
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [checkpoint_path(tmp_path, nimg).name for nimg in (24, 28)]
    train(tmp_path, 36, snapshot=12, keep=2, export=lambda game: exported.append(game.images_seen))
    assert exported == [0, 12, 24, 28, 36]


def test_one_device_ignores_slurms_tasks(train, tmp_path, monkeypatch):
    for name, value in {"JOB_ID": "1", "NTASKS": "2", "JOB_NAME": "train", "PROCID": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert train(tmp_path, 8).images_seen == 8


def test_the_log_is_rewound_and_goes_on(train, tmp_path, recorder):
    train(tmp_path, 16)
    assert recorder.rewinds == [None]
    assert [kimg for kimg, _ in recorder.rows] == [0.008, 0.016]
    train(tmp_path, 32)
    assert recorder.rewinds == [None, 0.016]
    assert [kimg for kimg, _ in recorder.rows] == [0.008, 0.016, 0.024, 0.032]
    with pytest.raises(UserError, match=r"schedule\.kimg=0\.016 is less than the 0\.032 kimg that '"):
        train(tmp_path, 16)
    for _, row in recorder.rows:
        assert row["progress/skipped_steps"] == 0
        assert row["progress/kimg_per_s"] > 0
        assert row["progress/peak_memory_gb"] > 0
        expected = {f"train/{phase}/grad_norm" for phase in ("generator", "path_length", "discriminator", "r1")}
        assert expected | {"train/logits/real_std", "train/logits/fake", "train/generator/loss"} <= row.keys()


def test_another_run_is_refused(train, tmp_path):
    train(tmp_path, 8)
    with pytest.raises(UserError, match=r"hparams\.gamma was 1\.0 and is now 2\.0"):
        train(tmp_path, 16, gamma=2.0)
    with pytest.raises(UserError, match="num_micro was 2 and is now 1"):
        train(tmp_path, 16, num_micro=1)
    assert latest_checkpoint(tmp_path / "checkpoints") == checkpoint_path(tmp_path / "checkpoints", 8)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_the_step_at_hand(train, make_tiny, tmp_path, monkeypatch, recorder, number):
    """And the row of the log that was begun goes on with the run."""
    straight = train(tmp_path / "straight", 32)
    game = make_tiny(c_dim=3, num_micro=2, ema_rampup=0.05)
    run_step = game.run_step

    def signalled(*args: Any, **kwargs: Any) -> None:
        if game.images_seen == 16:
            os.kill(os.getpid(), number)
        run_step(*args, **kwargs)

    monkeypatch.setattr(game, "run_step", signalled)
    train(tmp_path / "parts", 32, game=game, snapshot=1000, status=number)
    assert game.images_seen == 20
    assert latest_checkpoint(tmp_path / "parts" / "checkpoints").name == checkpoint_path(tmp_path, 20).name
    assert_same(train(tmp_path / "parts", 32).state_dict(), straight.state_dict())
    rows = [(kimg, {name: value for name, value in row.items() if name.startswith("train/")})
            for kimg, row in recorder.rows]  # fmt: skip
    assert rows[: len(rows) // 2] == rows[len(rows) // 2 :]


def lose(game: GanModule, *, after: int) -> GanModule:
    """From `after` images on both losses are NaN."""
    for name in ("generator_loss", "discriminator_loss"):
        loss = getattr(game, name)
        bad = lambda *logits, loss=loss: loss(*logits) * (float("nan") if game.images_seen >= after else 1)  # noqa: E731
        setattr(game, name, bad)
    return game


def test_a_lost_run_stops_and_keeps_the_last_good_checkpoint(train, make_tiny, tmp_path, recorder):
    plain = {"c_dim": 3, "num_micro": 2, "gamma": 0.0, "pl_weight": 0.0, "ema_rampup": None}
    game = lose(make_tiny(**plain), after=16)
    message = (
        r"^4 optimizer steps in a row had a gradient that was not finite \(allowed: 3\) at 0\.024 kimg; the last good"
    )
    with pytest.raises(Diverged, match=message):
        train(tmp_path, 64, game=game, snapshot=4)
    assert latest_checkpoint(tmp_path / "checkpoints").name == checkpoint_path(tmp_path, 16).name
    assert all(tensor.isfinite().all() for tensor in state(tmp_path)["state_dict"].values())
    kimg, row = recorder.rows[-1]
    assert (kimg, row["progress/skipped_in_a_row"], row["progress/skipped_steps"]) == (0.024, 4, 4)
    assert all(value == value and abs(value) != float("inf") for value in row.values())
    assert train(tmp_path, 24, **plain).images_seen == 24  # the same command, mended, goes on from there


def test_lightning_says_nothing(train, tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        train(tmp_path, 8)
    out, err = capsys.readouterr()
    assert out == ""
    assert {line.split(":")[0] for line in err.splitlines()} <= {"Training (images)"}
