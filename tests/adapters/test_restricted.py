from __future__ import annotations

import argparse
import builtins
import copyreg
import functools
import importlib
import io
import json
import os
import pickle
import subprocess
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

import wplus
from tests.adapters.foreign import EasyDict, Persistent, dumps, nvlabs_modules
from wplus.adapters import nvlabs, restricted, rosinality
from wplus.adapters.restricted import read_pickle, read_torch
from wplus.errors import UserError
from wplus.models.stylegan2 import Generator


class Call:
    """Pickles as a call of `function(*arguments)` when the file is opened."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __call__(self):
        raise AssertionError("pickle asks whether it is callable, nobody calls it")

    def __reduce__(self):
        return self.call


def torch_bytes(content, *, as_zip: bool) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=as_zip)
    return buffer.getvalue()


# --- hostile files: what would run is a command that creates a marker -------------------------------------------------


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def stack_global(module: str, name: str, text: str) -> bytes:
    """A call of module.name(text), the names joined on the stack and fetched through the memo."""
    head = b"\x80\x04" + short(module) + b"\x94" + short(name) + b"\x94" + b"0" + b"0"
    return head + b"h\x00" + b"h\x01" + b"\x93" + short(text) + b"\x85R."


def in_storage(payload: bytes) -> Call:
    return Call(torch.storage._load_from_bytes, payload)


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


@pytest.fixture
def marker(tmp_path: Path) -> Path:
    return tmp_path / "marker"


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
        read_pickle(tmp_path / "trick.pkl")


def test_registered_extension_codes_are_no_way_round(tmp_path: Path, marker: Path) -> None:
    copyreg.add_extension("posix", "system", 240)
    try:
        (tmp_path / "file").write_bytes(pickle.dumps(Call(os.system, f"touch {marker}"), protocol=2))
    finally:
        content = (tmp_path / "file").read_bytes()
        with pytest.raises(UserError, match=r"posix\.system"):
            read_pickle(tmp_path / "file")
        copyreg.remove_extension("posix", "system", 240)
    assert b"system" not in content
    assert not marker.exists()


def test_a_file_cannot_alter_the_reader(tmp_path: Path) -> None:
    before = dict(restricted._KNOWN)
    state = b"N}" + short("DTYPE_CODES") + b"K\x05s\x86b."
    for module, name in restricted._KNOWN:
        (tmp_path / "file").write_bytes(b"\x80\x04" + short(module) + short(name) + b"\x93" + state)
        with pytest.raises(UserError):
            read_pickle(tmp_path / "file")
    assert before == restricted._KNOWN
    assert not any(hasattr(thing, "DTYPE_CODES") for thing in before.values())


@pytest.mark.parametrize(
    "meta", [{}, {"class_name": "G"}, {"class_name": 5, "state": {}}, {"class_name": "G", "state": 5}, 5]
)
def test_forged_persistent_objects_are_refused(meta: object, tmp_path: Path) -> None:
    forged = Persistent("G", {})
    forged.meta = meta
    (tmp_path / "file").write_bytes(dumps(forged))
    with pytest.raises(UserError, match="forged"):
        read_pickle(tmp_path / "file")


def test_source_text_of_a_persistent_object_never_runs(tmp_path: Path, marker: Path) -> None:
    source = f"open({str(marker)!r}, 'w')\nclass G: pass\n"
    (tmp_path / "file").write_bytes(dumps(Persistent("G", {"size": 4}, source=source)))
    record = read_pickle(tmp_path / "file")
    assert (record.class_name, record.state) == ("G", {"size": 4})
    assert not marker.exists()


def test_tensors_cannot_exceed_their_storage(tmp_path: Path) -> None:
    storage = torch.zeros(4).__reduce_ex__(4)[1][0]
    for size, stride, offset in [((10**6, 10**6), (0, 0), 0), ((5,), (1,), 0), ((2,), (1,), 3), ((4,), (2,), 0)]:
        forged = Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict())
        (tmp_path / "file").write_bytes(pickle.dumps(forged))
        with pytest.raises(UserError):
            read_pickle(tmp_path / "file")


def compressed(content: bytes) -> bytes:
    """A torch file whose records are packed, as torch never writes them."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    return target.getvalue()


def test_zip_bombs_are_not_unpacked(tmp_path: Path) -> None:
    bomb = compressed(torch_bytes({"g_ema": {"w": torch.zeros(10**6)}}, as_zip=True))
    assert len(bomb) < 10**5
    (tmp_path / "bomb.pt").write_bytes(bomb)
    (tmp_path / "bomb.pkl").write_bytes(pickle.dumps(in_storage(bomb)))
    for name in ("bomb.pt", "bomb.pkl"):
        with pytest.raises(UserError, match=r"compressed records, \d+ bytes in a file of"):
            wplus.load(tmp_path / name)


