from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import wplus
from tests.adapters.foreign import Persistent, dumps, persistent_network, randomise
from wplus.adapters import nvlabs
from wplus.errors import UserError
from wplus.models.stylegan2 import Discriminator, Generator

TINY = {"resolution": 16, "channel_base": 128, "channel_max": 16}


def test_classes_of_another_network_are_named(tmp_path: Path) -> None:
    modules = {"synthesis": Persistent("SynthesisNetwork", {"_modules": {"input": Persistent("SynthesisInput", {})}})}
    (tmp_path / "sg3.pkl").write_bytes(dumps({"G_ema": Persistent("Generator", {"_modules": modules})}))
    with pytest.raises(UserError, match=r"missing.*SynthesisInput are not StyleGAN2's"):
        wplus.load(tmp_path / "sg3.pkl")


def layers(module: Persistent, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The attributes of every module with a weight, by its dotted name."""
    state = module.meta["state"]
    if "weight" in state["_parameters"]:
        yield name, state
    for child, inner in state["_modules"].items():
        yield from layers(inner, f"{name}.{child}".strip("."))


def with_clamps(folder: Path, clamps: Callable[[str], Any]) -> Path:
    """A pickle whose constructors' arguments say nothing of a clamp, as in stylegan3's, but whose layers do."""
    generator = randomise(Generator(**TINY, z_dim=6, w_dim=6, num_mapping_layers=1))
    content = nvlabs.export(generator=generator, discriminator=randomise(Discriminator(**TINY, architecture="skip")))
    parts = {part: persistent_network(content[part], {}) for part in ("G_ema", "D")}
    for part in parts.values():
        for name, state in layers(part):
            if name.rpartition(".")[2] in ("conv", "conv0", "conv1", "torgb", "fromrgb", "skip"):
                state["conv_clamp"] = clamps(name)
    (folder / "file.pkl").write_bytes(dumps(parts))
    return folder / "file.pkl"


def test_what_the_layers_clamp_by_counts(tmp_path: Path) -> None:
    """In stylegan3's repository 256 is the constructor's default, which the file's arguments do not state."""
    models = wplus.load(with_clamps(tmp_path, lambda name: None if name == "b4.fromrgb" else 0.25))
    assert models.generator.arguments["conv_clamp"] == models.discriminator.arguments["conv_clamp"] == 0.25
    models = wplus.load(with_clamps(tmp_path, lambda name: None))
    assert models.generator.arguments["conv_clamp"] is None


@pytest.mark.parametrize("odd", ["synthesis.b8.torgb", "b8.conv0", "b4.fromrgb"])
def test_layers_that_clamp_by_another_limit_are_refused(odd: str, tmp_path: Path) -> None:
    path = with_clamps(tmp_path, lambda name: 7.5 if name == odd else None if name == "b4.fromrgb" else 256)
    with pytest.raises(UserError, match=rf"the layer '{odd}' has conv_clamp = 7\.5, where (256|None) was expected"):
        wplus.load(path)


def test_a_tree_without_end_is_refused(tmp_path: Path) -> None:
    module = Persistent("Layer", {"_parameters": {"weight": torch.zeros(1)}})
    for _ in range(20):
        module = Persistent("Layer", {"_modules": {"inner": module}})
    (tmp_path / "file.pkl").write_bytes(dumps({"G_ema": module}))
    with pytest.raises(UserError, match=r"file\.pkl.*nested more than 10 deep"):
        wplus.load(tmp_path / "file.pkl")


def test_a_long_name_is_not_repeated_for_every_tensor(tmp_path: Path) -> None:
    """Names of tensors begin with those of their modules: 1000 times a million characters would be a gigabyte."""
    layer = Persistent("Layer", {"_parameters": dict.fromkeys(map(str, range(1000)), torch.zeros(1))})
    (tmp_path / "file.pkl").write_bytes(dumps({"G_ema": Persistent("Generator", {"_modules": {"n" * 10**6: layer}})}))
    tracemalloc.start()
    with pytest.raises(UserError, match=r"file\.pkl.*longer than 200 characters, at 'nnn"):
        wplus.load(tmp_path / "file.pkl")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e7
