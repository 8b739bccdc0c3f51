"""When two configurations count as the same: values in any notation, files by their content."""

import shutil
import zipfile
from pathlib import Path

import pytest

from wplus.core.claim import difference, digest, question


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    for name in ("a", "b"):
        (tmp_path / f"{name}.safetensors").write_bytes(name.encode())
        (tmp_path / "images" / f"{name}.png").write_bytes(name.encode())
    with zipfile.ZipFile(tmp_path / "images.zip", "w") as archive:
        archive.writestr("a.png", b"a")
    return tmp_path


def test_how_a_value_is_written_does_not_count():
    one = question({"x": {"gamma": 1.0, "list": (2.0, 0.5), "none": None}, "checkpoint": "nowhere/"})
    assert digest(one) == digest(question({"x": {"gamma": 1, "list": [2, 0.5]}, "checkpoint": ["nowhere"]}))
    assert len(digest(one)) >= 12
    assert digest(one) != digest(question({"x": {"gamma": 2, "list": [2, 0.5]}, "checkpoint": "nowhere"}))


def test_bookkeeping_does_not_count():
    own = {"seed": 1, "schedule": {"batch_size": 2}, "data": {"path": "x"}}
    shared = {
        "run_dir": "a",
        "device": "cuda",
        "tracking": {"project": "p"},
        "name": "n",
        "tags": ["t"],
        "batch_size": 4,
    }
    assert question({**own, **shared, "data": {"path": "x", "cache_dir": "c", "num_threads": 3}}) == question(own)
    kimg = [{**own, "schedule": {"batch_size": 2, "kimg": kimg}} for kimg in (1, 2)]
    assert question(kimg[0]) != question(kimg[1])  # a classifier's, whose learning rates follow it
    training = [question({**each, "trainer": {"devices": 1, "threads": 2}}) for each in kimg]
    assert training[0] == training[1] == question({**own, "trainer": {"devices": 1}})
    assert question({**kimg[0], "trainer": {}}, also=["schedule.kimg"])["schedule.kimg"] == 1


def test_files_count_by_content_and_folders_of_images_by_what_is_in_them(files: Path):
    def asked() -> dict[str, object]:
        return question({
            "checkpoint": f"{files}/a.safetensors", "data": {"path": f"{files}/images"}, "zip": f"{files}/images.zip",
            "folders": [f"{files}/images/"], "latents": f"{files}/images",
            "inputs": [f"{files}/b.safetensors", "seed:1"],
        })  # fmt: skip

    before = asked()
    shutil.copy(files / "a.safetensors", files / "c.safetensors")
    assert question({"checkpoint": f"{files}/c.safetensors"}) == {"checkpoint": before["checkpoint"]}
    assert "b.safetensors, " in str(before["inputs"])
    (files / "a.safetensors").write_bytes(b"A")
    (files / "images" / "b.png").write_bytes(b"B")
    assert asked()["latents"] != before["latents"]
    assert asked()["data.path"] == before["data.path"]
    (files / "images" / "c.png").write_bytes(b"c")
    with zipfile.ZipFile(files / "images.zip", "w") as archive:
        archive.writestr("a.png", b"A")
    assert [key for key, value in asked().items() if value != before[key]] == [
        "checkpoint",
        "data.path",
        "latents",
        "zip",
    ]
    assert question({"input": "~x.png", "checkpoint": "~nobody/x"}) == {"input": "~x.png", "checkpoint": "~nobody/x"}
    assert question({"latents": "encoder", "name": "x", "word": "images"})["latents"] == "encoder"


def test_a_difference_is_told_with_both_values():
    before, now = {"seed": 0, "a": None, "b": 1, "c": 1, "d": 1}, {"seed": 1, "b": 2, "c": 2, "d": 2}
    assert difference({"seed": 0}, {"seed": 0, "mirror": "x"}) == 'mirror was null and is now "x"'
    assert difference(before, now) == "b was 1 and is now 2, c was 1 and is now 2, d was 1 and is now 2, and 1 more"
