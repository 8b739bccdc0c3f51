"""What probes share: the same images for any number requested, generated once, and a run that stays unchanged."""

import itertools
import math
from functools import partial

import pytest
import torch

from tests.fakes import random_images
from tests.probes.conftest import FAMILIES, Pixels, make_images, make_module, nothing_held_out, numbers
from tests.training.two_ranks import tiny_translation
from wplus.config import build, composed
from wplus.core.images import to_float, to_uint8
from wplus.core.metric_result import MetricInfo
from wplus.data import Batches
from wplus.data.domains import TwoDomains
from wplus.probes import ProbeContext, ProbeData, ProbeRunner
from wplus.probes import probe as module
from wplus.probes.probe import BATCH_SIZE
from wplus.probes.runner import TranslationContext
from wplus.training.snapshot import LogMessage, Picture, ProbeResult
from wplus.training.translation_view import TranslationView

GROUPED = ("stylegan1", "stylegan2", "progan")  # with a minibatch standard deviation
MAPPED = {"stylegan1", "stylegan2"}


def test_generated_images_depend_on_the_seed_and_their_number_alone(context, monkeypatch):
    here = context()
    many = here.images("generated", BATCH_SIZE + 5)
    assert torch.equal(context().images("generated", 3), many[:3])
    z, c = here.latents(BATCH_SIZE + 5)
    assert c is None
    torch.testing.assert_close(many, here.generator(z).detach())
    assert torch.equal(here.latents(4, start=7)[0], z[7:11])
    c = context(data=make_images(c_dim=3)).latents(50)[1]
    assert c.shape == (50, 3)
    assert c.sum(dim=0).min() > 5  # of the training images
    monkeypatch.setattr(module, "KEPT_BYTES", 0)
    assert torch.equal(context().images("generated", BATCH_SIZE + 5), many)


@pytest.mark.parametrize(("kept_bytes", "num_calls"), [(module.KEPT_BYTES, 2), (0, 7)])
def test_images_are_made_once_if_they_can_be_kept(context, monkeypatch, kept_bytes, num_calls):
    monkeypatch.setattr(module, "KEPT_BYTES", kept_bytes)
    here, calls = context(), []
    here.generator.register_forward_hook(lambda *_: calls.append(1))
    here.images("generated", 2 * BATCH_SIZE)
    here.images("generated", BATCH_SIZE)
    for _ in range(2):  # features and logits are kept in any case
        here.features("generated", 2 * BATCH_SIZE)
        here.logits("generated", 2 * BATCH_SIZE)
    assert len(calls) == num_calls


def test_real_images_are_shuffled_and_stay_the_same(context):
    here = context(held_out=make_images(9))
    order = here.images("train", 40)[:, 0, 0, 0].tolist()
    assert sorted(order) == list(range(40))
    assert order != sorted(order)
    assert torch.equal(here.images("train", 1000), here.images("train", 40))
    assert torch.equal(here.images("train", 7), here.images("train", 40)[:7])
    assert sorted(here.images("held_out", 99)[:, 0, 0, 0].tolist()) == list(range(9))


def test_thumbnails_are_averages(context):
    here = context(data=make_images(4, resolution=64))
    expected = to_float(here.images("train", 4)).unflatten(3, (32, 2)).unflatten(2, (32, 2)).mean(dim=(3, 5))
    torch.testing.assert_close(here.thumbnails("train", 4), expected)
    assert here.thumbnails("generated", 5).shape == (5, 3, 32, 32)
    torch.testing.assert_close(here.thumbnails("train", 2, px=64), to_float(here.images("train", 2)))


def test_features_of_real_images_are_computed_once_in_a_run(tmp_path):
    extractor, net = Pixels(), make_module()
    data = ProbeData(make_images(), lambda: make_images(9), seed=0, extractor=lambda: extractor)
    first = ProbeContext(net, data, tmp_path).features("train", 40)
    assert extractor.seen == 40
    again = ProbeContext(net, data, tmp_path)
    assert torch.equal(again.features("train", 33), first[:33])
    assert extractor.seen == 40
    torch.testing.assert_close(first, again.images("train", 40).flatten(1) / 255)
    generated = again.features("generated", 3)
    assert torch.equal(generated, to_uint8(again.images("generated", 3)).flatten(1).double().div(255).float())
    assert again.features("held_out", 40).shape == (9, 768)


def test_features_of_real_images_are_kept_for_the_next_run(tmp_path):
    """For the same images and the same net, whatever the seed of the run; a damaged file is made again."""
    net, found = make_module(), []
    for images in (make_images(), make_images(), make_images(39)):
        extractor = Pixels()
        made = ProbeRunner({}, data=images, held_out=nothing_held_out, seed=len(found), num_samples=1,
                           extractor=lambda extractor=extractor: extractor, cache_dir=tmp_path / "cache")  # fmt: skip
        found.append((ProbeContext(net, made.data, tmp_path).features("train", 20), extractor.seen))
    assert torch.equal(found[0][0], found[1][0])
    assert [seen for _, seen in found] == [BATCH_SIZE, 0, BATCH_SIZE]
    for file in (tmp_path / "cache").iterdir():
        file.write_bytes(b"PK")
    made.data._features.clear()
    assert torch.equal(ProbeContext(net, made.data, tmp_path).features("train", 20), found[2][0])


