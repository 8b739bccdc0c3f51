"""Files of e4e, pSp and ReStyle, with a backbone of one unit per stage and small latents."""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

import wplus
from tests.adapters.foreign import assert_same, randomise
from wplus.adapters import e4e, rosinality
from wplus.adapters.convert import convert
from wplus.checkpoint import Models, fingerprint
from wplus.errors import UserError
from wplus.models.encoders import ir_se
from wplus.models.encoders.base import Encoder
from wplus.models.encoders.e4e import Encoder4Editing, WEncoder
from wplus.models.encoders.small import SmallEncoder
from wplus.models.stylegan2 import Discriminator, Generator

W_DIM, NUM_WS = 4, 6
NAMES = list(e4e.TYPES)
STEPS = [0, 100, 110, 120, 130, 140]


@pytest.fixture(autouse=True)
def shallow() -> Iterator[None]:
    units = {50: (1, 1, 1, 1), 100: (1, 1, 2, 1)}
    published = {"input_size": 32, "w_dim": W_DIM, "depth": 50}
    with mock.patch.dict(ir_se.UNITS, units), mock.patch.dict(e4e.PUBLISHED, published):
        yield


def generator(**changes: Any) -> Generator:
    sizes = {"resolution": 16, "z_dim": W_DIM, "w_dim": W_DIM, "num_mapping_layers": 1}
    return randomise(Generator(**{**sizes, "channel_base": 64, "channel_max": 8, **changes}))


def encoder(name: str, **changes: Any) -> Any:
    cls, maps = e4e.TYPES[name]
    arguments = {"num_ws": NUM_WS, "w_dim": W_DIM, "input_size": 32, **({} if maps is None else {"maps": maps})}
    torch.manual_seed(0)
    net = cls(**{**arguments, **changes}).eval().requires_grad_(False)
    net.latent_avg.copy_(torch.randn(1 if cls is WEncoder else NUM_WS, W_DIM))
    return net


def state_dict(net: Encoder, decoder: Generator | None) -> dict[str, Tensor]:
    parts = {
        "encoder": dict(net.state_dict()),
        "decoder": {} if decoder is None else rosinality.in_their_layout(decoder),
    }
    del parts["encoder"]["latent_avg"], parts["encoder"]["stage"]
    return {f"{part}.{name}": tensor for part, tensors in parts.items() for name, tensor in tensors.items()}


def read(folder: Path, net: Encoder, decoder: Generator | None, options: Any, **content: Any) -> Models:
    """Store a checkpoint like the authors' code, and load it."""
    torch.save({"state_dict": state_dict(net, decoder), "opts": options, **content}, folder / "theirs.pt")
    return wplus.load(folder / "theirs.pt")


# Reading


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_every_type_is_read(name: str, tmp_path: Path) -> None:
    net, decoder, x = encoder(name), generator(), torch.randn(2, 3, 32, 32)
    options = argparse.Namespace(encoder_type=name, id_lambda=0.1, device=torch.device("cpu"))
    models = read(tmp_path, net, decoder, options, latent_avg=net.latent_avg)
    assert type(models.encoder) is type(net)
    assert_same(models.encoder, net)
    if not isinstance(net, WEncoder):  # whose tensors do not say what image size it was made for
        assert models.encoder.arguments == net.arguments
        assert torch.equal(models.encoder(x), net(x))
    assert not any(parameter.requires_grad for parameter in models.encoder.parameters())
    said = models.metadata["encoder"]
    assert (said["type"], said["generator"]) == (name, fingerprint(models.generator))
    assert models.metadata["options"]["id_lambda"] == 0.1
    json.dumps(models.metadata)


@pytest.mark.parametrize(("name", "options", "expected"), [
    ("Encoder4Editing", {}, "Encoder4Editing"),
    ("GradualStyleEncoder", {"learn_in_w": False}, "GradualStyleEncoder"),
    ("BackboneEncoder", {"learn_in_w": False}, "BackboneEncoder"),
    ("BackboneEncoder", {}, "ProgressiveBackboneEncoder"),
    ("SingleStyleCodeEncoder", {}, "BackboneEncoderUsingLastLayerIntoW"),
])  # fmt: skip
def test_a_type_that_is_not_stated(name: str, options: dict[str, Any], expected: str, tmp_path: Path) -> None:
    models = read(tmp_path, encoder(name), generator(), options)
    assert models.metadata["encoder"]["type"] == expected
    assert type(models.encoder) is e4e.TYPES[expected][0]


