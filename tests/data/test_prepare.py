import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.fakes import encoded, noise
from wplus.__main__ import main as wplus_main
from wplus.data import folder_images, read_image, zip_images
from wplus.data.prepare import main, prepare
from wplus.errors import UserError

GOOD = {"a/1.png": (16, 16), "a/2.jpg": (20, 16), "b/3.png": (16, 16)}
BAD = {"cut.png": encoded(noise(40, 40))[:900], "no.jpg": b"no"}


def test_the_zip_has_the_layout_that_other_tools_read(make_folder: Callable, tmp_path: Path) -> None:
    root = make_folder(GOOD, labels=[["a/1.png", 1], ["a/2.jpg", 0], ["b/3.png", 1]])
    prepare(root, tmp_path / "out.zip", resolution=8, resize="box")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        names = [f"00000/img0000000{index}.png" for index in range(3)]
        assert archive.namelist() == [*names, "dataset.json", "wplus.json"]
        assert all(info.compress_type == zipfile.ZIP_STORED for info in archive.infolist())
        assert json.loads(archive.read("dataset.json")) == {"labels": [[names[0], 1], [names[1], 0], [names[2], 1]]}
        record = json.loads(archive.read("wplus.json"))
        for name, original in zip(names, sorted(GOOD), strict=True):
            pixels = np.array(Image.open(io.BytesIO(archive.read(name))))
            expected = read_image(root / original, resolution=8, resize="box").permute(1, 2, 0)
            assert np.array_equal(pixels, expected)
            assert record["files"][name] == original
    assert (record["resize"], record["fit"], record["resolution"], record["num_images"]) == ("box", "crop", 8, 3)
    assert record["odd"] == {"not square": 1}


def test_training_from_the_zip_is_training_from_the_folder(make_folder: Callable, tmp_path: Path) -> None:
    root = make_folder(GOOD)
    prepare(root, tmp_path / "out.zip", resolution=8, labels="folder")
    packed = zip_images(tmp_path / "out.zip", resolution=8, split="all", labels="json")
    plain = folder_images(root, resolution=8, split="all", labels="folder")
    assert torch.equal(packed.images, plain.images)
    assert torch.equal(packed.labels, plain.labels)
    assert packed.label_names == plain.label_names == ["a", "b"]


def test_vector_labels_and_none(make_folder: Callable, tmp_path: Path) -> None:
    root = make_folder({"1.png": (8, 8), "2.png": (8, 8)}, labels=[["1.png", [0.5, 2]], ["2.png", [1, 0]]])
    prepare(root, tmp_path / "out.zip", resolution=8)
    packed = zip_images(tmp_path / "out.zip", resolution=8, split="all", labels="json")
    assert packed.labels.tolist() == [[0.5, 2], [1, 0]]
    prepare(tmp_path / "out.zip", tmp_path / "again.zip", resolution=8, labels="none")
    prepare(tmp_path / "again.zip", tmp_path / "third.zip", resolution=8)
    with zipfile.ZipFile(tmp_path / "third.zip") as archive:
        assert json.loads(archive.read("dataset.json")) == {"labels": None}


def test_grey_and_equal_bytes_for_equal_images(make_folder: Callable, tmp_path: Path) -> None:
    root = make_folder(GOOD)
    for name in ("one.zip", "other.zip"):
        prepare(root, tmp_path / name, resolution=8, channels=1)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "other.zip").read_bytes()
    assert zip_images(tmp_path / "one.zip", resolution=8, split="all", channels=1).img_channels == 1


def test_everything_bad_or_odd_is_reported_in_one_pass(
    make_folder: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    odd = {
        "grey.png": noise(16, 16, mode="L"),
        "tiny.png": (4, 4),
        "ink.jpg": encoded(noise(16, 16, mode="CMYK"), "JPEG"),
    }
    wide = {f"wide{width}.png": (width, 16) for width in range(20, 23)}
    root = make_folder({**GOOD, **BAD, **odd, **wide, "notes.txt": b"x"})
    assert main([str(root), str(tmp_path / "out.zip"), "--resolution", "8"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for start in (
        "left out  cut.png: it cannot be decoded",
        "left out  no.jpg: it is not an image",
        "odd       a/2.jpg: not square (20x16); 3 more of this kind",
        "odd       grey.png: grey",
        "odd       ink.jpg: colour mode CMYK",
        "odd       tiny.png: smaller than 8 px",
        "no image  notes.txt",
        "9 good (7 of them odd), 2 left out, 1 no images",
    ):
        assert any(line.startswith(start) for line in lines), start
    assert len(lines) == 9
    assert "odd       wide21.png: not square (21x16)\n" in (tmp_path / "out.zip.txt").read_text()
    assert len(zip_images(tmp_path / "out.zip", resolution=8, split="all")) == 9


def test_refuse_and_a_dry_run_write_nothing(
    make_folder: Callable, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "out.zip").write_text("from before")
    root = make_folder({**GOOD, **BAD})
    with pytest.raises(UserError, match=r"2 image\(s\).*cut\.png.*no\.jpg"):
        prepare(root, tmp_path / "out.zip", resolution=8, bad_files="refuse")
    assert main([str(root), "--resolution", "8", "--dry-run"]) == 0
    assert "left out  no.jpg" in capsys.readouterr().out
    assert (tmp_path / "out.zip").read_text() == "from before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "out.zip"]


def test_fit_refuse_leaves_out_other_shapes_and_sizes(make_folder: Callable, tmp_path: Path) -> None:
    report = prepare(make_folder({**GOOD, "large.png": (64, 64)}), tmp_path / "out.zip", resolution=8, fit="refuse")
    assert sorted(report.bad) == ["a/2.jpg", "large.png"]
    assert report.num_good == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere", "out.zip", "--resolution", "8"], "'nowhere' does not exist"),
        (["images", "out.zip", "--resolution", "9"], "resolution must be a power of two from 8 to 1024, got 9"),
        (
            ["images", "out.zip", "--resolution", "8", "--fit", "squeeze"],
            "fit must be one of crop, pad, refuse, got",
        ),
        (["images", "out.zip", "--resolution", "8", "--labels", "json"], "needs a file dataset.json"),
        (["images", "out.tar", "--resolution", "8"], "ends in .zip"),
        (["images", "--resolution", "8"], "ends in .zip"),
        (["images", "images/1.png/out.zip", "--resolution", "8"], "Cannot write"),
        (["only_bad", "out.zip", "--resolution", "8"], "No image in 'only_bad' can be used"),
    ],
)
def test_bad_use_is_one_sentence(
    arguments: list[str], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, content in {"images/1.png": encoded(noise(8, 8)), "only_bad/1.png": b"x"}.items():
        Path(name).parent.mkdir()
        Path(name).write_bytes(content)
    assert main(arguments) == 1
    assert words in capsys.readouterr().err
    assert not Path("out.zip").exists()


def test_as_a_command(make_folder: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert wplus_main(["prepare", str(make_folder(GOOD)), "~/out.zip", "--resolution", "8"]) == 0
    assert "Wrote 3 images" in capsys.readouterr().out
    assert (tmp_path / "out.zip").is_file()


@pytest.mark.parametrize("arguments", [[], ["source", "out.zip"], ["source", "out.zip", "--size", "8"]])
def test_a_wrong_command_line_is_one_line(arguments: list[str], capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