def test_a_cache_that_cannot_be_written_to_is_told_of(tmp_path):
    (tmp_path / "file").write_text("")
    data = ProbeData(make_images(), nothing_held_out, seed=0, extractor=Pixels, cache_dir=tmp_path / "file")
    assert data.features("train", 20, torch.device("cpu")).shape == (20, 768)
    assert data.messages[0].text.startswith("Features of real images are not kept for the next run. ")


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_the_discriminators_in_evaluation_mode(context, family):
    """Also for nets with batch norm and dropout, with the labels of the images, in batches as in training."""
    c_dim = 2 if family == "dcgan" else 0
    data, held_out = make_images(c_dim=c_dim), make_images(39, c_dim=c_dim)
    here = context(family, data=data, held_out=held_out)
    discriminator = here.module.discriminator
    before = {name: value.clone() for name, value in here.module.state_dict().items()}
    assert discriminator.training
    found, real = here.logits("generated", 10), here.logits("train", 100)
    assert discriminator.training
    assert len(found) == (8 if family in GROUPED else 10)
    assert len(real) == 40
    assert len(here.logits("held_out", 100)) == (36 if family in GROUPED else 39)
    images = here.images("train", BATCH_SIZE)
    labels = data.labels[images[:, 0, 0, 0].long()] if c_dim else None
    discriminator.eval()
    with torch.no_grad():
        z, c = here.latents(BATCH_SIZE)
        expected = discriminator(here.images("generated", BATCH_SIZE), c)[:, 0]
        assert torch.equal(found, expected[: len(found)])
        if here.module.growth is None:
            assert torch.equal(real[:BATCH_SIZE], discriminator(to_float(images), labels)[:, 0])
    assert all(torch.equal(value, before[name]) for name, value in here.module.state_dict().items())


def test_real_images_have_the_detail_of_a_growing_generator(context):
    here = context("progan")
    net, real = here.module, to_float(here.images("train", 32))
    net.images_seen = 35  # half way from 8 to 16 px
    net.growth.apply([net.generator, net.discriminator, net.ema], 35)
    coarse = real.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5)).repeat_interleave(2, 2).repeat_interleave(2, 3)
    found = here.logits("train", 32)
    with torch.no_grad():
        net.discriminator.eval()
        torch.testing.assert_close(found, net.discriminator((real + coarse) / 2, None)[:, 0])
        assert not torch.allclose(found, net.discriminator(real, None)[:, 0])


# --- the runner -------------------------------------------------------------------------------------------------------


def restless(context) -> ProbeResult:
    """A probe that draws random numbers and computes gradients."""
    torch.manual_seed(99)
    torch.randn(5)
    context.logits("train", 8)
    needs_gradient = float(context.generator(*context.latents(1)).requires_grad)
    return ProbeResult(values={"probe/requires_grad": (needs_gradient, MetricInfo(meaning="Whether gradients flow."))})


def configured() -> dict[str, partial]:
    """Every probe of configs/probes, with few images."""
    small = {"num_images": 20, "num_latents": 2, "num_draws": 3, "num_steps": 3, "num_columns": 2, "rows_per_third": 1}
    probes = build(composed("train", ["tracking=local"])["probes"])
    return {
        name: partial(probe, **{key: value for key, value in small.items() if key in probe.keywords})
        for name, probe in probes.items()
    }


def runner(probes, data, held_out=nothing_held_out) -> ProbeRunner:
    made = ProbeRunner(probes, data=data, held_out=held_out, seed=0, num_samples=4)
    made.data = ProbeData(data, held_out, seed=0, extractor=Pixels)
    return made


