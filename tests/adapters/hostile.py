"""Hostile files for tests, and the parts that they are put together from."""

import io
import struct
import zipfile

import torch


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


def compressed(content: bytes) -> bytes:
    """A torch file whose records are packed, as torch never writes them."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    return target.getvalue()


def short(text: str) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text.encode()


def stack_global(module: str, name: str, text: str) -> bytes:
    """A call of module.name(text), the names joined on the stack and fetched through the memo."""
    head = b"\x80\x04" + short(module) + b"\x94" + short(name) + b"\x94" + b"0" + b"0"
    return head + b"h\x00" + b"h\x01" + b"\x93" + short(text) + b"\x85R."


def in_storage(payload: bytes) -> Call:
    return Call(torch.storage._load_from_bytes, payload)


def called(name: tuple[str, str], argument: bytes, times: int) -> bytes:
    """A pickle that remembers an argument and calls a function with it again and again."""
    module, function = map(short, name)
    call = module + function + b"\x93" + b"h\x00" + b"\x85R"
    return b"\x80\x04" + argument + b"\x94" + b"0(" + call * times + b"l."


def numbers(num: int) -> bytes:
    return b"(" + b"".join(b"M" + i.to_bytes(2, "little") for i in range(num)) + b"l"


# --- torch files by hand ----------------------------------------------------------------------------------------------


def torch_zip(content: bytes, **records: bytes) -> bytes:
    """A torch file with this pickle; `records` are those beside it ("byteorder") and, by numbers, storages ("_0")."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        archive.writestr("archive/data.pkl", content)
        for name, record in records.items():
            archive.writestr(f"archive/data/{name[1:]}" if name.startswith("_") else f"archive/{name}", record)
    return target.getvalue()


def old_torch(content: bytes, keys: bytes = b"].", storages: bytes = b"") -> bytes:
    """The form before version 1.6: magic number, version, system; the pickle, the names of the storages, these."""
    head = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19." + b"\x80\x02M\xe9\x03." + b"\x80\x02}."
    return head + content + keys + storages


def word(text: str) -> bytes:
    return b"X" + struct.pack("<I", len(text)) + text.encode()


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def stored(num: int, *, kind: str = "FloatStorage", name: str = "0", part: bytes = b"") -> bytes:
    """Instructions that put a storage on the stack; `part` are those of a sixth entry of its persistent id."""
    entries = word("storage") + b"ctorch\n" + kind.encode() + b"\n" + word(name) + word("cpu") + number(num) + part
    return b"(" + entries + b"tQ"


def tensor(storage: bytes, size: int) -> bytes:
    """Instructions that make a vector of a storage."""
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + number(size) + b"\x85K\x01\x85\x89NtR"
