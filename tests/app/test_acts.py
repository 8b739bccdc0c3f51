"""The functions behind the app's buttons, and what they refuse; without gradio."""

import numpy as np
import pytest
import torch
from PIL import Image

import wplus
from tests.fakes import noise, tiny_encoder, tiny_generator
from wplus.app import acts as app_acts
from wplus.app.acts import OUTLINE, PAINT, Acts, directions_of, seeds, uploaded
from wplus.models.translation.resnet import ResNet


@pytest.fixture(scope="module")
def acts() -> Acts:
    generator = tiny_generator()
    model = wplus.Model(generator=generator, encoder=tiny_encoder(generator))
    translator = wplus.Model(
        generator=ResNet(width=4, num_blocks=1, in_channels=1).eval(), metadata={"data": {"resolution": 8}}
    )
    return Acts(model, translator, directions_of(model, None)[:2])


def test_buttons_give_what_the_library_gives(acts):
    model = acts.model
    assert torch.equal(acts.draw(3, 2, 0.5).images, model.generate(2, seed=3, psi=0.5).images)
    mixed = model.mix(["seed:1", "seed:2"], ["seed:3"], layers="fine", truncation_psi=0.5)
    assert torch.equal(acts.mix("1, 2", "3", "fine", 0.5).images, mixed.images)


def test_ones_own_image_is_walked_from_and_edited(acts, tmp_path):
    noise(8, 8, seed=1).save(tmp_path / "a.png")
    noise(8, 8, seed=2).save(tmp_path / "b.png")
    found = acts.invert(str(tmp_path / "a.png"), "w+", "encoder", 50)
    assert found.latent.space == "w+"
    assert len(acts.walk(found, None, 7, "lerp", 3).images) == 3
    assert torch.equal(acts.walk(found, str(tmp_path / "b.png"), 7, "lerp", 3).images[0], found.images[0])
    edited = acts.edit(found, True, 0, 0.7, 0.0, 2.0)
    assert edited.names == ("a", "edited")
    wanted = acts.model.edit(found, acts.directions[1], 2.0)
    assert torch.equal(edited.images, torch.cat([found.images, wanted.images]))
    same = acts.edit(None, False, 4, 0.7, 0.0, 0.0)
    assert torch.equal(same.images[0], same.images[1])


def test_sliders_of_w_and_of_channels_go_together(acts):
    """In any order: styles are affine in w."""
    model = wplus.load("cats32")
    channel, (sefa,) = directions_of(model, None)[-1], model.directions("sefa", num_directions=1)
    edited = Acts(model, None, [channel, sefa]).edit(None, False, 1, 0.7, 8.0, 2.0)
    assert edited.latents[1].space == "s"
    assert torch.equal(edited.images, Acts(model, None, [sefa, channel]).edit(None, False, 1, 0.7, 2.0, 8.0).images)
    assert not torch.equal(edited.images[0], edited.images[1])


def test_a_drawing_becomes_a_picture(acts):
    drawing = np.zeros((16, 16, 4), np.uint8)
    drawing[4:8, :, 3] = 255
    made, found = acts.sketch(Image.fromarray(drawing), OUTLINE)
    assert made.inputs.shape == (1, 1, 8, 8)
    assert (made.inputs[0, 0, 2:4] < 128).all()
    assert (made.inputs[0, 0, 6:] > 240).all()  # where there is nothing, it is white
    assert found.latent.generator == acts.model.fingerprint
    painted, shown = acts.sketch(Image.fromarray(drawing), PAINT)
    assert torch.equal(painted.images, shown.images)


@pytest.mark.parametrize(
    ("call", "word"),
    [
        (lambda a: a.invert(None, "w", "encoder", 1), "There is no image yet"),
        (lambda a: a.walk(None, None, 1, "lerp", 2), "There is no image of yours yet"),
        (lambda a: a.edit(None, True, 1, 0.7, 0, 0), "There is no image of yours yet"),
        (lambda a: a.sketch(None, OUTLINE), "There is no drawing yet"),
        (lambda a: a.sketch(Image.new("RGBA", (8, 8)), PAINT), "There is no drawing yet"),
        (lambda a: a.mix("1, x", "2", "coarse", 1), "Seeds must be whole numbers .* got '1, x'"),
        (lambda a: a.mix("1", "", "coarse", 1), "Seeds must be whole numbers .* got ''"),
        (lambda a: a.mix("1 2 3 4 5 6 7 8 9", "2", "coarse", 1), "At most 8 seeds fit here, got 9"),
        (lambda a: Acts(a.model, None, []).translate(None), "There is no translator"),
    ],
)
def test_refusals(acts, call, word):
    with pytest.raises(wplus.UserError, match=word):
        call(acts)


def test_an_upload_is_looked_at_before_it_is_read(tmp_path, monkeypatch):
    (tmp_path / "a.png").write_text("no picture")
    with pytest.raises(wplus.UserError, match="^'a.png' is not a readable image: give a PNG"):
        uploaded(str(tmp_path / "a.png"), 1)
    noise(9, 9).save(tmp_path / "b.png")
    assert uploaded(str(tmp_path / "b.png"), 1) == str(tmp_path / "b.png")
    with pytest.raises(wplus.UserError, match="^An upload may have 0.0001 MB, 'b.png' has 0.0"):
        uploaded(str(tmp_path / "b.png"), 0.0001)
    monkeypatch.setattr(app_acts, "MAX_PIXELS", 80)
    with pytest.raises(wplus.UserError, match="million pixels"):
        uploaded(str(tmp_path / "b.png"), 1)


def test_seeds():
    assert seeds(" 1,2  3 ") == ["seed:1", "seed:2", "seed:3"]
