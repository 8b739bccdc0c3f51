"""Every kind of file, damaged in every way: the refusal is exactly one printable sentence that names the file."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import wplus
from tests.adapters.foreign import trainer_pickle
from tests.fakes import tiny_generator
from wplus import checkpoint
from wplus.adapters import nvlabs
from wplus.core.safetensors_file import SafetensorsFormat
from wplus.editing import directions
from wplus.errors import UserError
from wplus.latents import latent, weight_delta
from wplus.pretrained import attribute_classifier
from wplus.pretrained.attribute_classifier import AttributeNet
from wplus.probes.monitor import read_series

MAKER = "0123456789abcdef"


@dataclass(frozen=True)
class Kind:
    """How a good file is written and read, and the format of those that are safetensors with a header."""

    write: Callable[[Path], Any]
    read: Callable[..., Any]
    format: SafetensorsFormat | None = None


def write_classifier(path: Path) -> None:
    net = AttributeNet(num_classes=[2], input_size=16, width=16)
    named = {"factors": {"flip": ["0", "1"]}, "attributes": {"flip=1": ("flip", ["1"])}, "name": "toy", "trained": {}}
    attribute_classifier.save_classifier(path, attribute_classifier.AttributeClassifier(net, **named))


def write_pickle(path: Path) -> None:
    content = nvlabs.export(generator=tiny_generator())
    path.write_bytes(trainer_pickle({"G_ema": (content["G_ema"], content["G_kwargs"])}))


def write_torch(path: Path, *, as_zip: bool) -> None:
    torch.save(nvlabs.export(generator=tiny_generator()), path, _use_new_zipfile_serialization=as_zip)


def a_direction(path: Path) -> Path:
    found = directions.Direction("d", torch.eye(4)[0], (0, 1), 2, unit=1.0, origin=0.0)
    return directions.save_directions(path, directions.Directions((found,), MAKER, {"finder": "sefa"}))


A_LATENT = latent.Latent(torch.ones(4), "w", MAKER)
A_DELTA = weight_delta.WeightDelta({"a": (torch.ones(2),)}, MAKER, latent=MAKER, metadata={})
OF_A_GENERATOR = {
    "latent": Kind(lambda path: latent.save_latent(path, A_LATENT), latent.load_latent, latent.FILE),
    "directions": Kind(a_direction, directions.load_directions, directions.FILE),
    "weight delta": Kind(A_DELTA.save, weight_delta.load_delta, weight_delta.FILE),
}
KINDS = {
    "checkpoint": Kind(lambda path: wplus.save(path, generator=tiny_generator()), wplus.load, checkpoint.FILE),
    "classifier": Kind(write_classifier, attribute_classifier.load_classifier, attribute_classifier.FILE),
    **{name: replace(kind, read=partial(kind.read, fingerprint=None)) for name, kind in OF_A_GENERATOR.items()},
    "pickle": Kind(write_pickle, wplus.load),
    "torch zip": Kind(partial(write_torch, as_zip=True), wplus.load),
    "old torch": Kind(partial(write_torch, as_zip=False), wplus.load),
    "health": Kind(
        lambda path: path.write_text('{"readings": [{"kimg": 1, "measures": {}, "levels": {}}]}'),
        partial(read_series, before_kimg=9),
    ),
}
HEADED = {name: kind.format.entry for name, kind in KINDS.items() if kind.format is not None}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A good file of each kind."""
    folder = tmp_path_factory.mktemp("good")
    for name, kind in KINDS.items():
        kind.write(folder / name)
        kind.read(folder / name)
    return {name: folder / name for name in KINDS}


def refused(kind: str, path: Path) -> str:
    """Return the sentence that refuses a file."""
    with pytest.raises(UserError) as refusal:
        KINDS[kind].read(path)
    message = str(refusal.value)
    assert path.name in message
    assert message.isprintable()
    return message


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 1))
def test_a_part_of_a_file(kind: str, share: float, good: dict[str, Path], tmp_path: Path) -> None:
    content = good[kind].read_bytes()
    (tmp_path / "cut").write_bytes(content[: min(int(share * len(content)), len(content) - 1)])
    refused(kind, tmp_path / "cut")


OTHERS = {
    "empty": b"",
    "text": b"no tensors in here, only a sentence",
    "picture": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "zip": b"PK\x03\x04" + bytes(50),
    "number": b"\x80\x04K\x01.",
    "long": b"\x80\x04\x8e" + b"\xff" * 8,
    "list": b"[]",
}


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("kind", KINDS)
def test_something_else(kind: str, other: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(OTHERS[other])
    refused(kind, tmp_path / "file")


@pytest.mark.parametrize("kind", [name for name in KINDS if name != "health"])
def test_no_file_and_a_folder(kind: str, tmp_path: Path) -> None:
    assert "does not exist" in refused(kind, tmp_path / "absent")
    refused(kind, tmp_path)


@pytest.mark.parametrize("kind", HEADED)
def test_a_file_of_another_kind(kind: str, good: dict[str, Path], tmp_path: Path) -> None:
    for other in HEADED:
        if other != kind:
            message = refused(kind, good[other])
            assert ("is a safetensors file but" in message) or ("another format" in message)
    save_file({"x": torch.zeros(3)}, tmp_path / "foreign")
    assert "is a safetensors file but" in refused(kind, tmp_path / "foreign")


@pytest.mark.parametrize("kind", HEADED)
@pytest.mark.parametrize(("header", "word"), [
    ("{", "truncated"), ("[1]", "is a safetensors file but"), ('{"version": 99}', "99"), ('{"version": 1}', ""),
    ("[" * 100_000, "truncated"), ('{"version": 1' + "0" * 5000 + "}", "truncated"),
])  # fmt: skip
def test_a_header_of_another_shape(kind: str, header: str, word: str, tmp_path: Path) -> None:
    save_file({"x": torch.zeros(3)}, tmp_path / "file", metadata={HEADED[kind]: header})
    assert word in refused(kind, tmp_path / "file")


@pytest.mark.parametrize("kind", HEADED)
def test_each_part_is_missed(kind: str, good: dict[str, Path], tmp_path: Path) -> None:
    """Every entry of the header except descriptive ones, and a tensor; some kinds may lack some."""
    with safe_open(good[kind], framework="pt") as file:
        header = json.loads(file.metadata()[HEADED[kind]])
    tensors = load_file(good[kind])
    first = next(iter(tensors))
    optional = {"metadata", "generator"} | {"checkpoint": {"version"}, "weight delta": {first}}.get(kind, set())
    for lacking in {*header, first} - optional:
        described = {key: value for key, value in header.items() if key != lacking}
        rest = {name: tensor for name, tensor in tensors.items() if name != lacking}
        save_file(rest, tmp_path / "file", metadata={HEADED[kind]: json.dumps(described)})
        refused(kind, tmp_path / "file")


@pytest.mark.parametrize("kind", OF_A_GENERATOR)
def test_a_file_of_another_generator(kind: str, good: dict[str, Path]) -> None:
    load = OF_A_GENERATOR[kind].read
    with pytest.raises(UserError, match=f"'.*{kind}' .*{MAKER}, not .*ffff: load that one"):
        load(good[kind], fingerprint="ffff")
    assert load(good[kind], fingerprint=MAKER) is not None
