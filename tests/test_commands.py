"""What commands share: inverting input images, inverters as functions, weight deltas, labelled latents."""

import functools
from pathlib import Path

import pytest
import torch

from wplus.checkpoint import Models
from wplus.commands.common import codes_of, invert_files, weight_deltas
from wplus.core.images import save_png
from wplus.errors import UserError
from wplus.inversion.optimize import optimize
from wplus.latents.latent import Latent, load_latent
from wplus.latents.weight_delta import WeightDelta, code_digest
from wplus.models.stylegan2 import Generator

FAST = {"num_steps": 2, "latent_noise": 0.5, "loss_weights": {"l2": 1.0, "perceptual": 0.0}}


@pytest.fixture
def models() -> Models:
    net = Generator(resolution=8, z_dim=4, w_dim=4, channel_base=32, channel_max=4, num_mapping_layers=1)
    return Models(generator=net.eval().requires_grad_(False))


invert = functools.partial(optimize, **FAST)


def test_image_files_become_latent_files(models: Models, tmp_path: Path) -> None:
    files = [str(save_png(tmp_path / "in" / f"{name}.png", torch.rand(3, 10, 12))) for name in ("b", "a")]
    shared = {"models": models, "invert": invert, "perceptual": None, "space": "w+", "output_dir": tmp_path / "out"}
    made = invert_files(files, ["b.png", "a.png"], fit="pad", **shared)
    assert [path.name for path in made] == ["b.safetensors", "a.safetensors"]
    assert load_latent(made[0], fingerprint=models.fingerprint).space == "w+"


@pytest.mark.parametrize("space", ["w", "w+"])
def test_codes_do_not_depend_on_the_batch(models: Models, space: str) -> None:
    codes, found = codes_of(models, invert, space=space, perceptual=None, seed=1)
    assert str(found) == "w+"  # where they are compared
    images = torch.rand(4, 3, 8, 8) * 2 - 1
    together = codes(images)
    assert together.shape == (4, models.generator.num_ws, 4)
    assert not torch.equal(together[0], together[1])
    torch.testing.assert_close(torch.cat([codes(images[2:]), codes(images[:2])]), together[[2, 3, 0, 1]])


def test_deltas_are_found_and_checked(models: Models, tmp_path: Path) -> None:
    noted = {"delta": "deltas/sub/a.safetensors"}
    tuned = Latent(torch.randn(4), "w", models.fingerprint, metadata=noted)
    delta = WeightDelta({"mapping.fc0.bias": (torch.ones(4),)}, models.fingerprint, code_digest(tuned.code))
    delta.save(tmp_path / "sub" / "a.safetensors")
    plain = Latent(torch.randn(4), "w", models.fingerprint)
    nothing, found = weight_deltas([plain, tuned], ["p", "t"], tmp_path, fingerprint=models.fingerprint)
    assert nothing is None
    assert found.latent == delta.latent
    other = Latent(torch.randn(4), "w", models.fingerprint, metadata=noted)
    with pytest.raises(UserError, match="the latent of this weight delta must be"):
        weight_deltas([other], ["o"], tmp_path, fingerprint=models.fingerprint)
    with pytest.warns(UserWarning, match="'t' was tuned, but its weight delta is not in"):
        assert weight_deltas([tuned], ["t"], tmp_path / "none", fingerprint=models.fingerprint) == [None]
