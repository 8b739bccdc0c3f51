"""What looks share: the same images however many are asked for, made once, and a run that is left as it was."""

from __future__ import annotations

import pytest
import torch

from tests.probes.conftest import FAMILIES, Pixels, make_game, make_images, nothing_held_out
from wplus.core.images import to_float, to_uint8
from wplus.probes import scene as module
from wplus.probes.scene import BATCH, ProbeContext, ProbeData


def test_generated_images_depend_on_the_seed_and_their_number_alone(scene, monkeypatch):
    here = scene()
    many = here.generated(BATCH + 5)
    assert torch.equal(scene().generated(3), many[:3])
    z, c = here.latents(BATCH + 5)
    assert c is None
    torch.testing.assert_close(many, here.generator(z).detach())
    assert torch.equal(here.latents(4, start=7)[0], z[7:11])
    monkeypatch.setattr(module, "KEPT_BYTES", 0)
    assert torch.equal(scene().generated(BATCH + 5), many)


def test_images_are_made_once(scene, monkeypatch):
    here = scene()
    calls = []
    here.generator.register_forward_hook(lambda *_: calls.append(1))
    here.generated(2 * BATCH)
    here.generated(BATCH)
    here.features("generated", 2 * BATCH)
    here.logits_of("generated", 2 * BATCH)
    assert len(calls) == 2
    monkeypatch.setattr(module, "KEPT_BYTES", 0)
    there = scene()
    there.generator.register_forward_hook(lambda *_: calls.append(1))
    there.generated(BATCH)
    there.generated(BATCH)
    assert len(calls) == 4


def test_real_images_are_chosen_by_chance_and_stay_the_same(scene):
    here = scene(held_out=make_images(9))
    numbers = here.real(40)[:, 0, 0, 0].tolist()
    assert sorted(numbers) == list(range(40))
    assert numbers != sorted(numbers)
    assert torch.equal(here.real(1000), here.real(40))
    assert torch.equal(here.real(7), here.real(40)[:7])
    assert sorted(here.held_out_images(99)[:, 0, 0, 0].tolist()) == list(range(9))


def test_features_of_real_images_are_computed_once_in_a_run(tmp_path):
    extractor, game = Pixels(), make_game()
    kept = ProbeData(make_images(), lambda: make_images(9), seed=0, extractor=extractor)
    first = ProbeContext(game, kept, tmp_path).features("train", 40)
    assert extractor.seen == 40
    again = ProbeContext(game, kept, tmp_path)
    assert torch.equal(again.features("train", 33), first[:33])
    assert extractor.seen == 40
    torch.testing.assert_close(first, (again.real(40).flatten(1) / 255))
    made = again.features("generated", 3)
    assert torch.equal(made, to_uint8(again.generated(3)).flatten(1).double().div(255).float())
    assert again.features("held_out", 40).shape == (9, 768)


def test_labels_are_those_of_the_images(scene):
    data = make_images(c_dim=3)
    here = scene(data=data)
    numbers = here.real(40)[:, 0, 0, 0].long()
    assert torch.equal(here.labels("train", 40), data.labels[numbers])
    assert torch.equal(here.labels("generated", 50), here.latents(50)[1])
    assert here.labels("generated", 50).sum(dim=0).min() > 5
    assert scene().labels("generated", 4).shape == scene().labels("train", 4).shape == (4, 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_are_the_discriminators_in_evaluation_mode(scene, family):
    """Batch norm and dropout nets too; in batches as the minibatch standard deviation has them."""
    c_dim = 2 if family == "dcgan" else 0
    here = scene(family, data=make_images(c_dim=c_dim), held_out=make_images(39, c_dim=c_dim))
    discriminator = here.game.discriminator
    before = {name: value.clone() for name, value in here.game.state_dict().items()}
    assert discriminator.training
    found = here.logits_of("generated", 10)
    assert discriminator.training
    again = here.logits(here.generated(BATCH), here.labels("generated", BATCH))
    size = 8 if family in ("stylegan1", "stylegan2", "progan") else 10
    assert torch.equal(found, again[:size])
    assert len(here.logits_of("train", 100)) == 40
    assert len(here.logits_of("held_out", 100)) == (36 if size == 8 else 39)
    assert all(torch.equal(value, before[name]) for name, value in here.game.state_dict().items())


def test_real_images_have_the_detail_of_a_growing_generator(scene):
    here = scene("progan")
    game, real = here.game, to_float(here.real(32))
    game.images_seen = 35  # half way from 8 to 16 px
    game.growth.apply([game.generator, game.discriminator, game.ema], 35)
    coarse = real.unfold(2, 2, 2).unfold(3, 2, 2).mean(dim=(4, 5)).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(here.logits_of("train", 32), here.logits((real + coarse) / 2))
    assert not torch.allclose(here.logits_of("train", 32), here.logits(real))


def test_nothing_held_out_is_said_once(tmp_path):
    kept = ProbeData(make_images(), nothing_held_out, seed=0)
    for _ in range(2):
        assert ProbeContext(make_game(), kept, tmp_path).held_out is None
    assert [sentence.text for sentence in kept.unsaid] == [
        "What needs held-out images is left out. The held_out split of 'x' is empty."
    ]
