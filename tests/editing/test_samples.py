import json
from pathlib import Path

import numpy as np
import pytest
import torch

from wplus.checkpoint import Models
from wplus.core.images import to_float
from wplus.data import ImageSet
from wplus.editing.samples import (
    Attributes,
    as_array,
    encode,
    expand,
    join,
    labelled_latents,
    members,
    read_attributes,
    read_latents,
)
from wplus.errors import UserError
from wplus.latents.latent import Latent, save_latent


def test_csv_and_json_say_the_same(tmp_path: Path) -> None:
    rows = {"a.png": {"age": 3, "mood": "glad", "size": 0.5}, "sub/b.png": {"age": 10, "mood": "sad", "size": 2}}
    (tmp_path / "a.json").write_text(json.dumps(rows))
    lines = ["name,age,mood,size", "a.png,3,glad,0.5", "", "sub\\b.png,10,sad,2"]  # from Windows
    (tmp_path / "a.csv").write_text("\ufeff" + "\n".join(lines))  # as spreadsheets write it
    for file in ("a.json", "a.csv"):
        read = read_attributes(tmp_path / file)
        assert list(read.names) == ["a.png", "sub/b.png"]
        assert {key: values.tolist() for key, values in read.values.items()} == {
            "age": [3, 10],
            "mood": ["glad", "sad"],
            "size": [0.5, 2.0],
        }
        assert read.values["age"].dtype.kind == "i"
    assert as_array([True, False]).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("name", "text", "word"),
    [
        ("a.csv", "name,age\n", "line for each name"),
        ("a.csv", "name\na\n", "look at 'a'"),
        ("a.csv", "name,age,size\na,1\n", "holds no attributes by name"),
        ("a.json", "[1, 2]", "object of objects"),
        ("a.json", "{", "holds no attributes by name"),
        ("a.json", '{"a": "age"}', "object of objects"),
        ("a.json", '{"a": {"age": 1}, "b": {}}', "look at 'b'"),
        ("absent.csv", None, "Cannot read the attributes"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, name: str, text: str | None, word: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=word):
        read_attributes(tmp_path / name)


def test_latents_of_a_folder(models: Models, tmp_path: Path) -> None:
    w, ws = torch.randn(8), torch.randn(6, 8)
    save_latent(tmp_path / "b.safetensors", Latent(w, "w", models.fingerprint))
    save_latent(tmp_path / "sub" / "a.safetensors", Latent(ws, "w+", models.fingerprint))
    names, found = read_latents(tmp_path, models)
    assert names == ["b", "sub/a"]
    torch.testing.assert_close(found, torch.stack([w.expand(6, 8), ws]))
    with pytest.raises(
        UserError, match="^latents must be encoder or a folder of latent files, got .*none', which holds none[.]$"
    ):
        read_latents(tmp_path / "none", models)


def test_latents_meet_attributes_by_name() -> None:
    ws = torch.arange(4.0).view(4, 1, 1)
    # v1.5 and v1.6 differ in what looks like an extension
    attributes = Attributes(["v1.5", "x/b.png", "c", "v1.6"], {"age": np.array([1, 2, 3, 4])})
    samples = join(["c", "nobody", "x/b", "v1.5"], ws, attributes, {"latents": "here"})
    assert samples.ws.flatten().tolist() == [0, 2, 3]
    assert samples.attributes["age"].tolist() == [3, 2, 1]
    assert samples.source == {"latents": "here", "num_without_attributes": 1}
    with pytest.raises(UserError, match="names like 'q', the attributes like 'v1.5'"):
        join(["q"], ws, attributes, {})


class MeanEncoder(torch.nn.Module):
    is_iterative = False

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("latent_avg", torch.zeros(6, 8))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(1, 2, 3))[:, None, None].expand(-1, 6, 8)


def pictures(num: int = 7, **attributes: object) -> ImageSet:
    pixels = torch.randint(0, 256, (num, 3, 4, 4), dtype=torch.uint8)
    return ImageSet(pixels, None, list("abcdefg")[:num], attributes=attributes or None)


