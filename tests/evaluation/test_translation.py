"""`wplus translate`: a folder in, a folder out, in both directions, repeatedly; scores against the ground truth."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

import wplus
from tests.fakes import noise, read_pixels
from wplus.__main__ import main
from wplus.checkpoint import Models
from wplus.config import bundled_model
from wplus.core.images import to_float, to_uint8
from wplus.data import folder_images
from wplus.data.cat_domains import cat_domains
from wplus.errors import UserError
from wplus.evaluation.translation import FolderTranslation, translated, translator_of
from wplus.evaluation.translation_scores import Judges, factor_shares, image_columns
from wplus.losses.pixel import L2
from wplus.models.stylegan2 import Generator
from wplus.models.translation.resnet import ResNet
from wplus.pretrained.attribute_classifier import load_classifier
from wplus.tracking.local import read_records
from wplus.tracking.wandb_dashboard import SHOWN

SMALL = {"num_blocks": 1, "num_downs": 1, "width": 4}
BOTH = ("generator", "generator_backward")


def network(seed: int, **options) -> ResNet:
    torch.manual_seed(seed)
    made = ResNet(**{**SMALL, **options})
    for parameter in made.parameters():
        parameter.data *= 4
    return made.eval().requires_grad_(False)


@pytest.fixture
def here(tmp_path: Path, monkeypatch) -> Path:
    """The current folder, with models and images of odd kinds."""
    monkeypatch.chdir(tmp_path)
    data = {"data": {"resolution": 16}}
    wplus.save("both.safetensors", **{role: network(seed) for seed, role in enumerate(BOTH)}, metadata=data)
    wplus.save("one.safetensors", generator=network(0), metadata=data)
    wplus.save("grey.safetensors", generator=network(0, in_channels=1), metadata=data)
    wplus.save(
        "latent.safetensors", generator=Generator(resolution=8, z_dim=4, w_dim=4, channel_base=32, channel_max=4)
    )
    (tmp_path / "in" / "sub").mkdir(parents=True)
    noise(16, 16, seed=1).save("in/a.png")
    noise(20, 20, mode="L", seed=2).save("in/b.bmp")
    noise(16, 16, seed=3).save("in/sub/c.jpg")
    return tmp_path


def translate(*overrides: str, run_dir: str = "out", model: str = "both") -> Path:
    main(
        ["translate", f"checkpoint={model}.safetensors", "input=in", "tracking=local", f"run_dir={run_dir}", *overrides]
    )
    return Path(run_dir)


def test_a_folder_in_a_folder_out(here, capsys):
    """The pictures are those of the network; what is there is not made again, what is damaged or new is."""
    out = translate()
    assert "Translations, grid, table: out" in capsys.readouterr().out
    names = ["a", "b", "sub/c"]
    made = sorted(out.rglob("images/**/*.png"))
    assert [path.relative_to(out / "images").with_suffix("").as_posix() for path in made] == names
    inputs = torch.stack([torch.from_numpy(read_pixels(out / "inputs" / f"{name}.png")) for name in names])
    pixels = inputs.permute(0, 3, 1, 2) if inputs.shape[-1] == 3 else inputs
    expected = to_uint8(network(0)(to_float(pixels), mode="inference"))
    for name, image in zip(names, expected, strict=True):
        found = torch.from_numpy(read_pixels(out / "images" / f"{name}.png")).permute(2, 0, 1)
        assert (found.int() - image.int()).abs().max() <= 1
    assert (out / "grid.png").is_file()
    values = json.loads((out / "result.json").read_text())["values"]
    assert {"translate/change", "translate/cycle", "translate/cycle_noise", "translate/cycle_jpeg"} <= values.keys()
    assert values["translate/change"]["interval"] is not None
    logged = {key for row in read_records(out) for key in row} | values.keys()
    assert {*SHOWN["translate"].numbers, *SHOWN["translate"].pictures} <= logged
    first = {path: path.stat().st_mtime_ns for path in out.rglob("images/**/*.png")}
    damaged = out / "images" / "a.png"
    whole = damaged.read_bytes()
    damaged.write_bytes(whole[: len(whole) // 2])
    noise(16, 16, seed=9).save("in/b.bmp")
    translate()
    later = {path: path.stat().st_mtime_ns for path in out.rglob("images/**/*.png")}
    assert [path.stem for path in sorted(first) if first[path] == later[path]] == ["c"]
    assert damaged.read_bytes() == whole


def test_either_way_and_in_any_batch(here):
    """The same bits; the other direction is the other network."""
    one, many, back = (translate(*overrides, run_dir=name) for name, overrides in (
        ("one", ["batch_size=1"]), ("many", ["batch_size=3"]), ("back", ["direction=backward"])))  # fmt: skip
    for name in ("a", "b", "sub/c"):
        assert (one / "images" / f"{name}.png").read_bytes() == (many / "images" / f"{name}.png").read_bytes()
    picture = to_float(torch.from_numpy(read_pixels(back / "inputs" / "a.png")).permute(2, 0, 1)[None])
    found = torch.from_numpy(read_pixels(back / "images" / "a.png")).permute(2, 0, 1)
    assert (to_uint8(network(1)(picture))[0].int() - found.int()).abs().max() <= 1


def test_the_truth_in_a_folder(here):
    """By name, whatever the extension; a translation compared with itself is perfect."""
    out = translate()
    translate("ground_truth=out/images", "classifier=null", run_dir="again")
    values = json.loads(Path("again/result.json").read_text())["values"]
    assert (values["translate/l1"]["value"], values["translate/psnr_db"]["value"]) == (0, 100)
    assert Path("again/truth/sub/c.png").is_file()
    (out / "images" / "b.png").unlink()
    with pytest.raises(
        SystemExit, match=r"1 image\(s\) have no counterpart of the same name in 'out/images', .* 'b.bmp'"
    ):
        translate("ground_truth=out/images", "classifier=null", run_dir="third")


REFUSED = [
    (["direction=backward"], "one", "^'one.safetensors' translates forward only: direction=backward needs a CycleGAN"),
    (["direction=up"], "both", "direction must be one of forward, backward, got 'up'"),
    ([], "latent", "The generator in 'latent.safetensors' makes images of latents and translates none"),
    (["mode=test"], "both", "mode must be one of inference, batch, got 'test'"),
    (["resolution=12"], "both", "resolution must be a power of two"),
    (["input=nowhere"], "both", "'nowhere'"),
    (["batch_size=0"], "both", "batch_size must be"),
]


@pytest.mark.parametrize(("overrides", "model", "message"), REFUSED)
def test_what_cannot_be_is_one_sentence(here, overrides, model, message):
    with pytest.raises(SystemExit, match=message) as error:
        translate(*overrides, model=model)
    assert "\n" not in str(error.value)


def test_a_folder_of_other_settings_is_refused(here):
    out = translate()
    settings = json.loads((out / "settings.json").read_text())
    (out / "settings.json").write_text(json.dumps(settings | {"mode": "batch"}))
    images = folder_images("in", resolution=16, split="all")
    models = Models()
    models.networks["generator"] = network(0)
    with pytest.raises(UserError, match=r"'out' holds translations with other settings \(mode was batch, now"):
        FolderTranslation(images, models=models, direction="forward", output_dir=out)


def test_bad_files_have_the_policy_of_all_commands(here):
    Path("in/x.png").write_bytes(b"none")
    with pytest.raises(SystemExit, match=r"1 of 4 image\(s\) in 'in' cannot be used; .*x.png"):
        translate()
    with pytest.warns(UserWarning, match="1 of 4"):
        assert len(list(translate("bad_files=skip").rglob("images/**/*.png"))) == 3


def test_grey_images_come_from_colours(here):
    out = translate(model="grey")
    with Image.open(out / "inputs" / "a.png") as file:
        assert file.mode == "L"


@torch.no_grad()
def test_an_image_has_its_own_statistics():
    """In the mode "batch" of batch norm, whatever it travels with; and other ones in inference."""
    net = network(0, norm="batch")
    images = torch.rand(5, 3, 16, 16) * 2 - 1
    alone = torch.cat([net(image[None], mode="batch") for image in images])
    torch.testing.assert_close(translated(net, images, mode="batch"), alone)
    assert not torch.allclose(translated(net, images), alone, atol=0.01)
    assert torch.equal(translated(net, images[:2], mode="batch"), translated(net, images, mode="batch")[:2])


# --- scores -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def furs():
    return cat_domains(resolution=32, task="fur", split="held_out", num_images=400)


def test_scores_of_the_truth_itself(furs):
    classifier = load_classifier(bundled_model("cats32_attributes.safetensors"))
    judges = Judges({"again": L2()}, classifier)
    inputs, truth = furs.side("forward")
    columns = image_columns(inputs, truth.images[:], truth, judges=judges, way_back=lambda images: images)
    assert float(columns["l1"].values.max()) == float(columns["l2"].values.max()) == 0
    assert (columns["psnr_db"].values == 100).all()
    expected = (to_float(inputs.images[:]) - to_float(truth.images[:])).abs().mean(dim=(1, 2, 3))
    torch.testing.assert_close(columns["change"].values, expected)
    torch.testing.assert_close(columns["asked"].values, expected)
    torch.testing.assert_close(columns["cycle"].values, expected)
    shares = {each.name: each for each in factor_shares(inputs, truth.images[:], truth, judges=judges)}
    assert {"changed_fur", "kept_body", "kept_eyes", "kept_mouth", "kept_accessory"} <= shares.keys()
    assert all(each.value == each.protocol["on_the_truth"] for each in shares.values())
    assert shares["changed_fur"].value > 0.9
    assert shares["kept_body"].interval[0] < 1


def test_who_does_nothing_has_changed_nothing(furs):
    """Everything is kept but what should have changed, and the error is what was asked for."""
    judges = Judges(classifier=load_classifier(bundled_model("cats32_attributes.safetensors")))
    inputs, truth = furs.side("backward")
    columns = image_columns(inputs, inputs.images[:], truth, judges=Judges(), way_back=lambda images: None)
    assert columns["change"].values.max() == 0 < columns["asked"].values.min()
    torch.testing.assert_close(columns["asked"].values, columns["l1"].values)
    shares = {each.name: each.value for each in factor_shares(inputs, inputs.images[:], truth, judges=judges)}
    assert shares["changed_fur"] < 0.1
    assert min(shares["kept_body"], shares["kept_accessory"]) > 0.9


def test_without_a_truth_or_a_classifier_there_are_no_shares(furs):
    inputs, truth = furs.side("forward")
    assert list(factor_shares(inputs, inputs.images[:], None, judges=Judges())) == []
    assert list(factor_shares(inputs, inputs.images[:], truth, judges=Judges())) == []
    columns = image_columns(inputs, inputs.images[:], None, judges=Judges(), way_back=lambda images: None)
    assert list(columns) == ["change"]


def test_a_model_needs_a_translator():
    models = Models()
    models.networks["generator"] = network(0)
    assert translator_of(models, "forward") is models.networks["generator"]
    with pytest.raises(UserError, match="translates forward only"):
        translator_of(models, "backward")
