"""Typed files: what is written can be read back, and everything else is refused in a sentence."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file

from wplus.core.safetensors_file import SafetensorsFormat
from wplus.errors import UserError

KIND = SafetensorsFormat("recipe", "wplus_recipe", 2, "The recipe '{path}' is that of {maker}, not of {fingerprint}")
HEADER = {"generator": "mine", "title": "Brötchen"}


def a_file(tmp_path, **changes):
    return KIND.write(tmp_path / "a", {**HEADER, **changes}, {"x": torch.arange(3.0)})


def title(header, tensors):
    return header["title"]


def test_what_is_written_comes_back(tmp_path):
    base = torch.randn(4, 3, requires_grad=True)
    tensors = {"turned": base.T, "part": base[:2], "whole": base}  # views of the same memory
    path = KIND.write(tmp_path / "sub" / "a", HEADER, tensors)
    header, read = KIND.read(path, lambda *both: both, fingerprint="mine")
    assert header == {"version": 2, **HEADER}
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert set(read) == set(tensors)
    assert KIND.write(tmp_path / "b", HEADER, tensors).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("length", [0, 5, 60, -1])
def test_a_part_of_a_file_is_refused(tmp_path, length):
    path = a_file(tmp_path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(UserError, match="Cannot read the recipe file '.*a': it is truncated or of another format"):
        KIND.read(path, title, fingerprint=None)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        *((other, "holds no recipe: its header has no 'wplus_recipe' entry")
          for other in (None, {"wplus_latent": "{}"}, {"wplus_recipe": "[1]"})),
        ({"wplus_recipe": "{"}, "another format"),
        *(({"wplus_recipe": json.dumps({**HEADER, "version": version})}, f"recipe format {version}; this wplus reads 2")
          for version in (None, 1, 3)),
    ],
)  # fmt: skip
def test_other_safetensors_files_are_refused(tmp_path, metadata, words):
    save_file({"x": torch.zeros(1)}, tmp_path / "a", metadata=metadata)
    with pytest.raises(UserError, match=words):
        KIND.read(tmp_path / "a", title, fingerprint=None)


def test_a_missing_file_says_where_one_comes_from(tmp_path):
    with pytest.raises(UserError, match="The recipe file '.*none' does not exist.$"):
        KIND.read(tmp_path / "none", title, fingerprint=None)
    told = replace(KIND, source="grandmother has one")
    with pytest.raises(UserError, match="none' does not exist; grandmother has one.$"):
        told.read(tmp_path / "none", title, fingerprint=None)


def test_another_generator_is_refused(tmp_path):
    path = a_file(tmp_path)
    with pytest.raises(UserError, match="The recipe '.*a' is that of mine, not of yours: load that one.$"):
        KIND.read(path, title, fingerprint="yours")
    assert KIND.read(path, title, fingerprint=None) == KIND.read(path, title, fingerprint="mine") == "Brötchen"


def test_what_is_lacking_is_named(tmp_path):
    path = a_file(tmp_path, title=None)
    with pytest.raises(UserError, match="The recipe file '.*a' is incomplete: it lacks 'salt'.$"):
        KIND.read(path, lambda header, tensors: tensors["salt"], fingerprint=None)
    with pytest.raises(UserError, match="incomplete: 'NoneType' object is not iterable"):
        KIND.read(path, lambda header, tensors: list(header["title"]), fingerprint=None)

    def refuse(header, tensors):
        raise UserError("Too much salt.")

    with pytest.raises(UserError, match=r"^Too much salt\.$"):  # what the content says keeps its words
        KIND.read(path, refuse, fingerprint=None)
