import functools
import json

import pytest
import torch
from PIL import Image, ImageChops

from tests import interpolation_plugins as plugins
from wplus.checkpoint import Models
from wplus.errors import UserError
from wplus.interpolation.path import timeline
from wplus.interpolation.path_metrics.prior import prior
from wplus.interpolation.paths import fine_first, lerp, pn, slerp
from wplus.interpolation.retime import arc_length
from wplus.interpolation.run import interpolate, space_for_images
from wplus.interpolation.video import Filmstrip, compared, plot_distances, save_rows, table
from wplus.latents.latent import Latent, synthesize
from wplus.latents.w_stats import Whitened
from wplus.tracking import Sink, Tracker


class Recorder(Sink):
    def __init__(self):
        self.seen = {}

    def image(self, key, path, *, caption="", kimg=None):
        self.seen[key] = path

    def video(self, key, path, *, kimg=None):
        self.seen[key] = path

    def table(self, key, columns, rows, **_):
        self.seen[key] = [dict(zip(columns, row, strict=True)) for row in rows]

    def summary(self, values):
        self.seen |= values

    def methods(self, key, values):
        self.seen[key] = values


@pytest.fixture
def models(generator):
    return Models(generator=generator)


@pytest.fixture
def run(models, perceptual, tmp_path):
    """The video of one path of latents, or the videos of several."""

    def run(num_or_latents, *, path=None, **options):
        chosen = num_or_latents
        if isinstance(chosen, int):
            chosen = [Latent(torch.randn(8), "z", models.fingerprint) for _ in range(chosen)]
        paths = options.pop("paths", {getattr(path, "__name__", "path"): path})
        made = interpolate(models, chosen, paths=paths, **{"perceptual": perceptual, "output_dir": tmp_path, **options})
        return made if path is None else next(iter(made.values()))

    return run


def named(scores):
    return {number.name: value for number, value in scores.items()}


def test_everything_is_written_and_logged(run, tmp_path):
    recorder = Recorder()
    options = {
        "num_frames": 7,
        "batch_size": 4,
        "fps": 10,
        "frames": "keep",
        "num_columns": 4,
        "names": ["a", "b", "c"],
    }
    video = run(3, path=slerp, tracker=Tracker([recorder], job_type="interpolate"), **options)
    written = {"distances.png", "video.gif", "video.mp4", "frames", "filmstrip.png"}
    assert {path.name for path in tmp_path.iterdir()} == written
    frames = sorted((tmp_path / "frames").iterdir())
    assert [path.name for path in frames] == [f"frame_{index:05d}.png" for index in range(13)]
    with Image.open(video.files["gif"]) as gif:
        assert (gif.n_frames, gif.size) == (13, (256, 256))
    assert video.titles == ("a to b: slerp in z", "b to c: slerp in z")
    assert video.steps.shape == (2, 6)
    assert recorder.seen["interpolate/video"] == tmp_path / "video.mp4"
    assert [row["transition"] for row in recorder.seen["interpolate/transitions"]] == list(video.titles)
    entry = recorder.seen["interpolate/step_cv"]
    assert entry["value"] == named(video.means)["step_cv"]
    assert (entry["protocol"]["distance"], entry["protocol"]["path"]) == ("brightness", "slerp")
    assert "standard deviation over mean" in entry["meaning"]
    assert entry["direction"] == "lower"


def test_the_prior_is_measured_once(run, monkeypatch):
    measured, original = [], Whitened.of
    monkeypatch.setattr(Whitened, "of", lambda generator, **options: measured.append(1) or original(generator))
    videos = run(2, paths={"one": pn, "other": pn}, path_metrics={"prior": prior}, num_frames=3, space="w")
    assert named(videos["one"].means)["prior_max"] == named(videos["other"].means)["prior_max"] > 0
    assert measured == [1]


def test_distances_are_those_of_the_frames(models, run):
    chosen = [Latent(torch.randn(8), "z", models.fingerprint) for _ in range(2)]
    video = run(chosen, path=lerp, num_frames=5, space="w")
    codes = torch.stack([models.generator.mapping(latent.code[None])[0, 0] for latent in chosen])
    along = [codes[0] + t * (codes[1] - codes[0]) for t in torch.linspace(0, 1, 5)]
    images = synthesize([Latent(code, "w", "") for code in along], models.generator)
    expected = images.mean(dim=(1, 2, 3)).diff().abs().double()
    torch.testing.assert_close(video.steps[0], expected, atol=1e-6, rtol=0)


def test_the_other_convention_is_the_video_backwards_and_so_is_what_metrics_say(models, run, tmp_path):
    chosen = [Latent(torch.randn(8), "z", models.fingerprint) for _ in range(3)]
    options = {"path": slerp, "num_frames": 5, "frames": "keep", "names": ["a", "b", "c"], "space": "w",
               "path_metrics": {"prior": prior}}  # fmt: skip
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


def test_frames_of_a_longer_video_go(run, tmp_path):
    for num_frames in (6, 3):
        run(2, path=lerp, num_frames=num_frames, frames="keep")
    assert len(list((tmp_path / "frames").iterdir())) == 3


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"frames": "all"}, "frames must be one of drop, keep, got 'all'"),
        ({"upscale": "big"}, "upscale must be auto or a whole number"),
        ({"fps": 0}, "fps must be above 0, got 0"),
        ({"num_frames": 1}, "num_frames must .*got 1"),
        ({"num_columns": 1}, "num_columns must .*got 1"),
        ({"batch_size": 0}, "batch_size must .*got 0"),
        ({"paths": {}}, "path must name at least one"),
    ],
)
def test_bad_options_are_refused_in_a_sentence(run, options, word):
    with pytest.raises(UserError, match=word):
        run(2, path=lerp, **options)


