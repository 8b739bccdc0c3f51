import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import wplus
from tests.adapters.foreign import assert_same, randomise
from wplus.adapters import rosinality
from wplus.errors import UserError
from wplus.models.stylegan2 import Discriminator, Generator

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
SIZES = [
    {"resolution": 8, "style_dim": 5, "n_mlp": 1, "channel_base": 128, "channel_max": 16},
    {"resolution": 16, "style_dim": 6, "n_mlp": 8, "channel_base": 130, "channel_max": 9},
    {"resolution": 32, "style_dim": 7, "n_mlp": 2, "channel_base": 36, "channel_max": 512},
    {"resolution": 64, "style_dim": 4, "n_mlp": 3, "channel_base": 333, "channel_max": 10},
    {"resolution": 256, "style_dim": 3, "n_mlp": 5, "channel_base": 511, "channel_max": 2},
]
by_resolution = pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"{sizes['resolution']}px")


def build(*, resolution: int, style_dim: int, n_mlp: int, **channels: int) -> tuple[Generator, Discriminator]:
    inner = {"z_dim": style_dim, "w_dim": style_dim, "num_mapping_layers": n_mlp}
    generator = Generator(resolution=resolution, **inner, **channels)
    return randomise(generator), randomise(Discriminator(resolution=resolution, **channels))


def checkpoint(generator: Generator, discriminator: Discriminator) -> dict[str, Any]:
    """A checkpoint as rosinality's trainer writes it; `export` would refuse so few channels."""
    ours = rosinality.in_their_layout(generator)
    optimizer = {"state": {0: {"step": 1, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 0.002, "params": [0]}]}
    return {
        "g_ema": ours,
        "g": {name: tensor + 1 for name, tensor in ours.items()},
        "d": rosinality.in_their_layout(discriminator),
        "g_optim": optimizer,
        "args": argparse.Namespace(size=generator.resolution, path="images.lmdb"),
        "ada_aug_p": 0.25,
        "latent_avg": generator.mapping.w_avg,
    }


@by_resolution
def test_training_checkpoints_of_any_size(sizes: dict[str, int], tmp_path: Path) -> None:
    generator, discriminator = build(**sizes)
    torch.save(checkpoint(generator, discriminator), tmp_path / "010000.pt")
    models = wplus.load(tmp_path / "010000.pt")
    assert_same(models.generator, generator)
    assert_same(models.discriminator, discriminator)
    assert models.metadata["options"] == {"size": sizes["resolution"], "path": "images.lmdb"}
    assert models.metadata["w_avg"] == "from the file"
    z, images = torch.randn(2, sizes["style_dim"]), torch.randn(4, 3, sizes["resolution"], sizes["resolution"])
    torch.testing.assert_close(models.generator(z), generator(z))
    torch.testing.assert_close(models.discriminator(images), discriminator(images))


@by_resolution
@pytest.mark.parametrize("rows", ["one", "equal", "different"])
def test_decoder_of_an_encoder_checkpoint(sizes: dict[str, int], rows: str, tmp_path: Path) -> None:
    generator, _ = build(**sizes)
    average = torch.randn(generator.num_ws, generator.w_dim)
    average = {"one": average[0], "equal": average[:1].repeat(len(average), 1), "different": average}[rows]
    state = {f"decoder.{name}": tensor for name, tensor in rosinality.in_their_layout(generator).items()}
    state["encoder.input_layer.0.weight"] = torch.zeros(2)
    options = {"stylegan_size": sizes["resolution"], "device": torch.device("cpu")}
    torch.save({"state_dict": state, "latent_avg": average, "opts": options}, tmp_path / "e4e.pt")
    models = wplus.load(tmp_path / "e4e.pt")
    torch.testing.assert_close(models.generator.mapping.w_avg, average if rows == "one" else average.mean(dim=0))
    assert ("latent_avg" in models.metadata) == (rows == "different")
    if rows == "different":
        torch.testing.assert_close(torch.tensor(models.metadata["latent_avg"]), average, rtol=0, atol=0)
    json.dumps(models.metadata)
    w = torch.randn(1, generator.num_ws, generator.w_dim)
    torch.testing.assert_close(models.generator.synthesis(w), generator.synthesis(w))
    assert "discriminator" not in models.networks


def test_bare_decoder_and_missing_average(tmp_path: Path) -> None:
    generator, _ = build(**SIZES[0])
    torch.save(rosinality.in_their_layout(generator), tmp_path / "decoder.pt")
    models = wplus.load(tmp_path / "decoder.pt")
    assert "estimated" in models.metadata["w_avg"]
    w = generator.mapping(torch.randn(20_000, generator.z_dim))[:, 0]
    assert ((models.generator.mapping.w_avg - w.mean(dim=0)).abs() / w.std(dim=0)).max() < 0.05


