"""Everything that is accepted as an image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import wplus
from tests.fakes import noise
from wplus.core.images import to_float
from wplus.editing.directions import Directions
from wplus.latents.latent import Latent, save_latent

PIXELS = np.asarray(noise(8, 8))  # which nobody may write to
TENSOR = torch.from_numpy(PIXELS.copy()).permute(2, 0, 1)


def one_direction(model: wplus.Model) -> Directions:
    return model.directions("pca", num_directions=1, num_samples=20)


@pytest.mark.parametrize(
    "given",
    ["in/a.png", Path("in/a.png"), noise(8, 8), PIXELS, PIXELS[None], TENSOR, to_float(TENSOR), to_float(TENSOR)[None]],
    ids=["text", "path", "pillow", "array", "arrays", "uint8", "float", "floats"],
)
def test_one_image_in_many_forms(model, given):
    found = model.invert(given, method="encoder", space="w+")
    assert torch.equal(found.targets[0], TENSOR)
    assert found.latent.space == "w+"


def test_several_images_keep_their_order(model):
    mixed = [noise(8, 8, seed=7), "in/b.png", PIXELS, Path("in/a.png"), torch.stack([TENSOR, 255 - TENSOR])]
    found = model.invert(mixed, method="encoder", space="w+")
    assert found.names == ("0000", "b", "0002", "a", "0004", "0005")
    wanted = [np.asarray(noise(8, 8, seed=7)), np.asarray(Image.open("in/b.png")), PIXELS, PIXELS, PIXELS, 255 - PIXELS]
    assert np.array_equal(found.targets.permute(0, 2, 3, 1).numpy(), np.stack(wanted))
    assert torch.equal(found[1].images, model.invert("in/b.png", method="encoder", space="w+").images)


def test_images_of_other_sizes_and_modes_become_the_generators(model):
    with pytest.warns(UserWarning, match="not square"):
        assert model.invert(noise(10, 12), method="encoder", space="w+").targets.shape == (1, 3, 8, 8)
    for mode in ("L", "CMYK", "1"):
        assert model.invert(noise(9, 9, mode=mode), method="encoder", space="w+").targets.shape == (1, 3, 8, 8)
    grey = np.full((8, 8), 200, np.uint8)
    assert (model.invert(grey, method="encoder", space="w+").targets == 200).all()


def test_a_sketch_in_memory_counts_where_it_is_opaque(model):
    sketch = np.dstack([PIXELS, np.full((8, 8), 255, np.uint8)])
    sketch[:, 4:, 3] = 0
    found = model.invert(sketch, method="sketch", masks="alpha", space="w+", num_steps=2)
    assert len(found) == 1


def test_what_stands_for_a_latent(model):
    cat = model.generate(2, seed=1)
    save_latent("a.safetensors", cat[0].latent)
    options = {"num_frames": 2, "path_metrics": [], "path": "lerp"}
    frames = [model.interpolate(*ends, **options).images for ends in (
        ("seed:1", "seed:2"), cat, (cat[0], cat[1].latent), ("a.safetensors", cat[1]), (cat,),
    )]  # fmt: skip
    assert all(torch.equal(each, frames[0]) for each in frames)


def test_tuned_images_bring_their_weights(model):
    tuned = model.invert("in", method="pti", num_steps=3, pivot={"num_steps": 2})
    way = model.interpolate(tuned[0], tuned[1], num_frames=2, path_metrics=[], path="lerp")
    assert (way.images[0].int() - tuned.images[0].int()).abs().max() <= 1
    plain = model.synthesize(tuned.latents).images
    assert (plain[0].int() - tuned.images[0].int()).abs().max() > 1


@pytest.mark.parametrize(
    ("given", "word"),
    [
        (np.zeros((8, 8, 3)), "must be uint8 of the shape .* got float64"),
        (np.zeros((8, 8, 5), np.uint8), r"got uint8 of the shape \(1, 8, 8, 5\)"),
        (torch.zeros(8, 8), r"got torch.float32 of the shape \(8, 8\)"),
        (torch.zeros(3, 8, 8, dtype=torch.int64), "got torch.int64"),
        (torch.full((3, 8, 8), 255.0), r"must lie in \[-1, 1\], these reach 255: give uint8"),
        (torch.full((3, 8, 8), float("nan")), "these reach nan"),
        (torch.zeros(0, 3, 8, 8), "There are no images"),
        (7, "a path, a Pillow image, an array or a tensor, got int"),
        ([], "There are no images"),
        (["in/a.png", "in"], "must be a file or an image in memory, got 'in'"),
        ("nowhere.png", "nowhere.png"),
    ],
)
def test_what_shows_no_image_is_refused(model, given, word):
    with pytest.raises(wplus.UserError, match=word):
        model.invert(given, method="encoder", space="w+")


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda m: m.invert("in", method="magic"), "inverter must be one of encoder, hybrid"),
        (lambda m: m.invert("in", num_stepz=3), "There is no key 'inverter.num_stepz'; did you mean"),
        (lambda m: m.invert("in", seed=-1), "seed=-1 is not allowed"),
        (lambda m: m.interpolate("seed:1"), "at least 2"),
        (lambda m: m.interpolate("seed:1", "seed:2", path="straight"), "path must be one of coarse_first"),
        (lambda m: m.measure(["fid"]), "metrics must be one of"),
        (lambda m: m.measure([]), "measures nothing"),
        (lambda m: m.generate(0), "num must be a whole number of at least 1, got 0"),
        (lambda m: m.generate(psi="much"), "psi must be a number, got 'much'"),
        (lambda m: m.generate(psi=float("nan")), "psi must be a number, got nan"),
        (lambda m: m.synthesize([]), "no latents to draw"),
        (lambda m: m.synthesize("seed:1"), "no latents to draw"),
        (lambda m: m.measure(3), "metrics must be one of"),
        (
            lambda m: m.edit("seed:1", 0),
            r"A direction must be one of model.directions\(...\) or a file of them, got int",
        ),
        (lambda m: m.edit("seed:1", [None]), "got NoneType"),
        (lambda m: m.edit("seed:1", one_direction(m), "far"), "strengths must be a number, got 'far'"),
        (lambda m: m.edit("seed:1", one_direction(m), [1, float("inf")]), "strengths must be a number, got inf"),
        (lambda m: m.generate().save("all.gif"), "saved into a folder, or as FILE.png, got 'all.gif'"),
        (lambda m: wplus.load(None), "read from a path or by a name such as cats32, got NoneType"),
        (lambda m: m.directions("magic"), "finder must be one of pca"),
        (lambda m: m.edit("seed:1", "nothing.safetensors"), "nothing.safetensors"),
        (
            lambda m: m.edit("seed:1", one_direction(m), classifier="none.safetensors"),
            "'none.safetensors' does not exist",
        ),
        (
            lambda m: m.edit("seed:1", one_direction(m), factor_strengths=[1]),
            "factor_strengths has no effect without classifier",
        ),
        (lambda m: m.translate("in"), "makes images of latents and translates none"),
        (lambda m: m.invert("in", device="cpu"), "'device' is not an option here: move the model"),
        (
            lambda m: m.invert("in", inverter="quick"),
            "'inverter' is not an option here: the argument method chooses it",
        ),
        (lambda m: m.measure("fd", run_dir="out"), "'run_dir' is not an option here: nothing is recorded"),
        (
            lambda m: m.measure("fd", images="in", split="train"),
            "'split' is not an option here: the arguments",
        ),
        (lambda m: m.interpolate(Latent(torch.zeros(4), "w", "x"), "seed:1"), "was made with generator x"),
    ],
)
def test_what_the_commands_refuse_is_refused_in_their_words(model, call, word):
    with pytest.raises(wplus.UserError, match=word):
        call(model)
