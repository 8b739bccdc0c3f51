"""Looking is without consequences for the run, and all that was seen is handed on."""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import torch

from tests.watching.conftest import FAMILIES, Pixels, make_game, make_images, nothing_held_out
from wplus.data import Batches
from wplus.training.samples import Picture, Seen, Sentence
from wplus.watching import Surroundings, Watch
from wplus.watching.diversity import diversity


def restless(scene) -> Seen:
    """A look that draws random numbers and sets gradients going."""
    torch.manual_seed(99)
    torch.randn(5)
    scene.logits_of("train", 8)
    return Seen(values={"watch/requires_grad": float(scene.generator(*scene.latents(1)).requires_grad)})


LOOKS = {"restless": restless, "diversity": partial(diversity, num_images=20)}


def watching(looks, data) -> Watch:
    watch = Watch(looks, data=data, held_out=nothing_held_out, seed=0, num_samples=4)
    watch.kept = Surroundings(data, nothing_held_out, seed=0, extractor=Pixels())
    return watch


@pytest.mark.parametrize("family", FAMILIES)
def test_a_watched_run_is_the_same_run(family, tmp_path):
    data, states = make_images(), []
    for looks in ({}, LOOKS):
        game, watch = make_game(family), watching(looks, data)
        optimizers = game.configure_optimizers()
        for batch in itertools.islice(Batches(data, 8), 2):
            watch.look(game, tmp_path)
            game.run_step(*batch, optimizers=optimizers)
        states.append((game.state_dict(), torch.get_rng_state()))
    (plain, plain_rng), (watched, watched_rng) = states
    assert all(torch.equal(value, watched[name]) for name, value in plain.items())
    assert torch.equal(plain_rng, watched_rng)


def test_all_that_was_seen_is_handed_on(tmp_path):
    picture = Picture("kimg-0-x", "samples/x", "x", torch.zeros(3, 1, 1, dtype=torch.uint8))
    looks = {
        "a": lambda scene: Seen([picture], {"watch/a": scene.kimg}, {"watch/h": [1, 2]}, [Sentence("a")], {"s": 1}),
        "b": lambda scene: Seen(words=[Sentence(str(scene.held_out), "warning")]),
        "nothing": lambda scene: Seen(),
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
