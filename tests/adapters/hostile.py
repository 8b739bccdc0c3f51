"""Files that would run code, fill memory, overflow the stack or lie, by kind; and their building blocks.

`RUN` makes files with a shell command that an ordinary unpickler would run. `REFUSED` has all files with the text that
the refusal must contain. `READ` has harmless variants of some of them, which show what the refusal depends on.
"""

import builtins
import copyreg
import functools
import importlib
import io
import os
import pickle
import struct
import subprocess
import zipfile
from collections import OrderedDict

import numpy as np
import torch

from tests.adapters.foreign import Persistent, dumps


class Call:
    """Pickles as a call of `function(*arguments)` when the file is opened."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __call__(self):
        raise AssertionError("pickle asks whether it is callable, nobody calls it")

    def __reduce__(self):
        return self.call


def torch_bytes(content, *, as_zip: bool, pickle_protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, pickle_protocol=pickle_protocol, _use_new_zipfile_serialization=as_zip)
    return buffer.getvalue()


def compressed(content: bytes) -> bytes:
    """A torch file with compressed records, which torch never writes."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    return target.getvalue()


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def fetch(module: str, name: str) -> bytes:
    """Instructions that put a class or function on the stack."""
    return short(module) + short(name) + b"\x93"


def stack_global(module: str, name: str, text: str) -> bytes:
    """A call of module.name(text), the names joined on the stack and fetched through the memo."""
    head = b"\x80\x04" + short(module) + b"\x94" + short(name) + b"\x94" + b"0" + b"0"
    return head + b"h\x00" + b"h\x01" + b"\x93" + short(text) + b"\x85R."


def in_storage(payload: bytes) -> Call:
    return Call(torch.storage._load_from_bytes, payload)


def nested(content: bytes, depth: int) -> bytes:
    """Pickles within pickles, in place of a storage."""
    for _ in range(depth):
        content = pickle.dumps(in_storage(content))
    return content


def called(remembered: bytes, call: bytes, times: int) -> bytes:
    """A pickle that remembers one object, as number 0, and derives another from it again and again."""
    return b"\x80\x04" + remembered + b"\x94" + b"0(" + call * times + b"l."


def numbers(num: int) -> bytes:
    return b"(" + b"".join(b"M" + i.to_bytes(2, "little") for i in range(num)) + b"l"


# --- torch files by hand ----------------------------------------------------------------------------------------------


def torch_zip(content: bytes, **records: bytes) -> bytes:
    """A torch file with this pickle; `records` are further records ("byteorder") and, by number, storages ("_0")."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for name, record in records.items():
            archive.writestr(f"archive/data/{name[1:]}" if name.startswith("_") else f"archive/{name}", record)
    return target.getvalue()


def old_torch(content: bytes, keys: bytes = b"].", storages: bytes = b"") -> bytes:
    """The format before version 1.6: magic number, version, system; the pickle, the storages' names, the storages."""
    head = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03." + b"\x80\x02}."
    return head + content + keys + storages


