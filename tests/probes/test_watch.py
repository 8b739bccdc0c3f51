"""Looking is without consequences for the run, and all that was seen is handed on."""

from __future__ import annotations

import itertools
import math
from functools import partial

import pytest
import torch

from tests.probes.conftest import FAMILIES, Pixels, make_game, make_images, nothing_held_out
from wplus.data import Batches
from wplus.probes import ProbeData, ProbeRunner
from wplus.probes.diversity import diversity
from wplus.probes.logits import logits
from wplus.probes.neighbours import neighbours
from wplus.probes.noise_map import noise_map
from wplus.probes.recall import recall
from wplus.probes.style_mixing import style_mixing
from wplus.probes.truncation import truncation
from wplus.training.snapshot import LogMessage, Picture, ProbeResult


def restless(scene) -> ProbeResult:
    """A look that draws random numbers and sets gradients going."""
    torch.manual_seed(99)
    torch.randn(5)
    scene.logits_of("train", 8)
    return ProbeResult(values={"watch/requires_grad": float(scene.generator(*scene.latents(1)).requires_grad)})


LOOKS = {
    "restless": restless,
    "style_mixing": partial(style_mixing, num_columns=2, rows_per_third=1),
    "truncation": partial(truncation, num_latents=2, num_steps=3),
    "noise_map": partial(noise_map, num_latents=2, num_draws=3),
    "diversity": partial(diversity, num_images=20),
    "recall": partial(recall, num_images=20),
    "logits": partial(logits, num_images=20),
    "neighbours": partial(neighbours, num_images=20),
}
MAPPED = {"stylegan1", "stylegan2"}


def watching(looks, data, held_out=nothing_held_out) -> ProbeRunner:
    watch = ProbeRunner(looks, data=data, held_out=held_out, seed=0, num_samples=4)
    watch.kept = ProbeData(data, held_out, seed=0, extractor=Pixels())
    return watch


@pytest.mark.parametrize(("family", "c_dim"), [*((family, 0) for family in FAMILIES), ("stylegan2", 3), ("dcgan", 3)])
def test_a_watched_run_is_the_same_run(family, c_dim, tmp_path):
    """Bit for bit, with every look; each sees something where the network has it."""
    data, held_out, states = make_images(c_dim=c_dim), make_images(20, c_dim=c_dim), []
    for looks in ({}, LOOKS):
        game, watch = make_game(family, labels=data.labels), watching(looks, data, lambda: held_out)
        optimizers = game.configure_optimizers()
        for batch in itertools.islice(Batches(data, 8), 2):
            before = torch.get_rng_state()
            seen = watch.look(game, tmp_path)
            assert torch.equal(torch.get_rng_state(), before)
            game.run_step(*batch, optimizers=optimizers)
        states.append(game.state_dict())
    plain, watched = states
    assert all(torch.equal(value, watched[name]) for name, value in plain.items())
    assert all(parameter.requires_grad for parameter in game.discriminator.parameters())
    drawn = {picture.key.removeprefix("samples/") for picture in seen.pictures}
    expected = {"real", "fixed_latents", "logits", "neighbours"}
    expected |= {"truncation"} if family != "progan" else set()
    assert drawn == expected | ({"style_mixing", "noise"} if family in MAPPED else set())
    assert len(seen.values) == 10 + (family in MAPPED)
    assert all(math.isfinite(value) for value in seen.values.values())


def test_all_that_was_seen_is_handed_on(tmp_path):
    picture = Picture("kimg-0-x", "samples/x", "x", torch.zeros(3, 1, 1, dtype=torch.uint8))
    looks = {
        "a": lambda scene: ProbeResult(
            [picture], {"watch/a": scene.kimg}, {"watch/h": [1, 2]}, [LogMessage("a")], {"s": 1}
        ),
        "b": lambda scene: ProbeResult(words=[LogMessage(str(scene.held_out), "warning")]),
        "nothing": lambda scene: ProbeResult(),
    }
    watch, game = watching(looks, make_images()), make_game()
    seen = watch.look(game, tmp_path)
    assert [each.key for each in seen.pictures] == ["samples/real", "samples/fixed_latents", "samples/x"]
    assert seen.values.keys() == {"watch/a", "progress/watch_seconds"}
    assert (seen.histograms, seen.summary) == ({"watch/h": [1, 2]}, {"s": 1})
    assert [each.text for each in seen.words[:2]] == ["a", "None"]
    assert seen.words[2].text.startswith("What needs held-out images is left out.")
    assert [each.text for each in watch.look(game, tmp_path).words] == ["a", "None"]


def test_without_looks_there_are_the_grids_alone(tmp_path):
    seen = watching({}, make_images()).look(make_game(), tmp_path)
    assert [each.key for each in seen.pictures] == ["samples/real", "samples/fixed_latents"]
    assert not seen.values
