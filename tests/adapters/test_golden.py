"""Compare our networks with inputs and outputs of the published implementations; see the README beside the cases."""

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
from wplus.adapters import e4e, nvlabs, rosinality
from wplus.checkpoint import Models
from wplus.latents.latent import decode
from wplus.latents.space import space_of

FOLDER = Path(os.environ.get("WPLUS_GOLDEN", Path(__file__).resolve().parents[1] / "golden"))
FIRST_ORDER, SECOND_ORDER = 1e-4, 1e-3  # of the output's standard deviation


def cases(pattern: str) -> list[str]:
    return sorted(path.stem for path in FOLDER.glob(pattern))


@pytest.mark.parametrize("pattern", ["nvlabs*.json", "nvlabs*.pkl", "rosinality*.json", "e4e*.json", "junyanz*.json"])
def test_there_are_cases(pattern: str) -> None:
    """A folder without cases, such as a misspelt WPLUS_GOLDEN, would skip everything that follows."""
    assert cases(pattern), FOLDER


@lru_cache(maxsize=2)
def load_case(name: str) -> tuple[dict[str, Any], dict[str, torch.Tensor], dict[str, dict[str, torch.Tensor]]]:
    """Load the spec, inputs, outputs and networks of a case."""
    spec = json.loads((FOLDER / f"{name}.json").read_text())
    fill = importlib.util.spec_from_file_location("fill", FOLDER / "fill.py")
    module = importlib.util.module_from_spec(fill)
    fill.loader.exec_module(module)
    networks = {
        net: {key: torch.from_numpy(array) for key, array in tensors.items()}
        for net, tensors in module.fill(FOLDER / f"{name}.json").items()
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


@pytest.mark.parametrize("name", cases("nvlabs*.json"))
def test_nvlabs_images(name: str) -> None:
    generator, arrays = nvlabs_models(name).generator, load_case(name)[1]
    z, c = arrays["z"], arrays["c"]
    ws, other = generator.mapping(z, c), generator.mapping(z.flip(0), c)  # the labels stay
    assert_close(generator(z, c, noise_mode="const"), arrays["img_const"])
    assert_close(generator.synthesis(ws, noise_mode="none"), arrays["img_none"])
    assert_close(generator(z, c, truncation_psi=0.5), arrays["img_psi05"])
    mixed = torch.cat([ws[:, :4], other[:, 4:]], dim=1)
    assert_close(generator.synthesis(mixed, noise_mode="const"), arrays["img_mix_from4"])


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


@pytest.mark.parametrize("name", cases("nvlabs*_spaces.npz"))
def test_nvlabs_styles_and_feature_maps(name: str) -> None:
    generator = nvlabs_models(name.removesuffix("_spaces")).generator
    arrays = {key: torch.from_numpy(array) for key, array in np.load(FOLDER / f"{name}.npz").items()}
    ws, f_wplus = arrays["ws"], f"f{int(arrays['block'])}/w+"
    # S: what every affine layer makes of its w, and the image that they draw by themselves.
    styles = space_of("s", generator).from_ws(ws, generator)
    expected = [arrays[f"style_{layer.replace('.', '_')}"] for layer in generator.synthesis.style_sizes]
    for found, other in zip(decode(styles, "s", generator).layers, expected, strict=True):
        assert_close(found, other)
    assert_close(generator.synthesis(decode(torch.cat(expected, dim=1), "s", generator)), arrays["img_const"])
    # F/W+: the map that enters the block; the image from it, whose colours begin there.
    codes = space_of(f_wplus, generator).from_ws(ws, generator)
    assert_close(codes[:, : -ws[0].numel()].view_as(arrays["features"]), arrays["features"])
    given = torch.cat([arrays["features"].flatten(1), ws.flatten(1)], dim=1)
    assert_close(generator.synthesis(decode(given, f_wplus, generator)), arrays["img_from_features"])


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


@pytest.mark.parametrize("name", cases("junyanz*.json"))
@torch.no_grad()
def test_junyanz(name: str, tmp_path: Path) -> None:
    _, arrays, networks = load_case(name)
    file = tmp_path / ("latest_net_D.pth" if "patch" in name else "latest_net_G.pth")
    torch.save(networks["net"], file)
    network = wplus.load(file).discriminator if "patch" in name else wplus.load(file).generator
    assert torch.equal(network(arrays["x"]), network(arrays["x"], mode="inference"))
    assert_close(network(arrays["x"], mode="inference"), arrays["y_inference"])
    if "y_batch" in arrays:
        assert_close(network(arrays["x"], mode="batch"), arrays["y_batch"])


@pytest.mark.parametrize("name", cases("e4e*.json"))
@torch.no_grad()
def test_e4e(name: str, tmp_path: Path) -> None:
    """Read the published file: codes at every stage, and the image. Written again, tensors and names are the same."""
    spec, arrays, networks = load_case.__wrapped__(name)  # 600 MB, not to be kept
    extra = {"latent_avg": networks["extra"]["latent_avg"], "opts": spec["opts"]}
    content = {"state_dict": networks["state_dict"], **extra}
    torch.save(content, tmp_path / "checkpoint.pt")
    models = wplus.load(tmp_path / "checkpoint.pt")
    (tmp_path / "checkpoint.pt").unlink()
    encoder, generator = models.encoder, models.generator
    assert type(encoder).__name__ == spec["opts"]["encoder_type"]
    assert generator.resolution == spec["opts"]["stylegan_size"]
    ws = encoder(arrays["x"])
    assert_close(ws, arrays["wplus"])
    assert_close(ws - encoder.latent_avg, arrays["codes_full"])
    for key in arrays:
        if key.startswith("codes_stage"):  # of one image, to save the time of the other
            codes = encoder.offsets(arrays["x"][:1], stage=int(key.removeprefix("codes_stage")))
            assert_close(codes, arrays[key][:1])
    assert_close(generator.synthesis(ws, noise_mode="const"), arrays["img"])
    assert_written_the_same(models, content)
    decoder = {key: tensor for key, tensor in content["state_dict"].items() if key.startswith("decoder.")}
    assert_decoder_alone({**content, "state_dict": decoder}, arrays)


def assert_written_the_same(models: Models, content: dict[str, Any]) -> None:
    written = e4e.export(generator=models.generator, encoder=models.encoder)
    assert written["state_dict"].keys() == content["state_dict"].keys()
    assert all(torch.equal(tensor, content["state_dict"][key]) for key, tensor in written["state_dict"].items())
    assert torch.equal(written["latent_avg"], content["latent_avg"])
    assert written["opts"].items() >= content["opts"].items()


def assert_decoder_alone(content: dict[str, Any], arrays: dict[str, torch.Tensor]) -> None:
    networks, metadata = rosinality.read(content, "checkpoint.pt")
    assert_close(networks["generator"].synthesis(arrays["wplus"], noise_mode="const"), arrays["img"])
    assert_close(arrays["codes_full"] + torch.tensor(metadata["latent_avg"]), arrays["wplus"])
