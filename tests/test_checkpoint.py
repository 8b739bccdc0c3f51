"""The shared format: a file rebuilds exactly what was saved, and foreign content is not trusted."""

import json
import os
import re
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
    """Return the same file with parts of its header or its tensors changed."""
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
    generator, discriminator = make_generator(c_dim=2).train(), make_discriminator()
    generator.mapping.w_avg.normal_()
    metadata = {"kimg": 1.5, "data": {"name": "Kätzchen", "classes": ["a", "b"]}, "none": None}
    path = wplus.save(tmp_path / "m.safetensors", generator=generator, discriminator=discriminator, metadata=metadata)
    assert generator.training
    assert all(p.requires_grad for p in generator.parameters())
    models = wplus.load(path)
    assert list(models.networks) == ["generator", "discriminator"]
    assert models.metadata == metadata
    for net, original in ((models.generator, generator), (models.discriminator, discriminator)):
        assert type(net) is type(original)
        assert net.arguments == original.arguments
        assert not net.training
        assert not any(p.requires_grad for p in net.parameters())
        torch.testing.assert_close(net.state_dict(), original.state_dict(), rtol=0, atol=0)
    z, c = torch.randn(2, 4), torch.eye(2)
    images = generator(z, c)
    assert torch.equal(models.generator(z, c), images)
    assert torch.equal(models.discriminator(images, c), discriminator(images, c))
    assert models.fingerprint == fingerprint(generator)
    again = wplus.save(tmp_path / "again.safetensors", **models.networks, metadata=metadata)
    assert again.read_bytes() == path.read_bytes()  # the same networks make the same bytes
    with safe_open(path, framework="np") as file:  # other tools can open it
        assert "generator.synthesis.b4.const" in file.keys()  # noqa: SIM118 (not a dict)


def test_a_single_network(tmp_path):
    models = wplus.load(wplus.save(tmp_path / "d.safetensors", discriminator=make_discriminator()))
    assert list(models.networks) == ["discriminator"]
    lacking = r"has no generator; it holds discriminator\.$"
    with pytest.raises(UserError, match=lacking):
        _ = models.generator
    with pytest.raises(UserError, match=lacking):
        wplus.load(tmp_path / "d.safetensors", needs=["generator"])
    with pytest.raises(UserError, match=r"^Nothing to save in '.*'; give at least one of generator"):
        wplus.save(tmp_path / "nothing.safetensors")
    assert not (tmp_path / "nothing.safetensors").exists()
    with pytest.raises(UserError, match=r"^Cannot write '/dev/null/m\.safetensors'"):
        wplus.save("/dev/null/m.safetensors", discriminator=make_discriminator())