def test_images_through_the_encoder(models: Models) -> None:
    images = pictures(7, body=torch.arange(7))
    ws = encode(MeanEncoder(), images, batch_size=3)
    torch.testing.assert_close(ws[:, 0, 0], to_float(images.images).mean(dim=(1, 2, 3)))
    assert ws.shape == (7, 6, 8)
    models.encoder = MeanEncoder()
    samples = labelled_latents(models, lambda: images, num_images=3, batch_size=2)
    assert torch.equal(samples.ws, ws[:3])
    assert samples.attributes["body"].tolist() == [0, 1, 2]
    assert (samples.source["latents"], samples.source["num_without_attributes"]) == ("encoder", 0)


def test_latents_get_the_attributes_of_the_data_or_of_a_file(models: Models, tmp_path: Path) -> None:
    images, folder = pictures(3, body=torch.tensor([5, 6, 7])), str(tmp_path / "l")
    for name in ("c", "a"):
        save_latent(tmp_path / "l" / f"{name}.safetensors", Latent(torch.zeros(8), "w", models.fingerprint))
    (tmp_path / "l" / "._a.npy").write_bytes(b"what a Mac leaves beside a.npy")
    samples = labelled_latents(models, lambda: images, latents=folder)
    assert samples.attributes["body"].tolist() == [5, 7]
    (tmp_path / "a.csv").write_text("name,tail\nc,1\n")
    read = {"latents": folder, "attributes": str(tmp_path / "a.csv")}
    samples = labelled_latents(models, lambda: pytest.fail("read images in vain"), **read)
    assert (samples.attributes["tail"].tolist(), samples.source["num_without_attributes"]) == ([1], 1)
    with pytest.raises(UserError, match="without attributes"):
        labelled_latents(models, pictures, latents=folder)


def test_an_encoder_of_one_pass_is_needed(models: Models) -> None:
    iterative = MeanEncoder()
    iterative.is_iterative = True
    for encoder, word in ((None, "no encoder"), (iterative, "an iterative encoder")):
        models.encoder = encoder
        with pytest.raises(UserError, match=f"has {word}; invert images"):
            labelled_latents(models, lambda: pytest.fail("read images in vain"))


# --- two classes ---

ATTRIBUTES = {
    "body": np.array([0, 3, 3, 1]),
    "flip": np.array([0, 1, 1, 0]),
    "mood": np.array(["glad", "sad", "glad", "so so"]),
    "size": np.array([0.5, 1.5, 2.5, 0.25]),
}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("body=3", [0, 1, 1, 0]),
        ("body!=3", [1, 0, 0, 1]),
        ("body>=1", [0, 1, 1, 1]),
        ("body<1", [1, 0, 0, 0]),
        ("mood=glad", [1, 0, 1, 0]),
        ("mood!=so so", [1, 1, 1, 0]),
        ("size>1", [0, 1, 1, 0]),
        ("size <= 0.5", [1, 0, 0, 1]),
    ],
)
def test_comparisons(spec: str, expected: list[int]) -> None:
    assert members(spec, ATTRIBUTES).astype(int).tolist() == expected


def test_a_bare_name_is_every_value_against_the_rest() -> None:
    assert expand(["body", "size>1", "body=3"], ATTRIBUTES) == ["body=0", "body=1", "body=3", "size>1"]
    assert expand(["mood"], ATTRIBUTES) == ["mood=glad", "mood=sad", "mood=so so"]
    assert expand(["flip"], ATTRIBUTES) == ["flip=1"]  # of two values one says all
    assert expand(["age"], {"age": np.arange(101) / 4}) == ["age>12.5"]  # a scale is cut at its median


@pytest.mark.parametrize(
    ("spec", "word"), [("tail=1", "some of body, flip, mood, size, .*, got 'tail'"), ("body=big", "word")]
)
def test_what_makes_no_sense_is_refused(spec: str, word: str) -> None:
    with pytest.raises(UserError, match=word):
        members(expand([spec], ATTRIBUTES)[0], ATTRIBUTES)
