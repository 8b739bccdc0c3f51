import copy
from pathlib import Path
from typing import Any

import pytest
import torch

import wplus
from tests.adapters.foreign import randomise, trainer_pickle
from wplus.adapters import nvlabs
from wplus.adapters.convert import convert
from wplus.commands.files import convert as command
from wplus.errors import UserError
from wplus.models.network import Network
from wplus.models.stylegan2 import Discriminator, Generator


@pytest.fixture(scope="module")
def networks() -> dict[str, Network]:
    shape = {"resolution": 8, "channel_base": 16384, "channel_max": 512}  # the channels that rosinality's layout needs
    generator = Generator(**shape, z_dim=4, w_dim=4, num_mapping_layers=1)
    return {"generator": randomise(generator), "discriminator": randomise(Discriminator(**shape))}


@pytest.fixture
def tiny() -> Generator:
    return randomise(
        Generator(resolution=8, z_dim=4, w_dim=3, num_mapping_layers=1, c_dim=2, channel_base=64, channel_max=8)
    )


@pytest.mark.parametrize("layout", ["rosinality", "nvlabs"])
def test_there_and_back_is_the_same_network(layout: str, networks: dict[str, Network], tmp_path: Path) -> None:
    wplus.save(tmp_path / "ours.safetensors", **networks)
    convert(tmp_path / "ours.safetensors", tmp_path / "theirs.pt", layout=layout)
    convert(tmp_path / "theirs.pt", tmp_path / "back.safetensors")
    models = wplus.load(tmp_path / "back.safetensors")
    for role, network in networks.items():
        for name, tensor in network.state_dict().items():
            assert torch.equal(getattr(models, role).state_dict()[name], tensor)
    assert models.metadata["format"] == layout
    assert models.fingerprint == wplus.checkpoint.fingerprint(networks["generator"])


def test_pickle_becomes_ours(tiny: Generator, tmp_path: Path) -> None:
    content = nvlabs.export(generator=tiny)
    (tmp_path / "in.pkl").write_bytes(trainer_pickle({"G_ema": (content["G_ema"], content["G_kwargs"])}))
    sentence = convert(tmp_path / "in.pkl", tmp_path / "out.safetensors")
    assert sentence == f"Wrote generator to '{tmp_path / 'out.safetensors'}'."
    z, c = torch.randn(2, 4), torch.eye(2)
    torch.testing.assert_close(wplus.load(tmp_path / "out.safetensors").generator(z, c), tiny(z, c), rtol=0, atol=0)


def test_half_precision_halves_a_file_and_keeps_the_generator(networks: dict[str, Network], tmp_path: Path) -> None:
    whole = wplus.save(tmp_path / "whole.safetensors", **networks)
    sentence = convert(whole, tmp_path / "half.safetensors", half=["discriminator"])
    assert (
        sentence
        == f"Wrote generator and discriminator to '{tmp_path / 'half.safetensors'}'; discriminator in half precision."
    )
    models = wplus.load(tmp_path / "half.safetensors")
    assert models.fingerprint == wplus.load(whole).fingerprint
    kept, exact = models.discriminator.state_dict(), networks["discriminator"].state_dict()
    for name, tensor in exact.items():
        torch.testing.assert_close(kept[name], tensor, rtol=2**-11, atol=2**-25)  # float16 rounds to 11 bits
    sizes = [convert(whole, tmp_path / "d.safetensors", roles=["discriminator"], half=half) and
             (tmp_path / "d.safetensors").stat().st_size for half in ((), ["discriminator"])]  # fmt: skip
    assert sizes[1] < 0.51 * sizes[0]


