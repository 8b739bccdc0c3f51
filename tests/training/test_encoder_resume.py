"""An encoder's run, cut in two or killed, is the uninterrupted one bit for bit: pools, stage, all optimizers."""

from pathlib import Path
from typing import Any

import pytest
import torch

from wplus.core.runtime import Runtime
from wplus.data import Batches
from wplus.errors import UserError
from wplus.training.checkpoints import latest_checkpoint
from wplus.training.encoder import EncoderModule
from wplus.training.loop import Schedule, fit
from wplus.training.snapshot import Exporter, InversionView

VARIANTS = {
    "ranger": {},
    "adamw": {"hparams": {"optimizer": "adamw", "ema_kimg": None}},
    "refining": {"iterative": True, "hparams": {"num_passes": 2}},
    "alone": {"loss_weights": {"adversarial": 0.0}, "latent_discriminator": None},  # one optimizer
}


@pytest.fixture(autouse=True)
def _signals(signals_restored):
    """Every run gives the process's handlers back."""


@pytest.fixture
def train(tiny_encoder, make_images, recorder):
    """train(folder, images, ...): a fresh game, trained in `folder` up to so many images."""

    def run(
        folder: Path, images: int, *, game: EncoderModule | None = None, snapshot: int = 8, **changes: Any
    ) -> EncoderModule:
        game = game or tiny_encoder(c_dim=3, **changes)
        batches = Batches(make_images(c_dim=3), 4, mirror="x", start_nimg=lambda: game.images_seen)
        schedule = Schedule(kimg=images / 1000, log_kimg=0.008, snapshot_kimg=snapshot / 1000, keep_checkpoints=9)
        view = InversionView(make_images(5, c_dim=3), num_samples=5)
        export = Exporter(folder, recorder, view, data={}, seed=0)
        runtime = Runtime(device=torch.device("cpu"))
        status = fit(
            game, batches, schedule=schedule, runtime=runtime, output_dir=folder, tracker=recorder, export=export
        )
        assert status is None
        return game

    return run


def state(folder: Path) -> dict[str, torch.Tensor]:
    """Every tensor and number of the newest checkpoint: networks, average, pools, clock, optimizers."""
    content = torch.load(latest_checkpoint(folder / "checkpoints"), weights_only=True)
    flat = {f"model.{name}": tensor for name, tensor in content["state_dict"].items()}
    for number, optimizer in enumerate(content["optimizer_states"]):
        for index, values in optimizer["state"].items():
            flat |= {f"optimizer.{number}.{index}.{name}": torch.as_tensor(v) for name, v in values.items()}
    return flat


def assert_same(found: Path, expected: Path) -> None:
    a, b = state(found), state(expected)
    assert a.keys() == b.keys()
    assert [name for name in b if not torch.equal(a[name], b[name])] == []
    assert (found / "model.safetensors").read_bytes() == (expected / "model.safetensors").read_bytes()
    for picture in (expected / "samples").iterdir():
        assert (found / "samples" / picture.name).read_bytes() == picture.read_bytes(), picture.name


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_resumed_run_equals_an_uninterrupted_one(train, tmp_path, variant):
    """Cut at 20 images: between two deltas, two R1 steps, two moves of the slow weights; the pools are full."""
    straight = train(tmp_path / "straight", 40, **VARIANTS[variant])
    train(tmp_path / "parts", 20, **VARIANTS[variant])
    resumed = train(tmp_path / "parts", 40, **VARIANTS[variant])
    assert (resumed.images_seen, int(resumed.encoder.stage)) == (40, 3)
    for name, tensor in straight.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], tensor), name
    assert_same(tmp_path / "parts", tmp_path / "straight")


def test_a_run_killed_at_work_goes_on_from_its_checkpoint(train, tiny_encoder, tmp_path, monkeypatch):
    """Nothing of the steps after the checkpoint survives anywhere."""
    train(tmp_path / "straight", 32)
    game = tiny_encoder(c_dim=3)
    update = game.update

    def killed(*args: Any) -> None:
        update(*args)
        if game.images_seen == 20:
            raise SystemError("killed")

    monkeypatch.setattr(game, "update", killed)
    with pytest.raises(SystemError, match="killed"):
        train(tmp_path / "parts", 32, game=game)
    assert "nimg-000000000016" in latest_checkpoint(tmp_path / "parts" / "checkpoints").name
    train(tmp_path / "parts", 32)
    assert_same(tmp_path / "parts", tmp_path / "straight")


CHANGES = {
    "pool of real codes": lambda c: c["state_dict"]["adversary.real_pool.latents"].mul_(-3),
    "pool of fake codes": lambda c: c["state_dict"]["adversary.fake_pool.latents"].mul_(-3),
    "discriminator": lambda c: c["state_dict"]["adversary.discriminator.layers.0.weight"].add_(1),
    "average": lambda c: c["state_dict"]["average.conv.weight"].add_(1),
    "batch statistics": lambda c: c["state_dict"]["encoder.norm.running_mean"].add_(1),
    "clock": lambda c: c["state_dict"]["nimg"].sub_(4),
    "slow weights": lambda c: c["optimizer_states"][0]["state"][2]["slow"].add_(1),
    "Ranger's count": lambda c: c["optimizer_states"][0]["state"][2].update(step=1),
    "discriminator's Adam": lambda c: c["optimizer_states"][1]["state"][0]["exp_avg"].add_(1),
}


def test_a_run_depends_on_every_part_of_its_state(train, tmp_path):
    """The comparisons above can fail: a checkpoint with one part changed leads elsewhere."""
    train(tmp_path / "a", 24)
    path = latest_checkpoint(tmp_path / "a" / "checkpoints")
    content = path.read_bytes()
    expected = train(tmp_path / "a", 48, snapshot=1000).state_dict()
    for what, change in CHANGES.items():
        folder = tmp_path / what
        (folder / "checkpoints").mkdir(parents=True)
        damaged = folder / "checkpoints" / path.name
        damaged.write_bytes(content)
        loaded = torch.load(damaged, weights_only=True)
        change(loaded)
        torch.save(loaded, damaged)
        found = train(folder, 48, snapshot=1000).state_dict()
        assert any(not torch.equal(found[name], expected[name]) for name in expected), what


def test_another_run_is_refused(train, tmp_path):
    train(tmp_path, 8)
    for changes, message in [
        ({"loss_weights": {"delta": 0.02}}, r"hparams\.loss_weights\.delta was 0\.01 and is now 0\.02"),
        ({"latent_discriminator": {"pool_size": 6}}, r"hparams\.latent_discriminator\.pool_size was 5 and is now 6"),
        ({"progressive": None}, r"hparams\.progressive"),
        ({"seed": 1}, "seed was 0 and is now 1"),
    ]:
        with pytest.raises(UserError, match=message):
            train(tmp_path, 16, **changes)


def test_log_and_numbers_of_held_out_images(train, tmp_path, recorder):
    train(tmp_path, 16)
    rows = {kimg: {} for kimg, _ in recorder.rows}
    for kimg, row in recorder.rows:
        rows[kimg] |= row
    assert list(rows) == [0, 0.008, 0.016]
    assert rows[0].keys() == {"val/l1", "val/l2", "val/blurred"}
    expected = {f"train/encoder/{name}" for name in ("l2", "perceptual", "adversarial", "delta", "loss", "grad_norm")}
    expected |= {f"train/latent_discriminator/{name}" for name in ("loss", "real", "fake", "grad_norm")}
    assert expected | {"val/l2", "progress/stage", "progress/kimg_per_s"} <= rows[0.016].keys()
    assert rows[0.016]["progress/stage"] == 1
