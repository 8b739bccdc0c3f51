"""Which tensor goes where, in every family, up and down in resolution; what is refused; what a run does with it."""

from __future__ import annotations

import json
import runpy
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

import wplus
from wplus.checkpoint import Models, fingerprint
from wplus.errors import UserError
from wplus.losses.adversarial import logistic_discriminator, nonsaturating_generator
from wplus.models import dcgan, mlp_gan, progan, r3gan, stylegan1, stylegan2
from wplus.models.growing import set_lod
from wplus.models.network import Network
from wplus.training import Place, Transfer, presets
from wplus.training.augment import AdaptiveAugment, FixedAugment
from wplus.training.recipe import auto
from wplus.training.setup import gan_training
from wplus.training.setup_encoder import encoder_training
from wplus.training.transfer import Source, transfer

CPU = Place(device=torch.device("cpu"))
# The same width at every resolution: whatever is paired wrongly fits all the same.
EVEN = {"channel_base": 1024, "channel_max": 8}
SIZES: dict[Any, dict[str, Any]] = {
    stylegan2.Generator: {"z_dim": 6, "w_dim": 5, "num_mapping_layers": 2, **EVEN},
    stylegan1.Generator: {"z_dim": 6, "w_dim": 5, "num_mapping_layers": 2, **EVEN},
    mlp_gan.Generator: {"z_dim": 6, "width": 7},
    mlp_gan.Discriminator: {"width": 7},
}
# (class, further arguments) -> of 32 px: module <- the module of 16 px; what only the larger one has; only the smaller.
PAIRS: dict[str, tuple[Any, dict[str, Any], dict[str, str], list[str], list[str]]] = {
    "stylegan2.G": (
        stylegan2.Generator, {}, {"mapping": "mapping", **{f"synthesis.b{r}": f"synthesis.b{r}" for r in (4, 8, 16)}},
        ["synthesis.b32"], [],
    ),
    "stylegan2.D": (
        stylegan2.Discriminator, {},
        {"b4": "b4", "b8": "b8", "b16.conv0": "b16.conv0", "b16.conv1": "b16.conv1", "b16.skip": "b16.skip"},
        ["b32"], ["b16.fromrgb"],
    ),
    "stylegan2.D.orig": (
        stylegan2.Discriminator, {"architecture": "orig"},
        {"b4": "b4", "b8": "b8", "b16.conv0": "b16.conv0", "b16.conv1": "b16.conv1"}, ["b32"], ["b16.fromrgb"],
    ),
    "stylegan2.D.skip": (
        stylegan2.Discriminator, {"architecture": "skip"}, {"b4": "b4", "b8": "b8", "b16": "b16"}, ["b32"], [],
    ),
    "stylegan1.G": (
        stylegan1.Generator, {},
        {"mapping": "mapping", "synthesis.const": "synthesis.const",
         **{f"synthesis.layers.{i}": f"synthesis.layers.{i}" for i in range(6)},
         **{f"synthesis.torgb.{i}": f"synthesis.torgb.{i}" for i in range(3)}},
        ["synthesis.layers.6", "synthesis.layers.7", "synthesis.torgb.3"], [],
    ),
    "stylegan1.D": (
        stylegan1.Discriminator, {},
        {name: name for name in ("epilogue", "blocks.0", "blocks.1", "fromrgb.0", "fromrgb.1", "fromrgb.2")},
        ["blocks.2", "fromrgb.3"], [],
    ),
    "progan.G": (
        progan.Generator, {},
        {"mapping": "mapping", **{f"synthesis.{part}.{i}": f"synthesis.{part}.{i}" for part in ("blocks", "torgb")
                                  for i in range(3)}},
        ["synthesis.blocks.3", "synthesis.torgb.3"], [],
    ),
    "r3gan.G": (
        r3gan.Generator, {},
        {"mapping": "mapping", "synthesis.basis": "synthesis.basis", "synthesis.linear": "synthesis.linear",
         **{f"synthesis.stages.{i}": f"synthesis.stages.{i}" for i in range(3)}},
        ["synthesis.stages.3", "synthesis.torgb"], ["synthesis.torgb"],
    ),
    "r3gan.D": (
        r3gan.Discriminator, {},
        {"basis": "basis", "linear": "linear", "stages.1": "stages.0", "stages.2": "stages.1", "stages.3": "stages.2"},
        ["fromrgb", "stages.0"], ["fromrgb"],
    ),
    "r3gan.D.narrow": (  # where the width changes, too
        r3gan.Discriminator, {"channel_base": 128, "channel_max": 32},
        {"basis": "basis", "linear": "linear", "stages.1": "stages.0", "stages.2": "stages.1", "stages.3": "stages.2",
         "transitions.1": "transitions.0", "transitions.2": "transitions.1"},
        ["fromrgb", "stages.0", "transitions.0"], ["fromrgb"],
    ),
    "dcgan.G": (
        dcgan.Generator, {},
        {name: name for name in ("mapping", "synthesis.project", "synthesis.norms.0", "synthesis.norms.1",
                                 "synthesis.ups.0")},
        ["synthesis.norms.2", "synthesis.ups.1", "synthesis.out"], ["synthesis.out"],
    ),
    "dcgan.D": (
        dcgan.Discriminator, {}, {"downs.1": "downs.0", "norms.1": "norms.0", "out": "out"},
        ["read", "downs.0", "norms.0"], ["read"],
    ),
}  # fmt: skip


