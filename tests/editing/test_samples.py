from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wplus.checkpoint import Models
from wplus.core.images import to_float
from wplus.editing.samples import Attributes, as_array, encode, join, read_attributes, read_codes
from wplus.errors import UserError
from wplus.latents.latent import Latent, save_latent


def test_csv_and_json_say_the_same(tmp_path: Path) -> None:
    rows = {"a.png": {"age": 3, "mood": "glad", "size": 0.5}, "sub/b.png": {"age": 10, "mood": "sad", "size": 2}}
    (tmp_path / "a.json").write_text(json.dumps(rows))
    lines = ["name,age,mood,size", "a.png,3,glad,0.5", "", "sub/b.png,10,sad,2"]
    (tmp_path / "a.csv").write_text("\ufeff" + "\n".join(lines))  # as spreadsheets write it
    for file in ("a.json", "a.csv"):
        read = read_attributes(tmp_path / file)
        assert list(read.names) == ["a.png", "sub/b.png"]
        assert {key: values.tolist() for key, values in read.values.items()} == {
            "age": [3, 10],
            "mood": ["glad", "sad"],
            "size": [0.5, 2.0],
        }


def test_whole_numbers_stay_whole() -> None:
    assert as_array([True, False]).tolist() == [1, 0]
    assert as_array(["1", "2"]).dtype.kind == "i"
    assert as_array([1, 2.5]).tolist() == [1, 2.5]
    assert as_array(["1", "x"]).tolist() == ["1", "x"]


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("a.csv", "name,age\n", "line for each name"),
        ("a.csv", "name\na\n", "line of column names"),
        ("a.csv", "name,age,size\na,1\n", "holds no attributes by name"),
        ("a.json", "[1, 2]", "object of objects"),
        ("a.json", "{", "holds no attributes by name"),
        ("a.json", '{"a": {"age": 1}, "b": {}}', "look at 'b'"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, text: str, word: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=word):
        read_attributes(tmp_path / name)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="Cannot read the attributes"):
        read_attributes(tmp_path / "absent.csv")


def test_codes_of_a_folder(models: Models, tmp_path: Path) -> None:
    w, ws = torch.randn(8), torch.randn(6, 8)
    save_latent(tmp_path / "b.safetensors", Latent(w, "w", models.fingerprint))
    save_latent(tmp_path / "sub" / "a.safetensors", Latent(ws, "w+", models.fingerprint))
    names, codes = read_codes(tmp_path, models)
    assert names == ["b", "sub/a"]
    torch.testing.assert_close(codes, torch.stack([w.expand(6, 8), ws]))
    with pytest.raises(UserError, match="no latent files"):
        read_codes(tmp_path / "none", models)


def test_codes_meet_attributes_by_name() -> None:
    codes = torch.arange(4.0).view(4, 1, 1)
    # v1.5 and v1.6 differ in what looks like an extension
    attributes = Attributes(["v1.5", "x/b.png", "c", "v1.6"], {"age": np.array([1, 2, 3, 4])})
    samples = join(["c", "nobody", "x/b", "v1.5"], codes, attributes, {"codes": "here"})
    assert samples.codes.flatten().tolist() == [0, 2, 3]
    assert samples.attributes["age"].tolist() == [3, 2, 1]
    assert samples.source == {"codes": "here", "num_without_attributes": 1}
    with pytest.raises(UserError, match="names like 'q', the attributes like 'v1.5'"):
        join(["q"], codes, attributes, {})


class MeanEncoder(torch.nn.Module):
    is_iterative = False

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("latent_avg", torch.zeros(6, 8))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(1, 2, 3))[:, None, None].expand(-1, 6, 8)


def test_images_through_the_encoder() -> None:
    pixels = torch.randint(0, 256, (7, 3, 4, 4), dtype=torch.uint8)
    images = SimpleNamespace(names=list("abcdefg"), batch=lambda indices: (pixels[indices], None))
    codes = encode(MeanEncoder(), images, batch_size=3)
    torch.testing.assert_close(codes[:, 0, 0], to_float(pixels).mean(dim=(1, 2, 3)))
    assert codes.shape == (7, 6, 8)
    iterative = MeanEncoder()
    iterative.is_iterative = True
    for encoder, word in ((None, "no encoder"), (iterative, "an iterative encoder")):
        with pytest.raises(UserError, match=word):
            encode(encoder, images, batch_size=3)