def test_several_paths_have_a_folder_each_and_a_picture_together(run, tmp_path):
    recorder = Recorder()
    videos = run(3, paths={"straight": lerp, "round": slerp}, num_frames=5, num_columns=3, names=["a", "b", "c"],
                 tracker=Tracker([recorder], job_type="interpolate"))  # fmt: skip
    assert sorted(path.name for path in tmp_path.iterdir()) == ["comparison.png", "round", "straight"]
    assert videos["round"].files["mp4"] == tmp_path / "round" / "video.mp4"
    with Image.open(tmp_path / "comparison.png") as picture:  # four rows
        assert picture.size == (3 * 128 + 2 * 6 + 24, 4 * (24 + 128 + 20) + 3 * 6 + 24)
    titles = compared(videos)[1]
    assert [title.split(", step")[0] for title in titles] == [
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
    chosen = [Latent(torch.randn(8), "z", models.fingerprint) for _ in range(3)]
    options = {"path": lerp, "num_frames": 5, "frames": "keep", "batch_size": batch_size}
    loop = run(chosen, output_dir=tmp_path / "loop", loop=True, names=["a", "b", "c"], **options)
    longer = run([*chosen, chosen[0]], output_dir=tmp_path / "longer", names=["a", "b", "c", "a"], **options)
    assert torch.equal(loop.steps, longer.steps)
    assert loop.titles == longer.titles
    short, whole = (sorted((tmp_path / name / "frames").iterdir()) for name in ("loop", "longer"))
    assert (len(short), len(whole)) == (12, 13)
    assert [path.read_bytes() for path in short] == [path.read_bytes() for path in whole[:-1]]


def test_latents_and_images_go_to_where_the_paths_make_sense(run):
    for path, space in ((lerp, "z"), (pn, "w"), (fine_first, "w+")):
        assert run(2, path=path, num_frames=5, num_columns=2).protocol["space"] == space
    late = functools.partial(arc_length, path=functools.partial(fine_first, overlap=0.5))
    assert space_for_images({"lerp": lerp}, "auto") == "w"
    assert space_for_images({"lerp": lerp, "late": late}, "auto") == "w+"
    assert space_for_images({"lerp": lerp, "late": late}, "z") == "z"  # and is refused there
    with pytest.raises(UserError, match="fine_first must be w"):
        run(2, paths={"lerp": lerp, "late": late}, space="z")


def test_a_path_and_a_metric_from_elsewhere_are_shown_and_explained(run, tmp_path):
    """One function each, no edit anywhere: in the terminal's table, in the pictures' titles, in the result."""
    recorder = Recorder()
    own = {"path": plugins.halting, "path_metrics": {"brightness": plugins.brightness}}
    video = run(2, num_frames=5, names=["a", "b"], tracker=Tracker([recorder], job_type="interpolate"), **own)
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


# The strip and the plot


def filled(t, num_transitions, num_columns):
    strip = Filmstrip(t, num_transitions=num_transitions, num_columns=num_columns)
    values = torch.linspace(0, 255, len(t)).to(torch.uint8)
    for part in values.view(-1, 1, 1, 1).expand(-1, 3, 32, 32).split(5):
        strip.add(part)
    return strip


def test_rows_show_both_ends_the_nearest_frames_to_even_places_and_every_frame_once():
    assert Filmstrip(timeline(3, 9), num_transitions=2, num_columns=5).rows == [[0, 2, 4, 6, 8], [8, 10, 12, 14, 16]]
    assert Filmstrip(timeline(2, 11), num_transitions=1, num_columns=4).rows == [[0, 3, 7, 10]]
    assert Filmstrip(timeline(2, 3), num_transitions=1).rows == [[0, 1, 2]]


def test_only_what_is_shown_is_held():
    assert sorted(filled(timeline(2, 100), 1, 4)._frames) == [0, 33, 66, 99]


@pytest.mark.parametrize("alpha", ["b_at_one", "a_at_one"])
def test_captions_count_from_the_first_keyframe_or_the_other_way_round(alpha):
    parameter = {"b_at_one": "t", "a_at_one": "alpha"}[alpha]
    rows = filled(timeline(3, 5, alpha=alpha), 2, 3).captioned(parameter)
    assert [[caption for _, caption in row] for row in rows] == [
        [f"{parameter} = {t}" for t in ("0.00", "0.50", "1.00")]
    ] * 2
    assert [int(image.float().mean()) for image, _ in rows[0]] == [0, 63, 127]


def test_the_pictures_have_the_frames_in_place(tmp_path):
    strip = filled(timeline(3, 5), 2, 3)
    with Image.open(save_rows(tmp_path / "strip.png", strip.captioned(), ["a to b", "b to c"])) as image:
        # Three columns of 128 px, six apart, in two rows; margins of 12.
        assert image.size == (3 * 128 + 2 * 6 + 24, 2 * (24 + 128 + 20) + 6 + 24)
        places = [(12 + 64 + column * 134, 12 + 24 + 64 + row * 178) for row in (0, 1) for column in range(3)]
        assert [image.getpixel(place)[0] for place in places] == [0, 63, 127, 127, 191, 255]
    with Image.open(plot_distances(tmp_path / "d.png", torch.rand(2, 30), title="a", distance_name="net")) as image:
        assert image.size == (960, 384)