def network(kind: Any, resolution: int = 16, *, seed: int = 0, **arguments: Any) -> Any:
    """Every number in it is of its own."""
    made = kind(resolution=resolution, **{**SIZES.get(kind, EVEN), **arguments})
    source = torch.Generator().manual_seed(seed)
    for name, tensor in made.state_dict().items():
        if not name.endswith("lod"):
            tensor.copy_(torch.randn(tensor.shape, generator=source))
    return made


def tensors(part: Network, modules: Any) -> dict[str, torch.Tensor]:
    """Those of modules, or of parameters, that are named."""
    return {
        name: tensor
        for name, tensor in part.state_dict().items()
        if any(name == module or name.startswith(f"{module}.") for module in modules)
    }


def moved(ours: Network, theirs: Network) -> Any:
    """The report of a transfer between two networks of a role."""
    return transfer({"generator": ours}, Models(generator=theirs)).networks[0]


@pytest.mark.parametrize("down", [False, True], ids=["up", "down"])
@pytest.mark.parametrize("case", PAIRS)
def test_the_same_block_is_paired(case, down):
    kind, arguments, pairs, only_larger, only_smaller = PAIRS[case]
    ours, theirs = (network(kind, size, seed=size, **arguments) for size in ((16, 32) if down else (32, 16)))
    before = {name: tensor.clone() for name, tensor in ours.state_dict().items()}
    report = moved(ours, theirs)
    if down:
        pairs, only_larger, only_smaller = {b: a for a, b in pairs.items()}, only_smaller, only_larger
    assert report.loaded.keys() == tensors(ours, pairs).keys()
    assert report.new.keys() == tensors(ours, only_larger).keys()
    assert report.skipped.keys() == tensors(theirs, only_smaller).keys()
    assert not report.mismatched
    for here, there in pairs.items():
        copied, expected = tensors(ours, [here]), tensors(theirs, [there])
        assert len(copied) == len(expected) > 0
        for ours_is, theirs_is in zip(copied.values(), expected.values(), strict=True):
            assert torch.equal(ours_is, theirs_is)
    for name in report.new:
        assert torch.equal(ours.state_dict()[name], before[name])


