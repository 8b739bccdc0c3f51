import functools
import json

import pytest
import torch
from PIL import Image, ImageChops

from tests import interpolation_plugins as plugins
from wplus.checkpoint import Models
from wplus.errors import UserError
from wplus.interpolation.path_metrics.prior import prior
from wplus.interpolation.paths import coarse_first, fine_first, lerp, pn, slerp
from wplus.interpolation.retime import arc_length
from wplus.interpolation.run import Filming
from wplus.interpolation.video import Filmstrip, compared, table
from wplus.latents.latent import Latent, synthesize
from wplus.latents.w_stats import Whitened
from wplus.tracking import Sink, Tracker


class Recorder(Sink):
    def __init__(self):
        self.seen = {}

    def image(self, key, content, **_):
        self.seen[key] = content

    video = methods = image

    def table(self, key, columns, rows, **_):
        self.seen[key] = [dict(zip(columns, row, strict=True)) for row in rows]

    def summary(self, values):
        self.seen |= values

    def decided(self, values):
        self.seen["decided"] = values


@pytest.fixture
def models(generator):
    return Models(generator=generator)


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def run(models, perceptual, recorder, tmp_path):
    """The video of one path of latents, called a, b, c, ..., or the videos of several."""

    def run(latents, *, path=None, output_dir=tmp_path, names="abcdefgh", frames="drop", fps=30, **options):
        chosen = points(latents) if isinstance(latents, int) else latents
        paths = options.pop("paths", {getattr(path, "__name__", "path"): path})
        filming = Filming(paths=paths, perceptual=perceptual, writing={"frames": frames, "fps": fps}, **options)
        made = filming.run(models, chosen, names=list(names[: len(chosen)]), output_dir=output_dir,
                           tracker=Tracker([recorder], job_type="interpolate"))  # fmt: skip
        return made if path is None else next(iter(made.values()))

    return run


def points(num):
    return [Latent(torch.randn(8), "z", "") for _ in range(num)]


def named(scores):
    return {number.name: value for number, value in scores.items()}


def test_everything_is_written_and_logged(run, recorder, tmp_path):
    video = run(3, path=slerp, num_frames=7, batch_size=4, fps=10, frames="keep", num_columns=4)
    written = {"distances.png", "video.gif", "video.mp4", "frames", "filmstrip.png"}
    assert {path.name for path in tmp_path.iterdir()} == written
    frames = sorted((tmp_path / "frames").iterdir())
    assert [path.name for path in frames] == [f"frame_{index:05d}.png" for index in range(13)]
    with Image.open(video.files["gif"]) as gif:
        assert (gif.n_frames, gif.size) == (13, (256, 256))
    assert video.titles == ("a to b: slerp in z", "b to c: slerp in z")
    assert recorder.seen["decided"] == {"space": "z", "noise": "const", "upscale": 16}
    assert video.steps.shape == (2, 6)
    assert recorder.seen["interpolate/video"] == tmp_path / "video.mp4"
    assert [row["transition"] for row in recorder.seen["interpolate/transitions"]] == list(video.titles)
    entry = recorder.seen["interpolate/step_cv"]
    assert (entry["value"], entry["direction"]) == (named(video.means)["step_cv"], "lower")
    assert (entry["protocol"]["distance"], entry["protocol"]["path"]) == ("brightness", "slerp")
    run(2, path=lerp, num_frames=3, frames="keep")
    assert len(list((tmp_path / "frames").iterdir())) == 3  # those of a longer video go


def test_distances_are_those_of_the_frames(models, run):
    chosen = points(2)
    video = run(chosen, path=lerp, num_frames=5, space="w")
    codes = torch.stack([models.generator.mapping(latent.code[None])[0, 0] for latent in chosen])
    along = [codes[0] + t * (codes[1] - codes[0]) for t in torch.linspace(0, 1, 5)]
    images = synthesize([Latent(code, "w", "") for code in along], models.generator)
    expected = images.mean(dim=(1, 2, 3)).diff().abs().double()
    torch.testing.assert_close(video.steps[0], expected, atol=1e-6, rtol=0)


def test_the_other_convention_is_the_video_backwards_and_so_is_what_metrics_say(models, run, tmp_path):
    chosen = points(3)
    options = {"path": slerp, "num_frames": 5, "frames": "keep", "space": "w", "path_metrics": {"prior": prior}}
    forward = run(chosen, output_dir=tmp_path / "f", **options)
    backward = run(chosen, output_dir=tmp_path / "b", alpha="a_at_one", **options)
    torch.testing.assert_close(backward.steps, forward.steps.flip(0, 1), atol=1e-6, rtol=0)
    assert backward.titles == ("c to b: slerp in w", "b to a: slerp in w")
    first, last = tmp_path / "b" / "frames" / "frame_00000.png", tmp_path / "f" / "frames" / "frame_00008.png"
    with Image.open(first) as one, Image.open(last) as other:
        assert max(high for _, high in ImageChops.difference(one, other).getextrema()) <= 1
    there, back = ([named(row)["prior_max"] for row in video.scores] for video in (forward, backward))
    assert back == there[::-1]
    assert there[0] != there[1]
    assert named(forward.means)["prior_max"] == pytest.approx(sum(there) / 2)
    ends = Whitened.of(models.generator).distance(models.generator.mapping(chosen[0].code[None])[:, 0])
    assert there[0] >= float(ends) * (1 - 1e-5)
    captions = [[caption for _, caption in row] for row in backward.filmstrip.captioned]
    assert captions == [[f"alpha = {t}" for t in ("0.00", "0.25", "0.50", "0.75", "1.00")]] * 2


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"writing": {"fps": 0}}, "fps must be above 0, got 0"),
        ({"num_frames": 1}, "num_frames must .*got 1"),
        ({"alpha": "0.5"}, "alpha must be one of b_at_one, a_at_one"),
        ({"num_columns": 1}, "num_columns must .*got 1"),
        ({"batch_size": 0}, "batch_size must .*got 0"),
        ({"space": "v"}, "'v'"),
        ({"space": "w", "paths": {"lerp": lerp, "late": coarse_first}}, "coarse_first must be w"),
        ({"paths": {}}, "path must name at least one"),
    ],
)
def test_what_no_latents_make_possible_is_refused(perceptual, options, word):
    with pytest.raises(UserError, match=word):
        Filming(**{"paths": {"lerp": lerp}, "perceptual": perceptual, **options})