@pytest.mark.parametrize(("options", "message"), [
    ({"half": ["generator"]}, "half must be one of discriminator, got 'generator'"),
    ({"half": ["encoder"]}, "half must be one of discriminator, got 'encoder'"),
    ({"half": ["generator"], "roles": ["generator"]}, "half is for networks other than the generator"),
    ({"roles": ["encoder"]}, "has no encoder; it holds generator, discriminator"),
    ({"half": ["discriminator"], "target": "x.pt"}, r"roles and half are options of .safetensors files, got .*x\.pt"),
])  # fmt: skip
def test_what_cannot_be_halved_is_refused(
    options: dict[str, Any], message: str, networks: dict[str, Network], tmp_path: Path
) -> None:
    source = wplus.save(tmp_path / "ours.safetensors", **networks)
    with pytest.raises(UserError, match=message):
        convert(source, tmp_path / options.pop("target", "out.safetensors"), **options)


def test_numbers_beyond_half_precision_are_refused(networks: dict[str, Network], tmp_path: Path) -> None:
    huge = copy.deepcopy(networks["discriminator"])
    next(huge.parameters()).data.fill_(1e6)
    source = wplus.save(tmp_path / "huge.safetensors", discriminator=huge)
    with pytest.raises(UserError, match=r"half: discriminator\..* has numbers that float16 cannot hold"):
        convert(source, tmp_path / "half.safetensors", half=["discriminator"])
    assert not (tmp_path / "half.safetensors").exists()


@pytest.mark.parametrize(("target", "layout", "message"), [
    ("out.pkl", "nvlabs", r"^OUT must end in \.safetensors, .*, got .*out\.pkl"),
    ("out.pt", "rosinality", "2 classes"),
    ("out.pt", "tensorflow", "must be one of rosinality, nvlabs"),
])  # fmt: skip
def test_refusals_leave_what_was_there(target: str, layout: str, message: str, tiny: Generator, tmp_path: Path) -> None:
    wplus.save(tmp_path / "ours.safetensors", generator=tiny)
    (tmp_path / target).write_text("older")
    with pytest.raises(UserError, match=message):
        convert(tmp_path / "ours.safetensors", tmp_path / target, layout=layout)
    assert (tmp_path / target).read_text() == "older"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_clamp_that_a_layout_cannot_hold_is_dropped_when_asked(
    networks: dict[str, Network], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = {**networks["generator"].arguments, "conv_clamp": 256}
    clamped = Generator(**arguments)
    clamped.load_state_dict(networks["generator"].state_dict())
    source, target = str(wplus.save(tmp_path / "ours.safetensors", generator=clamped)), str(tmp_path / "out.pt")
    assert command([source, target]) == 1
    assert "no place for conv_clamp" in capsys.readouterr().err
    assert command([source, target, "--clamp", "drop"]) == 0
    assert capsys.readouterr().out.endswith("the generator without its conv_clamp=256, equivalent unless an activation "
                                            "reaches it.\n")  # fmt: skip
    models, z = wplus.load(target), torch.randn(2, 4)
    assert models.generator.arguments["conv_clamp"] is None
    torch.testing.assert_close(models.generator(z), clamped.eval()(z), rtol=0, atol=0)


def test_other_architectures_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Other(Network):
        def __init__(self) -> None:
            super().__init__()

    monkeypatch.setattr("wplus.checkpoint.load", lambda path: wplus.Models(generator=Other()))
    with pytest.raises(UserError, match="for StyleGAN2, and the source has Other"):
        convert("in", tmp_path / "out.pt")
    monkeypatch.setattr("wplus.checkpoint.load", lambda path: wplus.Models(encoder=Other()))
    with pytest.raises(UserError, match="an encoder only"):
        convert("in", tmp_path / "out.pt")


def test_command_line_says_one_sentence(tiny: Generator, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wplus.save(tmp_path / "ours.safetensors", generator=tiny)
    assert command([str(tmp_path / "ours.safetensors"), str(tmp_path / "out.pt"), "--layout", "nvlabs"]) == 0
    assert capsys.readouterr().out.startswith("Wrote generator to ")
    assert command([str(tmp_path / "none.pkl"), str(tmp_path / "out.safetensors")]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert "none.pkl" in captured.err
