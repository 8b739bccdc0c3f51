"""What commands share: images inverted on the way, inverters as functions, weight deltas, labelled codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from wplus.checkpoint import Models
from wplus.commands import codes_of, invert_files, labelled_codes, weight_deltas
from wplus.core.images import save_png
from wplus.data import ImageSet
from wplus.errors import UserError
from wplus.inversion.optimize import optimize
from wplus.latents.latent import Latent, load_latent, save_latent
from wplus.latents.weight_delta import WeightDelta, code_digest, save_delta
from wplus.models.stylegan2 import Generator

FAST = {"steps": 2, "code_noise": 0.5, "weights": {"l2": 1.0, "perceptual": 0.0}}


@pytest.fixture
def models() -> Models:
    net = Generator(resolution=8, z_dim=4, w_dim=4, channel_base=32, channel_max=4, num_mapping_layers=1)
    return Models(generator=net.eval().requires_grad_(False))


def invert(*arguments: object, **options: object) -> object:
    return optimize(*arguments, **{**options, **FAST})


def test_image_files_become_latent_files(models: Models, tmp_path: Path) -> None:
    files = [str(save_png(tmp_path / "in" / f"{name}.png", torch.rand(3, 10, 12))) for name in ("b", "a")]
    shared = {"models": models, "invert": invert, "perceptual": None, "space": "w+", "output_dir": tmp_path / "out"}
    made = invert_files(files, ["b.png", "a.png"], fit="pad", **shared)
    assert [path.name for path in made] == ["b.safetensors", "a.safetensors"]
    assert load_latent(made[0], fingerprint=models.fingerprint).space == "w+"


@pytest.mark.parametrize("space", ["w", "w+"])
def test_codes_do_not_depend_on_the_batch(models: Models, space: str) -> None:
    codes = codes_of(models, invert, space=space, perceptual=None, seed=1)
    images = torch.rand(4, 3, 8, 8) * 2 - 1
    together = codes(images)
    assert together.shape == (4, models.generator.num_ws, 4)
    assert not torch.equal(together[0], together[1])
    torch.testing.assert_close(torch.cat([codes(images[2:]), codes(images[:2])]), together[[2, 3, 0, 1]])


def test_deltas_are_found_and_checked(models: Models, tmp_path: Path) -> None:
    noted = {"delta": "deltas/sub/a.safetensors"}
    tuned = Latent(torch.randn(4), "w", models.fingerprint, metadata=noted)
    delta = WeightDelta({"mapping.fc0.bias": (torch.ones(4),)}, models.fingerprint, code_digest(tuned.code))
    save_delta(tmp_path / "sub" / "a.safetensors", delta)
    plain = Latent(torch.randn(4), "w", models.fingerprint)
    nothing, found = weight_deltas([plain, tuned], ["p", "t"], tmp_path, fingerprint=models.fingerprint)
    assert nothing is None
    assert found.latent == delta.latent
    other = Latent(torch.randn(4), "w", models.fingerprint, metadata=noted)
    with pytest.raises(UserError, match="tuned for the code"):
        weight_deltas([other], ["o"], tmp_path, fingerprint=models.fingerprint)
    with pytest.warns(UserWarning, match="'t' was tuned, but its weight delta is not in"):
        assert weight_deltas([tuned], ["t"], tmp_path / "none", fingerprint=models.fingerprint) == [None]


def test_codes_get_the_attributes_of_the_data_or_of_a_file(models: Models, tmp_path: Path) -> None:
    images = ImageSet(torch.zeros(3, 3, 8, 8, dtype=torch.uint8), None, ["a", "b", "c"],
                      attributes={"body": torch.tensor([5, 6, 7])})  # fmt: skip
    for name in ("c", "a"):
        save_latent(tmp_path / "l" / f"{name}.safetensors", Latent(torch.zeros(4), "w", models.fingerprint))
    samples = labelled_codes(models, lambda: images, codes=str(tmp_path / "l"))
    assert samples.attributes["body"].tolist() == [5, 7]
    (tmp_path / "a.csv").write_text("name,tail\nc,1\n")
    samples = labelled_codes(models, lambda: images, codes=str(tmp_path / "l"), attributes=str(tmp_path / "a.csv"))
    assert (samples.attributes["tail"].tolist(), samples.source["num_without_attributes"]) == ([1], 1)
    bare = ImageSet(images.images, None, images.names)
    with pytest.raises(UserError, match="without attributes"):
        labelled_codes(models, lambda: bare, codes=str(tmp_path / "l"))


def test_the_encoder_of_the_checkpoint_makes_codes(models: Models) -> None:
    class Encoder(torch.nn.Module):
        is_iterative, latent_avg = False, torch.zeros(4, 4)

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(1, 2, 3))[:, None, None].expand(-1, 4, 4)

    pixels = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 8, 8) * 10
    images = ImageSet(pixels.contiguous(), None, list("abcde"), attributes={"body": torch.arange(5)})
    models.encoder = Encoder()
    samples = labelled_codes(models, lambda: images, num_images=3, batch_size=2)
    np.testing.assert_allclose(samples.codes[:, 0, 0], np.arange(3) * 10 / 127.5 - 1, rtol=1e-5)
    assert samples.attributes["body"].tolist() == [0, 1, 2]
    assert samples.source["codes"] == "encoder"
    models.encoder = None
    with pytest.raises(UserError, match="no encoder"):
        labelled_codes(models, lambda: pytest.fail("read images in vain"))
