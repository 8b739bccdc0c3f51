from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.fakes import Recorder
from wplus.checkpoint import Models
from wplus.editing.directions import edit_latent, load_directions, save_directions
from wplus.editing.edit import edit, file_name, overview, report_directions, unique_names
from wplus.editing.finders import sefa
from wplus.errors import UserError
from wplus.latents.latent import Latent, load_latent
from wplus.latents.weight_delta import WeightDelta
from wplus.tracking import Tracker


def latents(models: Models, num: int) -> list[Latent]:
    return [Latent(torch.randn(8), "w", models.fingerprint) for _ in range(num)]


def test_a_strip_for_each_direction_and_every_latent(models: Models, tmp_path: Path) -> None:
    recorder, directions = Recorder(), list(sefa(models, num_directions=2, num_samples=100))
    given, options = latents(models, 3), {"strengths": [-1.5, 0, 2], "tracker": Tracker([recorder])}
    strips = edit(models, given, names=["a", "seed:1", "a"], directions=directions, output_dir=tmp_path, **options)
    assert strips == {f"sefa{k}": tmp_path / "filmstrips" / f"sefa{k}.png" for k in range(2)}
    assert recorder.seen == {"edit/filmstrip": strips["sefa1"]}
    with Image.open(strips["sefa1"]) as image:
        assert image.size == (3 * 128 + 2 * 6 + 24, 3 * (24 + 128 + 20) + 2 * 6 + 24)
    files = sorted(path.relative_to(tmp_path / "latents").as_posix() for path in tmp_path.rglob("*.safetensors"))
    assert len(files) == 3 * 2 * 3
    assert files[:4] == ["a-2/sefa0_+2.safetensors", "a-2/sefa0_-1.5.safetensors", "a-2/sefa0_0.safetensors",
                         "a-2/sefa1_+2.safetensors"]  # fmt: skip
    saved = load_latent(tmp_path / "latents" / "seed1" / "sefa1_-1.5.safetensors", fingerprint=models.fingerprint)
    expected = edit_latent(given[1], models.generator, directions[1], -1.5)
    assert torch.equal(saved.code, expected.code)


@pytest.mark.parametrize(("mode", "start", "expected"), [("add", -0.5, [0, 64, 128]), ("set", 1.0, [64, 128, 191])])
def test_columns_show_the_strengths_in_order(
    models: Models, tmp_path: Path, a_direction: object, mode: str, start: float, expected: list[int]
) -> None:
    """Pictures are as bright as the latent: start + 0.25 * strength, or 0.25 * strength."""
    models.generator.synthesis.forward = lambda ws, noise_mode: ws[:, 0, 1].view(-1, 1, 1, 1).expand(-1, 3, 16, 16)
    direction = a_direction(vector=torch.eye(8)[1], layers=tuple(range(6)), num_ws=6, unit=0.25, origin=0.0)
    options = {"names": ["a"], "directions": [direction], "strengths": [-2, 0, 2], "mode": mode}
    given = [Latent(torch.eye(8)[1] * start, "w", models.fingerprint)]
    with Image.open(edit(models, given, output_dir=tmp_path, **options)["d"]) as image:
        shown = [image.getpixel((12 + 64 + column * 134, 12 + 24 + 64))[0] for column in range(3)]
    assert shown == expected


def test_pictures_are_those_of_the_tuned_generator(models: Models, tmp_path: Path) -> None:
    brighter = WeightDelta({"synthesis.b16.torgb.bias": (torch.full((3,), 1e3),)}, models.fingerprint, latent="")
    directions = list(sefa(models, num_directions=1, num_samples=100))
    options = {"names": ["a", "b"], "directions": directions, "strengths": [1], "output_dir": tmp_path}
    strip = edit(models, latents(models, 2), deltas=[None, brighter], **options)["sefa0"]
    with Image.open(strip) as image:
        assert image.getpixel((12 + 64, 12 + 24 + 64 + 178)) == (255, 255, 255)
        assert image.getpixel((12 + 64, 12 + 24 + 64)) != (255, 255, 255)


def test_nothing_to_do_is_refused(models: Models, tmp_path: Path) -> None:
    directions = list(sefa(models, num_directions=1, num_samples=100))
    options = {"names": ["a"], "output_dir": tmp_path}
    with pytest.raises(UserError, match="at least one latent, one direction and one strength"):
        edit(models, latents(models, 1), directions=directions, strengths=[], **options)
    with pytest.raises(UserError, match="^mode must be one of add, set, got 'put'"):
        edit(models, latents(models, 1), directions=directions, mode="put", **options)


def test_directions_are_shown_and_recorded(models: Models, tmp_path: Path) -> None:
    recorder, found = Recorder(), sefa(models, num_directions=3, num_samples=100)
    file = save_directions(tmp_path / "d.safetensors", found)
    directions = load_directions(file, fingerprint=models.fingerprint)
    directions.items[0].notes.update(accuracy=0.9, balanced_accuracy=0.8, orthogonal_to=["x"])
    (latent,) = latents(models, 1)
    picture = overview(models, latent, list(directions), tmp_path / "o.png", strengths=[-1, 1])
    with Image.open(picture) as image:
        assert image.size == (2 * 128 + 6 + 24, 3 * (24 + 128 + 20) + 2 * 6 + 24)
    report_directions(directions, file, picture, Tracker([recorder], job_type="directions"))
    assert recorder.seen["directions-sefa"] == (file, "directions")
    assert recorder.seen["directions/overview"] == picture
    row = recorder.seen["directions/table"][0]
    assert (row["name"], row["where"], row["orthogonal_to"]) == ("sefa0", "layers 0 to 5", "['x']")
    assert recorder.seen["directions/balanced_accuracy_sefa0"]["value"] == 0.8


def test_names_become_files() -> None:
    assert file_name("seed:7") == "seed7"
    assert file_name("accessory!=0") == "accessory-not-0"
    assert file_name("age>=3.5") == "age-over-3.5"
    assert file_name("body=3") == "body-3"
    assert file_name("../x y") == "xy"
    assert file_name(":") == "unnamed"
    assert unique_names(["a", "b", "a", "a", "a-2"]) == ["a", "b", "a-2", "a-3", "a-2-2"]
