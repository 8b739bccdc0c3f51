import builtins
import copyreg
import functools
import importlib
import io
import os
import pickle
import subprocess
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

import wplus
from tests.adapters.foreign import EasyDict, Persistent, dumps, nvlabs_modules
from tests.adapters.hostile import Call, in_storage, short, stack_global, torch_bytes
from wplus.adapters import restricted
from wplus.adapters.restricted import read_restricted
from wplus.errors import UserError

# Kind -> the file's bytes for a shell command, and the name that the refusal must hold.
HOSTILE = {
    "os.system": (lambda sh: pickle.dumps(Call(os.system, sh)), "posix.system"),
    "protocol 0": (lambda sh: pickle.dumps(Call(os.system, sh), protocol=0), "posix.system"),
    "old opcodes": (lambda sh: b"(S'" + sh.encode() + b"'\nios\nsystem\n.", "os.system"),
    "python 2 names": (
        lambda sh: b'c__builtin__\neval\n(S\'__import__("os").system("' + sh.encode() + b"\")'\ntR.",
        "__builtin__.eval",
    ),
    "eval": (lambda sh: pickle.dumps(Call(builtins.eval, f"__import__('os').system('{sh}')")), "builtins.eval"),
    "exec": (lambda sh: pickle.dumps(Call(builtins.exec, f"import os; os.system('{sh}')")), "builtins.exec"),
    "getattr": (
        lambda sh: pickle.dumps(Call(Call(builtins.getattr, Call(importlib.import_module, "os"), "system"), sh)),
        "builtins.getattr",
    ),
    "partial": (lambda sh: pickle.dumps(Call(functools.partial(os.system, sh))), "functools.partial"),
    "subprocess": (lambda sh: pickle.dumps(Call(subprocess.getoutput, sh)), "subprocess.getoutput"),
    "pickle within": (lambda sh: pickle.dumps(Call(pickle.loads, pickle.dumps(Call(os.system, sh)))), "_pickle.loads"),
    "memoised names": (lambda sh: stack_global("posix", "system", sh), "posix.system"),
    "dotted name": (lambda sh: stack_global("importlib", "sys.modules.get", sh), "importlib.sys.modules.get"),
    "dotted, allowed start": (
        lambda sh: stack_global("torch.storage", "_load_from_bytes.__globals__.get", sh),
        "torch.storage._load_from_bytes.__globals__.get",
    ),
    "within allowed calls": (lambda sh: dumps(OrderedDict(a=[torch.zeros(2), Call(os.system, sh)])), "posix.system"),
    "within a state": (
        lambda sh: dumps({"G_ema": Persistent("G", {"_parameters": {"w": Call(os.system, sh)}})}),
        "posix.system",
    ),
    "nested in a storage": (lambda sh: pickle.dumps(in_storage(pickle.dumps(Call(os.system, sh)))), "posix.system"),
    "torch zip in a storage": (
        lambda sh: pickle.dumps(in_storage(torch_bytes(Call(os.system, sh), as_zip=True))),
        "posix.system",
    ),
    "old torch in a storage": (
        lambda sh: pickle.dumps(in_storage(torch_bytes(Call(os.system, sh), as_zip=False))),
        "posix.system",
    ),
    "object array": (lambda sh: pickle.dumps(np.array([Call(os.system, sh)], dtype=object)), "O8"),
    "torch zip": (lambda sh: torch_bytes({"g_ema": Call(os.system, sh)}, as_zip=True), "posix.system"),
    "old torch": (lambda sh: torch_bytes({"g_ema": Call(os.system, sh)}, as_zip=False), "posix.system"),
}
NEEDS_NVLABS = ("within a state",)
HARMLESS_IF_OPENED = (
    "dotted name",
    "dotted, allowed start",
    *NEEDS_NVLABS,
)  # no command runs even in Python's own unpickler


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_files_run_nothing_and_are_refused_by_name(kind: str, marker: Path, tmp_path: Path) -> None:
    build, offender = HOSTILE[kind]
    file = tmp_path / "hostile.pkl"
    file.write_bytes(build(f"touch {marker}"))
    with pytest.raises(UserError) as refusal:
        wplus.load(file)
    assert offender in str(refusal.value)
    assert not marker.exists()