def test_export_has_the_published_names_shapes_and_filters() -> None:
    spec = json.loads((GOLDEN / "rosinality_sg2_r16.json").read_text())
    kwargs = spec["kwargs"]
    sizes = {"resolution": kwargs["size"], "style_dim": kwargs["style_dim"], "n_mlp": kwargs["n_mlp"]}
    generator, discriminator = build(**sizes, channel_base=32768, channel_max=512)
    content = rosinality.export(generator=generator, discriminator=discriminator)
    for part, tensors in spec["networks"].items():
        assert {name: list(tensor.shape) for name, tensor in content[part].items()} == {
            name: entry["shape"] for name, entry in tensors.items()
        }
        for name, entry in tensors.items():
            if "constant" in entry:
                torch.testing.assert_close(content[part][name], torch.tensor(entry["constant"]))
    assert torch.equal(content["latent_avg"], generator.mapping.w_avg)


SMALL = {"resolution": 8, "z_dim": 4, "w_dim": 4, "num_mapping_layers": 1}


@pytest.mark.parametrize(("arguments", "message"), [
    ({"c_dim": 2}, "2 classes"),
    ({"img_channels": 1}, "1 colours"),
    ({"z_dim": 8}, "8 and 4"),
    ({"channel_max": 256}, "256 at 4 px"),
    ({"conv_clamp": 256}, r"no place for conv_clamp, .* this generator has 256; convert with --clamp drop"),
    ({"mbstd_group_size": 2}, r"mbstd_group_size, which is 4 in its code, this discriminator has 2\.$"),
    ({"architecture": "orig"}, r"architecture, which is resnet in its code, this discriminator has orig\.$"),
])  # fmt: skip
def test_what_their_layout_cannot_hold_is_refused(arguments: dict[str, Any], message: str) -> None:
    with torch.device("meta"):
        is_of_d = "discriminator" in message
        network = Discriminator(resolution=8, **arguments) if is_of_d else Generator(**{**SMALL, **arguments})
    with pytest.raises(UserError, match=message):
        rosinality.export(**{"discriminator" if is_of_d else "generator": network})


@pytest.mark.parametrize("base", [16384, 20000, 32768])
def test_a_network_comes_back_with_its_own_budget(base: int, tmp_path: Path) -> None:
    """At 8 px all of these give 512 channels."""
    shape = {"resolution": 8, "channel_base": base}
    generator, discriminator = Generator(z_dim=4, w_dim=4, num_mapping_layers=1, **shape), Discriminator(**shape)
    torch.save(rosinality.export(generator=generator, discriminator=discriminator), tmp_path / "file.pt")
    models = wplus.load(tmp_path / "file.pt")
    assert models.fingerprint == wplus.checkpoint.fingerprint(generator)
    assert models.discriminator.arguments == discriminator.arguments
    torch.save(rosinality.export(discriminator=discriminator), tmp_path / "d.pt")
    assert wplus.load(tmp_path / "d.pt").discriminator.arguments["channel_base"] == base


def test_channel_multiplier_one_is_known() -> None:
    generator = Generator(**{**SMALL, "resolution": 128}, channel_base=16384, channel_max=512)
    assert rosinality.export(generator=generator)["g_ema"]["convs.9.conv.weight"].shape == (1, 128, 128, 3, 3)


def put(part: str, name: str, tensor: torch.Tensor) -> Callable[[dict[str, Any]], None]:
    return lambda content: content[part].update({name: tensor})


def drop(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["g_ema"].pop(name)


BROKEN = {
    "unknown": (put("g_ema", "to_rgbs.0.extra", torch.zeros(1)), r"g_ema: 'to_rgbs\.0\.extra'.*not part"),
    "unknown in d": (put("d", "extra", torch.zeros(1)), r"d: 'extra'.*not part"),
    "missing": (drop("noises.noise_1"), r"noises\.noise_1.*missing"),
    "no mapping": (drop("style.1.weight"), r"style\.1\.weight.*missing"),
    "wrong shape": (put("g_ema", "conv1.activate.bias", torch.zeros(3)), r"conv1\.activate\.bias.*\(3,\)"),
    "other filter": (put("g_ema", "to_rgbs.0.upsample.kernel", torch.ones(4, 4) / 4), "resampling filter"),
    "no gain": (lambda content: content["g_ema"]["convs.0.conv.blur.kernel"].div_(4), "resampling filter"),
    "other average": (lambda content: content.update(latent_avg=torch.zeros(3)), r"latent_avg.*\(3,\)"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_what_does_not_fit_is_named(kind: str, tmp_path: Path) -> None:
    edit, message = BROKEN[kind]
    content = checkpoint(*build(**SIZES[0]))
    edit(content)
    torch.save(content, tmp_path / "broken.pt")
    with pytest.raises(UserError, match=message) as error:
        wplus.load(tmp_path / "broken.pt")
    assert "broken.pt" in str(error.value)


@pytest.mark.parametrize(
    "content", [{"weights": torch.zeros(1)}, [torch.zeros(1)], {"state_dict": {"fc.weight": torch.zeros(1)}}]
)
def test_other_torch_files_are_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(UserError, match=r"other\.pt.*(dict of|a list)"):
        wplus.load(tmp_path / "other.pt")
