"""Pivotal tuning: the picture is reached by a small change of the weights, others stay, every image for itself."""

from __future__ import annotations

import functools
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.fakes import tiny_generator
from wplus.checkpoint import Models, fingerprint
from wplus.errors import UserError
from wplus.inversion import pti_tuning as pivotal_tuning
from wplus.inversion import report
from wplus.inversion.objective import Objective, weights_by_name
from wplus.inversion.optimize import optimize
from wplus.inversion.pti import pivotal
from wplus.inversion.pti_locality import Locality, held_points
from wplus.inversion.pti_tuning import Schedule, Tuner
from wplus.inversion.run import FolderInversion
from wplus.latents.latent import load_latent, synthesize, to_ws
from wplus.latents.weight_delta import load_delta
from wplus.losses.pixel import l2

short = functools.partial(optimize, steps=8, lanes=2, weights={"perceptual": 0.0})
tune = functools.partial(
    pivotal, space="w", perceptual=None, pivot=short, weights={"perceptual": 0.0}, stop_at=None,
    locality_interval=None, num_others=0, steps=15, lr=2e-2, rank=2,
)  # fmt: skip


class LinearSynthesis(nn.Module):
    """Pictures are one matrix times the mean style."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(16, 16, generator=torch.Generator().manual_seed(1)))

    def forward(self, ws, noise_mode="const", noise=None):
        return (ws.mean(dim=1) @ self.weight.T).view(-1, 1, 4, 4)


def random_images(num: int, channels: int = 3) -> torch.Tensor:
    return torch.rand(num, channels, 8, 8, generator=torch.Generator().manual_seed(4)) * 2 - 1


def test_a_picture_that_a_change_of_rank_one_makes_is_reached_exactly(pooled):
    generator = SimpleNamespace(synthesis=LinearSynthesis(), resolution=4, img_channels=1, c_dim=0)
    ws, target = torch.randn(1, 3, 16), torch.randn(1, 1, 4, 4)
    weights = weights_by_name({"l2": 1.0, "perceptual": 0.0})
    objective = Objective(generator, target, space="w+", perceptual=None, weights=weights)
    tuner = Tuner(objective, ws=ws, noise=None, locality=None, seed=0, name="a")
    tuned = tuner.run(Schedule(steps=400, lr=3e-2, rank=1, stop_at=None), heard=lambda *_: None)
    (u, v) = tuned.changes["synthesis.weight"]
    torch.testing.assert_close(tuned.image, target, atol=1e-3, rtol=0)
    # The change does to the pivot what it has to do, by the definition; and it has rank 1.
    missing = target.flatten() - generator.synthesis.weight @ ws[0].mean(dim=0)
    torch.testing.assert_close((u @ v) @ ws[0].mean(dim=0), missing, atol=1e-3, rtol=0)
    assert (u.shape, v.shape) == ((16, 1), (1, 16))


def test_the_code_with_its_delta_makes_the_picture(stylegan):
    targets, before = random_images(2), fingerprint(stylegan)
    pivots = short(stylegan, targets, space="w", perceptual=None, names=["a", "b"])
    found = tune(stylegan, targets, names=["a", "b"])
    assert torch.equal(found.codes, pivots.codes)
    assert (l2(found.images, targets) < 0.75 * l2(pivots.images, targets)).all()
    assert fingerprint(stylegan) == before
    for row, delta in enumerate(found.deltas):
        ws = to_ws(found.codes[row : row + 1], "w", stylegan)
        assert torch.equal(delta.applied(stylegan).synthesis(ws)[0], found.images[row])
        assert delta.metadata["image"] == "ab"[row]
        assert not any("mapping" in name for name in delta.changes)
    assert found.history["loss"].shape == (8 + 15, 2)
    torch.testing.assert_close(found.history["l2"][8], l2(pivots.images, targets))
    assert found.seconds.shape == (2,)


@pytest.mark.parametrize("options", [{}, {"locality_interval": 2, "locality_weights": {"perceptual": 0.0}}])
def test_a_batch_gives_what_single_runs_give(stylegan, options):
    targets, names = random_images(3), ["a", "b", "c"]
    run = functools.partial(tune, stylegan, steps=6, num_others=3, **options)
    together = run(targets, names=names)
    for row in (0, 2):
        alone = run(targets[row : row + 1], names=names[row : row + 1])
        assert torch.equal(alone.images[0], together.images[row])
        assert torch.equal(alone.scores["locality_l2"][0], together.scores["locality_l2"][row])
        for name, parts in together.deltas[row].changes.items():
            assert all(torch.equal(*pair) for pair in zip(parts, alone.deltas[0].changes[name], strict=True))


def test_other_pictures_stay_where_they_are_held(stylegan):
    targets = random_images(2)
    held = {"locality_interval": 2, "locality_weights": {"l2": 10.0, "perceptual": 0.0}}
    free = tune(stylegan, targets, num_others=10)
    kept = tune(stylegan, targets, num_others=10, **held)
    assert (kept.scores["locality_l2"] < 0.7 * free.scores["locality_l2"]).all()
    assert (l2(kept.images, targets) < 1.2 * l2(free.images, targets)).all()
    assert "locality" in kept.history


def test_scores_are_mean_distances_of_truncated_samples(stylegan, pooled):
    found = tune(stylegan, random_images(1), perceptual=pooled, num_others=5, others_psi=0.0)
    middle = stylegan.mapping.w_avg.expand(1, stylegan.num_ws, -1)
    tuned = found.deltas[0].applied(stylegan).synthesis(middle)
    assert found.scores["locality_l2"].item() == pytest.approx(l2(tuned, stylegan.synthesis(middle)).item(), rel=1e-4)
    assert found.scores["locality_pooled"].item() == pytest.approx(
        pooled(tuned, stylegan.synthesis(middle)).item(), rel=1e-4
    )


def test_held_points_lie_between_pivot_and_samples(stylegan):
    def distances(alpha):
        locality = Locality(None, {"l2": 1.0}, alpha=alpha, psi=0.5, interval=1)
        points = held_points(stylegan, pivot, locality, num=6, seed=0, name="a")
        return (points - pivot).flatten(1).norm(dim=1)

    pivot = torch.zeros(1, stylegan.num_ws, stylegan.w_dim)
    whole = distances(1e6)  # the samples themselves
    torch.testing.assert_close(distances(0.1), torch.full((6,), 0.1))
    middle = whole.median().item()
    torch.testing.assert_close(distances(middle), whole.clamp_max(middle))


def test_tuning_ends_at_the_threshold_whoever_asks_when(stylegan, pooled, monkeypatch):
    weights = {"perceptual": 1.0}
    run = functools.partial(tune, stylegan, random_images(1), perceptual=pooled, weights=weights, steps=25)
    distances = run().history["perceptual"][8:, 0]
    threshold = distances[:12].min().item()
    first = int((distances <= threshold).nonzero()[0])
    results = []
    for every in (1, 7, 1000):
        monkeypatch.setattr(pivotal_tuning, "_CHECK_EVERY", every)
        results.append(run(stop_at=threshold))
    for found in results:
        assert torch.equal(found.images, results[0].images)
        assert torch.equal(found.history["perceptual"][8:, 0][: first + 1], distances[: first + 1])
        assert (found.history["perceptual"][8 + first :, 0] == distances[first]).all()
        assert pooled(found.images, random_images(1)).item() == pytest.approx(distances[first].item(), rel=1e-5)


def test_the_lowest_loss_is_kept(stylegan):
    targets = random_images(1)
    found = tune(stylegan, targets, lr=0.3, steps=10)  # far too high: it jumps about
    assert (10 * l2(found.images, targets)).item() <= found.history["loss"][8:].min().item() * (1 + 1e-5)


def test_noise_of_the_pivot_stays_with_it(stylegan):
    pivot = functools.partial(short, noise="optimize")
    found = tune(stylegan, random_images(1), pivot=pivot, locality_interval=3, locality_weights={"perceptual": 0.0})
    tuned = found.deltas[0].applied(stylegan)
    again = tuned.synthesis(to_ws(found.codes, "w", stylegan), noise=found.noise)
    assert torch.equal(again, found.images)


@pytest.mark.parametrize("space", ["z", "w+"])
def test_classes_and_other_spaces(conditional, space):
    targets, labels = random_images(2), torch.eye(3)[[2, 0]]
    found = tune(conditional, targets, space=space, labels=labels, num_others=4, locality_interval=5,
                 locality_weights={"perceptual": 0.0})  # fmt: skip
    assert (found.history["l2"][-1] < 0.8 * found.history["l2"][8]).all()
    assert torch.isfinite(found.scores["locality_l2"]).all()


def test_grey_pictures(pooled):
    from wplus.models.stylegan2 import Generator

    torch.manual_seed(0)
    grey = Generator(resolution=8, z_dim=8, w_dim=8, img_channels=1, channel_base=64, channel_max=8).eval()
    found = tune(grey, random_images(1, channels=1), perceptual=pooled, weights={}, locality_interval=5, num_others=2)
    assert found.history["loss"][-1] < 0.7 * found.history["loss"][8]


def test_what_a_mask_leaves_out_does_not_matter(stylegan):
    targets, masks = random_images(1), torch.ones(1, 1, 8, 8)
    masks[..., 4:] = 0
    other = torch.where(masks > 0, targets, -targets)
    first, second = (tune(stylegan, each, masks=masks) for each in (targets, other))
    assert torch.equal(first.images, second.images)


def test_the_caller_hears_one_row_of_steps(stylegan):
    heard = []
    tune(stylegan, random_images(2), steps=3, callback=heard.append)
    assert [each.step for each in heard] == [2 * step for step in range(1, 9)] + list(range(17, 23))
    assert {each.num_steps for each in heard} == {22}
    assert all(each.images.shape == (2, 3, 8, 8) and each.loss.shape == (2,) for each in heard)
    assert not torch.equal(heard[8].images[0], heard[10].images[0])
    assert torch.equal(heard[8].images[1], heard[10].images[1])  # the second image waits for the first


def test_in_a_folder(stylegan, pooled, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "plot_convergence", lambda histories, path, terms: path)
    pixels = ((random_images(2) + 1) * 127).to(torch.uint8)
    images = SimpleNamespace(names=["a.png", "b.png"], labels=None, batch=lambda rows: (pixels[rows], None))
    models = Models(generator=stylegan)
    invert = functools.partial(pivotal, pivot=functools.partial(short, steps=3), steps=4, num_others=2)
    options = {"models": models, "invert": invert, "space": "w", "perceptual": pooled, "output_dir": tmp_path}
    table = FolderInversion(images, **options).run()
    assert {"locality_l2", "locality_pooled"} < set(table.columns)
    for name in "ab":
        latent = load_latent(tmp_path / "latents" / f"{name}.safetensors", fingerprint=models.fingerprint)
        delta = load_delta(tmp_path / "deltas" / f"{name}.safetensors", fingerprint=models.fingerprint)
        delta.check_latent(latent)
        picture = synthesize([latent], delta.applied(stylegan))
        target = pixels["ab".index(name)][None] / 127.5 - 1
        assert l2(picture.clamp(-1, 1), target).item() == pytest.approx(table.rows[name]["l2"], abs=1e-2)
    (tmp_path / "deltas" / "a.safetensors").unlink()
    assert FolderInversion(images, **options).done == [False, True]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps=0"),
        ({"rank": 0}, "rank=0"),
        ({"lr": 0.0}, r"lr=0\.0"),
        ({"stop_at": 0.1}, r"stop_at=0\.1 is a perceptual distance"),
        ({"locality_interval": 0}, "locality_interval=0"),
        ({"locality_interval": 1, "locality_weights": {"l1": 1.0}}, "no part 'l1'"),
        ({"weights": {"l3": 1.0}}, "no term 'l3'"),
    ],
)
def test_bad_options(stylegan, options, message):
    with pytest.raises(UserError, match=message):
        tune(stylegan, random_images(1), **options)


def test_a_delta_fits_its_own_generator_alone(stylegan):
    (delta,) = tune(stylegan, random_images(1), steps=1).deltas
    other = tiny_generator()
    other.mapping.w_avg += 1
    with pytest.raises(UserError, match="the generator of this weight delta must be"):
        delta.applied(other)
