import copyreg
import os
import pickle
import tracemalloc
from pathlib import Path

import pytest
import torch

import wplus
from tests.adapters.hostile import Call, called, in_storage, numbers, old_torch, short, torch_bytes, torch_zip
from wplus.adapters import guards
from wplus.adapters.restricted import read_restricted
from wplus.errors import UserError


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


def test_extension_codes_are_no_way_round(tmp_path: Path, marker: Path) -> None:
    """A code that the process has once resolved is resolved again without asking anybody."""
    copyreg.add_extension("posix", "system", 240)
    try:
        assert pickle.loads(b"\x80\x02\x82\xf0.") is os.system
        content = pickle.dumps(Call(os.system, f"touch {marker}"), protocol=2)
        for name, packed in (("file.pkl", content), ("zip.pt", torch_zip(content)), ("old.pt", old_torch(content))):
            (tmp_path / name).write_bytes(packed)
            with pytest.raises(UserError, match="the extension code 240"):
                wplus.load(tmp_path / name)
    finally:
        copyreg.remove_extension("posix", "system", 240)
    assert b"system" not in content
    assert not marker.exists()


# How a tuple comes into another one: instructions between two that put what is on top of the stack into a tuple.
WAYS = {
    "at once": b"",
    "through the memo": b"q\x000h\x00",
    "doubled": b"2\x86",
    "into a longer one": b"NN\x87",
    "between marks": b"(1(NNt\x86",
    "changed by nothing": b"Nb",
    "filled with nothing": b"(u(e(\x90",
    "through a call": b"q\x000ctorch._utils\n_rebuild_parameter\nh\x00\x85R",
}


@pytest.mark.parametrize("way", WAYS)
def test_tuples_cannot_be_nested_without_end(way: str, tmp_path: Path) -> None:
    """As a dict's key, 200,000 of them overflow the stack of C when the hash is computed."""
    nested = [b"\x80\x04}N" + (b"\x85" + WAYS[way]) * num + b"K\x01s." for num in (20, 150)]
    (tmp_path / "file.pkl").write_bytes(nested[0])
    assert type(next(iter(read_restricted(tmp_path / "file.pkl")))) is tuple
    (tmp_path / "file.pkl").write_bytes(nested[1])
    with pytest.raises(UserError, match="tuples within tuples, more than 100 deep"):
        read_restricted(tmp_path / "file.pkl")


def test_a_size_is_no_way_to_nest_tuples(tmp_path: Path) -> None:
    """A list may grow after it went into the memo, so that its depth is not known."""
    grown = b"]q\x000h\x00N\x85a0" + b"ctorch\nSize\nh\x00\x85R"
    (tmp_path / "file.pkl").write_bytes(b"\x80\x04" + grown + b".")
    with pytest.raises(UserError, match="not of integers"):
        read_restricted(tmp_path / "file.pkl")


@pytest.mark.parametrize("opcode", [b"}", b"]", b"\x8f", b"K\x01", b"N0"])
def test_objects_without_end_are_refused(opcode: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "MAX_INSTRUCTIONS", 1000)
    (tmp_path / "file.pkl").write_bytes(b"\x80\x04(" + opcode * 300 + b"l.")
    assert type(read_restricted(tmp_path / "file.pkl")) is list
    (tmp_path / "file.pkl").write_bytes(b"\x80\x04(" + opcode * 2000 + b"l.")
    with pytest.raises(UserError, match=r"more than \d+ instructions in a file of \d+ bytes"):
        read_restricted(tmp_path / "file.pkl")


def test_larger_files_may_have_more_instructions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "MAX_INSTRUCTIONS", 1000)
    (tmp_path / "file.pkl").write_bytes(pickle.dumps([*range(2000), bytes(100_000)]))
    assert len(read_restricted(tmp_path / "file.pkl")) == 2001


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


FORMS = {"pickle": bytes, "zip": torch_zip, "old torch": old_torch}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", REPEATED)
def test_a_file_cannot_multiply_what_it_holds(kind: str, form: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(FORMS[form](called(*REPEATED[kind], times=1)))
    read_restricted(tmp_path / "file")
    (tmp_path / "bomb").write_bytes(FORMS[form](called(*REPEATED[kind], times=100)))
    with pytest.raises(UserError, match=r"bomb' is refused.*more than 4 times what a file of \d+ bytes can say"):
        read_restricted(tmp_path / "bomb")


def test_options_are_counted_too(tmp_path: Path) -> None:
    """A namespace is made empty, and filled by a later instruction."""
    state = b"}(" + b"".join(b"M" + i.to_bytes(2, "little") + b"N" for i in range(10**4)) + b"u\x94" + b"0("
    made = b"cargparse\nNamespace\n)\x81h\x00b"
    (tmp_path / "file").write_bytes(b"\x80\x04" + state + made + b"l.")
    assert len(read_restricted(tmp_path / "file")[0]) == 10**4
    (tmp_path / "file").write_bytes(b"\x80\x04" + state + made * 100 + b"l.")
    with pytest.raises(UserError, match="more than 4 times"):
        read_restricted(tmp_path / "file")


def test_an_array_or_a_tensor_that_is_made_again_and_again(tmp_path: Path) -> None:
    raw, kind = BYTES + b"\x94" + b"0", short("numpy") + short("dtype") + b"\x93" + short("u1") + b"\x85R"
    array = short("numpy.core.numeric") + short("_frombuffer") + b"\x93" + b"(h\x00" + kind + b"J"
    array += (10**6).to_bytes(4, "little") + b"\x85" + short("C") + b"tR"
    whole = short("torch._utils") + short("_rebuild_tensor_v2") + b"\x93" + b"(h\x00K\x00J"
    whole += (10**5).to_bytes(4, "little") + b"\x85K\x01\x85\x89NtR"
    stored = short("torch.storage") + short("_load_from_bytes") + b"\x93" + REPEATED["storage"][1] + b"\x85R\x94" + b"0"
    for head, made in ((raw, array), (stored, whole)):
        (tmp_path / "file.pkl").write_bytes(b"\x80\x04" + head + b"(" + made * 2 + b"l.")
        assert len(read_restricted(tmp_path / "file.pkl")) == 2
        (tmp_path / "bomb.pkl").write_bytes(b"\x80\x04" + head + b"(" + made * 100 + b"l.")
        with pytest.raises(UserError, match=r"more than 4 times what a file"):
            read_restricted(tmp_path / "bomb.pkl")


def test_what_is_nested_is_not_copied_at_every_level(tmp_path: Path) -> None:
    """Pickles within pickles, where storages should be: each level holds all that are within it."""
    content = bytes(10**6)
    for _ in range(50):
        content = pickle.dumps(in_storage(content))
    (tmp_path / "file.pkl").write_bytes(content)
    tracemalloc.start()
    with pytest.raises(UserError, match=r"more than 4 times what a file of \d+ bytes can say"):
        read_restricted(tmp_path / "file.pkl")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10 * len(content)


@pytest.mark.parametrize("as_zip", [True, False])
def test_weights_that_are_one_in_the_file_cannot_fill_a_large_network(as_zip: bool, tmp_path: Path) -> None:
    shared = torch.zeros(256, 256)
    layers = {f"mapping.fc{i}.weight": shared.view(256, 256) for i in range(200)}
    (tmp_path / "file.pt").write_bytes(torch_bytes({"G_ema": layers}, as_zip=as_zip))
    with pytest.raises(UserError, match="more than 4 times"):
        wplus.load(tmp_path / "file.pt")