@pytest.mark.parametrize("sizes", [(16, 8), (8, 16)])
def test_perceptrons_fit_but_for_the_layer_at_the_pixels(sizes):
    ours, theirs = (network(mlp_gan.Generator, size, seed=size) for size in sizes)
    report = moved(ours, theirs)
    assert report.mismatched == {
        "synthesis.out.weight": ((3 * sizes[1] ** 2, 7), (3 * sizes[0] ** 2, 7)),
        "synthesis.out.bias": ((3 * sizes[1] ** 2,), (3 * sizes[0] ** 2,)),
    }
    assert torch.equal(ours.synthesis.hidden[1].weight, theirs.synthesis.hidden[1].weight)
    report = moved(*(network(mlp_gan.Discriminator, size, seed=size) for size in sizes))
    assert sorted(report.mismatched) == ["layers.1.linear.weight"]
    assert len(report.loaded) == 5


def test_the_first_of_each_resolution_is_the_same_function():
    """The smaller generator, asked for the image that the larger one paints up to there."""
    small, large = network(stylegan2.Generator, 8, seed=1), network(stylegan2.Generator, 16, seed=2)
    moved(large, small)
    z = torch.randn(2, 6)
    seen = []
    large.synthesis.b8.register_forward_hook(lambda module, given, made: seen.append(made[1]))
    large(z)
    torch.testing.assert_close(seen[0], small(z))


def test_another_width_keeps_what_it_was_initialised_with():
    ours, theirs = network(stylegan2.Generator, seed=1, channel_max=4), network(stylegan2.Generator, seed=2)
    before = ours.synthesis.b16.conv1.weight.clone()
    report = moved(ours, theirs)
    assert report.mismatched["synthesis.b16.conv1.weight"] == ((8, 8, 3, 3), (4, 4, 3, 3))
    assert torch.equal(ours.synthesis.b16.conv1.weight, before)
    assert torch.equal(ours.mapping.fc1.weight, theirs.mapping.fc1.weight)
    assert report.arguments == {"channel_max": (8, 4)}
    assert not report.new
    assert not report.skipped


@pytest.mark.parametrize(
    ("there", "here", "mismatched", "new", "skipped"),
    [
        (0, 3, ["mapping.fc0.weight"], ["mapping.embed.weight", "mapping.embed.bias"], []),
        (3, 0, ["mapping.fc0.weight"], [], ["mapping.embed.weight", "mapping.embed.bias"]),
        (3, 2, ["mapping.embed.weight"], [], []),
    ],
)
def test_other_classes(there, here, mismatched, new, skipped):
    ours, theirs = network(stylegan2.Generator, c_dim=here), network(stylegan2.Generator, c_dim=there, seed=1)
    report = moved(ours, theirs)
    assert list(report.mismatched) == mismatched
    assert sorted(report.new) == sorted(new)
    assert sorted(report.skipped) == sorted(skipped)
    assert report.arguments == {"c_dim": (there, here)}
    assert torch.equal(ours.mapping.w_avg, theirs.mapping.w_avg)


def test_how_far_a_network_has_grown_is_not_copied():
    ours, theirs = network(progan.Generator, 16), network(progan.Generator, 16)
    set_lod(theirs, 1.5)
    set_lod(ours, 2.0)
    assert not any("lod" in name for name in moved(ours, theirs).loaded)
    assert ours.synthesis.growth.value == float(ours.synthesis.growth.lod) == 2.0


# --- what a run does with it ----------------------------------------------------------------------------------------

LOSS = {"generator_loss": nonsaturating_generator, "discriminator_loss": logistic_discriminator}
SMALL = {"channel_base": 64, "channel_max": 8}


def model(**generator: Any) -> dict[str, Any]:
    """What configs/train/model/stylegan2 builds, small."""
    sizes = {name: generator.get(name) for name in ("channel_base", "channel_max")}
    latents = {"z_dim": 6, "w_dim": 6, "num_mapping_layers": None}
    return {
        "generator": partial(stylegan2.Generator, **{**latents, **sizes, **generator}),
        "discriminator": partial(stylegan2.Discriminator, mbstd_group_size=None, **sizes),
        "preset": auto,
        "loss": LOSS,
    }