@pytest.mark.parametrize("nested", [False, True])
def test_a_memo_of_billions_is_refused(nested: bool, tmp_path: Path) -> None:
    bomb = b"\x80\x04Nr\xff\xff\xff\x7f."  # None, remembered as number 2 ** 31 - 1: 32 GB of empty places
    (tmp_path / "bomb.pkl").write_bytes(pickle.dumps(in_storage(bomb)) if nested else bomb)
    with pytest.raises(UserError, match="a memo of 2147483647 entries"):
        wplus.load(tmp_path / "bomb.pkl")


@pytest.mark.parametrize(
    "content", [b"\x80\x04\x8e" + (2**40).to_bytes(8, "little"), b"\x80\x04\x95" + b"\xff" * 7 + b"\x7f"]
)
def test_a_length_beyond_the_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "long.pkl").write_bytes(content)
    with pytest.raises(UserError, match=r"long\.pkl"):
        wplus.load(tmp_path / "long.pkl")


def called(name: tuple[str, str], argument: bytes, times: int) -> bytes:
    """A pickle that remembers an argument and calls a function with it again and again."""
    module, function = map(short, name)
    call = module + function + b"\x93" + b"h\x00" + b"\x85R"
    return b"\x80\x04" + argument + b"\x94" + b"0(" + call * times + b"l."


def numbers(num: int) -> bytes:
    return b"(" + b"".join(b"M" + i.to_bytes(2, "little") for i in range(num)) + b"l"


TEXT, BYTES = b"X" + (10**6).to_bytes(4, "little") + b"a" * 10**6, b"B" + (10**6).to_bytes(4, "little") + bytes(10**6)
((STORED,),) = [torch.zeros(10**5).__reduce_ex__(4)[1][0].__reduce__()[1]]  # a storage as pickles hold it
REPEATED = {  # what is called with the same argument many times
    "encode": (("_codecs", "encode"), TEXT),
    "set": (("builtins", "set"), numbers(10**4)),
    "size": (("torch", "Size"), numbers(10**4)),
    "pairs": (("collections", "OrderedDict"), b"(" + b"".join(
        b"M" + i.to_bytes(2, "little") + b"N\x86" for i in range(10**4)) + b"l"),
    "storage": (("torch.storage", "_load_from_bytes"), b"B" + len(STORED).to_bytes(4, "little") + STORED),
}  # fmt: skip


@pytest.mark.parametrize("kind", REPEATED)
def test_a_file_cannot_multiply_what_it_holds(kind: str, tmp_path: Path) -> None:
    (tmp_path / "file.pkl").write_bytes(called(*REPEATED[kind], times=1))
    read_pickle(tmp_path / "file.pkl")
    (tmp_path / "bomb.pkl").write_bytes(called(*REPEATED[kind], times=100))
    with pytest.raises(UserError, match=r"more than 4 times what a file of \d+ bytes can say"):
        read_pickle(tmp_path / "bomb.pkl")


def test_an_array_or_a_tensor_that_is_made_again_and_again(tmp_path: Path) -> None:
    raw, kind = BYTES + b"\x94" + b"0", short("numpy") + short("dtype") + b"\x93" + short("u1") + b"\x85R"
    array = short("numpy.core.numeric") + short("_frombuffer") + b"\x93" + b"(h\x00" + kind + b"J"
    array += (10**6).to_bytes(4, "little") + b"\x85" + short("C") + b"tR"
    whole = short("torch._utils") + short("_rebuild_tensor_v2") + b"\x93" + b"(h\x00K\x00J"
    whole += (10**5).to_bytes(4, "little") + b"\x85K\x01\x85\x89NtR"
    stored = short("torch.storage") + short("_load_from_bytes") + b"\x93" + REPEATED["storage"][1] + b"\x85R\x94" + b"0"
    for head, made in ((raw, array), (stored, whole)):
        (tmp_path / "file.pkl").write_bytes(b"\x80\x04" + head + b"(" + made * 2 + b"l.")
        assert len(read_pickle(tmp_path / "file.pkl")) == 2
        (tmp_path / "bomb.pkl").write_bytes(b"\x80\x04" + head + b"(" + made * 100 + b"l.")
        with pytest.raises(UserError, match=r"more than 4 times what a file"):
            read_pickle(tmp_path / "bomb.pkl")


