"""Pivotal tuning: a small change of the weights reproduces the image and leaves others unchanged."""

import functools
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.fakes import noise_images
from wplus.checkpoint import Models, fingerprint
from wplus.data.image_set import ImageSet
from wplus.errors import UserError
from wplus.inversion import result
from wplus.inversion.locality import Locality, sample_ws
from wplus.inversion.objective import Objective, all_loss_weights
from wplus.inversion.optimize import optimize
from wplus.inversion.pti import Tuner, pti
from wplus.inversion.run import FolderInversion
from wplus.inversion.task import InversionTask
from wplus.latents.latent import load_latent, synthesize
from wplus.latents.weight_delta import load_delta
from wplus.losses.pixel import l2

short = functools.partial(optimize, num_steps=8, loss_weights={"perceptual": 0.0})
tune = functools.partial(
    pti, pivot=short, loss_weights={"perceptual": 0.0}, stop_at=None, locality_interval=None, num_others=0,
    num_steps=15, lr=2e-2, rank=2,
)  # fmt: skip
holding = {"locality_interval": 2, "locality_weights": {"perceptual": 0.0}}


def task_of(generator, num=1, space="w", **shared):
    images = noise_images(num, channels=generator.img_channels)
    return InversionTask(generator, images, space, chunk_size=2, **shared)


