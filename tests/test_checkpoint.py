"""The shared format: a file rebuilds exactly what was saved, and nothing that does not belong is believed."""

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

import wplus
from wplus.checkpoint import Models, fingerprint, load_network
from wplus.errors import UserError
from wplus.models import mlp_gan
from wplus.models.stylegan2 import Discriminator, Generator

ARGUMENTS = {"resolution": 8, "z_dim": 4, "w_dim": 6, "num_mapping_layers": 1, "channel_base": 64, "channel_max": 4}


def make_generator(**changes) -> Generator:
    return Generator(**{**ARGUMENTS, **changes})


def make_discriminator() -> Discriminator:
    return Discriminator(resolution=8, channel_base=64, channel_max=4, c_dim=2, num_mapping_layers=1)


@pytest.fixture
def saved(tmp_path) -> Path:
    return wplus.save(tmp_path / "model.safetensors", generator=make_generator(), discriminator=make_discriminator())


def rewrite(path: Path, *, header=None, tensors=None) -> Path:
    """The same file with parts of its header or its tensors changed."""
    with safe_open(path, framework="pt") as file:
        content = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        text = json.loads(file.metadata()["wplus"])
    for change, target in ((header, text), (tensors, content)):
        if change is not None:
            change(target)
    save_file(content, path, metadata={"wplus": json.dumps(text)})
    return path


# Round trip


def test_round_trip(tmp_path):
    generator, discriminator = make_generator(c_dim=2), make_discriminator()
    generator.mapping.w_avg.normal_()
    metadata = {"kimg": 1.5, "data": {"name": "Kätzchen", "classes": ["a", "b"]}, "none": None}
    path = wplus.save(tmp_path / "m.safetensors", generator=generator, discriminator=discriminator, metadata=metadata)
    models = wplus.load(path)
    assert isinstance(models, wplus.Models)
    assert list(models.networks) == ["generator", "discriminator"]
    assert models.metadata == metadata
    for net, original in ((models.generator, generator), (models.discriminator, discriminator)):
        assert type(net) is type(original)
        assert net.arguments == original.arguments
        assert not net.training
        assert not any(p.requires_grad for p in net.parameters())
        assert net.state_dict().keys() == original.state_dict().keys()
        assert all(torch.equal(value, original.state_dict()[name]) for name, value in net.state_dict().items())
    z, c = torch.randn(2, 4), torch.eye(2)
    images = generator(z, c)
    assert torch.equal(models.generator(z, c), images)
    assert torch.equal(models.discriminator(images, c), discriminator(images, c))
    assert models.fingerprint == fingerprint(generator)


def test_saving_leaves_the_networks_as_they_are(tmp_path):
    generator = make_generator().train()
    wplus.save(tmp_path / "m.safetensors", generator=generator)
    assert generator.training
    assert all(p.requires_grad for p in generator.parameters())


def test_a_single_network(tmp_path):
    models = wplus.load(wplus.save(tmp_path / "d.safetensors", discriminator=make_discriminator()))
    assert "generator" not in models.networks
    with pytest.raises(UserError, match=r"has no generator; it holds discriminator"):
        _ = models.generator
    assert "discriminator" in models.networks
    with pytest.raises(UserError, match=r"has no generator; it holds discriminator\.$"):
        wplus.load(tmp_path / "d.safetensors", needs=["generator"])
    with pytest.raises(UserError, match=r"^Nothing to save in '.*'; give at least one of generator"):
        wplus.save(tmp_path / "nothing.safetensors")
    assert not (tmp_path / "nothing.safetensors").exists()


def test_the_same_networks_make_the_same_bytes(tmp_path):
    generator = make_generator()
    a, b = (
        wplus.save(tmp_path / name, generator=generator).read_bytes() for name in ("a.safetensors", "b.safetensors")
    )
    assert a == b


def test_other_tools_can_open_the_file(saved):
    with safe_open(saved, framework="np") as file:
        assert json.loads(file.metadata()["wplus"])["version"] == 1
        assert "generator.synthesis.b4.const" in file.keys()  # noqa: SIM118 (not a dict)


def test_networks_remember_their_arguments():
    generator = make_generator()
    assert generator.arguments == {**ARGUMENTS, "c_dim": 0, "img_channels": 3, "conv_clamp": None}
    assert type(generator)(**generator.arguments).arguments == generator.arguments

    class Scaled(Generator):
        def __init__(self, factor: float = 2.0) -> None:
            super().__init__(**ARGUMENTS)
            self.factor = factor

    assert Scaled().arguments == {"factor": 2.0}


# Fingerprint


