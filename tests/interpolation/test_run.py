from __future__ import annotations

import functools
from pathlib import Path

import pytest
import torch
from PIL import Image

from wplus.checkpoint import Models
from wplus.errors import UserError
from wplus.interpolation.curve import Path as LatentPath
from wplus.interpolation.curve import path_name
from wplus.interpolation.path_metrics.prior import prior
from wplus.interpolation.paths import fine_first, lerp, slerp, whitened
from wplus.interpolation.retime import even
from wplus.interpolation.run import Film, _compared, interpolate, space_for_images, table
from wplus.latents.latent import Latent, synthesize
from wplus.latents.w_stats import Whitened
from wplus.models.stylegan2 import Generator
from wplus.tracking import Sink, Tracker


class Recorder(Sink):
    def __init__(self) -> None:
        self.seen: dict[str, object] = {}

    def image(self, key: str, path: Path, *, caption: str = "", kimg: float | None = None) -> None:
        self.seen[key] = path

    def video(self, key: str, path: Path, *, kimg: float | None = None) -> None:
        self.seen[key] = path

    def table(self, key: str, columns: list[str], rows: list[list[object]]) -> None:
        self.seen[key] = [dict(zip(columns, row, strict=True)) for row in rows]

    def summary(self, values: dict[str, object]) -> None:
        self.seen |= values


@pytest.fixture
def models(generator: Generator) -> Models:
    return Models(generator=generator)


def latents(models: Models, num: int) -> list[Latent]:
    return [Latent(torch.randn(8), "z", models.fingerprint) for _ in range(num)]


def filmed(models: Models, chosen: list[Latent], *, path: LatentPath, **options: object) -> Film:
    """The film of one path, under the path's name."""
    name = path_name(path)
    return interpolate(models, chosen, paths={name: path}, **options)[name]


def test_everything_is_written_and_logged(models: Models, perceptual: torch.nn.Module, tmp_path: Path) -> None:
    recorder, chosen = Recorder(), latents(models, 3)
    options = {
        "num_frames": 7,
        "batch_size": 4,
        "fps": 10,
        "frames": "keep",
        "num_columns": 4,
        "names": ["a", "b", "c"],
    }
    tools = {"path": functools.partial(slerp), "perceptual": perceptual, "tracker": Tracker([recorder])}
    film = filmed(models, chosen, output_dir=tmp_path, **tools, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "distances.png",
        "frames",
        "strip.png",
        "video.gif",
        "video.mp4",
    ]
    frames = sorted((tmp_path / "frames").iterdir())
    assert [path.name for path in frames] == [f"frame_{index:05d}.png" for index in range(13)]
    with Image.open(film.files["gif"]) as gif:
        assert (gif.n_frames, gif.size) == (13, (256, 256))
    assert film.titles == ("a to b: slerp in z", "b to c: slerp in z")
    assert film.steps.shape == (2, 6)
    assert recorder.seen["interpolation/film"] == tmp_path / "video.mp4"
    assert [row["transition"] for row in recorder.seen["interpolation/transitions"]] == list(film.titles)
    entry = recorder.seen["interpolation/step_cv"]
    assert entry["value"] == film.values["step_cv"]
    assert entry["protocol"]["distance"] == "mean_colour"
    assert entry["protocol"]["path"] == "slerp"