@pytest.fixture
def files(tmp_path) -> tuple[Path, Path]:
    """A generator and a discriminator of 8 px, in a file each."""
    generator = network(stylegan2.Generator, 8, w_dim=6, num_mapping_layers=3, **SMALL)
    discriminator = network(stylegan2.Discriminator, 8, **SMALL)
    return (
        wplus.save(tmp_path / "generator.safetensors", generator=generator),
        wplus.save(tmp_path / "discriminator.safetensors", discriminator=discriminator),
    )


@pytest.fixture
def start(make_images):
    """start(files, ...): a training that starts from them."""

    def make(checkpoint: Any, *, frozen: int = 0, resolution: int = 16, parts: Any = None, **changes: Any) -> Any:
        recipe = {"batch_size": 4, **changes.pop("recipe", {})}
        given = Transfer(checkpoint=checkpoint, freeze_discriminator=frozen)
        choices = {"preset": None, "loss": None, "place": CPU, "seed": 0, "num_samples": 4, **changes}
        return gan_training(
            data=lambda split: make_images(resolution=resolution), model=lambda: parts or model(), recipe=recipe,
            micro_batch_size=None, transfer=given, **choices,
        )  # fmt: skip

    return make


def test_a_game_starts_from_it(files, start):
    """The average, too; sizes that a preset chooses are the checkpoint's."""
    training = start(list(files))
    game, source = training.game, wplus.load(files[0]).generator
    for network in (game.generator, game.ema):
        assert torch.equal(network.synthesis.b8.conv0.weight, source.synthesis.b8.conv0.weight)
        assert torch.equal(network.mapping.w_avg, source.mapping.w_avg)
    assert torch.equal(game.discriminator.b4.out.weight, wplus.load(files[1]).discriminator.b4.out.weight)
    assert game.generator.arguments["num_mapping_layers"] == 3
    assert game.generator.arguments["channel_max"] == 8
    assert training.numbers["ema_rampup"] == (None, "transfer: the average starts from trained weights")
    assert game.recipe.ema_rampup is None
    assert not training.transfer.networks[0].mismatched
    assert game.identity["transfer"]["generator"] == fingerprint(source)
    assert game.describe()["transfer"] == game.identity["transfer"]


def test_given_numbers_win(files, start):
    training = start(files[0], recipe={"ema_rampup": 0.5}, parts=model(num_mapping_layers=1))
    assert training.numbers["ema_rampup"] == (0.5, "given")
    assert training.game.generator.arguments["num_mapping_layers"] == 1
    assert training.transfer.networks[0].arguments == {"num_mapping_layers": (3, 1)}


def test_without_a_discriminator_all_of_it_is_new(files, start):
    training = start(files[0])
    assert not training.transfer.networks[1].loaded
    assert "discriminator: new, for no checkpoint holds one" in str(training.transfer)
    assert training.game.identity["transfer"]["discriminator"] is None


def test_without_a_checkpoint_there_is_no_transfer(start):
    training = start(None, parts=model(**SMALL))
    assert training.transfer is None
    assert "transfer" not in training.game.identity
    assert training.game.recipe.ema_rampup == 0.05


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
    assert training.numbers["augment_speed_kimg"][0] == 100
    assert training.game.augment.speed == 100_000
    assert training.game.identity["augment"]["speed_kimg"] == 100
    assert start(files[0], augment=partial(AdaptiveAugment, speed_kimg=300)).game.augment.speed == 300_000
    assert start(None, parts=model(**SMALL), augment=AdaptiveAugment).game.augment.speed == 500_000
    assert "augment_speed_kimg" not in start(files[0], augment=partial(FixedAugment, 0.1)).numbers


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
        "preset": presets.progan,
        "loss": {**LOSS, "penalties": ["r1"], "numbers": {"r1_interval": 1}},
    }
    training = gan_training(
        preset=None, recipe={"batch_size": 4, "gamma": 1.0}, micro_batch_size=None, model=lambda: parts, loss=None,
        data=lambda split: make_images(resolution=16), place=CPU, seed=0, num_samples=4,
        transfer=Transfer(checkpoint=file),
    )  # fmt: skip
    assert training.game.generator.synthesis.growth.value == training.game.ema.synthesis.growth.value == 1.0
    assert training.numbers["start_resolution"][0] == 8


