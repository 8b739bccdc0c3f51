"""What a folder of inversions shows: scores, curves, images side by side, a video."""

import math

import numpy as np
import pytest
import torch

from tests.core.test_video import decoded
from tests.fakes import Brightness, noise_images, read_pixels
from wplus.checkpoint import Models
from wplus.core.images import to_float, to_uint8
from wplus.core.metric_result import MetricInfo
from wplus.errors import UserError
from wplus.inversion.folder import InversionFolder
from wplus.inversion.init import prior
from wplus.inversion.objective import image_terms
from wplus.inversion.report import (
    InversionVideo,
    compare_folders,
    draw_grid,
    image_scores,
    plot_convergence,
    read_ground_truth,
    read_history,
    read_table,
    score_notes,
    scores,
)  # fmt: skip
from wplus.inversion.result import Inversion, Score
from wplus.inversion.task import InversionTask, Progress
from wplus.latents.latent import Latent, save_latent, to_ws
from wplus.latents.space import space_named
from wplus.latents.w_stats import Whitened
from wplus.losses.pixel import MAX_PSNR_DB, l2, psnr
from wplus.losses.ssim import MSSSIM, SSIM

# Scores


def scored(generator, images, targets, net=None, *, losses=None, masks=None, **more):
    task = InversionTask(generator, targets, "w", net, losses or {}, masks=masks)
    seconds = torch.arange(len(images)) + 0.5
    found = Inversion(torch.randn(len(images), 12), images, None, {}, seconds, **more)
    known = Whitened.of(generator)
    return scores(found, task, image_terms(task)), known.distance(task.to_ws(found.latents))


def test_a_column_for_everything_that_was_measured(stylegan, pooled):
    images, targets = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    moved = Score(torch.tensor([1.0, 2.0]), MetricInfo(meaning="How far it moved.", unit="px"))
    table, distances = scored(
        stylegan, images, targets, pooled, losses={"light": Brightness()}, scores={"moved": moved}
    )
    assert list(table) == ["l1", "l2", "psnr_db", "pooled", "brightness", "prior_distance", "style_distance", "moved",
                           "seconds"]  # fmt: skip
    stored = to_float(to_uint8(images))
    torch.testing.assert_close(table["psnr_db"].values, psnr(stored, targets))
    torch.testing.assert_close(table["pooled"].values, pooled(stored, targets))
    torch.testing.assert_close(table["prior_distance"].values, distances)
    assert table["moved"] is moved
    assert table["seconds"].values.tolist() == [0.5, 1.5]
    units = {name: (score.info.unit, score.info.direction) for name, score in table.items()}
    assert (units["psnr_db"], units["l2"], units["seconds"]) == (("dB", "higher"), ("", "lower"), ("s", "lower"))
    assert all(score.info.meaning for score in table.values())


def test_scores_come_back_from_notes_with_their_meaning(stylegan):
    table, _ = scored(stylegan, noise_images(3), torch.rand(3, 3, 8, 8))
    read = read_table({name: {**score_notes(table, row), "target": name} for row, name in enumerate("abc")})
    assert read.rows["b"] == {name: score.values[1].item() for name, score in table.items()}
    assert read.info == {name: score.info for name, score in table.items()}
    assert read.targets == dict(zip("abc", "abc", strict=True))
    assert read.means["l2"].interval is not None
    assert read.means["seconds"].interval is None  # measured per batch


def test_similarities_are_shown_as_such_and_named_so(stylegan):
    images, targets = torch.rand(2, 3, 24, 24) * 2 - 1, to_float(to_uint8(torch.rand(2, 3, 24, 24) * 2 - 1))
    nets = {"ssim": SSIM(), "ms_ssim": MSSSIM()}
    table = image_scores(images, targets, nets)
    assert [(name, score.info.direction) for name, score in table.items()] == [
        ("similarity_ssim", "higher"), ("similarity_ms_ssim", "higher"),
    ]  # fmt: skip
    torch.testing.assert_close(table["similarity_ssim"].values, 1 - nets["ssim"](images, targets))
    assert image_scores(targets, targets, nets)["similarity_ms_ssim"].values.tolist() == [1, 1]


