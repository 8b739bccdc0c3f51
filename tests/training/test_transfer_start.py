"""How a run uses the networks it starts from, its report about them, and the command."""

import json
import runpy
import sys
from functools import partial
from pathlib import Path

import pytest
import torch

import wplus
from tests.training.trained import CPU, EVEN, LOSS, SMALL, model, network
from wplus.checkpoint import Models, fingerprint
from wplus.config import composed
from wplus.errors import UserError
from wplus.models import progan, stylegan2
from wplus.models.progressive import set_lod
from wplus.tracking import Tracker
from wplus.training.augment.control import AdaptiveAugment, FixedAugment
from wplus.training.build import gan_training
from wplus.training.penalties import R1
from wplus.training.transfer import Source, Transfer


def test_a_module_starts_from_it(files, start):
    """Including the average; sizes chosen by a preset are the checkpoint's."""
    training = start(list(files))
    module, source = training.module, wplus.load(files[0]).generator
    for made in (module.generator, module.ema):
        assert torch.equal(made.synthesis.b8.conv0.weight, source.synthesis.b8.conv0.weight)
        assert torch.equal(made.mapping.w_avg, source.mapping.w_avg)
    assert torch.equal(module.discriminator.b4.out.weight, wplus.load(files[1]).discriminator.b4.out.weight)
    assert module.generator.arguments["num_mapping_layers"] == 3
    assert module.generator.arguments["channel_max"] == 8
    assert training.resolved["ema_rampup"] == (None, "transfer: the average starts from trained weights")
    assert module.hp.ema_rampup is None
    assert not training.transfer.networks[0].mismatched
    assert module.run_fingerprint["transfer"]["generator"] == fingerprint(source)
    assert module.describe()["transfer"] == module.run_fingerprint["transfer"]


def test_given_numbers_win(files, start):
    training = start(files[0], hparams={"ema_rampup": 0.5}, parts=model(num_mapping_layers=1))
    assert training.resolved["ema_rampup"] == (0.5, "given")
    assert training.module.generator.arguments["num_mapping_layers"] == 1
    assert training.transfer.networks[0].arguments == {"num_mapping_layers": (3, 1)}


def test_without_a_discriminator_all_of_it_is_new_and_without_files_there_is_no_transfer(files, start):
    training = start(files[0])
    assert not training.transfer.networks[1].loaded
    assert "discriminator: new, because no checkpoint contains one" in str(training.transfer)
    assert training.module.run_fingerprint["transfer"]["discriminator"] is None
    training = start(None, parts=model(**SMALL))
    assert training.transfer is None
    assert "transfer" not in training.module.run_fingerprint
    assert training.module.hp.ema_rampup == 0.05


def test_each_network_is_from_the_first_file_that_holds_it(files, start, tmp_path):
    both = wplus.save(
        tmp_path / "both.safetensors",
        generator=network(stylegan2.Generator, 8, w_dim=6, seed=5, **SMALL),
        discriminator=network(stylegan2.Discriminator, 8, seed=5, **SMALL),
    )
    report = start([files[0], both]).transfer
    assert [part.origin for part in report.networks] == [files[0], both]
    assert [part.origin for part in start([both, files[1]]).transfer.networks] == [both, both]


def test_adaptive_augmentation_moves_faster(files, start):
    training = start(files[0], augment=AdaptiveAugment)
    assert training.resolved["augment_speed_kimg"][0] == 100
    assert training.module.augment.speed == 100_000
    assert training.module.run_fingerprint["augment"]["speed_kimg"] == 100
    assert start(files[0], augment=partial(AdaptiveAugment, speed_kimg=300)).module.augment.speed == 300_000
    assert start(None, parts=model(**SMALL), augment=AdaptiveAugment).module.augment.speed == 500_000
    assert "augment_speed_kimg" not in start(files[0], augment=partial(FixedAugment, 0.1)).resolved


@pytest.mark.parametrize(("lod", "resolution", "expected"), [(0.0, 32, 16), (0.0, 8, 8), (0.5, 32, 8), (1.0, 32, 8)])
def test_a_network_that_grows_starts_where_the_trained_one_ended(lod, resolution, expected):
    source = network(progan.Generator, 16)
    set_lod(source, lod)
    assert Source(models=Models(generator=source)).preset(resolution, 8)["start_resolution"][0] == expected


def test_growth_goes_on_from_there(make_images, tmp_path):
    file = wplus.save(tmp_path / "g.safetensors", generator=network(progan.Generator, 8))
    parts = {
        "generator": partial(progan.Generator, **EVEN),
        "discriminator": partial(progan.Discriminator, mbstd_group_size=None, **EVEN),
        "preset": composed("train", ["model=progan"])["model"]["preset"],
        "loss": {**LOSS, "penalties": [R1("gamma")], "hparams": {"r1_interval": 1}},
    }
    training = gan_training(
        preset=None, hparams={"batch_size": 4, "gamma": 1.0}, micro_batch_size=None, model=lambda: parts, loss=None,
        data=lambda split: make_images(resolution=16), runtime=CPU, seed=0, num_samples=4,
        transfer=Transfer(checkpoint=file),
    )  # fmt: skip
    assert training.module.generator.synthesis.growth.value == training.module.ema.synthesis.growth.value == 1.0
    assert training.resolved["start_resolution"][0] == 8


