"""The restricted reader of pickles and torch files, against Python's and torch's own readers."""

import argparse
import io
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.adapters.foreign import EasyDict, nvlabs_modules
from tests.adapters.hostile import old_torch, stored, tensor, torch_bytes, torch_zip
from wplus.adapters.restricted import read_restricted
from wplus.errors import UserError


def read(content: bytes, folder: Path) -> Any:
    (folder / "file").write_bytes(content)
    return read_restricted(folder / "file")


def form(name: str, content: Any, protocol: int) -> bytes:
    if name != "pickle":
        return torch_bytes(content, as_zip=name == "torch zip", pickle_protocol=protocol)
    with nvlabs_modules():
        return pickle.dumps(content, protocol=protocol)


@pytest.mark.parametrize("name", ["pickle", "torch zip", "old torch"])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_content_comes_back(protocol: int, name: str, tmp_path: Path) -> None:
    content = {
        "tensor": torch.arange(12.0).reshape(3, 4).t(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "empty": torch.zeros(0),
        "array": np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
        "scalars": [np.float64(1.5), np.float32(2.5), np.int64(-3), np.bool_(True)],
        "plain": (1, "a", None, {2: b"b"}, {3}, [1.5, True]),
        "ordered": OrderedDict(b=2, a=1),
        "size": torch.Size([1, 2]),
        "options": EasyDict(a=1) if name == "pickle" else {"a": 1},
        "namespace": argparse.Namespace(size=16, lr=0.1),
    }
    found = read(form(name, content, protocol), tmp_path)
    for key in ("tensor", "parameter", "half", "empty"):
        assert type(found[key]) is torch.Tensor
        torch.testing.assert_close(found[key], content[key].detach(), rtol=0, atol=0)
    np.testing.assert_array_equal(found["array"], content["array"])
    assert found["scalars"] == [1.5, 2.5, -3, True]
    assert found["namespace"] == {"size": 16, "lr": 0.1}
    for key in ("plain", "options", "ordered", "size"):
        assert found[key] == content[key]
    assert list(found["ordered"]) == ["b", "a"]


def test_cycles_and_shared_parts_survive(tmp_path: Path) -> None:
    part = [torch.zeros(1)]
    content = {"a": part, "b": part}
    content["self"] = content
    found = read(pickle.dumps(content), tmp_path)
    assert found["a"] is found["b"]
    assert found["self"] is found


def test_attributes_are_left_out(tmp_path: Path) -> None:
    value = torch.arange(3.0)
    value.note = "mine"
    found = read(torch_bytes({"w": value, "state": torch.nn.Linear(2, 3).state_dict()}, as_zip=True), tmp_path)
    assert torch.equal(found["w"], value)
    assert not hasattr(found["w"], "note")
    assert list(found["state"]) == ["weight", "bias"]
    for made in (b"ccollections\nOrderedDict\n)R", b"cdnnlib.util\nEasyDict\n)R"):
        found = read(b"\x80\x04" + made + b"}\x8c\x0acheckpointK\x01sb.", tmp_path)
        assert found == {}
        assert not hasattr(found, "checkpoint")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.pkl"):
        read_restricted(tmp_path / "none.pkl")


# --- numbers: against torch's own reader ------------------------------------------------------------------------------

DTYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"]
NEW_DTYPES = ["float8_e4m3fn", "uint16"]  # without a type of storage


def assert_equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert (type(found), found.dtype, found.shape) == (torch.Tensor, expected.dtype, expected.shape)
    assert bits(found) == bits(expected)
    assert not found.requires_grad


def bits(values: torch.Tensor) -> list[int]:
    return values.detach().contiguous().view(-1).view(torch.uint8).tolist()


@pytest.mark.parametrize("as_zip", [True, False])
def test_tensors_of_every_kind(as_zip: bool, tmp_path: Path) -> None:
    whole = torch.randn(4, 6)
    content = {name: (10 * torch.randn(2, 3)).to(getattr(torch, name)) for name in DTYPES}
    if as_zip:
        content |= {name: torch.rand(2, 3).mul(100).to(getattr(torch, name)) for name in NEW_DTYPES}
    content |= {"row": whole[1], "column": whole[:, 2], "turned": whole.t(), "whole": whole, "part": whole[1:3, ::2]}
    content |= {"empty": torch.zeros(0), "scalar": torch.tensor(1.5), "row of 0": torch.zeros(3, 0)}
    content |= {"twice": whole.expand(1, 4, 6), "parameter": torch.nn.Parameter(torch.randn(2))}
    found = read(torch_bytes(content, as_zip=as_zip), tmp_path)
    expected = torch.load(tmp_path / "file", weights_only=True)
    assert list(found) == list(expected)
    for name in content:
        assert_equal(found[name], expected[name])


@pytest.mark.parametrize("name", DTYPES)
def test_numbers_of_a_machine_of_the_other_byte_order(name: str, tmp_path: Path) -> None:
    values = (10 * torch.randn(5)).to(getattr(torch, name))
    width = values.dtype.itemsize // (2 if values.is_complex() else 1)
    swapped = b"".join(bytes(bits(values)[i : i + width][::-1]) for i in range(0, values.nbytes, width))
    with zipfile.ZipFile(io.BytesIO(torch_bytes({"w": values}, as_zip=True))) as archive:
        pickled = archive.read("archive/data.pkl")
    assert_equal(read(torch_zip(pickled, byteorder=b"big", _0=swapped), tmp_path)["w"], values)


def test_a_part_of_a_storage(tmp_path: Path) -> None:
    """Views as torch before 0.4 wrote them: name of the part, its offset, its length."""
    vector = torch.arange(6.0)
    part = b"(X\x01\x00\x00\x00vK\x02K\x03t"
    content = b"\x80\x02" + tensor(stored(6, part=part), 3) + b"."
    numbers = (6).to_bytes(8, "little") + vector.numpy().tobytes()
    found = read(old_torch(content, b"]X\x01\x00\x00\x000a.", numbers), tmp_path)
    assert torch.equal(found, vector[2:5])
