"""Properties of every inverter in configs/inverter, in every space, including ones added later."""

import dataclasses
import functools
import inspect
from pathlib import Path

import pytest
import torch

from tests.fakes import PIXELS_ONLY, generated, half_masks, noise_images, tiny_encoder
from wplus.checkpoint import Models, fingerprint
from wplus.config import CONFIG_FOLDER, build, composed
from wplus.data.image_set import ImageSet
from wplus.errors import UserError
from wplus.inversion.encoder import encode, restyle
from wplus.inversion.lbfgs import lbfgs
from wplus.inversion.optimize import optimize
from wplus.inversion.pti import pti
from wplus.inversion.run import FolderInversion
from wplus.inversion.sketch import sketch
from wplus.inversion.task import InversionTask, describe, needs_encoder, unwrapped, uses_encoder
from wplus.latents.latent import load_latent

NAMES = sorted(path.stem for path in (Path(CONFIG_FOLDER) / "inverter").glob("*.yaml"))
SHORT = {
    "num_steps": 5, "num_candidates": 4, "loss_weights": PIXELS_ONLY, "stop_at": None, "locality_interval": 2,
    "locality_weights": {"perceptual": 0.0}, "num_others": 3,
}  # fmt: skip


def shortened(invert, **options):
    """The inverter with few steps and no perceptual net, including the inverters among its options."""
    function, bound = unwrapped(invert)
    chosen = {
        name: value for name, value in {**SHORT, **options}.items() if name in inspect.signature(function).parameters
    }
    inner = {name: shortened(value, **options) for name, value in bound.items() if callable(value)}
    return functools.partial(function, **{**bound, **chosen, **inner})


@functools.cache
def inverter(name: str):
    return shortened(build(composed("invert", [f"inverter={name}", "checkpoint=x", "input=x"])["inverter"]))


def spaces_of(name: str):
    """Vector spaces for every inverter; the others for inverters that use a space's parts, prior or initialisation."""
    begins_in_w = uses_encoder(inverter(name)) or name == "staged"
    vectors = ["w", "w+"] if begins_in_w else ["z", "z+", "w", "w+"]
    return [
        *vectors,
        *(["pn+", "s", "f/w+"] if name in ("preconditioned", "lbfgs", "hybrid", "sketch", "staged") else []),
    ]


everywhere = pytest.mark.parametrize(("name", "space"), [(name, space) for name in NAMES for space in spaces_of(name)])
every_inverter = pytest.mark.parametrize("name", NAMES)


def task_of(generator, images, space="w", *, name="", kind=InversionTask, **shared):
    """A task that has everything any inverter needs."""
    shared.setdefault("names", list("abcdefg")[: len(images)])
    if name == "sketch" and "masks" not in shared:
        shared["masks"] = half_masks(len(images))
    return kind(generator, images, space, chunk_size=2, encoder=tiny_encoder(generator, is_iterative=True), **shared)


def assert_row_equal(together, row: int, alone) -> None:
    """Check that row `row` of an inversion equals the single one bit for bit."""
    assert torch.equal(alone.latents[0], together.latents[row])
    assert torch.equal(alone.images[0], together.images[row])
    for term, values in together.history.items():
        torch.testing.assert_close(alone.history[term][:, 0], values[:, row], rtol=0, atol=0, equal_nan=True)
    for mine, theirs in zip(alone.noise or [], together.noise or [], strict=True):
        assert torch.equal(mine[0], theirs[row])
    for score, found in together.scores.items():
        assert torch.equal(alone.scores[score].values[0], found.values[row])
    if together.deltas is not None:
        for key, parts in together.deltas[row].changes.items():
            assert all(torch.equal(*pair) for pair in zip(parts, alone.deltas[0].changes[key], strict=True))


@everywhere
def test_a_batch_gives_what_single_runs_give(stylegan, name, space):
    task = task_of(stylegan, torch.cat([generated(stylegan, 2), noise_images(1)]), space, name=name)
    together = inverter(name)(task)
    assert together.latents.shape[:1] == together.seconds.shape == (3,)
    for row in range(3):
        assert_row_equal(together, row, inverter(name)(task.select(torch.tensor([row]))))


