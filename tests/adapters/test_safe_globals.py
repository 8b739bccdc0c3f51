import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import wplus
from tests.adapters.foreign import Persistent, dumps
from tests.adapters.hostile import Call, old_torch, torch_zip
from wplus.adapters.restricted import read_restricted
from wplus.errors import UserError


@pytest.mark.parametrize(
    "meta", [{}, {"class_name": "G"}, {"class_name": 5, "state": {}}, {"class_name": "G", "state": 5}, 5]
)
def test_forged_persistent_objects_are_refused(meta: object, tmp_path: Path) -> None:
    forged = Persistent("G", {})
    forged.meta = meta
    (tmp_path / "file").write_bytes(dumps(forged))
    with pytest.raises(UserError, match="forged"):
        read_restricted(tmp_path / "file")


def test_source_text_of_a_persistent_object_never_runs(tmp_path: Path, marker: Path) -> None:
    source = f"open({str(marker)!r}, 'w')\nclass G: pass\n"
    (tmp_path / "file").write_bytes(dumps(Persistent("G", {"size": 4}, source=source)))
    record = read_restricted(tmp_path / "file")
    assert (record.class_name, record.state) == ("G", {"size": 4})
    assert not marker.exists()


def test_tensors_cannot_exceed_their_storage(tmp_path: Path) -> None:
    storage = torch.zeros(4).__reduce_ex__(4)[1][0]
    for size, stride, offset in [((10**6, 10**6), (0, 0), 0), ((5,), (1,), 0), ((2,), (1,), 3), ((4,), (2,), 0)]:
        forged = Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict())
        (tmp_path / "file").write_bytes(pickle.dumps(forged))
        with pytest.raises(UserError):
            read_restricted(tmp_path / "file")


def test_a_tensor_that_is_conjugated_when_it_is_used_is_refused(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(2, dtype=torch.complex64).conj()}, tmp_path / "file.pt")
    with pytest.raises(UserError, match="conjugated"):
        read_restricted(tmp_path / "file.pt")


def test_attributes_of_a_tensor_are_left_out(tmp_path: Path) -> None:
    value = torch.arange(3.0)
    value.note = "mine"
    torch.save({"w": value}, tmp_path / "file.pt")
    found = read_restricted(tmp_path / "file.pt")["w"]
    assert torch.equal(found, value)
    assert not hasattr(found, "note")


PARTS = b"}\x8c\x0acheckpointK\x01s"  # the state {"checkpoint": 1}
MADE = {  # what a pickle makes, and what a BUILD instruction with that state does to it
    "function": (b"ctorch._utils\n_rebuild_tensor_v2\n", "a changed function"),
    "class": (b"ccollections\nOrderedDict\n", "damaged"),
    "class of options": (b"cargparse\nNamespace\n", "damaged"),
    "type": (b"ctorch\nfloat32\n", "damaged"),
    "dict": (b"}", "damaged"),
    "set": (b"cbuiltins\nset\n)R", "damaged"),
    "array": (b"cnumpy.core.multiarray\n_reconstruct\n)R", "damaged"),
    "rebuilt array": (
        b"cnumpy.core.numeric\n_frombuffer\n(C\x01acnumpy\ndtype\n\x8c\x02u1\x85RK\x01\x85tR",
        "a changed tensor",
    ),
    "persistent object": (
        b"ctorch_utils.persistence\n_reconstruct_persistent_obj\n}(\x8c\x0aclass_name\x8c\x01G\x8c\x05state}u\x85R",
        "a changed persistent object",
    ),
}


@pytest.mark.parametrize("thing", MADE)
def test_nothing_that_a_file_makes_takes_attributes(thing: str, tmp_path: Path) -> None:
    made, problem = MADE[thing]
    (tmp_path / "file").write_bytes(b"\x80\x04" + made + b".")
    read_restricted(tmp_path / "file")
    for state in (PARTS, b"N" + PARTS + b"\x86"):  # attributes, and those of slots
        (tmp_path / "file").write_bytes(b"\x80\x04" + made + state + b"b.")
        with pytest.raises(UserError, match=problem):
            read_restricted(tmp_path / "file")


@pytest.mark.parametrize("made", [b"ccollections\nOrderedDict\n)R", b"cdnnlib.util\nEasyDict\n)R"])
def test_a_dict_has_no_attributes_either(made: bytes, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"\x80\x04" + made + PARTS + b"b.")
    found = read_restricted(tmp_path / "file")
    assert found == {}
    assert not hasattr(found, "checkpoint")


INSTANTIATED = {
    "NEWOBJ": lambda name: b"c" + name + b")\x81.",
    "NEWOBJ_EX": lambda name: b"c" + name + b"K\x07\x85}\x8c\x01aK\x01s\x92.",
    "OBJ": lambda name: b"(c" + name + b"K\x07o.",
    "INST": lambda name: b"(K\x07i" + name + b".",
}


@pytest.mark.parametrize("opcode", INSTANTIATED)
@pytest.mark.parametrize("name", [b"posix\nsystem\n", b"builtins\nbytearray\n", b"torch\nTensor\n", b"numpy\ndtype\n"])
def test_no_instruction_makes_more_than_reading_does(opcode: str, name: bytes, tmp_path: Path) -> None:
    (tmp_path / "file.pkl").write_bytes(INSTANTIATED[opcode](name))
    with pytest.raises(UserError, match=r"file\.pkl"):
        wplus.load(tmp_path / "file.pkl")


@pytest.mark.parametrize(
    "name", ["builtins\nbytearray", "torch\nTensor", "torch\nFloatStorage", "torch.storage\nUntypedStorage"]
)
@pytest.mark.parametrize("form", [bytes, torch_zip, old_torch])
def test_a_number_is_not_a_size_to_make(name: str, form: Callable[[bytes], bytes], tmp_path: Path) -> None:
    """torch's own reader makes a gigabyte here of 40 bytes."""
    (tmp_path / "file").write_bytes(form(b"\x80\x02c" + name.encode() + b"\nJ\x00\x00\x00\x40\x85R."))
    with pytest.raises(UserError):
        wplus.load(tmp_path / "file")