def test_a_checkpoint_of_which_nothing_fits_is_refused(start, tmp_path):
    """Biases of the colours, noise and its strength fit by accident."""
    file = wplus.save(tmp_path / "g.safetensors", generator=network(stylegan2.Generator, 8, z_dim=3, w_dim=3))
    with pytest.raises(
        UserError, match=r"^No weights of the generator in .* fit this one .z_dim is 3 there and 6 here;"
    ):
        start(file, parts=model(channel_base=64, channel_max=4, num_mapping_layers=1))


def test_the_report(files, start, recorder, tmp_path, capsys):
    training = start(list(files))
    training.transfer.record(tmp_path, recorder)
    content = json.loads((tmp_path / "transfer.json").read_text())
    module, old = training.module, wplus.load(files[0]).generator
    loaded = content["generator"]["loaded"]
    assert loaded["numbers"] == sum(tensor.numel() for tensor in old.state_dict().values())
    assert loaded["tensors"] == len(loaded["names"]) == len(old.state_dict())
    total = sum(content["generator"][kind]["numbers"] for kind in ("loaded", "mismatched", "new"))
    assert total == sum(tensor.numel() for tensor in module.generator.state_dict().values())
    assert content["discriminator"]["skipped"]["names"] == {"b8.fromrgb.weight": 24, "b8.fromrgb.bias": 8}
    assert content["discriminator"]["resolution"] == {"there": 8, "here": 16}
    assert recorder.inputs == {"transfer": files[0], "transfer-discriminator": files[1]}
    assert recorder.values["train/transfer_discriminator_skipped"]["value"] == 32
    assert recorder.values["train/transfer_discriminator_skipped"]["protocol"]["tensors"] == 2
    printed = capsys.readouterr().out
    assert f"generator, 8 -> 16 px, from {files[0]}: loaded {loaded['numbers']:,} numbers" in printed
    assert "skipped 32 numbers in 2 tensors (b8.fromrgb); new" in printed
    page = (tmp_path / "transfer.md").read_text()
    assert f"| generator | {loaded['numbers']:,} ({loaded['tensors']}) | 0 (0) |" in page
    assert "## discriminator: skipped\n\n- b8.fromrgb.weight: 24\n" in page


def test_the_report_of_the_start_is_kept(files, start, recorder, tmp_path, capsys):
    start(list(files)).transfer.record(tmp_path, Tracker())
    first = (tmp_path / "transfer.json").read_bytes()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "nimg-000000000004.ckpt").touch()
    start(files[0]).transfer.record(tmp_path, recorder)
    assert (tmp_path / "transfer.json").read_bytes() == first
    assert not recorder.values
    assert "The run is resumed" in capsys.readouterr().out


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command(tmp_path, monkeypatch, repository, capsys):
    """It trains from a checkpoint, resumes without another transfer, and refuses to resume from another checkpoint."""
    arguments = {"resolution": 8, "z_dim": 32, "w_dim": 32, "channel_base": 256, "channel_max": 32}
    sizes = {"channel_base": 256, "channel_max": 32}
    save = partial(wplus.save, discriminator=stylegan2.Discriminator(resolution=8, **sizes))
    first, second = (
        save(tmp_path / f"{name}.safetensors", generator=network(stylegan2.Generator, seed=seed, **arguments))
        for name, seed in (("first", 1), ("second", 2))
    )

    def train(checkpoint: Path, kimg: float) -> None:
        command = [
            "train.py", "debug=quick", "data.num_images=60", "num_samples=4", "probes=[]", f"schedule.kimg={kimg}",
            f"transfer.checkpoint={checkpoint}", f"run_dir={tmp_path}/run",
        ]  # fmt: skip
        monkeypatch.setattr(sys, "argv", command)
        runpy.run_path(str(repository / "train.py"), run_name="__main__")

    train(first, 0.016)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["values"]["train/transfer_generator_loaded"]["value"] > 10_000
    assert result["inputs"]["transfer"]["file"].endswith("first.safetensors")
    assert wplus.load(tmp_path / "run" / "model.safetensors").metadata["transfer"]["generator"]
    kept = (tmp_path / "run" / "transfer.json").read_bytes()
    train(first, 0.032)
    assert (tmp_path / "run" / "transfer.json").read_bytes() == kept
    with pytest.raises(SystemExit, match=r'transfer\.checkpoint was "content \w{12}" and is now "content \w{12}"'):
        train(second, 0.048)
