import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fakes import encoded, noise, write_zip
from wplus.data import folder_images, read_image, zip_images
from wplus.data.prepare import prepare
from wplus.data.sources import FolderReader, ZipReader
from wplus.errors import UserError

FILES = {"b/2.png": (8, 8), "a/1.jpg": (12, 9), "a/deep/er/3.PNG": (8, 20), "0.webp": (16, 16)}


def test_images_are_found_everywhere_in_sorted_order(make_folder: Callable) -> None:
    root = make_folder({**FILES, "notes.txt": b"x", ".hidden.png": (8, 8), "a/.git/9.png": (8, 8)})
    reader = FolderReader(root)
    assert reader.names == ["0.webp", "a/1.jpg", "a/deep/er/3.PNG", "b/2.png"]
    assert reader.other_names == ["notes.txt"]
    images = folder_images(root, resolution=8, split="all")
    assert images.names == reader.names
    for name, image in zip(images.names, images.images, strict=True):
        assert torch.equal(image, read_image(root / name, resolution=8))


def test_a_tilde_is_the_home_folder_or_a_part_of_a_name(make_folder: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_folder({"home/set/1.png": (8, 8), "~x/1.png": (8, 8), "~x.png": (8, 8)})
    monkeypatch.setenv("HOME", str(root / "home"))
    monkeypatch.chdir(root)
    for path in ("~/set", "~x"):
        assert FolderReader(path).names == ["1.png"]
    assert read_image("~x.png").shape == read_image("~/set/1.png").shape == (3, 8, 8)


def test_links_are_followed_but_not_in_circles(make_folder: Callable, tmp_path: Path) -> None:
    root = make_folder({"a/1.png": (8, 8)})
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "2.png").write_bytes(encoded(noise(8, 8)))
    os.symlink(outside, root / "b")
    os.symlink(root, root / "a" / "up")
    os.symlink(root, outside / "back")
    assert FolderReader(root).names == ["a/1.png", "b/2.png"]


@pytest.mark.parametrize(
    ("stored", "plain"),
    [
        (b"Mu\xcc\x88ller/a\xcc\x81.png", "M\u00fcller/\u00e1.png"),  # macOS writes accents apart
        (b"cats\\1.png", "cats/1.png"),  # Windows
        (b"/abs/1.png", "abs/1.png"),
        (b"../../up/1.png", "up/1.png"),
        (b"a/../b/1.png", "b/1.png"),
        (b"C:\\cats\\1.png", "cats/1.png"),
        (b"./a//1.png", "a/1.png"),
        (b"M\xfcller/1.png", "M\u00fcller/1.png"),  # latin-1
        ("\u732b/\u72ac.png".encode(), "\u732b/\u72ac.png"),
        (b"two\nlines\t.png", "two_lines_.png"),
        (b"a.b.c d,(e)=#&'.PNG", "a.b.c d,(e)=#&'.PNG"),
    ],
)
def test_names_of_other_systems_are_plain_ones(tmp_path: Path, stored: bytes, plain: str) -> None:
    labels = json.dumps({"labels": [[stored.decode("latin-1" if b"\xfc" in stored else "utf-8"), [1.0, 2.0]]]}).encode()
    placeholder = "@" * len(stored)
    packed = write_zip(tmp_path / "a.zip", {placeholder: (8, 8), "dataset.json": labels})
    packed.write_bytes(packed.read_bytes().replace(placeholder.encode(), stored))
    root = tmp_path / "folder"
    if not stored.startswith((b"/", b"../", b"a/..")):
        path = Path(os.fsdecode(os.fsencode(root) + b"/" + stored))
        path.parent.mkdir(parents=True)
        path.write_bytes(encoded(noise(8, 8)))
        (root / "dataset.json").write_bytes(labels)
    for read, place in ((zip_images, packed), (folder_images, root)):
        if place.exists():
            images = read(place, resolution=8, split="all", labels="json")
            assert images.names == [plain]
            assert images.labels.tolist() == [[1, 2]]
            assert torch.equal(images.images[0], read_image(encoded(noise(8, 8))))


