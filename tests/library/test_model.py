"""Loading by name, moving, showing, saving."""

import json
from pathlib import Path

import pytest
import torch

import wplus
from tests.fakes import read_pixels, tiny_generator
from wplus.config import bundled_models
from wplus.core.metric_result import MetricResult
from wplus.editing.directions import load_directions
from wplus.latents.latent import load_latent
from wplus.library.results import Measurements
from wplus.models.translation.resnet import ResNet


def test_bundled_models_have_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert {"cats32", "cats64", "cats32_e4e"} <= set(bundled_models())
    model = wplus.load("cats32")
    assert repr(model) == "<Model cats32: generator (stylegan2, 32 px)>"
    wplus.save("cats32", generator=tiny_generator())  # a file of that name comes first
    assert wplus.load("cats32").generator.resolution == 8
    with pytest.raises(wplus.UserError, match="'cats33' does not exist; give the path .* such as cats32"):
        wplus.load("cats33")


def test_a_model_of_networks_in_memory():
    model = wplus.Model(generator=tiny_generator().eval())
    assert repr(model) == "<Model in memory: generator (stylegan2, 8 px)>"
    assert model.to("cpu") is model
    assert model.generate(2).images.shape == (2, 3, 8, 8)
    with pytest.raises(wplus.UserError, match="device must be auto, cpu"):
        model.to("gpu")


def test_networks_without_latents_are_refused():
    with pytest.raises(wplus.UserError, match="it has no latent space"):
        wplus.Model(generator=ResNet(width=4, num_blocks=1)).generate()
    with pytest.raises(wplus.UserError, match="has no generator"):
        wplus.Model().invert("a.png")


def test_much_drawing_shows_how_far_it_is(capsys):
    model = wplus.Model(generator=tiny_generator().eval())
    model.generate(64)
    assert capsys.readouterr().err == ""
    model.generate(65)
    assert "Drawing (batches): 5/5" in capsys.readouterr().err


def test_labels_reach_the_images():
    model = wplus.Model(generator=tiny_generator(c_dim=3).eval())
    assert not torch.equal(model.generate(label=0).images, model.generate(label=1).images)
    with pytest.raises(wplus.UserError, match="label must be"):
        model.generate()


def test_pictures_show_and_save_themselves(model):
    found = model.generate(10, seed=2)
    assert repr(found) == "<Pictures: 10 of 8 x 8 px: seed:2, seed:3, seed:4, seed:5, ...>"
    assert found._repr_html_().startswith('<img src="data:image/png;base64,')
    assert found[-1].names == ("seed:11",)
    assert repr(found[0].latent) == f"<Latent of z: 8, of generator {model.fingerprint}>"
    assert [each.names[0] for each in found[:2]] == ["seed:2", "seed:3"]
    assert found.pil[0].size == (8, 8)
    with pytest.raises(wplus.UserError, match="There are 10 latents"):
        _ = found.latent
    folder = found[:2].save("made")
    assert sorted(path.name for path in folder.iterdir()) == [
        "seed2.png", "seed2.safetensors", "seed3.png", "seed3.safetensors"
    ]  # fmt: skip
    again = load_latent(folder / "seed3.safetensors", fingerprint=model.fingerprint)
    assert torch.equal(model.synthesize(again).images[0], found.images[1])
    assert read_pixels(found.save("all.png")).shape[1] > read_pixels(found[0].save("one.png")).shape[1]


def test_inversions_stand_beside_their_targets(model):
    found = model.invert("in", method="encoder", space="w+")
    one = found[1:]
    assert list(one.table.rows) == ["b"]
    assert repr(one.table).startswith("<Table: 1 rows of ")
    assert "<th>b</th>" in one.table._repr_html_()
    assert torch.equal(one.targets[0], found.targets[1])
    assert found.picture().width > one.picture().width


def test_edits_are_rows_of_strengths(model):
    made = model.edit(["seed:1", "seed:2"], model.directions("pca", num_directions=1, num_samples=20), [-1, 0, 1])
    assert made.titles == ("seed:1: pca0", "seed:2: pca0")
    assert made.picture().height > made[:3].picture().height
    assert len(made[4].latents) == 1


def test_directions_show_what_they_do(model):
    found = model.directions("pca", num_directions=2, num_samples=20)
    assert repr(found) == "<Directions: pca0, pca1>"
    assert repr(found[0]).startswith("<Direction pca0: explained")
    assert found.images.shape == (2 * 5, 3, 8, 8)
    html = found._repr_html_()
    assert html.count("<li>pca") == 2
    assert '<img src="data:image/png' in html
    assert load_directions(found.save("d.safetensors"), fingerprint=model.fingerprint).names == found.names
    assert read_pixels(found.save("d.png")).shape[1] == found.preview.picture().width