def test_under_a_mask_only_what_it_leaves_is_scored(stylegan, pooled):
    targets, masks = to_float(torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)), torch.zeros(2, 1, 8, 8)
    masks[:, :, :4] = 1
    images = torch.where(masks > 0, targets, -targets)
    table, _ = scored(stylegan, images, targets, pooled, masks=masks)
    found = {name: table[name].values.tolist() for name in ("l2", "pooled", "psnr_db")}
    assert found == {"l2": [0, 0], "pooled": [0, 0], "psnr_db": [MAX_PSNR_DB] * 2}
    images[:, :, :4] = 0
    table, _ = scored(stylegan, images, targets, masks=masks)
    expected = l2(to_float(to_uint8(images))[:, :, :4], targets[:, :, :4])
    torch.testing.assert_close(table["l2"].values, expected)
    decibels = 10 * math.log10(4 / expected[0].item())
    assert table["psnr_db"].values[0].item() == pytest.approx(decibels, rel=1e-5)


def test_errors_of_latents_are_in_deviations_of_w(stylegan, tmp_path):
    """For true latents of any space; missing or foreign ones are refused."""
    models, z = Models(generator=stylegan), torch.randn(8)
    save_latent(tmp_path / "a.safetensors", Latent(torch.randn(12), "w", models.fingerprint))
    save_latent(tmp_path / "sub" / "b.safetensors", Latent(z, "z", models.fingerprint))
    known = read_ground_truth(tmp_path, ["a", "sub/b"], models)
    torch.testing.assert_close(known["sub/b"], to_ws(z[None], "z", stylegan)[0])
    true, shift = torch.stack(list(known.values())), torch.zeros(2, stylegan.num_ws, 12)
    shift[0, :, 0] = deviation = float(prior(stylegan, space_named("w"), None, 1).std)  # every layer by one deviation
    shift[1, 0, 0] = deviation  # one layer of num_ws
    task = InversionTask(stylegan, noise_images(2), "w+")
    for moved, expected in ((0.0, [0, 0]), (1.0, [1, 1 / math.sqrt(stylegan.num_ws)])):
        found = Inversion(true + moved * shift, noise_images(2), None, {}, torch.zeros(2))
        errors = scores(found, task, {}, true)["latent_error"].values
        assert errors.tolist() == pytest.approx(expected)
    with pytest.raises(UserError, match="ground_truth must have a latent of every image, got none at .*c.safetensors"):
        read_ground_truth(tmp_path, ["a", "c"], models)
    save_latent(tmp_path / "a.safetensors", Latent(torch.zeros(12), "w", "f" * 16))
    with pytest.raises(UserError, match="made with generator ffff"):
        read_ground_truth(tmp_path, ["a"], models)


# Folders


def a_folder(path, *, steps: int, names=("a", "b"), terms=("loss", "l2"), uneven: bool = False) -> InversionFolder:
    """A folder of inversions with histories of this many steps; `uneven`: every image has one more than the last."""
    store = InversionFolder(path, fingerprint="f" * 16, settings_digest="s")
    for index, name in enumerate(names):
        target = torch.full((3, 8, 8), index, dtype=torch.uint8)
        history = {term: torch.rand(steps + uneven * index) + 0.1 for term in terms}
        latent = Latent(code=torch.zeros(4), space="w", generator="f" * 16)
        store.save(name, latent, image=255 - target, target=target, history=history)
    return store