CATS, DOGS = "第一/猫.png", "表紙/犬.png"  # the second byte of 表 is a backslash in cp932 and big5
ENCODINGS = {
    "gbk": (CATS, DOGS), "big5": ("第一/貓.png", DOGS), "cp932": (CATS, DOGS), "utf-8": (CATS, DOGS),
    "cp437": ("Müller/é.png", "Größe/ß.png"), "latin-1": ("Müller/é.png", "Größe/ß.png"),
    "cp949": ("고양이/1.png", "개/2.png"), "cp1251": ("кот/1.png", "пёс/2.png"),
}  # fmt: skip


def packed_as(path: Path, names: dict[str, bytes], labels: Any = None, extra: dict[str, bytes] | None = None) -> Path:
    """A zip as other programs write it: the names as bytes, without the flag of UTF-8; `extra` are fields by name."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, stored) in enumerate(names.items()):
            info = zipfile.ZipInfo("@" * (len(stored) - 1) + chr(ord("a") + number))
            info.extra = (extra or {}).get(name, b"")
            archive.writestr(info, encoded(noise(8, 8, seed=number)))
        if labels is not None:
            archive.writestr("dataset.json", json.dumps({"labels": labels}))
    content = path.read_bytes()
    for number, stored in enumerate(names.values()):
        content = content.replace(b"@" * (len(stored) - 1) + bytes([ord("a") + number]), stored)
    path.write_bytes(content)
    return path


def plain_folder(root: Path, names: Iterable[str], labels: Any = None) -> Path:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(encoded(noise(8, 8, seed=number)))
    if labels is not None:
        (root / "dataset.json").write_text(json.dumps({"labels": labels}))
    return root


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_list_of_labels_says_which_encoding_names_are_in(tmp_path: Path, encoding: str) -> None:
    names = ENCODINGS[encoding]
    labels = [[name, number] for number, name in enumerate(names)]
    stored = {name: name.encode(encoding) for name in names}
    places = [(zip_images, packed_as(tmp_path / "a.zip", stored, labels))]
    if encoding in ("gbk", "latin-1"):  # unpacked by a program that copies the bytes
        root = plain_folder(tmp_path / "bytes", [os.fsdecode(each) for each in stored.values()], labels)
        places.append((folder_images, root))
    plain = plain_folder(tmp_path / "plain", names, labels)
    for labelled in ("json", "folder", "none"):
        options = {"resolution": 8, "split": "all", "labels": labelled}
        wanted = folder_images(plain, **options)
        for read, place in places:
            found = read(place, **options)
            assert (found.names, found.fingerprint) == (wanted.names, wanted.fingerprint)
            assert found.label_names == wanted.label_names


def test_names_are_utf_8_or_what_their_field_says_and_else_refused(tmp_path: Path) -> None:
    options = {"resolution": 8, "split": "all", "labels": "folder"}
    wanted = folder_images(plain_folder(tmp_path / "plain", (CATS, DOGS)), **options)
    as_utf8 = packed_as(tmp_path / "utf8.zip", {name: name.encode() for name in (CATS, DOGS)})
    stored = {name: name.encode("gbk") for name in (CATS, DOGS)}
    field = {name: struct.pack("<BL", 1, zlib.crc32(raw)) + name.encode() for name, raw in stored.items()}
    fields = {name: b"UT\1\0x" + struct.pack("<HH", 0x7075, len(each)) + each for name, each in field.items()}
    told = packed_as(tmp_path / "told.zip", stored, extra=fields)
    for path in (as_utf8, told):
        assert zip_images(path, **options).fingerprint == wanted.fingerprint
    stale = {name: each.replace(struct.pack("<L", zlib.crc32(stored[name])), bytes(4)) for name, each in fields.items()}
    refused = [packed_as(tmp_path / "untold.zip", stored), packed_as(tmp_path / "stale.zip", stored, extra=stale)]
    for path in refused:
        with pytest.raises(UserError, match=r"names of 2 image\(s\) in the zip .*cannot be determined: .*unzip -O gbk"):
            zip_images(path, **options)
    with pytest.raises(UserError, match=r"names of 2 image\(s\) in the folder .*cannot be determined: .*convmv -r"):
        FolderReader(plain_folder(tmp_path / "bytes", [os.fsdecode(each) for each in stored.values()]))
    with pytest.raises(UserError, match="two files that are both called"):  # one member twice
        ZipReader(packed_as(tmp_path / "twice.zip", {"a": b"\xc3\xa9.png", "b": b"\xc3\xa9.png"}))
    ambiguous = {"é/1.png": b"\x82/1.png", "Θ/1.png": b"\xe9/1.png"}  # two encodings make different names of the list
    path = packed_as(tmp_path / "two.zip", ambiguous, [[f"{each}/1.png", 0] for each in "éΘ‚"])
    with pytest.raises(UserError, match="cannot be determined"):
        ZipReader(path)


def test_labels_of_a_folder_that_was_packed_whole_are_not_lost(make_zip: Callable, tmp_path: Path) -> None:
    path = make_zip(
        {"set/a/1.png": (8, 8), "set/dataset.json": b'{"labels": [["a/1.png", 0]]}', "__MACOSX/._set": b"x"}
    )
    for labels in ("json", "auto"):
        with pytest.raises(UserError, match=r"lie in 'set/dataset\.json', not at its top: .*labels=none"):
            prepare(path, tmp_path / "out.zip", resolution=8, labels=labels)
    assert len(zip_images(path, resolution=8, split="all")) == 1


def test_what_macs_and_windows_leave_beside_images_is_no_image(make_zip: Callable, make_folder: Callable) -> None:
    beside = {"__MACOSX/._猫.png": b"\0\5\x16\7", ".DS_Store": b"x", "a/Thumbs.db": b"x", "a/desktop.ini": b"x"}
    for reader in (
        ZipReader(make_zip({"a/猫.png": (8, 8), **beside})),
        FolderReader(make_folder({"a/猫.png": (8, 8), **beside})),
    ):
        assert (reader.names, reader.unread()) == (["a/猫.png"], "")
    # An icon's name may hold anything, and decides nothing.
    path = make_zip({"a/1.png": (8, 8), "__MACOSX/._@@.png": b"x", "@@.txt": b"x"})
    path.write_bytes(path.read_bytes().replace(b"@@", b"\xb5\xda"))
    assert ZipReader(path).names == ["a/1.png"]


def test_two_files_of_one_name_and_links_to_nothing_are_named(make_zip: Callable, make_folder: Callable) -> None:
    with pytest.raises(UserError, match=r"two files that are both called 'a/1\.png'"):
        ZipReader(make_zip({"a/1.png": (8, 8), "a\\1.png": (8, 8)}))
    root = make_folder({"1.png": (8, 8)})
    os.symlink(root / "gone.png", root / "link.png")
    os.symlink(root / "self.png", root / "self.png")
    os.mkfifo(root / "pipe.png")
    with (root / "huge.png").open("wb") as file:
        file.truncate(3 * 2**30)  # sparse
    for limit in (0, 1):
        with pytest.raises(
            UserError, match=r"4 of 5 .*huge\.png: it has 3\.0 GiB.*link\.png: .*pipe\.png: .*self\.png: "
        ):
            folder_images(root, resolution=8, memory_limit_gb=limit)


def test_files_that_may_be_images_and_are_not_read_are_reported(
    make_folder: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    heic = b"\0\0\0\x18ftypheic"
    root = make_folder({"1.png": (8, 8), "a.HEIC": heic, "photo": (8, 8), "notes.txt": b"x"})
    with pytest.warns(UserWarning, match=r"2 file\(s\) are not read, such as 'a\.HEIC': .*pip install pillow-heif"):
        folder_images(root, resolution=8, split="all")
    (root / "1.png").unlink()
    with pytest.raises(UserError, match=r"no file with an image's extension .*2 file\(s\) are not read"):
        FolderReader(root)
    monkeypatch.setattr("wplus.data.reader._image_extensions", lambda: {".heic"})  # what the plugin registers
    assert FolderReader(root).names == ["a.HEIC"]


def test_splits_share_nothing_and_labels_keep_their_width(make_folder: Callable) -> None:
    root = make_folder({f"{'abc'[index % 3]}/{index}.png": (8, 8) for index in range(40)})
    options = {"resolution": 8, "held_out_fraction": 0.3, "labels": "folder"}
    train, held_out, everything = (
        folder_images(root, split=split, **options) for split in ("train", "held_out", "all")
    )
    assert sorted(train.names + held_out.names) == everything.names
    assert train.c_dim == held_out.c_dim == 3
    assert train.label_names == ["a", "b", "c"]
    for part in (train, held_out):
        assert [part.label_names[index] for index in part.labels.argmax(1)] == [name[0] for name in part.names]
        rows = [everything.names.index(name) for name in part.names]
        assert torch.equal(part.images, everything.images[rows])
    assert len({part.fingerprint for part in (train, held_out, everything)}) == 3


@pytest.mark.parametrize("limit", [0, 1])
def test_a_part_of_the_images_is_spread_over_the_names(make_folder: Callable, limit: int) -> None:
    root = make_folder({f"{'ab'[index // 10]}/{index:02d}.png": (8, 8) for index in range(20)})
    options = {"resolution": 8, "held_out_fraction": 0.3, "labels": "folder", "memory_limit_gb": limit}
    everything = folder_images(root, split="all", **options)
    train, held_out, both = (
        folder_images(root, split=split, num_images=10, **options) for split in ("train", "held_out", "all")
    )
    assert both.names == everything.names[::2]
    assert sorted(train.names + held_out.names) == both.names
    assert torch.equal(both.images[:], everything.images[:][::2])
    assert torch.equal(both.labels, everything.labels[::2])
    assert both.policies["subset_of"] == 20
    assert folder_images(root, split="all", num_images=99, **options).fingerprint == everything.fingerprint
    with pytest.raises(UserError, match="num_images must be a whole number of at least 1, got 0"):
        folder_images(root, num_images=0, **options)
    (root / "a/01.png").write_bytes(b"not used, so not looked at")
    assert folder_images(root, num_images=10, **options).names == train.names


def test_all_bad_files_are_named_at_once(make_folder: Callable) -> None:
    root = make_folder({**FILES, "cut.png": encoded(noise(40, 40))[:900], "no.jpg": b"no", "empty.gif": b""})
    with pytest.raises(UserError, match=r"3 of 7 image\(s\)") as error:
        folder_images(root, resolution=8, split="train", held_out_fraction=0.9)  # also where held-out ones are bad
    assert all(name in str(error.value) for name in ("cut.png", "no.jpg", "empty.gif"))
    assert "\n" not in str(error.value)
    with pytest.warns(UserWarning, match=r"3 of 7 image\(s\).*cut\.png"):
        images = folder_images(root, resolution=8, split="all", bad_files="skip")
    assert images.names == sorted(FILES)
    assert images.describe()["num_skipped"] == 3
    assert torch.equal(images.images[0], read_image(root / "0.webp", resolution=8))


def test_refuse_names_what_is_not_square_or_of_another_size(make_folder: Callable) -> None:
    root = make_folder({"1.png": (16, 16), "2.png": (16, 16), "wide.png": (20, 16), "large.png": (32, 32)})
    with pytest.raises(UserError, match=r"large\.png: it is 32x32 where most.*16x16.*wide\.png: it is 20x16"):
        folder_images(root, resolution=8, fit="refuse")
    assert len(folder_images(root, resolution=8, split="all", fit="pad")) == 4


def test_a_set_that_does_not_fit_is_decoded_when_asked_for(make_folder: Callable) -> None:
    root = make_folder({f"{'ab'[index % 2]}/{index}.png": (9, 8) for index in range(30)})
    for split in ("train", "held_out", "all"):
        options = {"resolution": 8, "split": split, "labels": "folder", "held_out_fraction": 0.3}
        lazy, memory = (folder_images(root, memory_limit_gb=limit, **options) for limit in (0, 1))
        assert lazy.describe()["decoded"] == "lazily"
        assert lazy.fingerprint == memory.fingerprint
        assert torch.equal(lazy.images[:], memory.images)
        assert torch.equal(lazy.labels, memory.labels)


def test_a_lazy_set_is_checked_once_and_again_when_a_file_changes(
    make_folder: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_folder({"1.png": (8, 8), "2.png": (8, 8)})
    read: list[str] = []
    plain_read = FolderReader.read
    monkeypatch.setattr(FolderReader, "read", lambda self, name: read.append(name) or plain_read(self, name))
    options = {"resolution": 8, "split": "all", "memory_limit_gb": 0}
    before = folder_images(root, **options)
    assert sorted(read) == ["1.png", "2.png"]  # on threads
    assert folder_images(root, **options).fingerprint == before.fingerprint
    assert len(read) == 2
    (root / "1.png").write_bytes(encoded(noise(8, 8, seed=99)))
    assert folder_images(root, **options).fingerprint != before.fingerprint


def test_bad_files_of_a_lazy_set_are_named_every_time(make_folder: Callable) -> None:
    root = make_folder({"1.png": (8, 8), "2.png": (8, 8), "bad.png": b"x", "wide/1.png": (16, 16)})
    options = {"resolution": 8, "split": "all", "memory_limit_gb": 0}
    for _ in range(2):
        with pytest.raises(UserError, match=r"bad\.png: it is not an image.*wide/1\.png: it"):
            folder_images(root, fit="refuse", **options)
        with pytest.warns(UserWarning, match=r"bad\.png: it is not an image"):
            assert len(folder_images(root, bad_files="skip", **options)) == 3


def test_missing_empty_and_wrong_places(tmp_path: Path, make_folder: Callable, make_zip: Callable) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.zip").write_bytes(make_zip(MEMBERS).read_bytes()[:-30])
    for read, path, words in (
        (folder_images, tmp_path / "nowhere", "nowhere' does not exist"),
        (folder_images, tmp_path / "empty", "no file with an image's extension"),
        (folder_images, tmp_path / "file.zip", "is a file, not a folder"),
        (zip_images, tmp_path / "nowhere", "nowhere' does not exist"),
        (zip_images, make_zip({"a.txt": b"x"}), "no file with an image's extension"),
        (zip_images, tmp_path / "empty", "is a folder, not a zip"),
        (zip_images, tmp_path / "file.zip", "not a complete zip"),
    ):
        with pytest.raises(UserError, match=words):
            read(path, resolution=8)
    with pytest.raises(UserError, match=r"held_out split of .* is empty"):
        folder_images(make_folder({"1.png": (8, 8)}), resolution=8, split="held_out", held_out_fraction=0)


WRONG = {"resolution": [48, 4, 2048, "64"], "labels": "x", "fit": "x", "resize": "x", "channels": [2], "bad_files": "x",
         "split": "x", "memory_limit_gb": [-1], "num_threads": [0, -3, 2.5, 10**9]}  # fmt: skip


def test_options_that_are_not_allowed(make_folder: Callable) -> None:
    root = make_folder({"1.png": (8, 8)})
    for key, value in [(key, value) for key, values in WRONG.items() for value in values]:
        with pytest.raises(UserError, match="must be"):
            folder_images(root, **{"resolution": 8, key: value})


MEMBERS = {f"0000{index % 2}/img{index:08d}.png": (8 + index, 8) for index in range(8)}
LABELS = [[name, index % 3] for index, name in enumerate(MEMBERS)]


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA])
def test_a_zip_is_the_folder_that_it_holds(make_zip: Callable, make_folder: Callable, compression: int) -> None:
    options = {"resolution": 8, "labels": "json", "held_out_fraction": 0.4}
    path = make_zip({**MEMBERS, "wplus.json": b"{}", "__MACOSX/x.png": b""}, LABELS, compression)
    root = make_folder(MEMBERS, LABELS)
    for split in ("train", "held_out", "all"):
        packed, plain = zip_images(path, split=split, **options), folder_images(root, split=split, **options)
        assert packed.names == plain.names
        assert packed.fingerprint == plain.fingerprint
        assert torch.equal(packed.labels, plain.labels)
        lazy = zip_images(path, split=split, memory_limit_gb=0, **options)
        assert lazy.fingerprint == plain.fingerprint
        assert torch.equal(lazy.images[:], plain.images)


def test_the_reader_can_be_sent_to_another_process(make_zip: Callable) -> None:
    reader = ZipReader(make_zip(MEMBERS))
    copy = pickle.loads(pickle.dumps(reader))
    assert copy.read(reader.names[0]) == reader.read(reader.names[0])


def test_a_damaged_member_is_named(make_zip: Callable) -> None:
    path = make_zip(MEMBERS)
    content = bytearray(path.read_bytes())
    content[200] ^= 255  # in the first image; the zip's checksum notices
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"1 of 8 image\(s\).*img00000000\.png.*damaged in the zip"):
        zip_images(path, resolution=8)