def test_mixtures_are_a_matrix(model):
    cats = model.generate(3, psi=0.7)
    made = model.mix(cats[:2], [cats[2], "seed:7"], layers=[0, 1])
    assert made.names == ("seed:0 + seed:2", "seed:0 + seed:7", "seed:1 + seed:2", "seed:1 + seed:7")
    ws = [model.generator.mapping(each.latent.code[None], truncation_psi=0.7)[0] for each in cats]
    wanted = torch.cat([ws[2][:2], ws[1][2:]])
    torch.testing.assert_close(made[2].latent.code, wanted)
    assert torch.equal(model.mix(cats[0], cats[1], layers="all").images, cats[1].images)
    assert made.picture().height > made[:2].picture().height
    with pytest.raises(wplus.UserError, match="layers must be all, coarse, middle, fine or a list"):
        model.mix("seed:1", "seed:2", layers="rough")


def test_translations_stand_beside_their_inputs(tmp_path):
    made = wplus.load("cats32_outline").translate("held_out", num_images=3, data={"num_images": 60})
    assert repr(made).startswith("<Translations: 3 of 32 x 32 px")
    assert made.shares.values.keys() >= {"kept_body", "kept_fur", "kept_accessory"}
    assert made.picture().width > made[0].picture().width
    assert list(made[1].table.rows) == [made.names[1]]
    assert torch.equal(made[1:].truth, made.truth[1:])
    assert '<img src="data:image/png' in made._repr_html_()
    assert len(list(made.save(tmp_path / "made").iterdir())) == 3
    with pytest.raises(wplus.UserError, match="made without latents: invert them"):
        _ = made.latent
    assert len(wplus.load("cats32_e4e").invert(made[:2], method="encoder", space="w+")) == 2


def test_a_film_is_shown_and_saved_as_long_as_it_lives(model):
    way = model.interpolate("seed:1", "seed:2", path=["lerp", "slerp"], num_frames=3, path_metrics=[], loop=True)
    assert way.images.shape == (4, 3, 8, 8)  # of a loop, whose last frame is its first
    html = way._repr_html_()
    assert html.count("<figure>") == 2
    assert "base64," in html
    assert repr(way) == "<Interpolation: seed:1 to seed:2 by lerp, slerp, 4 frames>"
    assert {path.suffix for path in (way.save("a.gif"), way.save("b.png"))} == {".gif", ".png"}
    assert (way.save("all") / "slerp" / "frames" / "frame_00002.png").is_file()
    next(iter(way.videos.values())).files.pop("mp4", None)  # as where there is no ffmpeg
    assert "data:image/gif" in way._repr_html_()
    with pytest.raises(wplus.UserError, match="There is no mp4 of this interpolation; there are gif"):
        way.save("b.mp4")
    with pytest.raises(wplus.UserError, match="or as FILE.mp4, FILE.gif or FILE.png, got 'b.webm'"):
        way.save("b.webm")
    (folder,) = {file.parent.parent for file in next(iter(way.videos.values())).files.values()}
    assert folder.is_dir()
    del way
    assert not folder.exists()


def test_numbers_are_found_by_name():
    results = [MetricResult("fd", 2.5, {"num_real": 3}, (2.0, 3.0), "how far & wide", "", "lower"),
               MetricResult("kd", 1.0, {}, None, "a kernel", "dB", "neither")]  # fmt: skip
    measured = Measurements(results)
    assert measured["fd"] is measured[0] is results[0]
    assert measured.values == {"fd": 2.5, "kd": 1.0}
    assert repr(measured) == "<Measurements: fd 2.5 [2, 3]; kd 1 dB>"
    assert repr(measured[1]) == "<MetricResult kd 1 dB>"
    assert "<td>2.5 ↓</td><td>2 to 3</td><td>how far &amp; wide</td>" in measured._repr_html_()
    assert len(measured[:1]) == 1
    with pytest.raises(wplus.UserError, match="must be one of fd, kd, got 'pr'"):
        _ = measured["pr"]


def test_numbers_are_saved(tmp_path):
    measured = Measurements([MetricResult("fd", 2.5, {"n": 3}, None, "a distance", "", "lower")])
    content = json.loads(Path(measured.save(tmp_path / "numbers.json")).read_text())
    assert content["fd"]["value"] == 2.5
    assert content["fd"]["protocol"] == {"n": 3}
