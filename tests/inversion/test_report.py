"""Folders of inversions side by side: several spaces, several inverters."""

from __future__ import annotations

import pytest
import torch

from tests.fakes import read_pixels
from wplus.errors import UserError
from wplus.inversion import report
from wplus.inversion.folder import InversionFolder, pixel_digest
from wplus.inversion.report import compare_folders, plot_convergence, read_history
from wplus.latents.latent import Latent


def a_folder(path, *, steps: int, names=("a", "b"), terms=("loss", "l2"), uneven: bool = False) -> InversionFolder:
    """A folder of inversions with histories of so many steps; `uneven`: every image has one more than the last."""
    store = InversionFolder(path, fingerprint="f" * 16, settings_digest="s")
    for index, name in enumerate(names):
        target = torch.full((3, 8, 8), index, dtype=torch.uint8)
        notes = {"settings": "s", "target": pixel_digest(target)}
        latent = Latent(code=torch.zeros(4), space="w", generator="f" * 16, metadata=notes)
        history = {term: torch.rand(steps + uneven * index) + 0.1 for term in terms}
        store.save(name, latent, image=target, target=target, history=history)
    return store


def test_inverters_side_by_side(tmp_path, monkeypatch):
    """An encoder has one evaluation, and not everything has a perceptual term."""
    folders = {"encoder": tmp_path / "e", "refine": tmp_path / "r", "optimize in w+": tmp_path / "o"}
    a_folder(tmp_path / "e", steps=1)
    a_folder(tmp_path / "r", steps=5, names=("b", "c", "a"))
    a_folder(tmp_path / "o", steps=30, terms=("loss", "l2", "perceptual"), uneven=True)
    drawn = []

    def noting(histories, path, *, terms):
        drawn.extend(terms)
        return plot_convergence(histories, path, terms=terms)

    monkeypatch.setattr(report, "plot_convergence", noting)
    convergence, grid = compare_folders(folders, tmp_path)
    assert drawn == ["loss", "l2", "perceptual"]
    assert read_pixels(convergence).shape[1] > 1000
    assert read_pixels(grid).shape[1] > 4 * 90


def test_the_grid_says_which_folder_a_picture_is_from(tmp_path):
    a_folder(tmp_path / "e", steps=1)
    a_folder(tmp_path / "o", steps=30)
    folders = {name: tmp_path / name for name in ("e", "o")}
    told = read_pixels(compare_folders(folders, tmp_path)[1])
    other = read_pixels(compare_folders({"encoder": folders["e"], "o": folders["o"]}, tmp_path)[1])
    differs = torch.as_tensor(told != other).any(dim=0 if told.shape[0] == 3 else -1)
    assert 0 < int(differs.any(dim=0).sum()) < differs.shape[1] / 3


def test_an_image_that_ended_sooner_repeats_its_last_value(tmp_path):
    store = a_folder(tmp_path, steps=3, uneven=True)
    history = read_history(store, ["a", "b"])["loss"]
    assert history.shape == (4, 2)
    assert history[3, 0] == history[2, 0]
    assert torch.equal(history[:, 1], store.history("b")["loss"])


def test_folders_without_common_images_are_refused(tmp_path):
    a_folder(tmp_path / "e", steps=1, names=("a",))
    a_folder(tmp_path / "o", steps=1, names=("b",))
    with pytest.raises(UserError, match="no inverted image in common"):
        compare_folders({"e": tmp_path / "e", "o": tmp_path / "o"}, tmp_path)
