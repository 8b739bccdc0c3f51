from __future__ import annotations

import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from wplus.data import folder_images, zip_images
from wplus.data.nvlabs_zip import ZipReader
from wplus.errors import UserError

FILES = {f"0000{index % 2}/img{index:08d}.png": (8 + index, 8) for index in range(8)}
LABELS = [[name, index % 3] for index, name in enumerate(FILES)]


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_zip_is_the_folder_that_it_holds(make_zip: Callable, make_folder: Callable, compression: int) -> None:
    options = {"resolution": 8, "labels": "json", "held_out_fraction": 0.4}
    path = make_zip({**FILES, "wplus.json": b"{}", "__MACOSX/x.png": b""}, LABELS, compression)
    root = make_folder(FILES, LABELS)
    for split in ("train", "held_out", "all"):
        packed, plain = zip_images(path, split=split, **options), folder_images(root, split=split, **options)
        assert packed.names == plain.names
        assert packed.fingerprint == plain.fingerprint
        assert torch.equal(packed.labels, plain.labels)


def test_lazily_too(make_zip: Callable) -> None:
    path = make_zip(FILES)
    lazy, memory = (zip_images(path, resolution=8, split="all", memory_limit_gb=limit) for limit in (0, 1))
    assert lazy.fingerprint == memory.fingerprint
    assert torch.equal(lazy.images[:], memory.images)


def test_the_reader_can_be_sent_to_another_process(make_zip: Callable) -> None:
    reader = ZipReader(make_zip(FILES))
    copy = pickle.loads(pickle.dumps(reader))
    assert copy.read(reader.names[0]) == reader.read(reader.names[0])


def test_a_damaged_member_is_named(make_zip: Callable) -> None:
    path = make_zip(FILES)
    content = bytearray(path.read_bytes())
    content[200] ^= 255  # in the first image; the zip's checksum notices
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"1 of 8 image\(s\).*img00000000\.png.*damaged in the zip"):
        zip_images(path, resolution=8)


def test_what_is_no_whole_zip(make_zip: Callable, tmp_path: Path) -> None:
    path = make_zip(FILES)
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="not a whole zip"):
        zip_images(path, resolution=8)
    with pytest.raises(UserError, match="does not exist"):
        zip_images(tmp_path / "none.zip", resolution=8)
    with pytest.raises(UserError, match="is a folder, not a zip"):
        zip_images(tmp_path, resolution=8)
    with pytest.raises(UserError, match="no file with an image's extension"):
        zip_images(make_zip({"a.txt": b"x"}), resolution=8)
