"""Files of a kind: what is written comes back, and everything else is told in a sentence."""

import json

import pytest
import torch
from safetensors.torch import save_file

from wplus.core.safetensors_file import SafetensorsFormat
from wplus.errors import UserError

KIND = SafetensorsFormat(
    noun="recipe",
    entry="wplus_recipe",
    version=2,
    foreign="The recipe '{path}' is that of {maker}, not of {fingerprint}",
)
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


@pytest.mark.parametrize("entry", [None, {"wplus_latent": "{}"}, {"wplus_recipe": "[1]"}])
def test_other_safetensors_files_are_refused(tmp_path, entry):
    save_file({"x": torch.zeros(1)}, tmp_path / "a", metadata=entry)
    with pytest.raises(UserError, match="holds no recipe: its header has no 'wplus_recipe' entry"):
        KIND.read(tmp_path / "a", title, fingerprint=None)


def test_an_entry_that_is_no_json_is_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "a", metadata={"wplus_recipe": "{"})
    with pytest.raises(UserError, match="another format"):
        KIND.read(tmp_path / "a", title, fingerprint=None)


def test_a_missing_file_says_where_one_comes_from(tmp_path):
    with pytest.raises(UserError, match="The recipe file '.*none' does not exist.$"):
        KIND.read(tmp_path / "none", title, fingerprint=None)
    told = SafetensorsFormat("recipe", "wplus_recipe", 2, KIND.foreign, source="grandmother has one")
    with pytest.raises(UserError, match="none' does not exist; grandmother has one.$"):
        told.read(tmp_path / "none", title, fingerprint=None)


@pytest.mark.parametrize("version", [None, 1, 3])
def test_another_version_is_refused(tmp_path, version):
    entry = json.dumps({**HEADER, "version": version})
    save_file({"x": torch.zeros(1)}, tmp_path / "a", metadata={"wplus_recipe": entry})
    with pytest.raises(UserError, match=f"has recipe format {version}; this wplus reads 2"):
        KIND.read(tmp_path / "a", title, fingerprint=None)


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


def test_a_mistake_that_the_content_knows_keeps_its_words(tmp_path):
    def refuse(header, tensors):
        raise UserError("Too much salt.")

    with pytest.raises(UserError, match=r"^Too much salt\.$"):
        KIND.read(a_file(tmp_path), refuse, fingerprint=None)