@pytest.mark.parametrize("changes", [
    {"input_size": 64}, {"w_dim": 7}, {"depth": 100}, {"is_iterative": True}, {"img_channels": 1},
    {"img_channels": 1, "is_iterative": True}, {"num_ws": 4},
], ids=str)  # fmt: skip
def test_sizes_come_from_the_tensors(changes: dict[str, Any], tmp_path: Path) -> None:
    sizes = {name: value for name, value in changes.items() if name in ("w_dim", "img_channels")}
    net = Encoder4Editing(**{"num_ws": NUM_WS, "w_dim": W_DIM, "input_size": 32, **changes})
    decoder = generator(**sizes, resolution=8 if net.num_ws == 4 else 16)
    models = read(tmp_path, net, decoder, {"encoder_type": "Encoder4Editing"})
    assert models.encoder.arguments == net.arguments


AVERAGES: dict[str, tuple[Tensor | None, dict[str, Any], Any]] = {
    "rows": (torch.arange(24.0).view(NUM_WS, W_DIM), {}, lambda file, decoder: file),
    "one": (torch.arange(4.0), {"start_from_latent_avg": True}, lambda file, decoder: file.expand(NUM_WS, -1)),
    "one row": (torch.arange(4.0)[None], {}, lambda file, decoder: file.expand(NUM_WS, -1)),
    "none": (None, {}, lambda file, decoder: decoder.mapping.w_avg.expand(NUM_WS, -1)),
    "unused": (torch.arange(4.0), {"start_from_latent_avg": False}, lambda file, decoder: torch.zeros(NUM_WS, W_DIM)),
}


@pytest.mark.parametrize("kind", AVERAGES)
def test_what_codes_are_relative_to(kind: str, tmp_path: Path) -> None:
    average, options, expected = AVERAGES[kind]
    content = {} if average is None else {"latent_avg": average}
    models = read(tmp_path, encoder("Encoder4Editing"), generator(), options, **content)
    assert torch.equal(models.encoder.latent_avg, expected(average, models.generator))
    assert "latent_avg" not in models.metadata
    if average is not None:
        torch.testing.assert_close(models.generator.mapping.w_avg, average.view(-1, W_DIM).mean(dim=0))


@pytest.mark.parametrize(("options", "global_step", "stage"), [
    ({"progressive_steps": STEPS}, 0, 0),
    ({"progressive_steps": STEPS}, 99, 0),
    ({"progressive_steps": STEPS}, 100, 1),
    ({"progressive_steps": STEPS}, 125, 3),
    ({"progressive_steps": STEPS}, 100_000, 5),
    ({"progressive_steps": [0, 50]}, 60, 1),
    ({"progressive_start": 100, "progressive_step_every": 10}, 125, 3),
    ({"progressive_start": 20_000}, 22_000, 2),
    ({"progressive_steps": STEPS}, None, 5),
    ({"progressive_steps": None}, 7, 5),
    ({}, 7, 5),
])  # fmt: skip
@torch.no_grad()
def test_the_stage_of_a_checkpoint(options: dict, global_step: int | None, stage: int, tmp_path: Path) -> None:
    net, x = encoder("Encoder4Editing"), torch.randn(1, 3, 32, 32)
    for head in net.styles[stage + 1 :]:  # must not be touched
        head.linear.weight.fill_(torch.nan)
    content = {} if global_step is None else {"global_step": global_step}
    models = read(tmp_path, net, generator(), options, latent_avg=net.latent_avg, **content)
    assert int(models.encoder.stage) == stage
    assert models.encoder(x).isfinite().all()
    torch.testing.assert_close(models.encoder(x), net.latent_avg + net.offsets(x, stage))
    said = "all" if stage == 5 and global_step != 100_000 else str(stage)
    assert models.metadata["encoder"]["stage"].startswith(said)


