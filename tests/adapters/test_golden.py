"""Our networks against inputs and outputs of the published implementations; see the README beside the cases."""

from __future__ import annotations

import importlib.util
import json
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import wplus
from wplus.adapters import nvlabs, rosinality
from wplus.checkpoint import Models

FOLDER = Path(os.environ.get("WPLUS_GOLDEN", Path(__file__).resolve().parents[1] / "golden"))
FIRST_ORDER, SECOND_ORDER = 1e-4, 1e-3  # of the output's standard deviation


def cases(pattern: str) -> list[str]:
    return sorted(path.stem for path in FOLDER.glob(pattern))


@lru_cache(maxsize=2)
def load_case(
    name: str, prefix: str = ""
) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, dict[str, torch.Tensor]]]:
    """Spec, inputs and outputs, and networks of a case; only tensors whose names begin with `prefix` are rebuilt."""
    spec = json.loads((FOLDER / f"{name}.json").read_text())
    fill = importlib.util.spec_from_file_location("fill", FOLDER / "fill.py")
    module = importlib.util.module_from_spec(fill)
    fill.loader.exec_module(module)
    networks = {
        net: {
            key: torch.from_numpy(module._tensor(f"{net}.{key}", entry, spec["seed"]))
            for key, entry in tensors.items()
            if key.startswith(prefix) or "latent" in key
        }
        for net, tensors in spec["networks"].items()
    }
    arrays = {key: torch.from_numpy(np.atleast_1d(value)) for key, value in np.load(FOLDER / f"{name}.npz").items()}
    return spec, arrays, networks


@lru_cache(maxsize=2)
def nvlabs_models(name: str) -> Models:
    spec, _, networks = load_case(name)
    content = {"G_ema": networks["G"], "G_kwargs": spec["G_kwargs"], "D": networks["D"], "D_kwargs": spec["D_kwargs"]}
    return Models(**nvlabs.read(content, name)[0])


def assert_close(found: torch.Tensor, expected: torch.Tensor, tolerance: float = FIRST_ORDER) -> None:
    scale = expected.std().item() if expected.numel() > 1 else abs(expected.item())
    assert found.shape == expected.shape
    assert (found.detach() - expected).abs().max().item() <= tolerance * scale


@pytest.mark.parametrize("name", cases("nvlabs*.json"))
def test_nvlabs_mapping(name: str) -> None:
    generator, arrays = nvlabs_models(name).generator, load_case(name)[1]
    z, c = arrays["z"], arrays["c"]
    assert_close(generator.mapping(z, c), arrays["ws"])
    assert_close(generator.mapping(z, c, truncation_psi=0.5), arrays["ws_psi05"])
    assert_close(generator.mapping(z, c, truncation_psi=0.7, truncation_cutoff=4), arrays["ws_psi07_cutoff4"])


def nvlabs_images(generator, arrays: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    ws = generator.mapping(arrays["z"], arrays["c"])
    other = generator.mapping(arrays["z"].flip(0), arrays["c"])  # the labels stay
    mixed = torch.cat([ws[:, :4], other[:, 4:]], dim=1)
    return {
        "img_const": generator(arrays["z"], arrays["c"], noise_mode="const"),
        "img_none": generator.synthesis(ws, noise_mode="none"),
        "img_psi05": generator(arrays["z"], arrays["c"], truncation_psi=0.5),
        "img_mix_from4": generator.synthesis(mixed, noise_mode="const"),
    }


@pytest.mark.parametrize("name", cases("nvlabs*.json"))
def test_nvlabs_images(name: str) -> None:
    arrays = load_case(name)[1]
    for key, image in nvlabs_images(nvlabs_models(name).generator, arrays).items():
        assert_close(image, arrays[key])


@pytest.mark.parametrize("name", cases("nvlabs*.json"))
def test_nvlabs_discriminator(name: str) -> None:
    discriminator, arrays = nvlabs_models(name).discriminator, load_case(name)[1]
    images = arrays["img_const"].clone().requires_grad_()
    logits = discriminator(images, arrays["c"])
    assert_close(logits, arrays["logits"])
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    assert_close(gradient.square().sum(dim=(1, 2, 3)), arrays["r1_grad_sq"], SECOND_ORDER)


@pytest.mark.parametrize("name", cases("nvlabs*.json"))
def test_nvlabs_path_lengths(name: str) -> None:
    generator, arrays = nvlabs_models(name).generator, load_case(name)[1]
    ws = generator.mapping(arrays["z"], arrays["c"]).detach().requires_grad_()
    images = generator.synthesis(ws, noise_mode="const")
    (gradient,) = torch.autograd.grad((images * arrays["pl_noise"]).sum(), ws, create_graph=True)
    assert_close(gradient.square().sum(dim=2).mean(dim=1).sqrt(), arrays["pl_lengths"], SECOND_ORDER)


@pytest.mark.parametrize("name", cases("nvlabs*.pkl"))
def test_nvlabs_pickle_holds_the_same_networks(name: str) -> None:
    models, networks = wplus.load(FOLDER / f"{name}.pkl"), load_case(name)[2]
    for net, part in ((models.generator, "G"), (models.discriminator, "D")):
        for key, tensor in net.state_dict().items():
            assert torch.equal(tensor, networks[part][key])
    assert models.metadata["generator"] == "G_ema"


@pytest.mark.parametrize("name", cases("rosinality*.json"))
def test_rosinality(name: str, tmp_path: Path) -> None:
    spec, arrays, networks = load_case(name)
    torch.save({**networks, "latent_avg": arrays["mean_latent"][0]}, tmp_path / "checkpoint.pt")
    models = wplus.load(tmp_path / "checkpoint.pt")
    assert models.generator.resolution == spec["kwargs"]["size"]
    assert_close(models.generator.mapping(arrays["z"]), arrays["latent"])
    image = models.generator(arrays["z"], noise_mode="const")
    assert_close(image, arrays["img_const"])
    assert_close(models.generator(arrays["z"], truncation_psi=0.5, noise_mode="const"), arrays["img_psi05"])
    assert_close(models.discriminator(arrays["img_const"]), arrays["logits"])


@pytest.mark.parametrize("name", cases("e4e*.json"))
def test_e4e_decoder(name: str) -> None:
    spec, arrays, networks = load_case(name, "decoder.")
    content = {
        "state_dict": networks["state_dict"],
        "latent_avg": networks["extra"]["latent_avg"],
        "opts": spec["opts"],
    }
    networks, metadata = rosinality.read(content, name)
    with torch.no_grad():
        assert_close(networks["generator"].synthesis(arrays["wplus"], noise_mode="const"), arrays["img"])
    average = torch.tensor(metadata["latent_avg"])
    assert_close(arrays["codes_full"] + average, arrays["wplus"])
