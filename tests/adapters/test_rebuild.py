import json
import pickle
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import wplus
from wplus.adapters import nvlabs, rosinality
from wplus.adapters.rebuild import channel_budget, count, fill, plain, resampling_kernel
from wplus.errors import UserError
from wplus.models.stylegan2 import Generator

RESOLUTIONS = [4, 8, 16, 32, 64]


@given(base=st.integers(64, 65536), maximum=st.integers(1, 1024))
def test_budgets_reproduce_the_channels(base: int, maximum: int) -> None:
    channels = {res: min(base // res, maximum) for res in RESOLUTIONS}
    stated = {"channel_base": base, "channel_max": maximum}
    found = channel_budget(channels, "here", stated={})
    assert {res: min(found["channel_base"] // res, found["channel_max"]) for res in RESOLUTIONS} == channels
    assert channel_budget(channels, "here", stated=stated) == stated


def test_published_and_false_budgets() -> None:
    assert channel_budget({4: 512, 8: 512}, "here", stated={}) == {"channel_base": 32768, "channel_max": 512}
    false = {"channel_base": 1024, "channel_max": 512}
    assert channel_budget({4: 8, 8: 8}, "here", stated=false) == {"channel_base": 64, "channel_max": 8}
    for channels in ({4: 8, 8: 3, 16: 3}, {4: 3, 8: 8}, {4: 8, 8: 8, 16: 2}):
        with pytest.raises(UserError, match="8 at"):
            channel_budget(channels, "here", stated={})


def test_fill_copies_and_refuses() -> None:
    layer, tensors = torch.nn.Linear(2, 2), {"weight": torch.ones(2, 2, dtype=torch.float64), "bias": torch.ones(2)}
    fill(layer, tensors, "here")
    assert layer.weight.dtype == torch.float32
    assert (layer.weight == 1).all()
    with pytest.raises(UserError, match=r"here: 'a' \(and 1 more\) is not part"):
        fill(layer, {**tensors, "a": torch.ones(1), "b": torch.ones(1)}, "here")


def test_small_parts() -> None:
    assert count(["a.0", "a.1", "a.3"], "a.{}") == 2
    assert resampling_kernel(4.0).sum() == 4
    assert plain({1: (torch.device("cpu"), None), "a": {"b": 1.5}}) == {"1": ["device", None], "a": {"b": 1.5}}
    assert plain([float("inf"), 1.5]) == ["inf", 1.5]


def test_what_shares_memory_in_a_file_has_its_own_in_a_network() -> None:
    shared = torch.ones(4)
    with torch.device("meta"):
        layer = torch.nn.BatchNorm1d(2)
    tensors = {"weight": shared[:2], "bias": shared[2:], "running_mean": shared[:2], "running_var": torch.ones(2)}
    fill(layer, {**tensors, "num_batches_tracked": torch.tensor(0)}, "here")
    pointers = {tensor.untyped_storage().data_ptr() for tensor in layer.state_dict().values()}
    assert len(pointers) == 5
    assert isinstance(layer.weight, torch.nn.Parameter)


SMALL = {"resolution": 8, "z_dim": 4, "w_dim": 4, "channel_base": 16, "channel_max": 4, "num_mapping_layers": 2}


@pytest.mark.parametrize("layout", ["nvlabs", "rosinality"])
def test_sizes_that_are_only_claimed_ask_for_no_memory(layout: str, tmp_path: Path) -> None:
    """One vector claims that w has a million numbers; the mapping network would have 4 TB."""
    generator, wide = Generator(**SMALL), torch.zeros(1, 10**6)
    if layout == "nvlabs":
        content: dict = nvlabs.export(generator=generator)
        content["G_ema"]["synthesis.b4.conv1.affine.weight"] = wide
    else:
        content = {"g_ema": rosinality.in_their_layout(generator)}
        content["g_ema"]["conv1.conv.modulation.weight"] = wide
    torch.save(content, tmp_path / "wide.pt")
    with pytest.raises(UserError, match=r"wide\.pt.*has the shape"):
        wplus.load(tmp_path / "wide.pt")


def test_options_without_end_are_cut(tmp_path: Path) -> None:
    content, bomb, circle = nvlabs.export(generator=Generator(**SMALL)), [], {}
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
    content = nvlabs.export(generator=Generator(**SMALL))
    content["G_ema"] |= dict.fromkeys(names, torch.zeros(1))
    (tmp_path / "file.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(UserError, match=r"file\.pkl") as refusal:
        wplus.load(tmp_path / "file.pkl")
    assert str(refusal.value).isprintable()
