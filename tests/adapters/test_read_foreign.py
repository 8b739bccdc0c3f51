from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch

import wplus
from wplus.adapters import nvlabs, rosinality
from wplus.errors import UserError
from wplus.models.stylegan2 import Generator


@pytest.mark.parametrize("layout", ["nvlabs", "rosinality"])
def test_sizes_that_are_only_claimed_ask_for_no_memory(layout: str, tmp_path: Path) -> None:
    """One vector of a million numbers says that w has as many; the mapping network would have 4 TB."""
    shape = {"resolution": 8, "z_dim": 4, "w_dim": 4, "channel_base": 16, "channel_max": 4, "num_mapping_layers": 2}
    generator, wide = Generator(**shape), torch.zeros(1, 10**6)
    if layout == "nvlabs":
        content: dict = nvlabs.export(generator=generator)
        content["G_ema"]["synthesis.b4.conv1.affine.weight"] = wide
    else:
        content = {"g_ema": rosinality._their_generator(generator)}
        content["g_ema"]["conv1.conv.modulation.weight"] = wide
    torch.save(content, tmp_path / "wide.pt")
    with pytest.raises(UserError, match=r"wide\.pt.*has the shape"):
        wplus.load(tmp_path / "wide.pt")


def test_options_without_end_are_cut(tmp_path: Path) -> None:
    generator = Generator(resolution=8, z_dim=4, w_dim=4, channel_base=16, channel_max=4, num_mapping_layers=1)
    content, bomb, circle = nvlabs.export(generator=generator), [], {}
    circle["again_kwargs"] = circle
    for _ in range(60):
        bomb = [bomb, bomb]
    content |= {"training_set_kwargs": {"bomb": bomb, "circle": circle, "nan": float("nan")}}
    content["G_kwargs"]["inner_kwargs"] = circle
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(content))
    said = json.dumps(wplus.load(tmp_path / "file.pkl").metadata, allow_nan=False)
    assert len(said) < 10**6
    assert "..." in said


@pytest.mark.parametrize("names", [{"\x1b[2J": 0}, {7: 0}, {("a",): 0}])
def test_odd_names_end_in_a_printable_sentence(names: dict, tmp_path: Path) -> None:
    generator = Generator(resolution=8, z_dim=4, w_dim=4, channel_base=16, channel_max=4, num_mapping_layers=1)
    content = nvlabs.export(generator=generator)
    content["G_ema"] |= dict.fromkeys(names, torch.zeros(1))
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=r"file\.pkl") as refusal:
        wplus.load(tmp_path / "file.pkl")
    assert str(refusal.value).isprintable()