# --- what is refused ------------------------------------------------------------------------------------------------


def no_data(split: str) -> None:
    pytest.fail("data was read")


@pytest.mark.parametrize(
    ("found", "frozen", "message"),
    [
        ({"generator": progan.Generator}, 0, r"holds the generator of progan, which the generator of stylegan2 cannot"),
        ({"discriminator": stylegan2.Discriminator}, 0, r"^There is no generator to start from in '.*'; give a"),
        (
            {"generator": stylegan2.Generator, "discriminator": stylegan1.Discriminator}, 0,
            r"holds the discriminator of stylegan1, which the discriminator of stylegan2 cannot start from",
        ),
        ({"generator": stylegan2.Generator}, 2, r"^There is no discriminator in '.*', so transfer.freeze_discrim"),
    ],
)  # fmt: skip
def test_nonsense_is_refused_before_data_is_read(tmp_path, found, frozen, message):
    file = wplus.save(tmp_path / "m.safetensors", **{role: network(kind, 8) for role, kind in found.items()})
    with pytest.raises(UserError, match=message):
        gan_training(
            preset=None, recipe={}, micro_batch_size=None, data=no_data, model=model, loss=None, place=CPU, seed=0,
            num_samples=4, transfer=Transfer(checkpoint=file, freeze_discriminator=frozen),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"freeze_discriminator": 3},
            r"^transfer.freeze_discriminator=3 would freeze layers that have learned nothing",
        ),
        ({"freeze_discriminator": 3, "checkpoint": []}, r"have learned nothing: give transfer.checkpoint"),
        ({"freeze_discriminator": -1, "checkpoint": "m"}, r"^transfer.freeze_discriminator=-1 is not allowed"),
        ({"freeze_discriminator": 1.5, "checkpoint": "m"}, r"must be a whole number"),
    ],
)
def test_choices_that_cannot_be(arguments, message):
    with pytest.raises(UserError, match=message):
        Transfer(**arguments)


def test_a_checkpoint_of_which_nothing_fits_is_refused(start, tmp_path):
    """Biases of the colours, noise and its strength fit by accident."""
    file = wplus.save(tmp_path / "g.safetensors", generator=network(stylegan2.Generator, 8, z_dim=3, w_dim=3))
    with pytest.raises(
        UserError, match=r"^No weights of the generator in .* fit this one .z_dim is 3 there and 6 here; w_dim is"
    ):
        start(file, parts=model(channel_base=64, channel_max=4, num_mapping_layers=1))


def test_only_what_was_loaded_can_stay_frozen(files, start):
    """The block nearest to the image, at twice the resolution, has learned nothing."""
    with pytest.raises(UserError, match=r"^transfer.freeze_discriminator=2 would freeze b16.fromrgb.weight, which was"):
        start(list(files), frozen=2)
    training = start(list(files), frozen=4, resolution=8)
    assert len(training.transfer.frozen) == 7
    assert training.game.identity["freeze_discriminator"] == 4


def test_too_many_frozen_layers(files, start):
    with pytest.raises(UserError, match=r"^freeze_discriminator=5 is too large: the discriminator of stylegan2 has 4 "):
        start(list(files), frozen=5, resolution=8)


def test_an_encoders_training_refuses_it(files):
    with pytest.raises(UserError, match=r"^transfer.checkpoint has no effect on an encoder's training"):
        encoder_training(
            recipe={}, weights={}, progressive=None, latent_discriminator=None, data=no_data, generator=str(files[0]),
            encoder=None, perceptual=None, image_loss=None, place=CPU, seed=0, num_samples=4,
            transfer=Transfer(checkpoint=files[0]),
        )  # fmt: skip


# --- the report -----------------------------------------------------------------------------------------------------


class Told:
    """A tracker that keeps what this test asks for."""

    def __init__(self) -> None:
        self.inputs: dict[str, Path] = {}
        self.values: dict[str, Any] = {}

    def use_artifact(self, path: Path, *, name: str, kind: str) -> None:
        self.inputs[name] = path

    def summary(self, values: Any) -> None:
        self.values |= values