@pytest.mark.parametrize("kind", [kind for kind in HOSTILE if kind not in HARMLESS_IF_OPENED])
def test_these_files_are_dangerous_elsewhere(kind: str, marker: Path) -> None:
    """The proof that the test above can fail: an ordinary unpickler runs the command."""
    content = HOSTILE[kind][0](f"touch {marker}")
    if "torch" in kind and "storage" not in kind:
        torch.load(io.BytesIO(content), weights_only=False)
    else:
        try:
            pickle.loads(content)
        except Exception:
            assert marker.exists()  # what follows the command may fail
    assert marker.exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "a changed function",
            b"\x80\x04" + short("torch.storage") + short("_load_from_bytes") + b"\x93}\x8c\x01aK\x05sb.",
        ),
        (
            "a changed function",
            b"\x80\x04"
            + short("torch.storage")
            + short("_load_from_bytes")
            + b"\x93N}"
            + short("_function")
            + b"K\x05s\x86b.",
        ),
        ("a persistent id", b"Pkey\n."),
        ("copyreg._reconstructor", pickle.dumps(Call(copyreg._reconstructor, dict, object, None))),
        ("torch.serialization.load", pickle.dumps(Call(torch.load, "x"))),
        ("the codec rot13", b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R."),
        (
            "a numpy array of objects",
            b"\x80\x04" + short("numpy.core.numeric") + short("_frombuffer") + b"\x93(]K\x01)" + short("C") + b"tR.",
        ),
    ],
)
def test_tricks_with_allowed_parts_are_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "trick.pkl").write_bytes(content)
    with pytest.raises(UserError, match=name):
        read_restricted(tmp_path / "trick.pkl")


def test_a_file_cannot_alter_the_reader(tmp_path: Path) -> None:
    before = dict(restricted.GLOBALS)
    state = b"N}" + short("DTYPE_CODES") + b"K\x05s\x86b."
    for module, name in restricted.GLOBALS:
        (tmp_path / "file").write_bytes(b"\x80\x04" + short(module) + short(name) + b"\x93" + state)
        with pytest.raises(UserError):
            read_restricted(tmp_path / "file")
    assert before == restricted.GLOBALS
    assert not any(hasattr(thing, "DTYPE_CODES") for thing in before.values())


def test_shared_tuples_do_not_explode(tmp_path: Path) -> None:
    bomb: object = ()
    for _ in range(60):  # 2 ** 60 leaves when walked without memory
        bomb = (bomb, bomb)
    (tmp_path / "file").write_bytes(pickle.dumps(bomb))
    read_restricted(tmp_path / "file")


# --- what is read ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_content_comes_back(protocol: int, tmp_path: Path) -> None:
    content = {
        "tensor": torch.arange(12.0).reshape(3, 4).t(),
        "parameter": torch.nn.Parameter(torch.ones(2)),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "empty": torch.zeros(0),
        "array": np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
        "scalars": [np.float64(1.5), np.float32(2.5), np.int64(-3), np.bool_(True)],
        "plain": (1, "a", None, {2: b"b"}, {3}, [1.5, True]),
        "options": EasyDict(a=1),
        "ordered": OrderedDict(b=2, a=1),
        "size": torch.Size([1, 2]),
    }
    with nvlabs_modules():
        (tmp_path / "file").write_bytes(pickle.dumps(content, protocol=protocol))
    found = read_restricted(tmp_path / "file")
    for name in ("tensor", "parameter", "half", "empty"):
        assert type(found[name]) is torch.Tensor
        torch.testing.assert_close(found[name], content[name].detach(), rtol=0, atol=0)
    np.testing.assert_array_equal(found["array"], content["array"])
    assert found["scalars"] == [1.5, 2.5, -3, True]
    for name in ("plain", "options", "ordered", "size"):
        assert found[name] == content[name]
    assert list(found["ordered"]) == ["b", "a"]


def test_cycles_and_shared_parts_survive(tmp_path: Path) -> None:
    part = [torch.zeros(1)]
    content = {"a": part, "b": part}
    content["self"] = content
    (tmp_path / "file").write_bytes(pickle.dumps(content))
    found = read_restricted(tmp_path / "file")
    assert found["a"] is found["b"]
    assert found["self"] is found


def test_state_dicts_lose_their_private_attribute_only(tmp_path: Path) -> None:
    state = torch.nn.Linear(2, 3).state_dict()
    (tmp_path / "file").write_bytes(pickle.dumps(state))
    assert list(read_restricted(tmp_path / "file")) == ["weight", "bias"]


def test_refusal_is_one_printable_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(stack_global("\x1b[2J\nevil", "x" * 250, "y"))
    with pytest.raises(UserError) as refusal:
        read_restricted(tmp_path / "file")
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 600


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.pkl"):
        read_restricted(tmp_path / "none.pkl")