def test_an_encoder_without_its_decoder(tmp_path: Path) -> None:
    models = read(tmp_path, encoder("GradualStyleEncoder"), None, {"encoder_type": "GradualStyleEncoder"})
    assert "generator" not in models.networks
    assert models.encoder.num_ws == NUM_WS
    assert not models.encoder.latent_avg.any()
    options = {"encoder_type": "SingleStyleCodeEncoder", "stylegan_size": 1024}
    assert read(tmp_path, encoder("SingleStyleCodeEncoder"), None, options).encoder.num_ws == 18
    with pytest.raises(UserError, match="neither a decoder nor the options' stylegan_size"):
        read(tmp_path, encoder("SingleStyleCodeEncoder"), None, {})


@pytest.mark.parametrize(("net", "name", "reason"), [
    ({}, "ResNetBackboneEncoder", "type 'ResNetBackboneEncoder' cannot be rebuilt, only Encoder4Editing, Gradual"),
    ({"img_channels": 19}, "GradualStyleEncoder", "its input has 19 channels, where the generator draws images of 3"),
])  # fmt: skip
def test_an_encoder_of_another_kind_is_left_out(net: dict[str, Any], name: str, reason: str, tmp_path: Path) -> None:
    models = read(tmp_path, encoder("GradualStyleEncoder", **net), generator(), {"encoder_type": name})
    assert "encoder" not in models.networks
    assert models.generator.resolution == 16
    assert reason in models.metadata["encoder"]["left_out"]


@pytest.mark.parametrize(("edit", "message"), [
    (lambda state: state.pop("encoder.latlayer1.bias"), r"encoder: 'latlayer1\.bias' is missing; only complete"),
    (lambda state: state.pop("encoder.input_layer.0.weight"), r"'input_layer\.0\.weight' is missing"),
    (lambda state: state.update({"encoder.extra": torch.zeros(1)}), "'extra' is not part of Encoder4Editing"),
    (lambda state: state.update({"encoder.latlayer1.bias": torch.zeros(3)}), r"'latlayer1\.bias' has the shape \(3,\)"),
    (lambda state: state.pop("encoder.styles.5.linear.weight"), "has 5 style heads, its decoder takes 6 styles"),
    (lambda state: state.pop("encoder.body.3.res_layer.0.weight"), "backbone of 3 units; known are 4, 5"),
    (lambda state: {"latent_avg": torch.zeros(5, W_DIM)},
     r"'latent_avg' has the shape \(5, 4\), where \(4,\) or \(6, 4\) was expected"),
])  # fmt: skip
def test_what_does_not_fit_is_named(edit: Any, message: str, tmp_path: Path) -> None:
    state = state_dict(encoder("Encoder4Editing"), generator())
    further = edit(state)
    content = {"state_dict": state, "opts": {}, **(further if isinstance(further, dict) else {})}
    torch.save(content, tmp_path / "broken.pt")
    with pytest.raises(UserError, match=rf"broken\.pt.*{message}"):
        wplus.load(tmp_path / "broken.pt")


# Writing


@pytest.fixture(scope="module")
def full() -> Generator:
    """Build it with the channels that the authors' code fixes."""
    return generator(resolution=16, channel_base=16384, channel_max=512)


def save(folder: Path, full: Generator, net: Encoder, **more: Any) -> Path:
    rows = net.latent_avg
    full.mapping.w_avg.copy_(rows[0] if torch.equal(rows, rows[:1].expand_as(rows)) else rows.mean(dim=0))
    return wplus.save(folder / "ours.safetensors", generator=full, encoder=net, **more)


@pytest.mark.parametrize("name", NAMES[:3] + NAMES[-1:])
@torch.no_grad()
def test_there_and_back_is_the_same(name: str, full: Generator, tmp_path: Path) -> None:
    net, x = encoder(name), torch.randn(2, 3, 32, 32)
    sentence = convert(save(tmp_path, full, net), tmp_path / "theirs.pt", layout="e4e")
    assert sentence == f"Wrote generator and encoder to '{tmp_path / 'theirs.pt'}'."
    convert(tmp_path / "theirs.pt", tmp_path / "back.safetensors")
    models = wplus.load(tmp_path / "back.safetensors")
    assert type(models.encoder) is type(net)
    assert_same(models.encoder, net)
    torch.testing.assert_close(models.generator.synthesis(net(x)), full.synthesis(net(x)), rtol=0, atol=0)
    assert torch.equal(models.generator.mapping.w_avg, full.mapping.w_avg)