EXTRAORDINARY = {
    "repeated": lambda: torch.zeros(1).expand(10**6, 10**6),
    "sparse": lambda: torch.zeros(3, 3).to_sparse(),
    "meta": lambda: torch.zeros(10**6, 10**6, device="meta"),
}


@pytest.mark.parametrize("kind", EXTRAORDINARY)
def test_tensors_without_their_numbers_are_refused(kind: str, tmp_path: Path) -> None:
    torch.save({"g_ema": {"conv1.conv.weight": EXTRAORDINARY[kind]()}}, tmp_path / "file.pt")
    with pytest.raises(UserError, match=r"file\.pt' is refused: it holds a tensor of"):
        wplus.load(tmp_path / "file.pt")


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


def test_shared_tuples_do_not_explode(tmp_path: Path) -> None:
    bomb: object = ()
    for _ in range(60):  # 2 ** 60 leaves when walked without memory
        bomb = (bomb, bomb)
    (tmp_path / "file").write_bytes(pickle.dumps(bomb))
    read_pickle(tmp_path / "file")


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
    found = read_pickle(tmp_path / "file")
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
    found = read_pickle(tmp_path / "file")
    assert found["a"] is found["b"]
    assert found["self"] is found


def test_state_dicts_lose_their_private_attribute_only(tmp_path: Path) -> None:
    state = torch.nn.Linear(2, 3).state_dict()
    (tmp_path / "file").write_bytes(pickle.dumps(state))
    assert list(read_pickle(tmp_path / "file")) == ["weight", "bias"]


@pytest.mark.parametrize("as_zip", [True, False])
def test_torch_files_may_hold_options_and_scores(as_zip: bool, tmp_path: Path) -> None:
    content = {
        "g_ema": {"w": torch.ones(2)},
        "args": argparse.Namespace(size=16, lr=0.1),
        "best": np.float64(0.5),
        "low": np.float32(2),
    }
    (tmp_path / "file.pt").write_bytes(torch_bytes(content, as_zip=as_zip))
    found = read_torch(tmp_path / "file.pt")
    assert found["args"] == {"size": 16, "lr": 0.1}
    assert (found["best"], found["low"]) == (0.5, 2.0)


class Calm:
    """A class of somebody's project, of which instances are stored."""

    def __init__(self) -> None:
        self.state = {"a": 1}


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_torch_files_of_other_protocols_name_the_offender_too(
    protocol: int, as_zip: bool, tmp_path: Path, marker: Path
) -> None:
    def refusal(content: object) -> str:
        buffer = io.BytesIO()
        torch.save(content, buffer, pickle_protocol=protocol, _use_new_zipfile_serialization=as_zip)
        (tmp_path / "file.pt").write_bytes(buffer.getvalue())
        with pytest.raises(UserError) as error:
            wplus.load(tmp_path / "file.pt")
        return str(error.value)

    tensors = {"w": torch.ones(2), "half": torch.ones(2).half(), "p": torch.nn.Parameter(torch.ones(1)), "set": {1}}
    ordered = OrderedDict(a=1, size=torch.Size([1]), text=b"b", args=argparse.Namespace(a=1), best=np.float64(1))
    assert "posix.system" in refusal({"g_ema": tensors, "x": [Call(os.system, f"touch {marker}")]})
    assert f"{Calm.__module__}.Calm" in refusal({"g_ema": tensors, "x": Calm()})
    assert "functools.partial" in refusal([ordered, Call(functools.partial, os.getcwd)])
    honest = refusal({"g_ema": tensors, "more": ordered})  # with bytes, which have an instruction from 3 on
    plain_ones = "conv1.conv.weight' is missing"  # it was read
    assert (plain_ones if protocol == 2 else f"a pickle of protocol {protocol} (torch's reader takes 2") in honest
    assert not marker.exists()


def test_refusal_is_one_printable_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(stack_global("\x1b[2J\nevil", "x" * 250, "y"))
    with pytest.raises(UserError) as refusal:
        read_pickle(tmp_path / "file")
    assert str(refusal.value).isprintable()
    assert len(str(refusal.value)) < 600


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x80",
        b"hello world, this is text",
        b"\x89PNG\r\n\x1a\n" + bytes(50),
        b"PK\x03\x04" + bytes(50),
        pickle.dumps({"a": 1})[:-3],
        b"\x80\x04\x8e" + b"\xff" * 8,
    ],
)
def test_damaged_and_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "file.pkl").write_bytes(content)
    with pytest.raises(UserError, match=r"file\.pkl"):
        wplus.load(tmp_path / "file.pkl")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.pkl"):
        read_pickle(tmp_path / "none.pkl")