class LinearSynthesis(nn.Module):
    """Images are one matrix times the mean style."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 16, generator=torch.Generator().manual_seed(1)))

    def forward(self, ws, noise_mode="const", noise=None):
        return (ws.mean(dim=1) @ self.weight.T).view(-1, 1, 4, 4)


def test_an_image_that_a_change_of_rank_one_makes_is_reached_exactly():
    generator = SimpleNamespace(synthesis=LinearSynthesis(), resolution=4, img_channels=1, c_dim=0)
    ws, target = torch.randn(1, 3, 16), torch.randn(1, 1, 4, 4)
    task = InversionTask(generator, target, "w+", names=["a"])
    tuner = Tuner(Objective(task, all_loss_weights(task, {"l2": 1.0, "perceptual": 0.0})), ws, None, locality=None)
    tuned = tuner.run(400, lr=3e-2, rank=1, stop_at=None, tell=lambda *_: None)
    (u, v) = tuned.changes["synthesis.weight"]
    torch.testing.assert_close(tuned.image, target, atol=1e-3, rtol=0)
    # The change does to the pivot what it has to do, by the definition; and it has rank 1.
    missing = target.flatten() - generator.synthesis.weight @ ws[0].mean(dim=0)
    torch.testing.assert_close((u @ v) @ ws[0].mean(dim=0), missing, atol=1e-3, rtol=0)
    assert (u.shape, v.shape) == ((16, 1), (1, 16))


def test_the_latent_with_its_delta_makes_the_image(stylegan):
    task = task_of(stylegan, 2, names=["a", "b"])
    pivots, found = short(task), tune(task)
    assert torch.equal(found.latents, pivots.latents)
    assert (l2(found.images, task.images) < 0.75 * l2(pivots.images, task.images)).all()
    for row, delta in enumerate(found.deltas):
        ws = task.to_ws(found.latents[row : row + 1])
        assert torch.equal(delta.applied(stylegan).synthesis(ws)[0], found.images[row])
        assert delta.metadata["image"] == "ab"[row]
        assert not any("mapping" in name for name in delta.changes)
        assert delta.generator == fingerprint(stylegan)
    assert found.history["loss"].shape == (8 + 15, 2)
    torch.testing.assert_close(found.history["l2"][8], l2(pivots.images, task.images))
    assert (found.seconds > pivots.seconds).all()
    stylegan.mapping.w_avg += 1
    with pytest.raises(UserError, match="the generator of this weight delta must be"):
        found.deltas[0].applied(stylegan)


def test_other_images_stay_where_they_are_held(stylegan):
    task, strongly = task_of(stylegan, 2), {"locality_weights": {"l2": 10.0, "perceptual": 0.0}}
    free, kept = tune(task, num_others=10), tune(task, num_others=10, **{**holding, **strongly})
    assert (kept.scores["locality_l2"].values < 0.7 * free.scores["locality_l2"].values).all()
    assert (l2(kept.images, task.images) < 1.2 * l2(free.images, task.images)).all()
    assert "locality" in kept.history


def test_the_locality_term_keeps_its_strength_at_any_interval(stylegan):
    """Half as often and twice as strong: other images move about as far, and nothing like without the term."""
    moved = {
        interval: tune(task_of(stylegan), num_others=16, num_steps=40,
                       **{**holding, "locality_interval": interval, "locality_weights": {"l2": 3.0, "perceptual": 0.0}})
        .scores["locality_l2"].values.item()
        for interval in (None, 1, 4)
    }  # fmt: skip
    assert max(moved[1], moved[4]) < 0.7 * moved[None]
    assert 0.5 < moved[4] / moved[1] < 2


def test_scores_are_mean_distances_of_truncated_samples(stylegan, pooled):
    found = tune(task_of(stylegan, perceptual=pooled), num_others=5, others_psi=0.0)
    middle = stylegan.mapping.w_avg.expand(1, stylegan.num_ws, -1)
    pair = found.deltas[0].applied(stylegan).synthesis(middle), stylegan.synthesis(middle)
    for name, distance in (("l2", l2), ("pooled", pooled)):
        score = found.scores[f"locality_{name}"]
        assert score.values.item() == pytest.approx(distance(*pair).item(), rel=1e-4)
        assert (score.info.direction, name in score.info.meaning) == ("lower", True)


def test_the_generator_is_read_for_its_fingerprint_once(stylegan, monkeypatch):
    """Whatever the number of images, including the other images that measure locality."""
    read = []
    for module in ("inversion.pti", "latents.weight_delta"):
        monkeypatch.setattr(f"wplus.{module}.fingerprint", lambda net: read.append(net) or fingerprint(net))
    found = tune(task_of(stylegan, 3), num_others=2, num_steps=1)
    assert len(read) == 1
    assert "locality_l2" in found.scores
    with pytest.raises(UserError, match="the generator of this weight delta must be"):
        found.deltas[0].applied(stylegan, known="another")


def test_held_points_lie_between_pivot_and_samples(stylegan):
    task, pivot = task_of(stylegan, names=["a"]), torch.zeros(1, stylegan.num_ws, stylegan.w_dim)

    def distances(alpha, psi=0.5):
        points = Locality(task, {"perceptual": 0.0}, alpha, psi, 1).points(task, pivot, 6)
        return (points - pivot).flatten(1).norm(dim=1)

    samples = sample_ws(stylegan, 6, 0.5, seed=task.seed, words=("a", "locality"))
    whole = (samples - pivot).flatten(1).norm(dim=1)
    torch.testing.assert_close(distances(1e6), whole)
    torch.testing.assert_close(distances(0.1), torch.full((6,), 0.1))
    middle = whole.median().item()
    torch.testing.assert_close(distances(middle), whole.clamp_max(middle))
    average = stylegan.mapping.w_avg.expand(stylegan.num_ws, -1).norm()
    torch.testing.assert_close(distances(1e6, psi=0.0), average.expand(6))


def test_tuning_ends_at_the_threshold_whoever_asks_when(stylegan, pooled, monkeypatch):
    task = task_of(stylegan, perceptual=pooled)
    run = functools.partial(tune, task, loss_weights={"perceptual": 1.0}, num_steps=25)
    distances = run().history["perceptual"][8:, 0]
    threshold = distances[:12].min().item()
    first, results = int((distances <= threshold).nonzero()[0]), []
    for every in (1, 7, 1000):
        monkeypatch.setattr(result, "CHECK_EVERY", every)
        results.append(run(stop_at=threshold))
    for found in results:
        assert torch.equal(found.images, results[0].images)
        assert torch.equal(found.history["perceptual"][8:, 0][: first + 1], distances[: first + 1])
        assert (found.history["perceptual"][8 + first :, 0] == distances[first]).all()
        assert pooled(found.images, task.images).item() == pytest.approx(distances[first].item(), rel=1e-5)


def test_the_lowest_loss_is_kept(stylegan):
    task = task_of(stylegan)
    found = tune(task, lr=0.3, num_steps=10)  # far too high: it jumps about
    assert (10 * l2(found.images, task.images)).item() <= found.history["loss"][8:].min().item() * (1 + 1e-5)


def test_noise_of_the_pivot_stays_with_it(stylegan):
    task = task_of(stylegan)
    found = tune(task, pivot=functools.partial(short, noise="optimize"), **{**holding, "locality_interval": 3})
    again = found.deltas[0].applied(stylegan).synthesis(task.to_ws(found.latents), noise=found.noise)
    assert torch.equal(again, found.images)


def test_the_caller_hears_one_row_of_steps(stylegan):
    heard = []
    tune(task_of(stylegan, 2, callback=heard.append), num_steps=3)
    assert [each.step for each in heard] == [2 * step for step in range(1, 9)] + list(range(17, 23))
    assert {each.num_steps for each in heard} == {22}
    assert not torch.equal(heard[8].images[0], heard[10].images[0])
    assert torch.equal(heard[8].images[1], heard[10].images[1])  # the second image waits for the first


def test_in_a_folder(stylegan, pooled, tmp_path, without_curves):
    pixels = ((noise_images(2) + 1) * 127).to(torch.uint8)
    images, models = ImageSet(pixels, None, ["a.png", "b.png"]), Models(generator=stylegan)
    invert = functools.partial(pti, pivot=functools.partial(short, num_steps=3), num_steps=4, num_others=2)
    options = {"models": models, "invert": invert, "space": "w", "perceptual": pooled, "output_dir": tmp_path}
    table = FolderInversion(images, **options).run()
    assert {"locality_l2", "locality_pooled"} < set(table.columns)
    for name, target in zip("ab", pixels, strict=True):
        latent = load_latent(tmp_path / "latents" / f"{name}.safetensors", fingerprint=models.fingerprint)
        delta = load_delta(tmp_path / "deltas" / f"{name}.safetensors", fingerprint=models.fingerprint)
        delta.check_latent(latent)
        image = synthesize([latent], delta.applied(stylegan))
        assert l2(image.clamp(-1, 1), target[None] / 127.5 - 1).item() == pytest.approx(
            table.rows[name]["l2"], abs=1e-2
        )
    (tmp_path / "deltas" / "a.safetensors").unlink()
    assert FolderInversion(images, **options).done == [False, True]
