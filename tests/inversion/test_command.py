"""invert.py as a user runs it, from another folder."""

import json
import runpy
import shutil
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

import wplus
from tests.fakes import noise, read_pixels, tiny_encoder
from tests.processes import Python
from wplus.latents.latent import load_latent


@pytest.fixture
def here(stylegan, tmp_path: Path, monkeypatch) -> Path:
    """The current folder, with models and images of various kinds."""
    monkeypatch.chdir(tmp_path)
    for name, is_iterative in (("encoder", False), ("iterative", True)):
        encoder = tiny_encoder(stylegan, is_iterative=is_iterative)
        wplus.save(tmp_path / f"{name}.safetensors", generator=stylegan, encoder=encoder)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    noise(10, 12).save(tmp_path / "in" / "a.png")
    noise(10, 12, mode="L").save(tmp_path / "in" / "b.bmp")
    noise(10, 12).save(tmp_path / "in" / "sub" / "c.jpg")
    noise(8, 8).save(tmp_path / "a.png")
    return tmp_path


@pytest.fixture
def command(repository: Path, here: Path):
    """The command line with these arguments."""
    fixed = [sys.executable, str(repository / "invert.py"), "tracking=local", "run_dir=out"]

    def line(*arguments: str, model: str = "encoder") -> list[str]:
        return [*fixed, f"checkpoint={model}.safetensors", *arguments]

    return line


@pytest.fixture
def inverted(command, here: Path, without_curves, monkeypatch):
    """Run the command in this process, and return the folder it wrote."""

    def call(*arguments: str, model: str = "encoder") -> Path:
        _, script, *given = command(*arguments, model=model)
        monkeypatch.setattr(sys, "argv", [script, *given])
        runpy.run_path(script, run_name="__main__")
        return here / "out"

    return call


def test_a_folder_in_a_folder_out(inverted, here: Path, capsys) -> None:
    with pytest.warns(UserWarning, match=r"3 of 3 image\(s\) are not square"):
        inverted("input=in", "space=w+", "inverter=lbfgs", "inverter.num_steps=3")
    assert "psnr_db" in capsys.readouterr().out
    fingerprint = wplus.load(here / "encoder.safetensors").fingerprint
    for name in ("a", "b", "sub/c"):
        assert read_pixels(here / "out" / "images" / f"{name}.png").shape == (8, 8, 3)
        latent = load_latent(here / "out" / "latents" / f"{name}.safetensors", fingerprint=fingerprint)
        assert latent.space == "w+"
    result = json.loads((here / "out" / "result.json").read_text())
    assert result["values"]["invert/effnet_lite0"]["protocol"]["perceptual"]["name"] == "effnet_lite0"
    assert result["status"] == "finished"


@pytest.mark.parametrize(
    ("inverter", "model", "space", "steps"),
    [("encoder", "encoder", "w+", 1), ("restyle", "iterative", "w", 5), ("hybrid", "encoder", "w", 3)],
)
def test_inverters_with_an_encoder(here, inverted, inverter, model, space, steps):
    few = [f"inverter.num_steps={steps}"] if inverter == "hybrid" else []
    folder = inverted("input=a.png", f"inverter={inverter}", f"space={space}", "video=keep", *few, model=model)
    models = wplus.load(here / f"{model}.safetensors")
    assert load_latent(folder / "latents" / "a.safetensors", fingerprint=models.fingerprint).space == space
    assert len(load_file(folder / "history" / "a.safetensors")["loss"]) == steps
    assert json.loads((folder / "settings.json").read_text())["encoder"] == wplus.checkpoint.fingerprint(models.encoder)
    assert (folder / "inversion.mp4").stat().st_size > 0


def test_a_sketch_counts_where_it_is_painted(inverted):
    pixels = np.zeros((16, 16, 4), dtype=np.uint8)
    pixels[4:12, 4:12] = 200, 100, 0, 255
    Image.fromarray(pixels).save("sketch.png")
    few = ["inverter=hybrid", "inverter.num_steps=3", "inverter.init=mean"]
    folder = inverted("input=sketch.png", "masks=alpha", "space=z+", *few)
    assert read_pixels(folder / "masks" / "sketch.png").max() == 255
    assert load_latent(folder / "latents" / "sketch.safetensors", fingerprint=None).space == "z+"


def test_further_losses(inverted):
    losses = ["image_loss=[identity_effnet_lite0]", "+inverter.loss_weights.identity=0.1"]
    folder = inverted("input=a.png", "inverter.num_steps=2", *losses)
    scores = list(json.loads((folder / "table.json").read_text())["means"])
    assert scores[3:5] == ["effnet_lite0", "similarity_identity_effnet_lite0"]
    assert "identity" in load_file(folder / "history" / "a.safetensors")


def test_a_photo_is_cropped_with_a_warning_or_by_a_box(inverted):
    noise(24, 12).save("photo.png")
    Path("boxes.json").write_text('{"photo.png": [12, 0, 24, 12]}')
    with pytest.warns(UserWarning, match=r"photo\.png.*boxes=FILE\.json"):
        folder = inverted("input=photo.png", "inverter.num_steps=2")
    centre = read_pixels(folder / "targets" / "photo.png")
    shutil.rmtree(folder)
    folder = inverted("input=photo.png", "inverter.num_steps=2", "boxes=boxes.json")
    assert (read_pixels(folder / "targets" / "photo.png") != centre).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inverter=restyle", "space=w"], "encoder.is_iterative=true"),
        (["inverter=encoder", "space=z"], "which the encoder predicts, or one that these can be mapped to, got 'z'"),
        (["inverter.loss_weights.prior=1", "space=z"], "must be 0 in z"),
        (["+inverter.loss_weights.ssim=1"], "got 'ssim'"),
        (["masks=alpha"], "masks=alpha has no effect"),
        (["space=x"], "space must be one of z, z+, w, w+, pn, pn+, code, s, f/w+, got 'x'"),
    ],
)
def test_what_does_not_fit_together(here, inverted, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        inverted("input=a.png", *arguments)
    assert message in str(stopped.value)
    assert not list(here.glob("out/latents/*"))


def test_ctrl_c_keeps_what_is_done(command, here: Path) -> None:
    slow = command("input=in", "inverter.num_steps=200", "chunk_size=1", "batch_size=1")
    process = Python(*slow[1:])
    while process.poll() is None and not list((here / "out").glob("latents/*.safetensors")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output = process.output(60)
    assert process.returncode == 128 + signal.SIGINT, output
    assert "the same command goes on" in output
    assert "Traceback" not in output
    rows = json.loads((here / "out" / "table.json").read_text())["rows"]
    assert 1 <= len(rows) < 3
    assert not [path for path in (here / "out").rglob("*") if path.name.endswith(".tmp")]
