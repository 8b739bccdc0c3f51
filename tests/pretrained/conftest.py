"""Weight files of published networks: right names and shapes, random numbers."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.fakes import overlapping
from wplus.core.images import to_float
from wplus.pretrained import weights
from wplus.pretrained.extractor import Extractor


def _random_state(shapes: dict[str, torch.Size]) -> dict[str, Tensor]:
    """Random weights and small biases; normalisations with means and scales. Overlapping views keep the file small."""
    rng = torch.Generator().manual_seed(3)
    state = {}
    for name, shape in shapes.items():
        if not shape:
            state[name] = torch.tensor(0)
        elif len(shape) == 1:
            positive = name.endswith(("weight", "running_var"))
            state[name] = torch.randn(shape, generator=rng) * 0.1 + positive
        else:
            state[name] = overlapping(shape, rng)
    return state


@pytest.fixture(scope="session")
def random_state() -> Callable[[dict[str, torch.Size]], dict[str, Tensor]]:
    return _random_state


def _check_maps(extractor: Extractor, finish: Callable[[Tensor], Tensor], px: int = 96) -> None:
    """Channels and strides are as declared, every map hears every image, and the last one, finished, is the features:
    so the maps see images as `forward` does."""
    pixels = torch.randint(0, 256, (2, 3, px, px), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    images = to_float(pixels).requires_grad_()
    maps = extractor.maps(images)
    assert tuple(x.shape[1] for x in maps) == extractor.map_channels
    for x, stride in zip(maps, extractor.map_strides, strict=True):
        assert abs(x.shape[2] - px / stride) <= 3
        (slope,) = torch.autograd.grad(x.square().sum(), images, retain_graph=True)
        assert slope.abs().sum(dim=(1, 2, 3)).min() > 0
    torch.testing.assert_close(finish(maps[-1]), extractor(pixels), atol=1e-3, rtol=1e-3)


@pytest.fixture(scope="session")
def check_maps() -> Callable[..., None]:
    return _check_maps


@pytest.fixture
def cache(monkeypatch, tmp_path) -> Path:
    """Use an empty folder as torch's cache."""
    monkeypatch.setattr(weights.torch.hub, "get_dir", lambda: str(tmp_path))
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    return folder


@pytest.fixture
def cached_weights(monkeypatch, cache) -> Callable[[object, object], Path]:
    """Put content into torch's cache as the weights file of an extractor, under a name that matches its hash."""

    def put(module: object, content: object) -> Path:
        torch.save(content, cache / "file")
        stem, suffix = module.FILE.rsplit("-", 1)[0], module.FILE.rsplit(".", 1)[1]
        path = cache / f"{stem}-{hashlib.sha256((cache / 'file').read_bytes()).hexdigest()[:8]}.{suffix}"
        (cache / "file").rename(path)
        monkeypatch.setattr(module, "FILE", path.name)
        return path

    return put


@pytest.fixture
def pictures() -> Tensor:
    """Smooth coloured pictures, uint8 (2, 3, 40, 40)."""
    rng = torch.Generator().manual_seed(1)
    coarse = torch.rand(2, 3, 6, 6, generator=rng) * 255
    return torch.nn.functional.interpolate(coarse, size=(40, 40), mode="bilinear").to(torch.uint8)
