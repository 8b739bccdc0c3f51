from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from wplus.checkpoint import Models
from wplus.core.images import save_png
from wplus.errors import UserError
from wplus.latents.inputs import read_inputs
from wplus.latents.latent import Latent, save_latent
from wplus.models.stylegan2 import Generator


@pytest.fixture
def models() -> Models:
    return Models(generator=Generator(resolution=16, z_dim=8, w_dim=8, channel_base=128, channel_max=8))


@pytest.fixture
def invert(models: Models, tmp_path: Path) -> Callable[[list[str], list[str]], list[Path]]:
    """Inversions are numbered: the latent of the first image is 0, of the second 1, ..."""

    def invert(files: list[str], names: list[str]) -> list[Path]:
        invert.calls.append((files, names))
        latents = [Latent(torch.full((8,), float(index)), "w", models.fingerprint) for index in range(len(files))]
        return [save_latent(tmp_path / "made" / f"{index}.safetensors", latent) for index, latent in enumerate(latents)]

    invert.calls = []
    return invert


def image(path: Path) -> str:
    return str(save_png(path, torch.rand(3, 16, 16)))


def test_files_images_and_seeds_keep_their_order(models: Models, invert: Callable, tmp_path: Path) -> None:
    code = torch.randn(6, 8)
    file = str(save_latent(tmp_path / "saved.safetensors", Latent(code, "w+", models.fingerprint)))
    inputs = [image(tmp_path / "b.png"), file, "seed:7", image(tmp_path / "a.png")]
    latents, names = read_inputs(inputs, models=models, invert=invert)
    assert names == ["b", "saved", "seed:7", "a"]
    assert [latent.space for latent in latents] == ["w", "w+", "z", "w"]
    assert [float(latents[index].code[0]) for index in (0, 3)] == [0, 1]
    assert torch.equal(latents[1].code, code)
    assert len(invert.calls) == 1


def test_one_input_may_stand_without_its_list(models: Models, invert: Callable, tmp_path: Path) -> None:
    for one, stem in (("seed:7", "seed:7"), (image(tmp_path / "a.png"), "a"), (Path(image(tmp_path / "b.png")), "b")):
        assert read_inputs(one, models=models, invert=invert)[1] == [stem]
    with pytest.raises(UserError, match="at least 2 input.s., got 1: seed:7"):
        read_inputs("seed:7", models=models, invert=invert, at_least=2)


def test_seeds_are_reproducible_and_differ(models: Models, invert: Callable) -> None:
    (a, b, again), _ = read_inputs(["seed:1", "seed:2", "seed:1"], models=models, invert=invert)
    assert torch.equal(a.code, again.code)
    assert not torch.equal(a.code, b.code)
    assert invert.calls == []


def test_truncation_is_that_of_seeds_alone(models: Models, invert: Callable, tmp_path: Path) -> None:
    file = str(save_latent(tmp_path / "a.safetensors", Latent(torch.randn(8), "w", models.fingerprint)))
    latents, _ = read_inputs(["seed:1", file], models=models, invert=invert, truncation_psi=0.5)
    assert [latent.truncation_psi for latent in latents] == [0.5, 1]


def test_an_image_that_comes_twice_is_inverted_once(models: Models, invert: Callable, tmp_path: Path) -> None:
    a, b = image(tmp_path / "a.png"), image(tmp_path / "b.png")
    latents, _ = read_inputs([a, b, a], models=models, invert=invert)
    assert invert.calls == [([a, b], ["a.png", "b.png"])]
    assert torch.equal(latents[0].code, latents[2].code)


def test_images_of_one_name_are_told_apart(models: Models, invert: Callable, tmp_path: Path) -> None:
    read_inputs([image(tmp_path / folder / "cat.png") for folder in ("x", "y")], models=models, invert=invert)
    assert invert.calls[0][1] == ["x/cat.png", "y/cat.png"]


def test_a_folder_stands_for_its_files_by_name(models: Models, invert: Callable, tmp_path: Path) -> None:
    for name in ("c.png", "a.png", ".hidden", "Thumbs.db", "dataset.json"):
        image(tmp_path / "folder" / name)
    _, names = read_inputs([str(tmp_path / "folder")], models=models, invert=invert)
    assert names == ["a", "c"]


def test_a_latent_of_another_generator_is_refused_before_images_are_inverted(
    models: Models, invert: Callable, tmp_path: Path
) -> None:
    file = save_latent(tmp_path / "foreign.safetensors", Latent(torch.zeros(8), "w", "f" * 16))
    with pytest.raises(UserError, match=r"foreign.safetensors' was made with generator f{16}, not with"):
        read_inputs([image(tmp_path / "a.png"), file], models=models, invert=invert)
    assert invert.calls == []


@pytest.mark.parametrize(
    ("inputs", "word"),
    [
        (["seed:1"], r"at least 2 input\(s\), got 1: seed:1"),
        ([], "got 0: none"),
        (["seed:1", "nowhere.png"], r"got 'nowhere.png', which does not exist"),
        (["seed:1", "seed:two"], "as in seed:7, got 'seed:two'"),
        (["seed:1", f"seed:{2**63}"], "as in seed:7, got 'seed:922"),
        (["seed:1", f"seed:{'9' * 5000}"], "as in seed:7, got 'seed:999"),
        (["seed:1", "empty"], "empty' must hold .*, and has no files"),
    ],
)
def test_bad_inputs_are_refused_in_a_sentence(
    models: Models, invert: Callable, tmp_path: Path, inputs: list[str], word: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=word):
        read_inputs(
            [item.replace("empty", str(tmp_path / "empty")) for item in inputs],
            models=models,
            invert=invert,
            at_least=2,
        )


def test_labels_of_seeds() -> None:
    net = Generator(resolution=8, z_dim=8, w_dim=8, c_dim=3, channel_base=64, channel_max=8, num_mapping_layers=1)
    models, options = Models(generator=net), {"invert": lambda files, names: []}
    latents, _ = read_inputs(["seed:1", "seed:2"], models=models, label=2, **options)
    assert latents[0].label.tolist() == [0, 0, 1]
    latents, _ = read_inputs(["seed:1", "seed:2"], models=models, label=[0.5, 2, 1], **options)
    assert latents[1].label.tolist() == [0.5, 2, 1]
    for label in (None, 3, [1, 2]):
        with pytest.raises(UserError, match="label must be a class number from 0 to 2 or a list of 3 numbers"):
            read_inputs(["seed:1", "seed:2"], models=models, label=label, **options)


def test_labels_are_refused_without_classes(models: Models, invert: Callable) -> None:
    with pytest.raises(UserError, match="without classes"):
        read_inputs(["seed:1", "seed:2"], models=models, label=0, invert=invert)