def test_inverters_side_by_side(tmp_path):
    """An encoder has one evaluation, and some methods have no perceptual term."""
    a_folder(tmp_path / "e", steps=1)
    a_folder(tmp_path / "r", steps=5, names=("b", "c", "a"))
    folders = {"encoder": tmp_path / "e", "restyle": tmp_path / "r"}
    convergence, grid = compare_folders(folders, tmp_path)
    two_panels, narrow = read_pixels(convergence).shape[1], read_pixels(grid).shape[1]
    a_folder(tmp_path / "o", steps=30, terms=("loss", "l2", "perceptual"), uneven=True)
    convergence, grid = compare_folders({**folders, "optimize in w+": tmp_path / "o"}, tmp_path)
    assert read_pixels(convergence).shape[1] > 1.4 * two_panels
    assert read_pixels(grid).shape[1] > narrow + 90


def test_a_folder_shows_targets_beside_inversions_with_captions(tmp_path):
    pixels = read_pixels(draw_grid(a_folder(tmp_path / "a", steps=1, names=tuple("abcde")), list("abcde")))
    first = pixels[36:164, 12:]  # below the title: the target, black, then its inversion, white
    assert first[:, :128].max() < 8
    assert (first[:, 134:262] == 255).all()
    assert pixels[164:190, 12:262].min() < 150  # what is written below them
    assert pixels.shape[1] > 8 * 128  # four images in a row
    assert pixels.shape[0] > 2 * 170


def test_an_image_that_ended_sooner_repeats_its_last_value(tmp_path):
    store = a_folder(tmp_path, steps=3, uneven=True)
    history = read_history(store, ["a", "b"])["loss"]
    assert history.shape == (4, 2)
    assert history[3, 0] == history[2, 0]
    assert torch.equal(history[:, 1], store.history("b")["loss"])


def test_curves_of_zeros_missing_values_and_missing_terms(tmp_path):
    loss = torch.tensor([[1.0, 2.0], [0.0, float("nan")], [0.5, float("inf")]])
    one = plot_convergence({"w": {"loss": loss}}, tmp_path / "one.png")
    history = {"loss": torch.rand(20, 3) + 0.1, "l2": torch.rand(20, 3)}
    two = plot_convergence({"w": history, "w+": history}, tmp_path / "two.png")
    assert read_pixels(two).shape[1] > 1.8 * read_pixels(one).shape[1]
    again = plot_convergence({"w": history}, tmp_path / "again.png", terms=["l2"])
    assert read_pixels(again).shape == read_pixels(one).shape


# Video


def filmed(path, num_steps: int, *, num_images: int = 2, skipped: tuple[int, ...] = ()) -> np.ndarray:
    """Frames (T, H, W, 3) of a run whose images go from black to white."""
    targets = torch.zeros(num_images, 3, 8, 8)
    with InversionVideo(path, targets) as video:
        for step in range(1, num_steps + 1):
            images = torch.full((num_images, 3, 8, 8), 2 * step / num_steps - 1)
            if step not in skipped:
                video(Progress(step, num_steps, torch.zeros(num_images), images))
        video.finish(images)
    return np.stack(decoded(path))


@pytest.mark.parametrize("num_steps", [1, 5, InversionVideo.MAX_FRAMES, 1000])
def test_frames_are_evenly_spaced_and_few(tmp_path, num_steps):
    frames = filmed(tmp_path / "video.mp4", num_steps)
    brightness = frames[:, 60, 190].mean(axis=1)  # inside the image, right of its target
    num_moving = min(num_steps, InversionVideo.MAX_FRAMES)
    assert num_moving < len(frames) <= num_moving + 30
    assert np.abs(brightness[num_moving:] - 255).max() < 6
    expected = 255 * np.arange(1, num_moving + 1) / num_moving
    assert np.abs(brightness[:num_moving] - expected).max() < 6
    assert np.abs(frames[:, 60, 60].mean(axis=1) - 128).max() < 6


def test_a_big_batch_is_cut_and_steps_may_be_passed_over(tmp_path):
    frames = filmed(tmp_path / "video.mp4", 10, num_images=InversionVideo.MAX_IMAGES + 3, skipped=(4, 5, 6))
    assert frames.shape[1] == 4 * 128 + 3 * 8
    assert 7 < len(frames) < 11