@pytest.mark.parametrize("invert", [optimize, lbfgs], ids=["adam", "lbfgs"])
@pytest.mark.parametrize(
    "options",
    [{"noise": "optimize"}, {"init": "seed", "restarts": 2}, {"init": "best_of_n"}, {"loss_weights": {"prior": 1.0}}],
    ids=["noise", "restarts", "best_of_n", "prior"],
)
def test_so_it_does_with_every_option(stylegan, invert, options):
    task = task_of(stylegan, noise_images(3))
    run = shortened(
        functools.partial(invert), **options | {"loss_weights": PIXELS_ONLY | options.get("loss_weights", {})}
    )
    together = run(task)
    for row in (0, 2):
        assert_row_equal(together, row, run(task.select(torch.tensor([row]))))


def test_searches_start_in_every_space_at_the_image_of_the_mean(stylegan):
    """The search in s optimises channels over their deviations; the start must not be scaled."""
    images = noise_images(1)
    run = functools.partial(optimize, num_steps=1, lr=1e-9, latent_noise=0.0, loss_weights=PIXELS_ONLY)
    expected = run(task_of(stylegan, images, "w")).images
    for space in ("w+", "pn", "pn+", "s"):
        torch.testing.assert_close(run(task_of(stylegan, images, space)).images, expected, atol=1e-4, rtol=1e-3)


@every_inverter
def test_order_and_names_decide_nothing_but_the_draws(stylegan, name):
    task = task_of(stylegan, noise_images(3), name=name)
    forward, backward = (inverter(name)(each) for each in (task, task.select(torch.tensor([2, 1, 0]))))
    assert torch.equal(forward.latents, backward.latents.flip(0))
    again = inverter(name)(task)
    assert torch.equal(forward.latents, again.latents)
    other = inverter(name)(dataclasses.replace(task, seed=1))
    is_random = name not in ("encoder", "restyle", "lbfgs", "hybrid")
    assert torch.equal(forward.latents, other.latents) != is_random


@everywhere
def test_what_is_outside_the_mask_does_not_matter(stylegan, name, space):
    images, masks = noise_images(2), half_masks(2)
    other = torch.where(masks > 0, images, torch.randn_like(images))
    first, second = (inverter(name)(task_of(stylegan, each, space, masks=masks)) for each in (images, other))
    assert torch.equal(first.latents, second.latents)
    whole = inverter(name)(task_of(stylegan, images, space, masks=torch.ones_like(masks)))
    assert not torch.equal(first.images, whole.images)


@every_inverter
def test_the_caller_hears_every_step_and_nothing_of_the_caller_changes(stylegan, name):
    heard, before = [], fingerprint(stylegan)
    task = task_of(stylegan, noise_images(2), name=name, callback=heard.append)
    inverter(name)(task)
    assert [each.step for each in heard] == sorted({each.step for each in heard})
    assert heard[-1].step == heard[-1].num_steps
    assert all(each.images.shape == task.images.shape and each.loss.shape == (2,) for each in heard)
    assert not any(each.loss.requires_grad or each.images.requires_grad for each in heard)
    assert fingerprint(stylegan) == before
    assert all(parameter.grad is None for parameter in stylegan.parameters())


@every_inverter
def test_labels_and_the_perceptual_net_take_part(conditional, pooled, name):
    labels, weights = torch.eye(3)[[1, 2]], {"perceptual": 1.0}
    task = task_of(conditional, noise_images(2), spaces_of(name)[0], name=name, labels=labels, perceptual=pooled)
    found = shortened(inverter(name), loss_weights=weights)(task)
    assert "perceptual" in found.history
    assert found.images.isfinite().all()


# What all inverters share


