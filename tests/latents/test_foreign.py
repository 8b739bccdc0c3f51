"""Latents in the formats of other projects."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.fakes import tiny_generator
from wplus.checkpoint import Models
from wplus.editing.samples import read_latents as latents_of_folder
from wplus.errors import UserError
from wplus.inversion.report import read_ground_truth
from wplus.latents.foreign import read_latents
from wplus.latents.inputs import read_inputs
from wplus.latents.latent import ws_of


@pytest.fixture(scope="module")
def models() -> Models:
    return Models(generator=tiny_generator())  # num_ws 4, w_dim 12


def written(path: Path, content: object) -> Path:
    with path.open("wb") as file:
        if path.suffix.lower() == ".npz":
            np.savez(file, **content)
        elif path.suffix.lower() == ".npy":
            np.save(file, content, allow_pickle=True)
        else:
            torch.save(content, file)
    return path


def numbers(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def projected(*shape: int) -> dict:
    noise = [torch.ones(1, 1, size, size) for size in (4, 8, 8)]
    entry = {"img": torch.zeros(3, 8, 8), "latent": torch.from_numpy(numbers(*shape)), "noise": noise}
    return {"in/b.png": entry, "C:\\in\\a.x.jpg": {**entry, "noise": noise[:1]}}


READ = [
    ("projected_w.npz", {"w": numbers(1, 4, 12)}, "w+", ["projected_w"]),  # NVlabs' projector.py
    ("dlatents.npz", {"dlatents": numbers(1, 4, 12), "step": np.zeros(3)}, "w+", ["dlatents"]),
    ("a.npy", numbers(12), "w", ["a"]),
    ("a.b.NPY", numbers(2, 12), "w", ["a.b_0000", "a.b_0001"]),
    ("a.npy", numbers(4, 12).astype(np.float64), "w+", ["a"]),
    ("a.npy", numbers(2, 4, 12), "w+", ["a_0000", "a_0001"]),
    ("a.npy", numbers(3, 1, 12), "w", ["a_0000", "a_0001", "a_0002"]),
    ("latents.pt", torch.from_numpy(numbers(2, 4, 12)), "w+", ["latents_0000", "latents_0001"]),  # e4e's inference.py
    ("latents.pth", [torch.from_numpy(numbers(4, 12))], "w+", ["latents"]),
    ("list.pt", [numbers(4, 12), numbers(4, 12)], "w+", ["list_0000", "list_0001"]),
    ("project.pt", projected(12), "w", ["b", "a.x"]),  # rosinality's projector.py
    ("project.pt", projected(4, 12), "w+", ["b", "a.x"]),
]


@pytest.mark.parametrize(("file", "content", "space", "names"), READ)
def test_shape_says_what_it_is(file, content, space, names, models, tmp_path):
    path = written(tmp_path / file, content)
    found = read_latents(path, models)
    assert ([name for name, _ in found], {latent.space for _, latent in found}) == (names, {space})
    first = numbers(*getattr(content, "shape", ())) if isinstance(content, np.ndarray) else None
    if first is not None:
        expected = torch.from_numpy(first).float().reshape(len(found), -1)[0]
        assert torch.allclose(found[0][1].code.flatten(), expected)
    assert ws_of(found[0][1], models.generator).shape == (4, 12)
    latents, same = read_inputs([str(path)], models=models, invert=None)
    assert (same, len(latents)) == (names, len(names))
    assert latents_of_folder(tmp_path, models)[0] == latents_of_folder(path, models)[0] == names


def test_noise_comes_along_where_it_fits(models, tmp_path):
    found = dict(read_latents(written(tmp_path / "p.pt", projected(12)), models))
    assert [tuple(layer.shape) for layer in found["b"].noise] == [(1, 4, 4), (1, 8, 8), (1, 8, 8)]
    assert found["a.x"].noise is None


def test_they_are_ground_truth_too(models, tmp_path):
    written(tmp_path / "a.npy", numbers(12))
    written(tmp_path / "b.pt", torch.from_numpy(numbers(1, 4, 12)))
    assert [ws.shape for ws in read_ground_truth(tmp_path, ["a", "b"], models).values()] == [(4, 12)] * 2


class Evil:
    """Its pickle runs a command."""

    def __reduce__(self) -> tuple:
        return Path.touch, (Path("ran"),)


ALLOWED = r"must hold numbers of the shape \(12,\), \(N, 12\), \(4, 12\) or \(N, 4, 12\), got "


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("a.npy", numbers(512), ALLOWED + r"\(512,\)"),
        ("a.npz", {"w": numbers(1, 18, 512)}, ALLOWED + r"\(1, 18, 512\)"),
        ("a.npy", numbers(1, 1, 4, 12), ALLOWED),
        ("a.npy", numbers(0, 12), ALLOWED),
        ("a.npy", np.array(1.0), ALLOWED),
        ("a.npy", np.array(["x"]), ALLOWED + "ndarray"),
        ("a.npy", np.full(12, np.nan), "finite numbers"),
        ("a.npy", np.full(12, 1e300), "finite numbers"),
        ("a.npz", {"x": numbers(12), "y": numbers(12)}, ALLOWED + "a dict of x, y"),
        ("a.npy", np.array([Evil()], dtype=object), "Cannot read .*a.npy"),
        ("a.pt", {"g_ema": {}, "d": {}}, ALLOWED + "a dict of g_ema, d"),
        ("a.pt", [torch.zeros(12), torch.zeros(4, 12)], ALLOWED + "list"),
        ("a.pt", Evil(), "a.pt"),
    ],
)
def test_what_is_no_latent_is_refused(file, content, words, models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if isinstance(content, Evil):
        (tmp_path / file).write_bytes(pickle.dumps(content))
    else:
        written(tmp_path / file, content)
    with pytest.raises(UserError, match=words) as error:
        read_inputs([file], models=models, invert=None)
    assert "\n" not in str(error.value)
    assert not Path("ran").exists()


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".pt", ".safetensors"])
def test_damage_is_named(suffix, models, tmp_path):
    for content in (b"", b"hello", b"\x93NUMPY\x01\x00v\x00", b"PK\x03\x04" + bytes(60)):
        (tmp_path / f"a{suffix}").write_bytes(content)
        with pytest.raises(UserError, match=rf"a\{suffix}"):
            read_latents(tmp_path / f"a{suffix}", models)
