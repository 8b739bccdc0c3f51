"""Channels of StyleSpace: planted ones are found, and an edit moves only its channel."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from wplus.checkpoint import Models
from wplus.editing.directions import StyleDirection, check_edits, edit_latent, load_directions, save_directions
from wplus.editing.edit import edit
from wplus.editing.finders import pca
from wplus.editing.samples import LabelledLatents, labelled_latents
from wplus.editing.style_channels import relevance, style_channels
from wplus.errors import UserError
from wplus.latents.latent import Latent, lifted, load_latent, synthesize
from wplus.latents.space import space_of
from wplus.latents.spaces.s import channel_names, style_stats
from wplus.latents.weight_delta import WeightDelta, code_digest

NUM = 60


def labelled(models: Models, channel: int, deviations: float = 3.0) -> LabelledLatents:
    """Latents in which those with has=1 share nearly one value of a channel that is random in others."""
    generator = models.generator
    ws = generator.mapping(torch.randn(NUM, 8))
    weight, bias = _row(models, channel)
    has = np.arange(NUM) % 3 == 0
    wanted = bias + deviations * float(style_stats(generator).std[channel])
    for row in np.flatnonzero(has):  # the shortest way in w that brings the channel there
        ws[row] += weight * (wanted - (ws[row, 0] @ weight + bias)) / weight.square().sum()
    return LabelledLatents(ws, {"has": has.astype(int)}, {"latents": "planted"})


def _row(models: Models, channel: int) -> tuple[Tensor, Tensor]:
    """Compute a channel's affine layer: s = w @ weight + bias."""
    layer, _, number = channel_names(models.generator)[channel].rpartition(".")
    affine = models.generator.synthesis.get_submodule(f"{layer}.affine")
    return affine.weight[int(number)] * affine.weight_gain, affine.bias[int(number)] * affine.bias_gain


@pytest.mark.parametrize(("channel", "deviations"), [(3, 3.0), (20, -3.0)])
def test_a_planted_channel_ranks_first_with_its_sign(models: Models, channel: int, deviations: float) -> None:
    given = labelled(models, channel, deviations)
    first, *_ = found = style_channels(models, labelled=lambda: given, attributes=["has=1"], num_channels=3)
    assert len(found) == 3
    assert (first.channel, first.name) == (channel, f"has=1.{channel_names(models.generator)[channel]}")
    mean = space_of("s", models.generator).from_ws(given.ws[::3], models.generator)[:, channel].mean()
    assert (mean - first.origin) / first.unit > 0  # more strength, more of the attribute
    assert found.found["finder"] == "style_channels"


def test_relevance_is_mean_over_deviation() -> None:
    examples = torch.tensor([[1.0, -2, 0], [3.0, -2.5, 4]])
    expected = torch.tensor([2 / 2**0.5, 2.25 / (0.5 / 2**0.5), 2 / 8**0.5])
    torch.testing.assert_close(relevance(examples), expected)


def test_an_edit_moves_one_channel_by_its_units(models: Models, tmp_path: Path) -> None:
    generator, given = models.generator, labelled(models, 20)
    found = style_channels(models, labelled=lambda: given, attributes=["has=1"], num_channels=2)
    read = load_directions(save_directions(tmp_path / "d.safetensors", found), fingerprint=models.fingerprint)
    assert read == found
    latent = Latent(torch.randn(8), "z", models.fingerprint, truncation_psi=0.7)
    before = lifted(latent, "s", generator)
    for mode, place in (("add", before[20] + 2 * read[0].unit), ("set", read[0].origin + 2 * read[0].unit)):
        edited = edit_latent(latent, generator, read[0], 2.0, mode=mode)
        assert (edited.space, edited.truncation_psi) == ("s", 1.0)
        assert (edited.code != before).nonzero().flatten().tolist() == [20]
        torch.testing.assert_close(edited.code[20], torch.as_tensor(place))
    edit(models, [latent], names=["a"], directions=list(read), output_dir=tmp_path / "out", strengths=[-1, 1])
    assert len(list((tmp_path / "out" / "latents").rglob("*.safetensors"))) == 4
    for refused in (lambda: read[0].on("all"), lambda: read[0].shift(1.0)):
        with pytest.raises(UserError):
            refused()