@dataclasses.dataclass(frozen=True)
class ExtendedTask(InversionTask):
    """A task with one more shared argument."""

    further: list[str] = dataclasses.field(default_factory=list)

    def to_ws(self, latents):
        self.further.append("seen")
        return super().to_ws(latents)

    def decode(self, latents):
        self.further.append("seen")
        return super().decode(latents)


@every_inverter
def test_a_further_shared_argument_is_added_in_the_task_alone(stylegan, name):
    task = task_of(stylegan, noise_images(1), name=name, kind=ExtendedTask)
    inverter(name)(task)
    assert task.further


@every_inverter
def test_a_signature_holds_its_own_options_only(name):
    first, *own = inspect.signature(inverter(name).func).parameters.values()
    assert (first.name, first.default) == ("task", inspect.Parameter.empty)
    assert all(each.kind is inspect.Parameter.KEYWORD_ONLY for each in own)
    assert not {each.name for each in own} & {field.name for field in dataclasses.fields(InversionTask)}


def test_images_masks_and_labels_fit_the_generator(linear, conditional, stylegan):
    for images, options, message in (
        (torch.zeros(1, 3, 8, 8), {}, r"images must have the generator's shape \(N, 1, 4, 4\), got \(1, 3, 8, 8\)"),
        (torch.zeros(1, 1, 4, 4), {"space": "s"}, "space=s needs a generator whose layers have styles"),
        *((torch.zeros(2, 1, 4, 4), {"masks": torch.ones(shape)}, r"masks must have the shape \(2, 1, 4, 4\)")
          for shape in ((1, 1, 4, 4), (2, 1, 8, 8), (2, 4, 4))),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            InversionTask(linear, images, **{"space": "w", **options})
    for space in ("z", "z+"):
        with pytest.raises(UserError, match=f"labels of 3 classes must be given in {space[0]}"):
            InversionTask(conditional, torch.zeros(1, 3, 8, 8), space)
    assert InversionTask(conditional, torch.zeros(2, 3, 8, 8), "w").names == ["0", "1"]
    with pytest.raises(UserError, match="chunk_size must be 1 or more, or null, got 0"):
        optimize(InversionTask(stylegan, noise_images(1), "w", chunk_size=0), loss_weights=PIXELS_ONLY)


@pytest.mark.parametrize(
    ("invert", "options", "message"),
    [
        (optimize, {"num_steps": 0}, "num_steps must .* 1, got 0"),
        (optimize, {"noise": "free"}, "noise must be one of fixed, optimize, got 'free'"),
        (optimize, {"lr": 0.0}, r"lr must be above 0, got 0\.0"),
        (optimize, {"restarts": -1}, "restarts must .* 0, got -1"),
        (optimize, {"init": "middle"}, "init must be one of mean, seed, best_of_n, encoder, got 'middle'"),
        (optimize, {"init": "best_of_n", "num_candidates": 0}, "num_candidates must .* 1, got 0"),
        (optimize, {"init": "encoder"}, "needs an encoder"),
        (optimize, {"preconditioner": "pca"}, "preconditioner must be one of none, gradients, got 'pca'"),
        (optimize, {"early_stop": {}}, "early_stop must"),
        (optimize, {"early_stop": {"patience": 3}}, "early_stop must be null, or have a patience"),
        (optimize, {"early_stop": {"patience": 0, "tolerance": 0.1}}, "early_stop must"),
        (optimize, {"early_stop": {"patience": 3, "tolerance": 1}}, "early_stop must"),
        (lbfgs, {"memory": 0}, "memory must .* 1, got 0"),
        (lbfgs, {"max_tries": 1}, "max_tries must .* 2, got 1"),
        (lbfgs, {"first_step": 0.0}, "first_step must be above 0"),
        (encode, {}, "needs an encoder"),
        (restyle, {"num_passes": 0}, "num_passes must .* 1, got 0"),
        (restyle, {}, "needs an encoder"),
        (pti, {"num_steps": 0}, "num_steps must"),
        (pti, {"rank": 0}, "rank must .* 1, got 0"),
        (pti, {"lr": 0.0}, "lr must be above 0"),
        (pti, {"stop_at": 0.1}, r"stop_at must be null without a weight of the perceptual term, got 0\.1"),
        (pti, {"locality_interval": 0}, "locality_interval must"),
        (pti, {"locality_weights": {"l1": 1.0}}, "locality_weights must be of l2 and perceptual, got 'l1'"),
        (pti, {"locality_alpha": 0.0}, "locality_alpha must be above 0"),
        (sketch, {}, "add masks=alpha"),
        *((invert, {"loss_weights": {"l3": 1.0, "perceptual": 0.0}}, "loss_weights must be of l1, l2, .*, got 'l3'")
          for invert in (optimize, lbfgs, pti)),
    ],
)  # fmt: skip
def test_bad_options(stylegan, invert, options, message):
    task = InversionTask(stylegan, noise_images(1), "w")
    with pytest.raises(UserError, match=message):
        shortened(functools.partial(invert), **options)(task)


# Inverters described


def test_a_description_holds_every_option():
    told = describe(functools.partial(functools.partial(optimize, num_steps=7), lr=0.5))
    assert told["function"] == "wplus.inversion.optimize.optimize"
    assert (told["num_steps"], told["lr"], told["return_best"]) == (7, 0.5, True)
    assert "task" not in told
    nested = describe(functools.partial(pti, pivot=functools.partial(lbfgs, num_steps=3)))
    assert nested["pivot"]["function"] == "wplus.inversion.lbfgs.lbfgs"
    assert (nested["pivot"]["num_steps"], nested["rank"]) == (3, 4)
    assert describe(pti)["pivot"] == describe(optimize)
    for wrong in (
        functools.partial(optimize, momentum=1),
        functools.partial(pti, pivot=functools.partial(lbfgs, momentum=1)),
    ):
        with pytest.raises(UserError, match="Options of .* must be of num_steps, .*, got 'momentum'"):
            describe(wrong)


@pytest.mark.parametrize(
    ("invert", "uses"),
    [
        (optimize, False),
        (functools.partial(optimize, init="mean"), False),
        (functools.partial(lbfgs, init="encoder"), True),
        (encode, True),
        (functools.partial(restyle, num_passes=2), True),
        (pti, False),
        (functools.partial(pti, pivot=functools.partial(optimize, init="encoder")), True),
        (functools.partial(pti, pivot=encode), True),
        (needs_encoder(lambda task: None), True),
    ],
)
def test_who_uses_an_encoder(invert, uses):
    assert uses_encoder(invert) is uses


# Inverters resumed


@every_inverter
def test_an_interrupted_run_equals_a_straight_one(stylegan, tmp_path, without_curves, name):
    pixels = ((noise_images(3) + 1) * 127).to(torch.uint8)
    images, masks = ImageSet(pixels, None, list("abc")), (half_masks(3) * 255).to(torch.uint8)
    models = Models(generator=stylegan, encoder=tiny_encoder(stylegan, is_iterative=True))

    def folder(path: str, batch_size: int):
        return FolderInversion(images, models=models, invert=inverter(name), space="w", output_dir=tmp_path / path,
                               masks=masks, batch_size=batch_size, chunk_size=2)  # fmt: skip

    interrupted = folder("interrupted", 2)
    batches = iter([interrupted.invert])  # the second one is interrupted, as by Ctrl-C
    interrupted.invert = lambda task: next(batches, stop)(task)
    with pytest.raises(KeyboardInterrupt):
        interrupted.run()
    first, second = folder("interrupted", 1), folder("straight", 3)
    assert first.done == [True, True, False]
    tables = [each.run().rows for each in (first, second)]
    for image in "abc":
        latents = [load_latent(each.store.path("latents", image), fingerprint=None) for each in (first, second)]
        assert torch.equal(latents[0].code, latents[1].code)
        rows = [{column: value for column, value in table[image].items() if column != "seconds"} for table in tables]
        assert rows[0] == rows[1]
    assert folder("interrupted", 2).done == [True] * 3


def stop(task):
    raise KeyboardInterrupt