def test_fingerprint_is_a_function_of_the_content():
    torch.manual_seed(1)
    first = fingerprint(make_generator())
    torch.manual_seed(1)
    again = make_generator()
    assert first == fingerprint(again) == fingerprint(again.eval().requires_grad_(False))
    assert len(first) == 16
    int(first, 16)


def test_fingerprint_changes_with_any_tensor():
    generator = make_generator()
    seen = {fingerprint(generator)}
    for tensor in generator.state_dict().values():
        tensor.view(-1)[-1] += 1e-3
        seen.add(fingerprint(generator))
    assert len(seen) == 1 + len(generator.state_dict())


@pytest.mark.parametrize("change", [{"conv_clamp": 256.0}, {"z_dim": 5}, {"num_mapping_layers": 2}])
def test_fingerprint_changes_with_any_argument(change):
    generator, other = make_generator(), make_generator(**change)
    if change.keys() == {"conv_clamp"}:
        other.load_state_dict(generator.state_dict())
    assert fingerprint(generator) != fingerprint(other)


def test_fingerprint_is_kept_by_the_file(saved):
    assert wplus.load(saved).fingerprint == wplus.load(saved).fingerprint == fingerprint(wplus.load(saved).generator)


def test_models_move_together(saved):
    models = wplus.load(saved)
    assert models.to("meta") is models
    assert {p.device.type for net in (models.generator, models.discriminator) for p in net.parameters()} == {"meta"}
    assert not Models().to("cpu").networks


# Files that are not what they should be


def refused(path: Path) -> str:
    """The one sentence with which a file is refused; it begins with or names the file."""
    with pytest.raises(UserError) as caught:
        wplus.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_a_missing_file(tmp_path):
    assert "does not exist" in refused(tmp_path / "absent.safetensors")
    assert "there is no model.safetensors in it" in refused(tmp_path)


def test_a_damaged_header(saved):
    content = bytearray(saved.read_bytes())
    content[20:60] = b"x" * 40
    saved.write_bytes(content)
    assert "is truncated or" in refused(saved)


class Payload:
    def __reduce__(self):
        return os.mkdir, ("owned",)


@pytest.mark.parametrize("name", ["evil.pkl", "evil.safetensors"])
def test_a_pickle_runs_nothing(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(pickle.dumps({"G_ema": Payload()}))
    refused(tmp_path / name)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "name",
    [
        "stylegan9.Generator",
        "stylegan2.Nothing",
        "stylegan2.SynthesisBlock",  # a module, but no network
        "stylegan2.math.sqrt",
        "stylegan2.UserError",
        "os.system",
        "..config.build",
        "subprocess.Popen",
        "",
        "Generator",
        "stylegan2.",
    ],
)
def test_a_class_that_is_no_network_of_ours(saved, name):
    rewrite(saved, header=lambda text: text["networks"]["generator"].update({"class": name}))
    assert f"unknown architecture '{name}'" in refused(saved)


@pytest.mark.parametrize(("role", "other"), [("generator", "discriminator"), ("discriminator", "generator")])
def test_a_network_in_the_role_of_another(saved, role, other):
    """Its class, its arguments and its tensors fit each other, under a name that promises something else."""

    def stored(tensors):
        for name in list(tensors):
            tensor = tensors.pop(name)
            if name.startswith(f"{other}."):
                tensors[name.replace(other, role, 1)] = tensor

    rewrite(saved, header=lambda text: text.update(networks={role: text["networks"][other]}), tensors=stored)
    assert f"The {role} in '{saved}' is a stylegan2.{other.title()}, which cannot be one." == refused(saved)
    rewrite(saved, header=lambda text: text.update(networks={"encoder": text["networks"][role]}))
    assert "The encoder in" in refused(saved)


def test_another_architectures_tensors(saved, tmp_path):
    """The header of one network over the tensors of another."""
    other = make_generator(channel_max=8)
    rewrite(saved, header=lambda text: text["networks"]["generator"].update(arguments=other.arguments))
    assert "The generator in" in refused(saved)
    assert "does not fit its own description" in refused(saved)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda tensors: tensors.pop("generator.mapping.w_avg"), "mapping.w_avg"),
        (lambda tensors: tensors.update({"generator.extra": torch.zeros(1)}), "extra"),
        (lambda tensors: tensors.update({"generator.mapping.w_avg": torch.zeros(7)}), "mapping.w_avg"),
    ],
)
def test_tensors_that_do_not_fit(saved, change, expected):
    rewrite(saved, tensors=change)
    message = refused(saved)
    assert "The generator in" in message
    assert expected in message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [({"resolution": 7}, "resolution must be one of"), ({"depth": 3}, "depth"), ({"z_dim": "many"}, "does not fit")],
)
def test_arguments_that_no_network_takes(saved, arguments, expected):
    rewrite(saved, header=lambda text: text["networks"]["generator"]["arguments"].update(arguments))
    with pytest.raises(UserError, match=expected):
        wplus.load(saved)


