import argparse
import functools
import io
import os
import pickle
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

import wplus
from tests.adapters.hostile import Call, compressed, in_storage, old_torch, stored, tensor, torch_bytes, torch_zip
from wplus.adapters.restricted import read_restricted
from wplus.errors import UserError


def test_zip_bombs_are_not_unpacked(tmp_path: Path) -> None:
    bomb = compressed(torch_bytes({"g_ema": {"w": torch.zeros(10**6)}}, as_zip=True))
    assert len(bomb) < 10**5
    (tmp_path / "bomb.pt").write_bytes(bomb)
    (tmp_path / "bomb.pkl").write_bytes(pickle.dumps(in_storage(bomb)))
    for name in ("bomb.pt", "bomb.pkl"):
        with pytest.raises(UserError, match=r"compressed records, \d+ bytes in a file of"):
            wplus.load(tmp_path / name)


EXTRAORDINARY = {
    "a tensor of 1000000000000 elements in a storage of 1": lambda: torch.zeros(1).expand(10**6, 10**6),
    "torch._utils._rebuild_sparse_tensor": lambda: torch.zeros(3, 3).to_sparse(),
    "torch._utils._rebuild_meta_tensor_no_storage": lambda: torch.zeros(10**6, 10**6, device="meta"),
    "torch._utils._rebuild_qtensor": lambda: torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8),
}