def word(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def stored(num: int, *, kind: str = "FloatStorage", name: str = "0", part: bytes = b"") -> bytes:
    """Instructions that put a storage on the stack; `part` makes the sixth entry of its persistent id."""
    entries = word("storage") + b"ctorch\n" + kind.encode() + b"\n" + word(name) + word("cpu") + number(num) + part
    return b"(" + entries + b"tQ"


def tensor(storage: bytes, size: int) -> bytes:
    """Instructions that make a vector from a storage."""
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + number(size) + b"\x85K\x01\x85\x89NtR"


# --- files that run something -----------------------------------------------------------------------------------------

SH = "touch $MARKER"
SYSTEM = Call(os.system, SH)
RUN = {  # what an ordinary unpickler would do, and the name that the refusal must hold
    "os.system": (pickle.dumps(SYSTEM), "posix.system"),
    "protocol 0": (pickle.dumps(SYSTEM, protocol=0), "posix.system"),
    "old opcodes": (b"(S'" + SH.encode() + b"'\nios\nsystem\n.", "os.system"),
    "python 2 names": (
        b'c__builtin__\neval\n(S\'__import__("os").system("' + SH.encode() + b"\")'\ntR.",
        "__builtin__.eval",
    ),
    "eval": (pickle.dumps(Call(builtins.eval, f"__import__('os').system('{SH}')")), "builtins.eval"),
    "exec": (pickle.dumps(Call(builtins.exec, f"import os; os.system('{SH}')")), "builtins.exec"),
    "getattr": (
        pickle.dumps(Call(Call(builtins.getattr, Call(importlib.import_module, "os"), "system"), SH)),
        "builtins.getattr",
    ),
    "partial": (pickle.dumps(Call(functools.partial(os.system, SH))), "functools.partial"),
    "subprocess": (pickle.dumps(Call(subprocess.getoutput, SH)), "subprocess.getoutput"),
    "pickle within": (pickle.dumps(Call(pickle.loads, pickle.dumps(SYSTEM))), "_pickle.loads"),
    "memoised names": (stack_global("posix", "system", SH), "posix.system"),
    "within allowed calls": (dumps(OrderedDict(a=[torch.zeros(2), SYSTEM])), "posix.system"),
    "in a storage": (pickle.dumps(in_storage(pickle.dumps(SYSTEM))), "posix.system"),
    "object array": (pickle.dumps(np.array([SYSTEM], dtype=object)), "O8"),
}
for form, as_zip in {"torch zip": True, "old torch": False}.items():
    RUN[f"{form} in a storage"] = (pickle.dumps(in_storage(torch_bytes(SYSTEM, as_zip=as_zip))), "posix.system")
    for protocol in (2, 3, 4, 5):
        content = [OrderedDict(a=1, size=torch.Size([1])), torch.ones(2).half(), {"g_ema": SYSTEM}]
        made = torch_bytes(content, as_zip=as_zip, pickle_protocol=protocol)
        RUN[f"{form}, protocol {protocol}"] = (made, "posix.system")

# --- all others -------------------------------------------------------------------------------------------------------

PROTOCOL = b"\x80\x04"
REFUSED: dict[str, tuple[bytes, str]] = {
    **RUN,
    "a dotted name": (stack_global("importlib", "sys.modules.get", SH), r"importlib\.sys\.modules\.get"),
    "a dotted name of an allowed start": (
        stack_global("torch.storage", "_load_from_bytes.__globals__.get", SH),
        "_load_from_bytes.__globals__.get",
    ),
    "a call within a state": (dumps({"G_ema": Persistent("G", {"_parameters": {"w": SYSTEM}})}), "posix.system"),
    "a persistent id": (PROTOCOL + b"(K\x01K\x02K\x03tQ.", "a persistent id"),
    "a constructor": (pickle.dumps(Call(copyreg._reconstructor, dict, object, None)), r"copyreg\._reconstructor"),
    "another reader": (pickle.dumps(Call(torch.load, "x")), r"torch\.serialization\.load"),
    "a codec": (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.", "the codec rot13"),
    "an array of objects": (
        PROTOCOL + fetch("numpy.core.numeric", "_frombuffer") + b"(]K\x01)" + short("C") + b"tR.",
        "a numpy array of objects",
    ),
    "control characters": (stack_global("\x1b[2J\nevil", "x" * 250, "y"), "xxx"),
    "a memo of billions": (nested(BOMB := b"\x80\x04Nr\xff\xff\xff\x7f.", 0), "a memo of 2147483647 entries"),
    "a memo of billions in a storage": (nested(BOMB, 1), "a memo of 2147483647 entries"),
    "a length beyond the file": (PROTOCOL + b"\x8e" + (2**40).to_bytes(8, "little"), "damaged"),
    "a frame beyond the file": (PROTOCOL + b"\x95" + b"\xff" * 7 + b"\x7f", "damaged"),
    "a size of lists": (PROTOCOL + b"]q\x000h\x00N\x85a0" + b"ctorch\nSize\nh\x00\x85R.", "not of integers"),
    "fifty levels that hold all within": (nested(bytes(10**6), 50), r"more than 4 times what a file of \d+ bytes"),
    "a zip bomb": (ZIP_BOMB := compressed(torch_bytes({"w": torch.zeros(10**6)}, as_zip=True)), "compressed records"),
    "a zip bomb in a storage": (nested(ZIP_BOMB, 1), r"compressed records, \d+ bytes in a file of"),
}
READ: dict[str, bytes] = {
    "a pair that is shared": pickle.dumps(functools.reduce(lambda pair, _: (pair, pair), range(60), ()))
}

# Attributes that a BUILD instruction sets: what a pickle makes, and what is said of such a file.
ATTRIBUTES = b"}\x8c\x0acheckpointK\x01s"
SLOTS = b"N}" + short("_function") + b"K\x05s\x86"
PERSISTENT = b"}(\x8c\x0aclass_name\x8c\x01G\x8c\x05state}u\x85R"
for thing, (made, words) in {
    "function": (fetch("torch._utils", "_rebuild_tensor_v2"), "a changed function"),
    "reader": (fetch("torch.storage", "_load_from_bytes"), "a changed function"),
    "class": (fetch("collections", "OrderedDict"), "damaged"),
    "class of options": (fetch("argparse", "Namespace"), "damaged"),
    "type": (fetch("torch", "float32"), "damaged"),
    "dict": (b"}", "damaged"),
    "set": (fetch("builtins", "set") + b")R", "damaged"),
    "array": (fetch("numpy.core.multiarray", "_reconstruct") + b")R", "damaged"),
    "rebuilt array": (
        fetch("numpy.core.numeric", "_frombuffer") + b"(C\x01acnumpy\ndtype\n\x8c\x02u1\x85RK\x01\x85tR",
        "a changed tensor",
    ),
    "persistent object": (
        fetch("torch_utils.persistence", "_reconstruct_persistent_obj") + PERSISTENT,
        "a changed persistent object",
    ),
}.items():
    READ[f"a {thing}"] = PROTOCOL + made + b"."
    for place, state in {"attributes": ATTRIBUTES, "slots": SLOTS}.items():
        REFUSED[f"{place} of a {thing}"] = (PROTOCOL + made + state + b"b.", words)

# Instances that are made without the functions that check what is asked for; and a gigabyte for 40 bytes.
NAMES = ["posix\nsystem", "builtins\nbytearray", "torch\nTensor", "numpy\ndtype", "torch\nFloatStorage"]
NAMES += ["torch.storage\nUntypedStorage"]
for name in (item.encode() + b"\n" for item in NAMES):
    for opcode, content in {
        "NEWOBJ": b"c" + name + b")\x81.",
        "NEWOBJ_EX": b"c" + name + b"K\x07\x85}\x8c\x01aK\x01s\x92.",
        "OBJ": b"(c" + name + b"K\x07o.",
        "INST": b"(K\x07i" + name + b".",
        "REDUCE": (size := b"\x80\x02c" + name + b"J\x00\x00\x00\x40\x85R."),
        "REDUCE in a zip": torch_zip(size),
        "REDUCE in old torch": old_torch(size),
    }.items():
        REFUSED[f"{name.decode().replace(chr(10), '.')}{opcode}"] = (content, "")

# Tuples in tuples, as a dict's key: 200,000 of them overflow the stack of C when the hash is computed.
for way, between in {
    "at once": b"",
    "through the memo": b"q\x000h\x00",
    "doubled": b"2\x86",
    "into a longer one": b"NN\x87",
    "between marks": b"(1(NNt\x86",
    "changed by nothing": b"Nb",
    "filled with nothing": b"(u(e(\x90",
    "through a call": b"q\x000ctorch._utils\n_rebuild_parameter\nh\x00\x85R",
}.items():
    READ[f"tuples nested {way}"], deep = (
        PROTOCOL + b"}N" + (b"\x85" + between) * num + b"K\x01s." for num in (20, 150)
    )
    REFUSED[f"tuples nested {way}"] = (deep, "tuples within tuples, more than 100 deep")

# Calls that multiply what a file holds: with one argument many times.
((STORED,),) = [torch.zeros(10**5).__reduce_ex__(4)[1][0].__reduce__()[1]]  # a storage as pickles hold it
STORAGE = b"B" + len(STORED).to_bytes(4, "little") + STORED
PAIRS = b"(" + b"".join(b"M" + i.to_bytes(2, "little") + b"N\x86" for i in range(10**4)) + b"l"
OPTIONS = b"}(" + b"".join(b"M" + i.to_bytes(2, "little") + b"N" for i in range(10**4)) + b"u"
MILLION = (10**6).to_bytes(4, "little")
U1 = fetch("numpy", "dtype") + short("u1") + b"\x85R"
REPEATED = {  # what is remembered, and what is made of it
    "encode": (b"X" + MILLION + b"a" * 10**6, fetch("_codecs", "encode") + b"h\x00\x85R"),
    "set": (numbers(10**4), fetch("builtins", "set") + b"h\x00\x85R"),
    "size": (numbers(10**4), fetch("torch", "Size") + b"h\x00\x85R"),
    "pairs": (PAIRS, fetch("collections", "OrderedDict") + b"h\x00\x85R"),
    "options": (OPTIONS, b"cargparse\nNamespace\n)\x81h\x00b"),
    "storage": (STORAGE, fetch("torch.storage", "_load_from_bytes") + b"h\x00\x85R"),
    "array": (
        b"B" + MILLION + bytes(10**6),
        fetch("numpy.core.numeric", "_frombuffer") + b"(h\x00" + U1 + b"J" + MILLION + b"\x85" + short("C") + b"tR",
    ),
    "tensor": (
        fetch("torch.storage", "_load_from_bytes") + STORAGE + b"\x85R",
        fetch("torch._utils", "_rebuild_tensor_v2")
        + b"(h\x00K\x00J" + (10**5).to_bytes(4, "little") + b"\x85K\x01\x85\x89NtR",
    ),
}  # fmt: skip
for kind, (remembered, again) in REPEATED.items():
    for name, form in {"pickle": bytes, "zip": torch_zip, "old torch": old_torch}.items():
        READ[f"{kind} in a {name}"], bomb = (form(called(remembered, again, times)) for times in (1, 100))
        REFUSED[f"multiply {kind} in a {name}"] = (
            bomb,
            r"is refused.*more than 4 times what a file of \d+ bytes can say",
        )
for zipped in (True, False):
    layers = {f"mapping.fc{i}.weight": weight.view(256, 256) for weight in [torch.zeros(256, 256)] for i in range(200)}
    REFUSED[f"multiply weights, zip {zipped}"] = (torch_bytes({"G_ema": layers}, as_zip=zipped), "more than 4 times")

# What a file claims of its storages and tensors.


def whole(storage: bytes, size: int) -> bytes:
    return b"\x80\x02" + tensor(storage, size) + b"."


FOUR = torch.arange(4.0).numpy().tobytes()
KEYS, COUNT = b"]X\x01\x00\x00\x000a.", (4).to_bytes(8, "little")
READ["claims in a zip"] = torch_zip(whole(stored(4), 4), _0=FOUR)
READ["claims in a row"] = old_torch(whole(stored(4), 4), KEYS, COUNT + FOUR)
CUT = READ["claims in a zip"][:4] + READ["claims in a zip"][24:]
MODULE = b"\x80\x02(X\x06\x00\x00\x00moduleNNNNtQ."
for kind, content, words in (
    (
        "more in a zip",
        torch_zip(whole(stored(1000), 1000), _0=FOUR),
        "1000 elements of torch.float32 in a record of 16",
    ),
    ("ten gigabytes in a zip", torch_zip(whole(stored(10**10), 4), _0=FOUR), "in a record of 16 bytes"),
    ("without its beginning", CUT, "or without its beginning"),
    ("fewer in a zip", torch_zip(whole(stored(3), 3), _0=FOUR), "3 elements"),
    ("wider in a zip", torch_zip(whole(stored(4, kind="DoubleStorage"), 4), _0=FOUR), "4 elements of torch.float64"),
    ("a tensor of ten gigabytes", torch_zip(whole(stored(4), 10**10), _0=FOUR), "a tensor of 10000000000 elements"),
    ("no record", torch_zip(whole(stored(4), 4)), "archive/data/0"),
    ("negative", torch_zip(whole(stored(-4), 4), _0=FOUR), "without name or number"),
    ("no storage", torch_zip(MODULE), "not of a storage"),
    ("of another type", torch_zip(whole(stored(4, kind="QInt8Storage"), 4), _0=FOUR), "torch.QInt8Storage"),
    ("ten gigabytes in a row", old_torch(whole(stored(10**10), 4), KEYS, COUNT + FOUR), "the file is too short"),
    ("more in a row", old_torch(whole(stored(5), 5), KEYS, COUNT + FOUR), "the storage '0' is not where"),
    ("cut in a row", old_torch(whole(stored(4), 4), KEYS, COUNT + FOUR[:-1]), "not there"),
    ("not in the row", old_torch(whole(stored(4), 4), b"].", COUNT + FOUR), "1 storages are not there"),
    ("unknown in the row", old_torch(b"\x80\x02N.", KEYS, COUNT + FOUR), "damaged"),
    ("persistent id elsewhere", old_torch(b"\x80\x02N.", b"\x80\x02" + stored(4) + b"."), "a persistent id"),
):
    REFUSED[f"claims {kind}"] = (content, words)
for size, stride, offset in [((10**6, 10**6), (0, 0), 0), ((5,), (1,), 0), ((2,), (1,), 3), ((4,), (2,), 0)]:
    storage = torch.zeros(4).__reduce_ex__(4)[1][0]
    view = Call(torch._utils._rebuild_tensor_v2, storage, offset, size, stride, False, OrderedDict())
    REFUSED[f"claims {size} {stride} {offset}"] = (pickle.dumps(view), "")
for meta in ({}, {"class_name": "G"}, {"class_name": 5, "state": {}}, {"class_name": "G", "state": 5}, 5):
    forged = Persistent("G", {})
    forged.meta = meta
    REFUSED[f"forged {meta}"] = (dumps(forged), "forged")
for offender, values in {
    "a tensor of 1000000000000 elements in a storage of 1": torch.zeros(1).expand(10**6, 10**6),
    "torch._utils._rebuild_sparse_tensor": torch.zeros(3, 3).to_sparse(),
    "torch._utils._rebuild_meta_tensor_no_storage": torch.zeros(10**6, 10**6, device="meta"),
    "a tensor that is conjugated": torch.zeros(2, dtype=torch.complex64).conj(),
}.items():
    REFUSED[f"claims {offender}"] = (torch_bytes({"g_ema": values}, as_zip=True), f"is refused: it holds {offender}")
for names in (["data.pkl"], ["a/data.pkl", "b/data.pkl"], ["a/b/data.pkl"], []):
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in [*names, "a/version"]:
            archive.writestr(name, b"\x80\x02N.")
    REFUSED[f"a zip of {names}"] = (target.getvalue(), r"\(a zip without the data\.pkl of torch, or")
