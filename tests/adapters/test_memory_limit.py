from __future__ import annotations

import pickle
import tracemalloc
from pathlib import Path

import pytest
import torch

import wplus
from tests.adapters.hostile import called, in_storage, numbers, old_torch, short, torch_bytes, torch_zip
from wplus.adapters.restricted import read_restricted
from wplus.errors import UserError

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