class Allocated(TorchDispatchMode):
    """Inside, notes the bytes of the largest tensor that takes memory."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (list, tuple)) else [out]:
            if isinstance(tensor, torch.Tensor) and not tensor.is_meta:
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return out


def test_claimed_sizes_take_no_memory(saved):
    """A header of a network that is a thousand times larger than its file."""
    size = os.path.getsize(saved)
    with Allocated() as whole:
        wplus.load(saved)
    assert 0 < whole.largest <= 2 * size
    rewrite(saved, header=lambda text: text["networks"]["generator"]["arguments"].update(channel_max=512))
    rewrite(saved, header=lambda text: text["networks"]["generator"]["arguments"].update(channel_base=4096))
    with Allocated() as forged:
        assert "does not fit its own description" in refused(saved)
    assert forged.largest <= 2 * size


ABSURD = [
    {"resolution": 2**20},
    {"channel_base": 10**9, "channel_max": 10**9},
    {"channel_base": 10**30, "channel_max": 10**30},
    {"num_mapping_layers": 10**12},
    {"num_mapping_layers": 2000},
    {"z_dim": 10**400},
    {"z_dim": -1},
    {"z_dim": 0},
    {"c_dim": 10**15},
    {"channel_base": float("nan")},
    {"resolution": None},
    {"img_channels": [3]},
]


@pytest.mark.parametrize("arguments", ABSURD, ids=str)
def test_absurd_sizes_are_refused_at_once(saved, arguments):
    rewrite(saved, header=lambda text: text["networks"]["generator"]["arguments"].update(arguments))
    message = refused(saved)
    assert message.startswith("The generator in")
    assert len(message) < 600


@pytest.mark.parametrize("arguments", [{"resolution": 2**20}, {"width": 10**9}, {"num_layers": 10**12}])
def test_absurd_sizes_of_dense_layers(tmp_path, arguments):
    """Of a family that takes any resolution."""
    path = wplus.save(tmp_path / "m.safetensors", generator=mlp_gan.Generator(resolution=8, z_dim=4, width=8))
    rewrite(path, header=lambda text: text["networks"]["generator"]["arguments"].update(arguments))
    assert "The generator in" in refused(path)


@pytest.mark.parametrize("text", ["[" * 100_000, '{"version": 1' + "0" * 5000 + "}", '{"networks": '])
def test_a_header_that_is_no_json(tmp_path, text):
    save_file({"a": torch.zeros(1)}, tmp_path / "m.safetensors", metadata={"wplus": text})
    assert "is truncated or" in refused(tmp_path / "m.safetensors")


def test_what_is_loaded_does_not_hang_on_the_file(saved):
    """Tensors of their own memory, each: the file may be written anew, and a change of one changes no other."""
    generator = wplus.load(saved).generator
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    pointers = {tensor.untyped_storage().data_ptr() for tensor in before.values()}
    assert len({tensor.untyped_storage().data_ptr() for tensor in generator.state_dict().values()}) == len(pointers)
    with open(saved, "r+b") as file:
        file.seek(-saved.stat().st_size // 2, os.SEEK_END)
        file.write(b"\xff" * (saved.stat().st_size // 2))
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.state_dict().items())


WHOLE = {"class": "stylegan2.Generator", "arguments": ARGUMENTS}


@pytest.mark.parametrize(
    "networks",
    [3, {"generator": None}, {"generator": {"class": "stylegan2.Generator"}}, {"generator": WHOLE, "critic": WHOLE}],
)
def test_a_header_of_another_shape(saved, networks):
    rewrite(saved, header=lambda text: text.update(networks=networks))
    assert "not a wplus checkpoint" in refused(saved)
    rewrite(saved, header=lambda text: text.update(networks={}, version="new"))
    assert not wplus.load(saved).networks


def test_an_unwritable_place():
    with pytest.raises(UserError, match=r"^Cannot write '/dev/null/m\.safetensors'"):
        wplus.save("/dev/null/m.safetensors", generator=make_generator())


def test_one_network_of_a_checkpoint(saved, tmp_path):
    assert isinstance(load_network(saved, "discriminator"), Discriminator)
    with pytest.raises(UserError, match=r"has no encoder; it holds generator, discriminator"):
        load_network(saved, "encoder")
    with pytest.raises(UserError, match=r"'critic'.*generator, discriminator, encoder"):
        load_network(saved, "critic")
    with pytest.raises(UserError, match="path of a file, not None"):
        load_network(None, "discriminator")