def test_the_prior_is_measured_once(
    models: Models, perceptual: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured = []
    original = Whitened.of
    monkeypatch.setattr(Whitened, "of", lambda generator, **options: measured.append(1) or original(generator))
    paths, options = {"one": whitened, "other": whitened}, {"num_frames": 3, "space": "w"}
    films = interpolate(models, latents(models, 2), paths=paths, perceptual=perceptual, output_dir=tmp_path,
                        path_metrics={"prior": prior}, **options)  # fmt: skip
    assert films["one"].values["prior_max"] == films["other"].values["prior_max"] > 0
    assert measured == [1]


def test_distances_are_those_of_the_frames(models: Models, perceptual: torch.nn.Module, tmp_path: Path) -> None:
    chosen = latents(models, 2)
    film = filmed(models, chosen, path=lerp, perceptual=perceptual, output_dir=tmp_path, num_frames=5, space="w")
    codes = torch.stack([models.generator.mapping(latent.code[None])[0, 0] for latent in chosen])
    along = [codes[0] + t * (codes[1] - codes[0]) for t in torch.linspace(0, 1, 5)]
    images = synthesize([Latent(code, "w", "") for code in along], models.generator)
    expected = images.mean(dim=(1, 2, 3)).diff().abs().double()
    torch.testing.assert_close(film.steps[0], expected, atol=1e-6, rtol=0)


def test_the_other_convention_is_the_film_backwards(
    models: Models, perceptual: torch.nn.Module, tmp_path: Path
) -> None:
    chosen = latents(models, 3)
    options = {"path": slerp, "perceptual": perceptual, "num_frames": 5, "frames": "keep", "names": ["a", "b", "c"]}
    forward = filmed(models, chosen, output_dir=tmp_path / "f", **options)
    backward = filmed(models, chosen, output_dir=tmp_path / "b", alpha="a_at_one", **options)
    torch.testing.assert_close(backward.steps, forward.steps.flip(0, 1), atol=1e-6, rtol=0)
    assert backward.titles == ("c to b: slerp in z", "b to a: slerp in z")
    first, last = tmp_path / "b" / "frames" / "frame_00000.png", tmp_path / "f" / "frames" / "frame_00008.png"
    with Image.open(first) as one, Image.open(last) as other:
        assert max(high for _, high in _difference(one, other)) <= 1


def _difference(one: Image.Image, other: Image.Image) -> tuple[tuple[int, int], ...]:
    from PIL import ImageChops

    return ImageChops.difference(one, other).getextrema()


def test_frames_of_a_longer_film_go(models: Models, perceptual: torch.nn.Module, tmp_path: Path) -> None:
    chosen = latents(models, 2)
    for num_frames in (6, 3):
        filmed(
            models, chosen, path=lerp, perceptual=perceptual, output_dir=tmp_path, num_frames=num_frames, frames="keep"
        )
    assert len(list((tmp_path / "frames").iterdir())) == 3


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"frames": "all"}, "frames must be one of drop, keep, got 'all'"),
        ({"upscale": "big"}, "upscale must be auto or a whole number"),
        ({"fps": 0}, "fps must be above 0, got 0"),
        ({"num_frames": 1}, "got 1"),
        ({"batch_size": 0}, "batch_size=0"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(
    models: Models, perceptual: torch.nn.Module, tmp_path: Path, options: dict[str, object], word: str
) -> None:
    with pytest.raises(UserError, match=word):
        filmed(models, latents(models, 2), path=lerp, perceptual=perceptual, output_dir=tmp_path, **options)


def test_several_paths_have_a_folder_each_and_a_picture_together(
    models: Models, perceptual: torch.nn.Module, tmp_path: Path
) -> None:
    recorder, chosen = Recorder(), latents(models, 3)
    films = interpolate(
        models, chosen, paths={"straight": lerp, "round": slerp}, perceptual=perceptual, output_dir=tmp_path,
        num_frames=5, num_columns=3, names=["a", "b", "c"], tracker=Tracker([recorder]),
    )  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["comparison.png", "round", "straight"]
    assert films["round"].files["mp4"] == tmp_path / "round" / "video.mp4"
    with Image.open(tmp_path / "comparison.png") as picture:  # four rows, see test_strip for the sizes
        assert picture.size == (3 * 128 + 2 * 6 + 24, 4 * (24 + 128 + 20) + 3 * 6 + 24)
    titles = _compared(films)[1]
    assert [title.split(", step")[0] for title in titles] == [
        "a to b: straight in z", "a to b: round in z", "b to c: straight in z", "b to c: round in z"
    ]  # fmt: skip
    assert recorder.seen["interpolation/step_cv_round"]["value"] == films["round"].values["step_cv"]
    assert recorder.seen["interpolation/film_straight"] == tmp_path / "straight" / "video.mp4"
    assert recorder.seen["interpolation/comparison"] == tmp_path / "comparison.png"
    first, second, *_ = table(films).splitlines()
    assert first.split() == ["straight", "round"]
    assert second.split() == ["step_cv", *(f"{film.values['step_cv']:.4g}" for film in films.values())]


@pytest.mark.parametrize("batch_size", [3, 4, 16])
def test_a_loop_returns_and_shows_its_first_frame_once(
    models: Models, perceptual: torch.nn.Module, tmp_path: Path, batch_size: int
) -> None:
    chosen, options = latents(models, 3), {"path": lerp, "perceptual": perceptual, "num_frames": 5, "frames": "keep"}
    options |= {"batch_size": batch_size, "names": ["a", "b", "c"]}
    film = filmed(models, chosen, output_dir=tmp_path / "loop", loop=True, **options)
    options["names"] = ["a", "b", "c", "a"]
    longer = filmed(models, [*chosen, chosen[0]], output_dir=tmp_path / "longer", **options)
    assert torch.equal(film.steps, longer.steps)
    assert film.titles == longer.titles
    loop, longer = (sorted((tmp_path / name / "frames").iterdir()) for name in ("loop", "longer"))
    assert (len(loop), len(longer)) == (12, 13)
    assert [path.read_bytes() for path in loop] == [path.read_bytes() for path in longer[:-1]]


def test_latents_are_lifted_to_where_the_paths_make_sense(models: Models, perceptual: torch.nn.Module, tmp_path: Path):
    latents = [Latent(torch.randn(models.generator.z_dim), "z", models.fingerprint) for _ in range(2)]
    options = {"perceptual": perceptual, "num_frames": 5, "num_columns": 2}
    for path, space in ((lerp, "z"), (whitened, "w"), (fine_first, "w+")):
        films = interpolate(models, latents, paths={"path": path}, output_dir=tmp_path / space, **options)
        assert films["path"].protocol["space"] == space


def test_images_are_inverted_where_all_paths_make_sense() -> None:
    late = functools.partial(even, path=functools.partial(fine_first, overlap=0.5))
    straight = lerp
    assert space_for_images({"lerp": straight}, "auto") == "w"
    assert space_for_images({"lerp": straight, "late": late}, "auto") == "w+"
    assert space_for_images({"lerp": straight, "late": late}, "z") == "z"  # and is refused there


def test_no_path_is_refused(models: Models, perceptual: torch.nn.Module, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no path to film"):
        interpolate(models, latents(models, 2), paths={}, perceptual=perceptual, output_dir=tmp_path)
