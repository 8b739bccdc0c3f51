"""N + M images without a stop equal N, then M after a restart, bit for bit; in one process, through Lightning."""

import os
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes import gans
from tests.training.conftest import FAMILIES
from tests.training.two_ranks import TRANSLATORS, tiny_translation
from wplus.errors import Interrupted, UserError
from wplus.losses.adversarial import logistic_discriminator
from wplus.losses.lecam import LeCam
from wplus.losses.perceptual import EffNetLite0Distance
from wplus.training.anchor import Anchor
from wplus.training.augment.control import AdaptiveAugment, FixedAugment, ScheduledAugment
from wplus.training.augment.diffaug import DiffAugment
from wplus.training.callbacks import Diverged
from wplus.training.checkpoints import checkpoint_path, latest_checkpoint
from wplus.training.gan import GanModule
from wplus.training.heads import ScheduledHeads

MICRO = {"num_micro": 2, "ema_rampup": 0.05}
CASES: dict[str, Callable[[], dict[str, Any]]] = {  # arguments of make_tiny, or of tiny_encoder
    **{family: lambda family=family: {"family": family, "resolution": 16} for family in FAMILIES},
    "micro-batches": lambda: MICRO,
    "numbers that move": lambda: {"decay_kimg": 0.04, "gamma_end": 0.1, "lr_end": 0.001, "ema_kimg_end": 0.05},
    "ada": lambda: {"augment": AdaptiveAugment(0.4, interval=2, speed_kimg=0.064, target=0.0, transforms="bgcfnc")},
    "scheduled": lambda: {"augment": ScheduledAugment(0.0, p_end=0.8, decay_kimg=0.024, transforms="bgcfnc")},
    "diffaug and blur": lambda: {"augment": DiffAugment(), "blur_sigma": 1.5, "blur_fade_kimg": 0.02},
    "heads": lambda: {"heads": ScheduledHeads(target=0.55, interval=2, speed_kimg=0.05, policy="color")},
    "heads that come and go": lambda: {
        "heads": ScheduledHeads(start_kimg=0.004, warmup_kimg=0.008, hold_kimg=0.004, fade_kimg=0.008)
    },
    "anchor": lambda: {"anchor": Anchor(warmup_kimg=0.016, fit_steps=3, pool=64, perceptual=EffNetLite0Distance())},
    "lecam": lambda: {"losses": {"discriminator": LeCam(logistic_discriminator, weight=0.5)}},
    "san": lambda: {"san": True},
    "frozen layers": lambda: {"resolution": 16, "freeze": 5},
    "frozen statistics": lambda: {"family": "dcgan", "resolution": 16, "freeze": 2},
    "encoder": dict,
    "encoder with AdamW": lambda: {"hparams": {"optimizer": "adamw", "ema_kimg": None}},
    "iterative encoder": lambda: {"iterative": True, "hparams": {"num_passes": 2}},
    "autoencoder": lambda: {"noise": 0.2, "masked": 0.2},
    "autoencoder, sparse and contractive": lambda: {
        "case": "sigmoid",
        "kl_sparsity": 1.0,
        "l1": 0.1,
        "contractive": 0.1,
    },
    "autoencoder with batch norm": lambda: {"case": "batch norm"},
    "autoencoder, variational": lambda: {"case": "variational", "kl_warmup_kimg": 0.02, "free_bits": 0.1},
    "encoder alone": lambda: {"loss_weights": {"adversarial": 0.0}, "latent_discriminator": None},  # one optimizer
    "pix2pix": lambda: {"norm": "batch", "dropout": 0.5, "constant_kimg": 0.008, "decay_kimg": 0.04},
    "cyclegan": lambda: {"pool_size": 5, "jitter": 1.1},
}


@pytest.fixture(autouse=True)
def _signals(signals_restored):
    """Restore the process's handlers after every run."""


@pytest.fixture
def make(make_tiny, tiny_encoder, tiny_autoencoder):
    """make(case, ...): an untrained module for it."""
    makers = {"autoencoder": tiny_autoencoder, "encoder": tiny_encoder, "": make_tiny}

    def made(case: str, **changes: Any) -> Any:
        if case in TRANSLATORS:
            return tiny_translation(case, **{**CASES[case](), **changes})
        maker = next(each for word, each in makers.items() if word in case)
        return maker(c_dim=0 if case in ("san", "anchor") else 3, **CASES[case](), **changes)

    return made