def test_a_home_folder_in_front(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert wplus.save("~/models/a.safetensors", generator=make_generator()) == tmp_path / "models" / "a.safetensors"
    assert wplus.load("~/models/a.safetensors").generator.z_dim == 4


def test_one_network_of_a_checkpoint(saved):
    assert isinstance(load_network(saved, "discriminator"), Discriminator)
    for path, role, word in (
        (saved, "encoder", "has no encoder; it holds generator, discriminator"),
        (saved, "critic", "'critic'.*generator, discriminator, encoder"),
        (None, "discriminator", "path of a file, not None"),
    ):
        with pytest.raises(UserError, match=word):
            load_network(path, role)


def test_networks_remember_their_arguments():
    generator = make_generator()
    assert generator.arguments == {**ARGUMENTS, "c_dim": 0, "img_channels": 3, "conv_clamp": None, "use_noise": True}

    class Scaled(Generator):
        def __init__(self, factor: float = 2.0) -> None:
            super().__init__(**ARGUMENTS)
            self.factor = factor

    assert Scaled().arguments == {"factor": 2.0}


def test_models_move_together(saved):
    models = wplus.load(saved)
    assert models.to("meta") is models
    assert {p.device.type for net in models.networks.values() for p in net.parameters()} == {"meta"}
    assert not Models().to("cpu").networks


# Fingerprint


def test_fingerprint_is_a_function_of_the_content(saved):
    torch.manual_seed(1)
    first = fingerprint(make_generator())
    torch.manual_seed(1)
    generator = make_generator()
    assert first == fingerprint(generator) == fingerprint(generator.eval().requires_grad_(False))
    assert len(f"{int(first, 16):016x}") == len(first) == 16
    seen = {first}
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


# Files that are not what they should be


def refused(path: Path) -> str:
    """Return the one sentence that refuses a file; it begins with or contains the file's name."""
    with pytest.raises(UserError) as caught:
        wplus.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert message.isprintable()
    assert len(message) < 600
    return message


def generator_of(header: dict) -> dict:
    return header["networks"]["generator"]


WHOLE = {"class": "stylegan2.Generator", "arguments": ARGUMENTS}
HEADERS = [  # a change, and what is said of it
    *((lambda header, net=net: header.update(networks=net), "not a wplus checkpoint|holds no checkpoint") for net in (
        3, {"generator": None}, {"generator": {"class": "stylegan2.Generator"}}, {"generator": WHOLE, "critic": WHOLE},
    )),
    *((lambda header, name=name: generator_of(header).update({"class": name}), f"unknown architecture '{name}'")
      for name in (
        "stylegan9.Generator", "stylegan2.Nothing", "stylegan2.SynthesisBlock", "stylegan2.math.sqrt",
        "stylegan2.UserError", "os.system", "..config.build", "subprocess.Popen", "", "Generator", "stylegan2.",
    )),
    *((lambda header, change=change: generator_of(header)["arguments"].update(change), f"The generator in .*{word}")
      for change, word in (
        ({"resolution": 7}, "resolution must be one of"), ({"depth": 3}, "depth"), ({"z_dim": "many"}, "does not fit"),
        ({"channel_max": 8}, "does not fit its own description"), ({"resolution": 2**20}, ""),
        ({"channel_base": 10**9, "channel_max": 10**9}, ""), ({"channel_base": 10**30, "channel_max": 10**30}, ""),
        ({"num_mapping_layers": 10**12}, ""), ({"num_mapping_layers": 2000}, ""), ({"z_dim": 10**400}, ""),
        ({"z_dim": -1}, ""), ({"z_dim": 0}, ""), ({"c_dim": 10**15}, ""), ({"channel_base": float("nan")}, ""),
        ({"resolution": None}, ""), ({"img_channels": [3]}, ""),
    )),
]  # fmt: skip


@pytest.mark.parametrize(("change", "word"), HEADERS)
def test_headers_that_are_refused(saved, change, word):
    rewrite(saved, header=change)
    assert re.search(word, refused(saved))


@pytest.mark.parametrize(("role", "other"), [("generator", "discriminator"), ("discriminator", "generator")])
def test_a_network_in_the_role_of_another(saved, role, other):
    """Its class, arguments and tensors match one another, under a name that promises something else."""

    def stored(tensors):
        for name in list(tensors):
            tensor = tensors.pop(name)
            if name.startswith(f"{other}."):
                tensors[name.replace(other, role, 1)] = tensor

    rewrite(saved, header=lambda text: text.update(networks={role: text["networks"][other]}), tensors=stored)
    assert f"The {role} in '{saved}' is a stylegan2.{other.title()}, which cannot be one." == refused(saved)
    rewrite(saved, header=lambda text: text.update(networks={"encoder": text["networks"][role]}))
    assert "The encoder in" in refused(saved)


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
    assert re.search(f"The generator in .*{expected}", refused(saved))


class Allocated(TorchDispatchMode):
    """Records the bytes of the largest tensor allocated within the block."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (list, tuple)) else [out]:
            if isinstance(tensor, torch.Tensor) and not tensor.is_meta:
                self.largest = max(self.largest, tensor.untyped_storage().nbytes())
        return out


def test_claimed_sizes_take_no_memory(saved):
    """A header that claims a network a thousand times larger than its file."""
    size = os.path.getsize(saved)
    with Allocated() as whole:
        wplus.load(saved)
    assert 0 < whole.largest <= 2 * size
    rewrite(saved, header=lambda text: generator_of(text)["arguments"].update(channel_max=512, channel_base=4096))
    with Allocated() as forged:
        assert "does not fit its own description" in refused(saved)
    assert forged.largest <= 2 * size


@pytest.mark.parametrize("arguments", [{"resolution": 2**20}, {"width": 10**9}, {"num_layers": 10**12}])
def test_absurd_sizes_of_dense_layers(tmp_path, arguments):
    """For a family that takes any resolution."""
    path = wplus.save(tmp_path / "m.safetensors", generator=mlp_gan.Generator(resolution=8, z_dim=4, width=8))
    rewrite(path, header=lambda text: generator_of(text)["arguments"].update(arguments))
    assert "The generator in" in refused(path)


def test_what_is_loaded_does_not_hang_on_the_file(saved):
    """Tensors have their own memory: the file may be rewritten, and changing one tensor changes no other."""
    generator = wplus.load(saved).generator
    before = {name: tensor.clone() for name, tensor in generator.state_dict().items()}
    assert len({tensor.untyped_storage().data_ptr() for tensor in generator.state_dict().values()}) == len(before)
    with open(saved, "r+b") as file:
        file.seek(-saved.stat().st_size // 2, os.SEEK_END)
        file.write(b"\xff" * (saved.stat().st_size // 2))
    assert all(torch.equal(tensor, before[name]) for name, tensor in generator.state_dict().items())


def test_other_files(saved, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "there is no model.safetensors in it" in refused(tmp_path / "empty")
    rewrite(saved, header=lambda text: text.update(networks={}, version="new"))
    assert not wplus.load(saved).networks