def test_what_the_published_code_asks_of_a_file(full: Generator, tmp_path: Path) -> None:
    """e4e's and pSp's `pSp` class: options by attribute, strict loading, latent_avg with a row per style."""
    convert(save(tmp_path, full, encoder("Encoder4Editing")), tmp_path / "theirs.pt", layout="e4e")
    content = torch.load(tmp_path / "theirs.pt", weights_only=True)
    expected = {"encoder_type": "Encoder4Editing", "stylegan_size": 16, "output_size": 16, "n_styles": NUM_WS}
    expected |= {"input_nc": 3, "start_from_latent_avg": True, "learn_in_w": False}
    expected |= {name: full.arguments[name] for name in ("channel_base", "channel_max")}  # which it does not look at
    assert content["opts"] == expected
    assert content["latent_avg"].shape == (NUM_WS, W_DIM)
    assert content["state_dict"].keys() == state_dict(encoder("Encoder4Editing"), full).keys()
    net = encoder("SingleStyleCodeEncoder")
    net.latent_avg.zero_()
    into_w = e4e.export(generator=full, encoder=net)
    assert into_w["latent_avg"].shape == (1, W_DIM)
    assert (into_w["opts"]["start_from_latent_avg"], into_w["opts"]["learn_in_w"]) == (False, True)


def test_relative_to_zero_there_and_back(full: Generator, tmp_path: Path) -> None:
    net = encoder("GradualStyleEncoder")
    net.latent_avg.zero_()
    full.mapping.w_avg.fill_(0.5)
    torch.save(e4e.export(generator=full, encoder=net), tmp_path / "theirs.pt")
    models = wplus.load(tmp_path / "theirs.pt")
    assert not models.encoder.latent_avg.any()
    assert torch.equal(models.generator.mapping.w_avg, full.mapping.w_avg)


def test_an_early_stage_there_and_back(full: Generator, tmp_path: Path) -> None:
    net = encoder("Encoder4Editing")
    net.stage.fill_(2)
    options = {"dataset_type": "cats_encode", "progressive_steps": STEPS}
    source = save(tmp_path, full, net, metadata={"format": "e4e", "options": options})
    sentence = convert(source, tmp_path / "theirs.pt", layout="e4e")
    assert "the encoder is at stage 2 of 5, which the published inference code ignores" in sentence
    models = wplus.load(tmp_path / "theirs.pt")
    assert int(models.encoder.stage) == 2
    assert models.metadata["options"]["dataset_type"] == "cats_encode"


@pytest.mark.parametrize(("net", "message"), [
    (lambda: SmallEncoder(num_ws=NUM_WS, w_dim=W_DIM, input_size=16), "published encoders .* has SmallEncoder"),
    (lambda: encoder("Encoder4Editing", input_size=64), "input_size=32, w_dim=4, depth=50, this one input_size=64"),
    (lambda: encoder("GradualStyleEncoder", depth=100), "this one input_size=32, w_dim=4, depth=100"),
    (lambda: encoder("Encoder4Editing", is_iterative=True), "sees one image, this one two"),
])  # fmt: skip
def test_what_the_layout_cannot_hold_is_refused(net: Any, message: str, full: Generator) -> None:
    with pytest.raises(UserError, match=message):
        e4e.export(generator=full, encoder=net())


def test_one_mean_and_both_networks(full: Generator, tmp_path: Path) -> None:
    net = encoder("Encoder4Editing")
    full.mapping.w_avg.copy_(net.latent_avg.mean(dim=0) + 0.1)
    with pytest.raises(UserError, match="has one mean latent, and those of this encoder and its generator differ"):
        e4e.export(generator=full, encoder=net)
    wplus.save(tmp_path / "encoder.safetensors", encoder=net)
    with pytest.raises(UserError, match="there is no generator"):
        convert(tmp_path / "encoder.safetensors", tmp_path / "theirs.pt", layout="e4e")
    wplus.save(tmp_path / "both.safetensors", generator=full, encoder=net)
    assert convert(tmp_path / "both.safetensors", tmp_path / "g.pt").endswith("g.pt'; left out encoder.")
    wplus.save(tmp_path / "d.safetensors", discriminator=Discriminator(resolution=8, channel_base=64, channel_max=8))
    with pytest.raises(UserError, match="for StyleGAN2, and the source has a discriminator only"):
        convert(tmp_path / "d.safetensors", tmp_path / "theirs.pt", layout="e4e")
    assert not (tmp_path / "theirs.pt").exists()