def assert_same(a: Any, b: Any, path: str = "") -> None:
    """Check that trees of containers, numbers and tensors are equal bit for bit."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            assert_same(a[key], b[key], f"{path}.{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for index, pair in enumerate(zip(a, b, strict=True)):
            assert_same(*pair, f"{path}.{index}")
    else:
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, path


def newest(folder: Path) -> str:
    return latest_checkpoint(folder / "checkpoints").name


def state(folder: Path) -> dict[str, Any]:
    """Everything that determines the rest of a run, from its newest checkpoint."""
    content = torch.load(latest_checkpoint(folder / "checkpoints"), weights_only=True)
    return {key: content[key] for key in ("state_dict", "optimizer_states", "run_fingerprint")}


@pytest.mark.parametrize("case", CASES)
def test_a_resumed_run_equals_an_uninterrupted_one(make, train, tmp_path, case):
    """Three steps and five: between two steps of each lazy penalty, while networks grow, p changes, deltas join."""
    straight = train(tmp_path / "straight", 32, make(case))
    train(tmp_path / "parts", 12, make(case))
    resumed = train(tmp_path / "parts", 32, make(case))
    assert_same(resumed.state_dict(), straight.state_dict())
    assert_same(state(tmp_path / "parts"), state(tmp_path / "straight"))
    assert resumed.images_seen == state(tmp_path / "parts")["state_dict"]["nimg"] == 32
    assert resumed.skipped.tolist() == [0, 0]
    assert any(not torch.equal(a, b) for a, b in zip(resumed.parameters(), make(case).parameters(), strict=True))


def test_every_family_is_among_them():
    assert gans() == sorted(FAMILIES)


def test_sessions_of_any_length(make, train, tmp_path):
    straight = train(tmp_path / "straight", 24, make("micro-batches"))
    for images in (4, 12, 16, 24):
        resumed = train(tmp_path / "parts", images, make("micro-batches"))
    assert_same(resumed.state_dict(), straight.state_dict())
    assert resumed.pl_mean > 0


CHANGES: dict[str, dict[str, Callable[[Any], Any]]] = {
    "stylegan2": {
        "average": lambda c: c["state_dict"]["ema.synthesis.b4.const"].add_(1),
        "path length mean": lambda c: c["state_dict"]["pl_mean"].add_(1),
        "clock": lambda c: c["state_dict"]["nimg"].sub_(4),
        "generator's Adam": lambda c: c["optimizer_states"][0]["state"][0]["exp_avg_sq"].add_(1),
        "discriminator's Adam": lambda c: c["optimizer_states"][1]["state"][0]["step"].add_(5),
    },
    "autoencoder, variational": {
        "clock": lambda c: c["state_dict"]["nimg"].sub_(4),
        "averaged decoder": lambda c: c["state_dict"]["averages.generator.log_sigma"].add_(1),
        "averaged encoder": lambda c: c["state_dict"]["averages.encoder.to_code.bias"].add_(1),
        "deviation": lambda c: c["state_dict"]["generator.log_sigma"].add_(1),
        "Adam": lambda c: c["optimizer_states"][0]["state"][0]["exp_avg"].add_(1),
    },
    "encoder": {
        "pool of real codes": lambda c: c["state_dict"]["adversary.real_pool.stored"].mul_(-3),
        "pool of fake codes": lambda c: c["state_dict"]["adversary.fake_pool.stored"].mul_(-3),
        "discriminator": lambda c: c["state_dict"]["adversary.discriminator.layers.0.weight"].add_(1),
        "average": lambda c: c["state_dict"]["average.conv.weight"].add_(1),
        "batch statistics": lambda c: c["state_dict"]["encoder.norm.running_mean"].add_(1),
        "clock": lambda c: c["state_dict"]["nimg"].sub_(4),
        "slow weights": lambda c: c["optimizer_states"][0]["state"][2]["slow"].add_(1),
        "Ranger's count": lambda c: c["optimizer_states"][0]["state"][2].update(step=1),
        "discriminator's Adam": lambda c: c["optimizer_states"][1]["state"][0]["exp_avg"].add_(1),
    },
    "cyclegan": {
        "pool of images of a": lambda c: c["state_dict"]["pool_a.stored"].mul_(-1),
        "pool of images of b": lambda c: c["state_dict"]["pool_b.stored"].mul_(-1),
        "way back": lambda c: c["state_dict"]["generator_backward.last.weight"].add_(1),
        "clock": lambda c: c["state_dict"]["nimg"].sub_(4),
        "generators' Adam": lambda c: c["optimizer_states"][0]["state"][0]["exp_avg_sq"].add_(1),
        "discriminators' Adam": lambda c: c["optimizer_states"][1]["state"][0]["exp_avg"].add_(1),
    },
}


@pytest.mark.parametrize("case", CHANGES)
def test_a_run_depends_on_every_part_of_its_state(make, train, tmp_path, case):
    """The comparisons above can fail: a checkpoint with one changed part leads to another result."""
    train(tmp_path / "first", 24, make(case))
    path = latest_checkpoint(tmp_path / "first" / "checkpoints")

    def continued(name: str, change: Callable[[Any], Any]) -> dict[str, torch.Tensor]:
        content = torch.load(path, weights_only=True)
        change(content)
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        torch.save(content, tmp_path / name / "checkpoints" / path.name)
        return train(tmp_path / name, 48, make(case), snapshot=1000).state_dict()

    expected = continued("same", lambda content: None)
    for what, change in CHANGES[case].items():
        found = continued(what, change)
        assert any(not torch.equal(found[name], expected[name]) for name in expected), what


OTHERS = [
    ("micro-batches", {"gamma": 2.0}, r"hparams\.gamma was 1\.0 and is now 2\.0"),
    ("stylegan2", {"num_micro": 2}, "num_micro was 1 and is now 2"),
    ("stylegan2", {"freeze": 3}, "freeze_discriminator was None and is now 3"),
    ("stylegan2", {"augment": FixedAugment(0.3)}, r"augment\.p was None and is now 0\.3"),
    ("encoder", {"loss_weights": {"delta": 0.02}}, r"hparams\.loss_weights\.delta was 0\.01 and is now 0\.02"),
    ("encoder", {"latent_discriminator": {"pool_size": 6}}, r"latent_discriminator\.pool_size was 5 and is now 6"),
    ("encoder", {"progressive": None}, r"hparams\.progressive"),
    ("autoencoder", {"l1": 0.5}, r"hparams\.l1 was 0\.0 and is now 0\.5"),
    ("encoder", {"seed": 1}, "seed was 0 and is now 1"),
    ("pix2pix", {"l1_weight": 10.0}, r"hparams\.l1_weight was 100\.0 and is now 10\.0"),
    ("cyclegan", {"pool_size": 6}, r"hparams\.pool_size was 5 and is now 6"),
]


@pytest.mark.parametrize(("case", "changes", "message"), OTHERS)
def test_another_run_is_refused(make, train, tmp_path, case, changes, message):
    train(tmp_path, 8, make(case))
    with pytest.raises(UserError, match=message):
        train(tmp_path, 16, make(case, **changes))
    assert newest(tmp_path) == checkpoint_path(tmp_path, 8).name


# --- of the loop, whatever it trains --------------------------------------------------------------------------------


def test_a_truncated_checkpoint_costs_only_the_way_to_it(make_tiny, train, tmp_path):
    straight = train(tmp_path / "straight", 24, make_tiny())
    train(tmp_path / "parts", 16, make_tiny())
    path = latest_checkpoint(tmp_path / "parts" / "checkpoints")
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="truncated or damaged"):
        resumed = train(tmp_path / "parts", 24, make_tiny())
    assert_same(resumed.state_dict(), straight.state_dict())


def test_a_run_killed_at_work_goes_on_from_its_checkpoint(make, train, tmp_path, monkeypatch):
    """No trace of the steps after the checkpoint survives."""
    straight, killed = train(tmp_path / "straight", 32, make("encoder")), make("encoder")
    update = killed.update

    def kill(*args: Any) -> None:
        update(*args)
        if killed.images_seen == 20:
            raise SystemError("killed")

    monkeypatch.setattr(killed, "update", kill)
    with pytest.raises(SystemError, match="killed"):
        train(tmp_path / "parts", 32, killed)
    assert newest(tmp_path / "parts") == checkpoint_path(tmp_path, 16).name
    assert_same(train(tmp_path / "parts", 32, make("encoder")).state_dict(), straight.state_dict())


def test_a_finished_run_is_not_trained_further(make_tiny, train, tmp_path):
    exported: list[int] = []
    first = train(tmp_path, 8, make_tiny())
    again = train(tmp_path, 8, make_tiny(), export=lambda module, **_: exported.append(module.images_seen))
    assert_same(again.state_dict(), first.state_dict())
    assert exported == [8]


def test_snapshots_and_exports_follow_the_clock(make_tiny, train, tmp_path):
    exported: list[int] = []
    settings = {"snapshot": 12, "keep": 2, "export": lambda module: exported.append(module.images_seen)}
    train(tmp_path, 28, make_tiny(), **settings)
    assert exported == [0, 12, 24, 28]
    names = sorted(path.name for path in (tmp_path / "checkpoints").iterdir())
    assert names == [checkpoint_path(tmp_path, nimg).name for nimg in (24, 28)]
    train(tmp_path, 36, make_tiny(), **settings)
    assert exported == [0, 12, 24, 28, 36]


def test_one_device_ignores_slurms_tasks(make_tiny, train, tmp_path, monkeypatch):
    for name, value in {"JOB_ID": "1", "NTASKS": "2", "JOB_NAME": "train", "PROCID": "1"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    assert train(tmp_path, 8, make_tiny()).images_seen == 8


def test_the_log_is_rewound_and_goes_on(make, train, tmp_path, recorder):
    train(tmp_path, 16, make("ada"))
    assert recorder.rewinds == [None]
    assert [kimg for kimg, _ in recorder.rows] == [0.008, 0.016]
    train(tmp_path, 32, make("ada"))
    assert recorder.rewinds == [None, 0.016]
    assert [kimg for kimg, _ in recorder.rows] == [0.008, 0.016, 0.024, 0.032]
    with pytest.raises(UserError, match=r"schedule\.kimg=0\.016 is less than the 0\.032 kimg that '"):
        train(tmp_path, 16, make("ada"))
    expected = {f"train/{phase}/grad_norm" for phase in ("generator", "path_length", "discriminator", "r1")}
    expected |= {"train/logits/real_std", "train/logits/fake", "train/generator/loss"}
    expected |= {f"train/augment/{name}" for name in ("p", "rt", "saturated")}
    for _, row in recorder.rows:
        assert row["progress/skipped_steps"] == 0
        assert row["progress/kimg_per_s"] > 0
        assert row["progress/peak_memory_gb"] > 0
        assert expected <= row.keys()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_run_after_the_step_at_hand(make, train, tmp_path, monkeypatch, recorder, number):
    """The log row in progress continues with the run."""
    straight, module = train(tmp_path / "straight", 32, make("micro-batches")), make("micro-batches")
    run_step = module.run_step

    def signalled(*args: Any, **kwargs: Any) -> None:
        if module.images_seen == 16:
            os.kill(os.getpid(), number)
        run_step(*args, **kwargs)

    monkeypatch.setattr(module, "run_step", signalled)
    train(tmp_path / "parts", 32, module, snapshot=1000, status=number)
    assert module.images_seen == 20
    assert newest(tmp_path / "parts") == checkpoint_path(tmp_path, 20).name
    assert_same(train(tmp_path / "parts", 32, make("micro-batches")).state_dict(), straight.state_dict())
    rows = [(kimg, {name: value for name, value in row.items() if name.startswith("train/")})
            for kimg, row in recorder.rows]  # fmt: skip
    assert rows[: len(rows) // 2] == rows[len(rows) // 2 :]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_training_is_set_up_keeps_its_number(make, train, tmp_path, monkeypatch, number):
    """The command's handlers raise at that point, and Lightning would exit with status 1."""
    module = make("micro-batches")

    def interrupted() -> None:
        raise Interrupted(number)

    monkeypatch.setattr(module, "on_fit_start", interrupted)
    with pytest.raises(Interrupted) as ended:
        train(tmp_path, 8, module)
    assert ended.value.number == number