@pytest.mark.parametrize(("family", "c_dim"), [*((family, 0) for family in FAMILIES), ("stylegan2", 3), ("dcgan", 3)])
def test_a_probed_run_is_the_same_run(family, c_dim, tmp_path):
    """Bit for bit, with every probe; each shows something if the network has it, and explains its numbers."""
    data, held_out, states = make_images(c_dim=c_dim), make_images(20, c_dim=c_dim), []
    for number, probes in enumerate(({}, configured() | {"restless": restless})):
        net, view = make_module(family, labels=data.labels), runner(probes, data, lambda: held_out)
        optimizers = net.configure_optimizers()
        (tmp_path / str(number)).mkdir()
        for batch in itertools.islice(Batches(data, 8), 2):
            before = torch.get_rng_state()
            result = view.look(net, tmp_path / str(number))
            assert torch.equal(torch.get_rng_state(), before)
            net.run_step(*batch, optimizers=optimizers)
        states.append(net.state_dict())
    plain, probed = states
    assert all(torch.equal(value, probed[name]) for name, value in plain.items())
    assert all(parameter.requires_grad for parameter in net.discriminator.parameters())
    drawn = {picture.key.removeprefix("samples/") for picture in result.pictures}
    expected = {"real", "fixed_latents", "logits", "neighbours"} | ({"truncation"} if family != "progan" else set())
    assert drawn == expected | ({"style_mixing", "noise"} if family in MAPPED else set())
    own = {name for name in result.values if not name.startswith("probe/health/")}
    assert len(own) == 11 + (family in MAPPED)
    assert result.summary.keys() == {"probe/health", "val/fd_raw", "val/precision_raw", "val/recall_raw"}
    assert result.values["probe/requires_grad"][0] == 0
    for value, info in result.values.values():
        assert math.isfinite(value)
        assert info.meaning.endswith(".")
        assert len(info.meaning) > 20


def test_all_results_are_handed_on_and_missing_images_are_a_message_once(tmp_path):
    picture = Picture("kimg-0-x", "samples/x", "x", torch.zeros(3, 1, 1, dtype=torch.uint8))
    info = MetricInfo(meaning="An a.")
    of_a = {"histograms": {"probe/h": [1, 2]}, "messages": [LogMessage("a")], "summary": {"s": 1}}
    probes = {
        "a": lambda context: ProbeResult([picture], {"probe/a": (context.kimg, info)}, **of_a),
        "b": lambda context: ProbeResult(messages=[LogMessage(str(context.data.held_out), "warning")]),
        "nothing": lambda context: ProbeResult(),
    }
    view, net = runner(probes, make_images()), make_module()
    result = view.look(net, tmp_path)
    assert [each.key for each in result.pictures] == ["samples/real", "samples/fixed_latents", "samples/x"]
    assert result.values.keys() == {"probe/a", "progress/probe_seconds"}
    assert result.values["probe/a"] == (0, info)
    assert (result.histograms, result.summary) == ({"probe/h": [1, 2]}, {"s": 1})
    missing = "Measures that need held-out images are skipped. The held_out split of 'x' is empty."
    assert [each.text for each in result.messages] == ["a", "None", missing]
    assert [each.text for each in view.look(net, tmp_path).messages] == ["a", "None"]
    assert not numbers(runner({}, make_images()).look(net, tmp_path))


def test_an_extractor_that_has_taught_the_generator_is_told_of_once(tmp_path):
    net = make_module()
    net.ema.saw = ("raw",)
    view = runner({"a": lambda context: ProbeResult(messages=[LogMessage(context.data.extractor.name)])}, make_images())
    first, second = (view.look(net, tmp_path).messages for _ in range(2))
    assert [each.text for each in second] == ["raw"]
    assert first[1].text.startswith("The generator was trained with raw, so metrics from raw are marked (_seen)")
    net.ema.saw = ()
    assert len(runner({}, make_images()).look(net, tmp_path).messages) == 0


def test_a_translator_is_looked_at_through_its_translations(tmp_path):
    """Of held-out images of domain a, then of training images, compared with images of b; probes of latents and logits
    find nothing, all others something."""
    train, held_out = (TwoDomains.unpaired(make_images(num), random_images(num + 1, resolution=16)) for num in (40, 30))
    probes = build(composed("train", ["model=cyclegan", "data=cat_domains"])["probes"])
    runner = ProbeRunner(
        probes, data=train, held_out=lambda: held_out, seed=0, num_samples=4, extractor=Pixels,
        samples=TranslationView(held_out, num_samples=4),
    )  # fmt: skip
    translator = tiny_translation("cyclegan", resolution=16)
    found = runner.look(translator, tmp_path)
    named = {picture.key for picture in found.pictures}
    assert named == {"samples/forward", "samples/backward", "samples/neighbours"}
    expected = {"val/fd_raw", "val/recall_raw", "probe/diversity_raw", "probe/health/recall", "probe/nearest_raw"}
    assert expected <= set(found.values)
    assert not any("logit" in name or "r_v" in name for name in found.values)
    seen = TranslationContext(translator, runner.data, tmp_path)
    inputs = torch.cat([seen._inputs(number) for number in range(3)])
    places = ((inputs[:, 0, 0, 0] + 1) * 127.5).round().int().tolist()
    assert sorted(places[:30]) == list(range(30))
    assert sorted(places[30:70]) == list(range(40))
    assert places[:26] == places[70:]  # from the start again
    torch.testing.assert_close(seen.images("generated", 40), translator.translate(inputs[:40]))
    assert torch.equal(seen.images("train", 41), ProbeContext(make_module(), runner.data, tmp_path).images("train", 41))
