"""A tiny StyleGAN2 with an encoder, in a file in the current folder."""

from pathlib import Path

import pytest

import wplus
from tests.fakes import noise, tiny_encoder, tiny_generator
from wplus.interpolation import video


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> wplus.Model:
    """The model in model.safetensors, beside the images in/a.png and in/b.png."""
    monkeypatch.chdir(tmp_path)
    generator = tiny_generator()
    wplus.save("model.safetensors", generator=generator, encoder=tiny_encoder(generator))
    Path("in").mkdir()
    for seed, name in enumerate(("a", "b")):
        noise(8, 8, seed=seed).save(f"in/{name}.png")
    return wplus.load("model.safetensors")


@pytest.fixture(autouse=True)
def without_plots(without_curves: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip drawing plots, which takes longer than what they show."""
    monkeypatch.setattr(video, "plot_distances", lambda path, *arguments, **options: path)