def test_several_paths_have_a_folder_each_and_a_picture_together(run, recorder, tmp_path):
    videos = run(3, paths={"straight": lerp, "round": slerp}, num_frames=5, num_columns=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["comparison.png", "round", "straight"]
    assert videos["round"].files["mp4"] == tmp_path / "round" / "video.mp4"
    with Image.open(tmp_path / "comparison.png") as picture:  # four rows
        assert picture.size == (3 * 128 + 2 * 6 + 24, 4 * (24 + 128 + 20) + 3 * 6 + 24)
    assert [title.split(", step")[0] for title in compared(videos)[1]] == [
        "a to b: straight in z", "a to b: round in z", "b to c: straight in z", "b to c: round in z"
    ]  # fmt: skip
    assert recorder.seen["interpolate/paths"]["round"]["step_cv"]["value"] == named(videos["round"].means)["step_cv"]
    assert recorder.seen["interpolate/video"] == tmp_path / "round" / "video.mp4"
    assert recorder.seen["interpolate/comparison"] == tmp_path / "comparison.png"
    first, second, *_ = table(videos).splitlines()
    assert first.split() == ["straight", "round"]
    assert second.split() == ["step_cv", *(f"{named(video.means)['step_cv']:.4g}" for video in videos.values())]


@pytest.mark.parametrize("batch_size", [3, 4, 16])
def test_a_loop_returns_and_shows_its_first_frame_once(models, run, tmp_path, batch_size):
    chosen = points(3)
    options = {"path": lerp, "num_frames": 5, "frames": "keep", "batch_size": batch_size}
    loop = run(chosen, output_dir=tmp_path / "loop", loop=True, **options)
    longer = run([*chosen, chosen[0]], output_dir=tmp_path / "longer", names="abca", **options)
    assert torch.equal(loop.steps, longer.steps)
    assert loop.titles == longer.titles
    short, whole = (sorted((tmp_path / name / "frames").iterdir()) for name in ("loop", "longer"))
    assert (len(short), len(whole)) == (12, 13)
    assert [path.read_bytes() for path in short] == [path.read_bytes() for path in whole[:-1]]


def test_latents_and_images_go_to_where_the_paths_make_sense(run, perceptual):
    for path, space in ((lerp, "z"), (pn, "w"), (fine_first, "w+")):
        assert run(2, path=path, num_frames=5, num_columns=2).protocol["space"] == space
    late = functools.partial(arc_length, path=functools.partial(fine_first, overlap=0.5))
    for paths, space in (({"lerp": lerp}, "w"), ({"lerp": lerp, "late": late}, "w+")):
        assert Filming(paths=paths, perceptual=perceptual).space_for_images == space
    assert Filming(paths={"lerp": lerp}, perceptual=perceptual, space="z").space_for_images == "z"


def test_a_path_and_a_metric_from_elsewhere_are_shown_and_explained(run, recorder):
    """One function each and no other edit: in the terminal's table, in the pictures' titles, in the result."""
    video = run(2, num_frames=5, path=plugins.halting, path_metrics={"brightness": plugins.brightness})
    assert video.titles == ("a to b: halting in z",)
    entry = recorder.seen["interpolate/brightness_half_way"]
    assert (entry["meaning"], entry["unit"], entry["direction"]) == (plugins.MEANING, "levels", "higher")
    assert json.dumps(entry)
    text = table({"halting": video})
    assert f"brightness_half_way  {entry['value']:.4g}" in text
    assert f"brightness_half_way: {plugins.MEANING} Higher is better." in text
    assert "brightness_secret" not in text  # for files alone
    (row,) = recorder.seen["interpolate/transitions"]
    assert {"brightness_half_way", "brightness_secret"} <= set(row)


def test_rows_show_both_ends_the_nearest_frames_to_even_places_and_every_frame_once():
    for (num_transitions, num_steps, num_columns), rows in {
        (2, 8, 5): [[0, 2, 4, 6, 8], [8, 10, 12, 14, 16]], (1, 10, 4): [[0, 3, 7, 10]], (1, 2, 9): [[0, 1, 2]]
    }.items():  # fmt: skip
        strip = Filmstrip(num_transitions, num_steps, num_columns=num_columns)
        for part in torch.arange(17).view(-1, 1, 1, 1).split(5):
            strip.add(part)
        assert [[int(image) for image, _ in row] for row in strip.captioned] == rows