@pytest.mark.parametrize("space", ["f8/w+", "s"])
def test_a_direction_of_w_edits_maps_and_styles(models: Models, space: str) -> None:
    """Maps and styles made from w become those made from w + e."""
    direction, generator = pca(models, num_directions=1, num_samples=50)[0], models.generator
    ws, found = generator.mapping(torch.randn(1, 8)), space_of(space, generator)
    latent = Latent(found.from_ws(ws, generator)[0], space, models.fingerprint)
    edited = edit_latent(latent, generator, direction, 1.5)
    expected = found.from_ws(ws + direction.shift(1.5), generator)[0]
    torch.testing.assert_close(edited.code, expected, atol=1e-4, rtol=1e-3)
    assert (edited.code - latent.code).abs().max() > 1e-2
    with pytest.raises(UserError, match="mode must be add in "):
        edit_latent(latent, generator, direction, 1.0, mode="set")


class Brightest(torch.nn.Module):
    """A classifier of one factor: whether an image is brighter than grey."""

    name, classes = "brightest", {"light": ["no", "yes"]}

    def predicted(self, images: Tensor) -> Tensor:
        return (images.float().mean(dim=(1, 2, 3)) > 127.5).long()[:, None]


def test_samples_are_named_by_a_classifier(models: Models) -> None:
    shared = {"models": models, "images": None, "latents": "samples", "num_images": 70, "seed": 1}
    given = labelled_latents(**shared, classifier=Brightest())
    images = models.generator.synthesis(given.ws, noise_mode="const").clamp(-1, 1)
    expected = np.where(images.mean(dim=(1, 2, 3)).numpy() > 0, "yes", "no")
    assert (given.attributes["light"] == expected).mean() > 0.95  # rounding to 8 bits
    found = style_channels(models, labelled=lambda: given, attributes=["light=yes"], num_channels=1)
    assert found[0].notes["num_examples"] == int((given.attributes["light"] == "yes").sum())
    assert found.found["attributes"] == "named by brightest"
    with pytest.raises(UserError, match="latents=samples needs classifier=FILE"):
        labelled_latents(**shared)
    with pytest.raises(UserError, match=r"attributes must be null with latents=samples, .* got 'my.csv'"):
        labelled_latents(**shared, classifier=Brightest(), attributes="my.csv")
    with pytest.raises(UserError, match="classifier only labels latents=samples, got latents=encoder"):
        labelled_latents(**{**shared, "latents": "encoder"}, classifier=Brightest())


def test_too_few_examples(models: Models) -> None:
    given = labelled(models, 3)
    with pytest.raises(UserError, match=r"attributes must have 30 examples or more, 'has=1' has 20"):
        style_channels(models, labelled=lambda: given, attributes=["has=1"], min_examples=30)


def test_tuned_latents_are_edited_in_their_own_generator(models: Models, tmp_path: Path) -> None:
    """Tuning changes the affine layers, too: an edit of strength 0 shows the tuned image."""
    changes = {"synthesis.b8.conv1.affine.weight": (torch.randn(8, 8),)}
    latent = Latent(torch.randn(8), "w", models.fingerprint)
    delta = WeightDelta(changes, models.fingerprint, code_digest(latent.code))
    names = channel_names(models.generator)
    nothing = StyleDirection("none", 3, names[3], 1.0, 0.0)
    options = {"names": ["a"], "directions": [nothing], "deltas": [delta], "output_dir": tmp_path, "strengths": [0]}
    edit(models, [latent], tracker=None, **options)
    tuned = delta.applied(models.generator)
    edited = load_latent(next(tmp_path.rglob("*.safetensors")), fingerprint=None)
    shown = synthesize([edited, latent], tuned)
    torch.testing.assert_close(shown[0], shown[1], atol=1e-4, rtol=1e-3)


def test_what_cannot_be_edited_is_said_before_anything_is_written(models: Models) -> None:
    direction = pca(models, num_directions=1, num_samples=50)[0]
    good = Latent(torch.randn(8), "w", models.fingerprint)
    styles = Latent(lifted(good, "s", models.generator), "s", models.fingerprint)
    check_edits([good], models.generator, [direction], mode="set")
    check_edits([good, styles], models.generator, [direction], mode="add")
    with pytest.raises(UserError, match="mode must be add in s"):
        check_edits([good, styles], models.generator, [direction], mode="set")
