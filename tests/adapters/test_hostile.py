"""Malicious foreign files: each is refused by name in one sentence, without running code or exhausting memory."""

import contextlib
import copyreg
import io
import os
import pickle
import re
import tracemalloc
import warnings
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import wplus
from tests.adapters import hostile
from tests.adapters.foreign import Persistent, dumps
from tests.adapters.hostile import READ, REFUSED, RUN, Call, old_torch, torch_bytes, torch_zip
from wplus.adapters import guards, restricted
from wplus.adapters.restricted import read_restricted
from wplus.errors import UserError


@pytest.fixture(autouse=True)
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that a hostile file would create if it ran."""
    monkeypatch.setenv("MARKER", str(tmp_path / "marker"))
    return tmp_path / "marker"


@pytest.mark.parametrize("kind", RUN)
def test_files_that_run_something_elsewhere(kind: str, marker: Path) -> None:
    """Prove that the test of refusals can fail: an ordinary unpickler runs the command."""
    if "protocol " in kind and "torch" in kind:
        torch.load(io.BytesIO(RUN[kind][0]), weights_only=False)
    else:
        with contextlib.suppress(Exception):  # what follows the command may fail
            pickle.loads(RUN[kind][0])
    assert marker.exists()


def refusal(content: bytes, folder: Path) -> str:
    """Return the one printable sentence that refuses a file by name, before reading has taken much memory."""
    (folder / "file.pkl").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as error:
            wplus.load(folder / "file.pkl")
        assert tracemalloc.get_traced_memory()[1] < 10 * len(content) + 2e7
    finally:
        tracemalloc.stop()
    message = str(error.value)
    assert "file.pkl" in message
    assert message.isprintable()
    assert len(message) < 700
    return message


@pytest.mark.parametrize("kind", REFUSED)
def test_refused(kind: str, tmp_path: Path, marker: Path) -> None:
    content, words = REFUSED[kind]
    assert re.search(words, refusal(content, tmp_path))
    assert not marker.exists()


@pytest.mark.parametrize("kind", READ)
def test_the_same_without_harm_is_read(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(READ[kind])
    found = read_restricted(tmp_path / "file")
    assert "claims" not in kind or torch.equal(found, torch.arange(4.0))


# --- what needs more than a file --------------------------------------------------------------------------------------


def test_quantised_tensors_are_refused(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, that they will go
        content = torch_bytes(torch.quantize_per_tensor(torch.zeros(2), 1.0, 0, torch.qint8), as_zip=True)
    assert "torch._utils._rebuild_qtensor" in refusal(content, tmp_path)


def test_extension_codes_are_no_way_round(tmp_path: Path, marker: Path) -> None:
    """A code that the process has resolved once is resolved again without a lookup."""
    copyreg.add_extension("posix", "system", 240)
    try:
        assert pickle.loads(b"\x80\x02\x82\xf0.") is os.system
        content = pickle.dumps(Call(os.system, hostile.SH), protocol=2)
        for packed in (content, torch_zip(content), old_torch(content)):
            assert "the extension code 240" in refusal(packed, tmp_path)
    finally:
        copyreg.remove_extension("posix", "system", 240)
    assert b"system" not in content
    assert not marker.exists()


@pytest.mark.parametrize("opcode", [b"}", b"]", b"\x8f", b"K\x01", b"N0"])
def test_objects_without_end_are_refused(opcode: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "MAX_INSTRUCTIONS", 1000)
    (tmp_path / "file").write_bytes(b"\x80\x04(" + opcode * 300 + b"l.")
    assert type(read_restricted(tmp_path / "file")) is list
    words = r"more than \d+ instructions in a file of \d+ bytes"
    assert re.search(words, refusal(b"\x80\x04(" + opcode * 2000 + b"l.", tmp_path))
    (tmp_path / "file").write_bytes(pickle.dumps([*range(2000), bytes(100_000)]))  # a larger file may have more
    assert len(read_restricted(tmp_path / "file")) == 2001


def test_a_file_cannot_alter_the_reader(tmp_path: Path) -> None:
    before = dict(restricted.GLOBALS)
    state = b"N}" + hostile.short("DTYPE_CODES") + b"K\x05s\x86b."
    for module, name in restricted.GLOBALS:
        refusal(b"\x80\x04" + hostile.fetch(module, name) + state, tmp_path)
    assert before == restricted.GLOBALS
    assert not any(hasattr(thing, "DTYPE_CODES") for thing in before.values())


def test_names_in_a_zip_are_no_paths(tmp_path: Path) -> None:
    target = io.BytesIO(torch_zip(hostile.whole(hostile.stored(4, name="../../evil"), 4)))
    with zipfile.ZipFile(target, "a") as archive:
        for name in ("../evil", "/tmp/evil", "archive/data/../../evil", "..\\evil"):
            archive.writestr(name, hostile.FOUR)
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "file.pt").write_bytes(target.getvalue())
    assert torch.equal(read_restricted(tmp_path / "inner" / "file.pt"), torch.arange(4.0))
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file.pt", "inner"]


def test_source_text_of_a_persistent_object_never_runs(tmp_path: Path, marker: Path) -> None:
    source = f"open({str(marker)!r}, 'w')\nclass G: pass\n"
    (tmp_path / "file").write_bytes(dumps(Persistent("G", {"size": 4}, source=source)))
    record: Any = read_restricted(tmp_path / "file")
    assert (record.class_name, record.state) == ("G", {"size": 4})
    assert not marker.exists()