def test_the_report(files, start, tmp_path, capsys):
    training, tracker = start(list(files)), Told()
    training.transfer.record(tmp_path, tracker)
    content = json.loads((tmp_path / "transfer.json").read_text())
    game, old = training.game, wplus.load(files[0]).generator
    loaded = content["generator"]["loaded"]
    assert loaded["numbers"] == sum(tensor.numel() for tensor in old.state_dict().values())
    assert loaded["tensors"] == len(loaded["names"]) == len(old.state_dict())
    total = sum(content["generator"][kind]["numbers"] for kind in ("loaded", "mismatched", "new"))
    assert total == sum(tensor.numel() for tensor in game.generator.state_dict().values())
    assert content["discriminator"]["skipped"]["names"] == {"b8.fromrgb.weight": 24, "b8.fromrgb.bias": 8}
    assert content["discriminator"]["resolution"] == {"there": 8, "here": 16}
    assert tracker.inputs == {"transfer": files[0], "transfer-discriminator": files[1]}
    assert tracker.values["transfer/discriminator_skipped"]["value"] == 32
    assert tracker.values["transfer/discriminator_skipped"]["protocol"]["tensors"] == 2
    printed = capsys.readouterr().out
    assert f"generator, 8 -> 16 px, from {files[0]}: loaded {loaded['numbers']:,} numbers" in printed
    assert "skipped 32 numbers in 2 tensors (b8.fromrgb); new" in printed
    page = (tmp_path / "transfer.md").read_text()
    assert f"| generator | {loaded['numbers']:,} ({loaded['tensors']}) | 0 (0) |" in page
    assert "## discriminator: skipped\n\n- b8.fromrgb.weight: 24\n" in page


def test_the_report_of_the_start_is_kept(files, start, tmp_path, capsys):
    start(list(files)).transfer.record(tmp_path, Told())
    first = (tmp_path / "transfer.json").read_bytes()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "nimg-000000000004.ckpt").touch()
    tracker = Told()
    start(files[0]).transfer.record(tmp_path, tracker)
    assert (tmp_path / "transfer.json").read_bytes() == first
    assert not tracker.values
    assert "The run goes on" in capsys.readouterr().out


def test_the_command(tmp_path, monkeypatch, repository, capsys):
    """Trains from a checkpoint, goes on without another transfer, and refuses to go on from another one."""
    arguments = {"resolution": 8, "z_dim": 32, "w_dim": 32, "channel_base": 256, "channel_max": 32}
    sizes = {"channel_base": 256, "channel_max": 32}
    save = partial(wplus.save, discriminator=stylegan2.Discriminator(resolution=8, **sizes))
    first, second = (
        save(tmp_path / f"{name}.safetensors", generator=network(stylegan2.Generator, seed=seed, **arguments))
        for name, seed in (("first", 1), ("second", 2))
    )

    def train(checkpoint: Path, kimg: float) -> None:
        command = [
            "train.py", "debug=quick", "data.num_images=60", "num_samples=4", "watch=[]", f"schedule.kimg={kimg}",
            f"transfer.checkpoint={checkpoint}", f"run_dir={tmp_path}/run",
        ]  # fmt: skip
        monkeypatch.setattr(sys, "argv", command)
        runpy.run_path(str(repository / "train.py"), run_name="__main__")

    train(first, 0.016)
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert result["values"]["transfer/generator_loaded"]["value"] > 10_000
    assert result["inputs"]["transfer"]["file"].endswith("first.safetensors")
    assert wplus.load(tmp_path / "run" / "model.safetensors").metadata["transfer"]["generator"]
    kept = (tmp_path / "run" / "transfer.json").read_bytes()
    train(first, 0.032)
    assert (tmp_path / "run" / "transfer.json").read_bytes() == kept
    with pytest.raises(SystemExit, match=r"transfer\.generator was '\w{16}' and is now '\w{16}'"):
        train(second, 0.048)