@pytest.mark.parametrize("offender", EXTRAORDINARY)
def test_tensors_without_their_numbers_are_refused(offender: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, that quantised tensors will go
        torch.save({"g_ema": {"conv1.conv.weight": EXTRAORDINARY[offender]()}}, tmp_path / "file.pt")
    with pytest.raises(UserError, match=rf"file\.pt' is refused: it holds {offender}, and"):
        wplus.load(tmp_path / "file.pt")


@pytest.mark.parametrize("as_zip", [True, False])
def test_torch_files_may_hold_options_and_scores(as_zip: bool, tmp_path: Path) -> None:
    content = {
        "g_ema": {"w": torch.ones(2)},
        "args": argparse.Namespace(size=16, lr=0.1),
        "best": np.float64(0.5),
        "low": np.float32(2),
    }
    (tmp_path / "file.pt").write_bytes(torch_bytes(content, as_zip=as_zip))
    found = read_restricted(tmp_path / "file.pt")
    assert found["args"] == {"size": 16, "lr": 0.1}
    assert (found["best"], found["low"]) == (0.5, 2.0)


class Calm:
    """A class of somebody's project, of which instances are stored."""

    def __init__(self) -> None:
        self.state = {"a": 1}


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_pickle_protocol(protocol: int, as_zip: bool, tmp_path: Path, marker: Path) -> None:
    def save(content: object) -> Path:
        buffer = io.BytesIO()
        torch.save(content, buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=as_zip)
        (tmp_path / "file.pt").write_bytes(buffer.getvalue())
        return tmp_path / "file.pt"

    tensors = {"w": torch.ones(2), "half": torch.ones(2).half(), "p": torch.nn.Parameter(torch.ones(1)), "set": {1}}
    ordered = OrderedDict(a=1, size=torch.Size([1]), text=b"b", args=argparse.Namespace(a=1), best=np.float64(1))
    for offence, offender in (
        ({"g_ema": tensors, "x": [Call(os.system, f"touch {marker}")]}, r"posix\.system"),
        ({"g_ema": tensors, "x": Calm()}, rf"{Calm.__module__}\.Calm"),
        ([ordered, Call(functools.partial, os.getcwd)], r"functools\.partial"),
    ):
        with pytest.raises(UserError, match=offender):
            wplus.load(save(offence))
    assert not marker.exists()
    found = read_restricted(save({"g_ema": tensors, "more": ordered}))
    assert torch.equal(found["g_ema"]["half"], tensors["half"])
    assert found["g_ema"]["set"] == {1}
    assert found["more"] == {"a": 1, "size": (1,), "text": b"b", "args": {"a": 1}, "best": 1.0}


# --- numbers: against torch's own reader ------------------------------------------------------------------------------

DTYPES = ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"]
NEW_DTYPES = ["float8_e4m3fn", "uint16"]  # without a type of storage


def assert_equal(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert (type(found), found.dtype, found.shape) == (torch.Tensor, expected.dtype, expected.shape)
    assert found.contiguous().view(-1).view(torch.uint8).tolist() == bits(expected)


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
    content["last layer"] = torch.nn.Linear(2, 2).state_dict()["weight"]
    (tmp_path / "file.pt").write_bytes(torch_bytes(content, as_zip=as_zip))
    found = read_restricted(tmp_path / "file.pt")
    expected = torch.load(tmp_path / "file.pt", weights_only=True)
    assert list(found) == list(expected)
    for name in content:
        assert_equal(found[name], expected[name])
        assert not found[name].requires_grad


@pytest.mark.parametrize("name", DTYPES)
def test_numbers_of_a_machine_of_the_other_byte_order(name: str, tmp_path: Path) -> None:
    values = (10 * torch.randn(5)).to(getattr(torch, name))
    width = values.dtype.itemsize // (2 if values.is_complex() else 1)
    swapped = b"".join(bytes(bits(values)[i : i + width][::-1]) for i in range(0, values.nbytes, width))
    with zipfile.ZipFile(io.BytesIO(torch_bytes({"w": values}, as_zip=True))) as archive:
        pickled = archive.read("archive/data.pkl")
    (tmp_path / "file.pt").write_bytes(torch_zip(pickled, byteorder=b"big", _0=swapped))
    assert_equal(read_restricted(tmp_path / "file.pt")["w"], values)


def test_a_part_of_a_storage(tmp_path: Path) -> None:
    """As torch before 0.4 wrote views: name of the part, where it begins, how long it is."""
    vector = torch.arange(6.0)
    part = b"(X\x01\x00\x00\x00vK\x02K\x03t"
    content = b"\x80\x02" + tensor(stored(6, part=part), 3) + b"."
    numbers = (6).to_bytes(8, "little") + vector.numpy().tobytes()
    (tmp_path / "file.pt").write_bytes(old_torch(content, b"]X\x01\x00\x00\x000a.", numbers))
    assert torch.equal(read_restricted(tmp_path / "file.pt"), vector[2:5])


# --- claims and damage ------------------------------------------------------------------------------------------------


def whole(storage: bytes, size: int) -> bytes:
    return b"\x80\x02" + tensor(storage, size) + b"."


FOUR = torch.arange(4.0).numpy().tobytes()
FIRST = torch_zip(whole(stored(4), 4), _0=FOUR)
KEYS, COUNT = b"]X\x01\x00\x00\x000a.", (4).to_bytes(8, "little")
CLAIMS = {
    "more in a zip": (
        torch_zip(whole(stored(1000), 1000), _0=FOUR),
        "1000 elements of torch.float32 in a record of 16",
    ),
    "ten gigabytes in a zip": (torch_zip(whole(stored(10**10), 4), _0=FOUR), "in a record of 16 bytes"),
    "without its beginning": (FIRST[:4] + FIRST[24:], "or without its beginning"),
    "fewer in a zip": (torch_zip(whole(stored(3), 3), _0=FOUR), "3 elements"),
    "wider in a zip": (torch_zip(whole(stored(4, kind="DoubleStorage"), 4), _0=FOUR), "4 elements of torch.float64"),
    "a tensor of ten gigabytes": (torch_zip(whole(stored(4), 10**10), _0=FOUR), "a tensor of 10000000000 elements"),
    "no record": (torch_zip(whole(stored(4), 4)), "archive/data/0"),
    "negative": (torch_zip(whole(stored(-4), 4), _0=FOUR), "without name or number"),
    "no storage": (torch_zip(b"\x80\x02(X\x06\x00\x00\x00moduleNNNNtQ."), "not of a storage"),
    "of another type": (torch_zip(whole(stored(4, kind="QInt8Storage"), 4), _0=FOUR), "torch.QInt8Storage"),
    "ten gigabytes in a row": (old_torch(whole(stored(10**10), 4), KEYS, COUNT + FOUR), "the file is too short"),
    "more in a row": (old_torch(whole(stored(5), 5), KEYS, COUNT + FOUR), "the storage '0' is not where"),
    "cut in a row": (old_torch(whole(stored(4), 4), KEYS, COUNT + FOUR[:-1]), "not there"),
    "not in the row": (old_torch(whole(stored(4), 4), b"].", COUNT + FOUR), "1 storages are not there"),
    "unknown in the row": (old_torch(b"\x80\x02N.", KEYS, COUNT + FOUR), "damaged"),
    "persistent id elsewhere": (old_torch(b"\x80\x02N.", b"\x80\x02" + stored(4) + b"."), "a persistent id"),
}


@pytest.mark.parametrize("kind", CLAIMS)
def test_what_a_file_claims_of_its_storages_is_checked(kind: str, tmp_path: Path) -> None:
    content, message = CLAIMS[kind]
    (tmp_path / "file.pt").write_bytes(content)
    with pytest.raises(UserError, match=message) as refusal:
        wplus.load(tmp_path / "file.pt")
    assert "file.pt" in str(refusal.value)


@pytest.mark.parametrize(("content", "message"), [
    (torch_zip(whole(stored(4), 4), _0=FOUR), r"holds a Tensor"),
    (old_torch(whole(stored(4), 4), KEYS, COUNT + FOUR), r"holds a Tensor"),
])  # fmt: skip
def test_the_same_files_without_a_false_claim_are_read(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "file.pt").write_bytes(content)
    assert torch.equal(read_restricted(tmp_path / "file.pt"), torch.arange(4.0))
    with pytest.raises(UserError, match=message):
        wplus.load(tmp_path / "file.pt")


def test_names_in_a_zip_are_no_paths(tmp_path: Path) -> None:
    target = io.BytesIO(torch_zip(whole(stored(4, name="../../evil"), 4)))
    with zipfile.ZipFile(target, "a") as archive:
        for name in ("../evil", "/tmp/evil", "archive/data/../../evil", "..\\evil"):
            archive.writestr(name, FOUR)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file.pt").write_bytes(target.getvalue())
    assert torch.equal(read_restricted(tmp_path / "inner" / "file.pt"), torch.arange(4.0))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file.pt", "inner"]


def test_a_zip_of_something_else_is_refused(tmp_path: Path) -> None:
    for names in (["data.pkl"], ["a/data.pkl", "b/data.pkl"], ["a/b/data.pkl"], []):
        with zipfile.ZipFile(tmp_path / "file.pt", "w") as archive:
            for name in [*names, "a/version"]:
                archive.writestr(name, b"\x80\x02N.")
        with pytest.raises(UserError, match=r"file\.pt.*\(a zip without the data\.pkl of torch, or"):
            wplus.load(tmp_path / "file.pt")