def test_a_second_ctrl_c_ends_at_once(make, train, tmp_path, monkeypatch):
    module = make("micro-batches")
    monkeypatch.setattr(module, "run_step", lambda *_, **__: [os.kill(os.getpid(), signal.SIGINT) for _ in range(2)])
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path, 8, module)
    assert signal.getsignal(signal.SIGINT) == before


def lose(module: GanModule, *, after: int) -> GanModule:
    """From `after` images on, both losses are NaN."""
    for name in ("generator_loss", "discriminator_loss"):
        loss = getattr(module, name)
        bad = lambda *logits, loss=loss: loss(*logits) * (float("nan") if module.images_seen >= after else 1)
        setattr(module, name, bad)
    return module


def test_a_lost_run_stops_and_keeps_the_last_good_checkpoint(make_tiny, train, tmp_path, recorder):
    plain = {"gamma": 0.0, "pl_weight": 0.0}
    message = r"^4 optimizer steps in a row had a gradient that was not finite \(allowed: 3\) at 0\.024 kimg; the last"
    with pytest.raises(Diverged, match=message):
        train(tmp_path, 64, lose(make_tiny(**plain), after=16), snapshot=4)
    assert newest(tmp_path) == checkpoint_path(tmp_path, 16).name
    assert all(tensor.isfinite().all() for tensor in state(tmp_path)["state_dict"].values())
    kimg, row = recorder.rows[-1]
    assert (kimg, row["progress/skipped_in_a_row"], row["progress/skipped_steps"]) == (0.024, 4, 4)
    assert all(value == value and abs(value) != float("inf") for value in row.values())
    assert train(tmp_path, 24, make_tiny(**plain)).images_seen == 24  # the same command, mended, goes on from there


def test_lightning_says_nothing(make_tiny, train, tmp_path, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*LeafSpec.*")
        train(tmp_path, 8, make_tiny())
    out, err = capsys.readouterr()
    assert out == ""
    assert {line.split(":")[0] for line in err.splitlines()} <= {"Training (images)"}
