"""invert.py as a user starts it, from another folder."""

import functools
import json
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

import wplus
from tests.fakes import noise, read_pixels, tiny_encoder
from wplus.latents.latent import load_latent


def command(repository: Path, *overrides: str) -> list[str]:
    return [sys.executable, str(repository / "invert.py"), "tracking=local", "checkpoint=model.safetensors", *overrides]


def run(repository: Path, folder: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(repository, *overrides), cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture
def here(stylegan, tmp_path: Path) -> Path:
    """A folder with a model and three images of odd kinds."""
    wplus.save(tmp_path / "model.safetensors", generator=stylegan)
    (tmp_path / "in" / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "in" / "a.png")
    Image.fromarray(pixels[:, :, 0]).save(tmp_path / "in" / "b.bmp")
    Image.fromarray(pixels).save(tmp_path / "in" / "sub" / "c.jpg")
    return tmp_path


def test_a_folder_in_a_folder_out(repository: Path, here: Path) -> None:
    done = run(repository, here, "input=in", "space=w+", "inverter=lbfgs", "inverter.num_steps=3", "run_dir=out")
    assert done.returncode == 0, done.stderr
    assert "3 of 3 image(s) are not square" in done.stderr
    assert "psnr_db" in done.stdout
    fingerprint = wplus.load(here / "model.safetensors").fingerprint
    for name in ("a", "b", "sub/c"):
        assert read_pixels(here / "out" / "images" / f"{name}.png").shape == (8, 8, 3)
        latent = load_latent(here / "out" / "latents" / f"{name}.safetensors", fingerprint=fingerprint)
        assert latent.space == "w+"
    result = json.loads((here / "out" / "result.json").read_text())
    assert result["values"]["invert/effnet_lite0"]["protocol"]["perceptual"]["name"] == "effnet_lite0"
    assert result["status"] == "finished"


@pytest.fixture
def inverted(repository: Path, tmp_path: Path, stylegan, monkeypatch):
    """Run the command in this process, on a model with an encoder; returns the folder it wrote."""
    for name, is_iterative in (("encoder", False), ("iterative", True)):
        encoder = tiny_encoder(stylegan, is_iterative=is_iterative)
        wplus.save(tmp_path / f"{name}.safetensors", generator=stylegan, encoder=encoder)

    def call(*arguments: object) -> Path:
        folder = tmp_path / "out"
        monkeypatch.setattr(sys, "argv", ["invert.py", *map(str, arguments), f"run_dir={folder}", "tracking=local"])
        runpy.run_path(str(repository / "invert.py"), run_name="__main__")
        return folder

    return call


@pytest.mark.parametrize(
    ("inverter", "model", "space", "steps"),
    [("encoder", "encoder", "w+", 1), ("restyle", "iterative", "w", 5), ("hybrid", "encoder", "w", 3)],
)
def test_inverters_with_an_encoder(tmp_path, inverted, inverter, model, space, steps):
    noise(8, 8).save(tmp_path / "a.png")
    few = [f"inverter.num_steps={steps}"] if inverter == "hybrid" else []
    folder = inverted(f"checkpoint={tmp_path}/{model}.safetensors", f"input={tmp_path}/a.png", f"inverter={inverter}",
                      f"space={space}", "video=keep", *few)  # fmt: skip
    models = wplus.load(tmp_path / f"{model}.safetensors")
    assert load_latent(folder / "latents" / "a.safetensors", fingerprint=models.fingerprint).space == space
    history = load_file(folder / "history" / "a.safetensors")
    assert len(history["loss"]) == steps
    assert json.loads((folder / "settings.json").read_text())["encoder"] == wplus.checkpoint.fingerprint(models.encoder)
    assert (folder / "inversion.mp4").stat().st_size > 0


def test_a_sketch_counts_where_it_is_painted(tmp_path, inverted):
    pixels = np.zeros((16, 16, 4), dtype=np.uint8)
    pixels[4:12, 4:12] = 200, 100, 0, 255
    Image.fromarray(pixels).save(tmp_path / "sketch.png")
    model, sketch = f"checkpoint={tmp_path}/encoder.safetensors", f"input={tmp_path}/sketch.png"
    folder = inverted(
        model, sketch, "masks=alpha", "space=z+", "inverter.num_steps=3", "inverter=hybrid", "inverter.init=mean"
    )
    assert read_pixels(folder / "masks" / "sketch.png").max() == 255
    assert load_latent(folder / "latents" / "sketch.safetensors", fingerprint=None).space == "z+"


def test_further_losses(tmp_path, inverted):
    noise(8, 8).save(tmp_path / "a.png")
    folder = inverted(f"checkpoint={tmp_path}/encoder.safetensors", f"input={tmp_path}/a.png", "inverter.num_steps=2",
                      "image_loss=[identity_effnet_lite0]", "+inverter.loss_weights.identity=0.1")  # fmt: skip
    scores = list(json.loads((folder / "table.json").read_text())["means"])
    assert scores == [
        "l1",
        "l2",
        "psnr_db",
        "effnet_lite0",
        "similarity_identity_effnet_lite0",
        "prior_distance",
        "seconds",
    ]
    assert "identity" in load_file(folder / "history" / "a.safetensors")


def test_a_photo_is_cropped_with_a_warning_or_by_a_box(tmp_path, inverted):
    noise(24, 12).save(tmp_path / "photo.png")
    (tmp_path / "boxes.json").write_text('{"photo.png": [12, 0, 24, 12]}')
    command = [f"checkpoint={tmp_path}/encoder.safetensors", f"input={tmp_path}/photo.png", "inverter.num_steps=2"]
    with pytest.warns(UserWarning, match=r"photo\.png.*boxes=FILE\.json"):
        folder = inverted(*command)
    centre = read_pixels(folder / "targets" / "photo.png")
    folder = inverted(*command, f"boxes={tmp_path}/boxes.json")
    assert (read_pixels(folder / "targets" / "photo.png") != centre).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inverter=restyle", "space=w"], "encoder.is_iterative=true"),
        (["inverter=encoder", "space=z"], "where the encoder answers, got 'z'"),
        (["inverter.loss_weights.prior=1", "space=z"], "must be 0 in z"),
        (["+inverter.loss_weights.ssim=1"], "got 'ssim'"),
        (["masks=alpha"], "masks=alpha has no effect"),
    ],
)
def test_what_does_not_fit_together(tmp_path, inverted, arguments, message):
    noise(8, 8).save(tmp_path / "a.png")
    with pytest.raises(SystemExit) as stopped:
        inverted(f"checkpoint={tmp_path}/encoder.safetensors", f"input={tmp_path}/a.png", *arguments)
    assert message in str(stopped.value)
    assert not list(tmp_path.glob("out/latents/*"))


def test_ctrl_c_keeps_what_is_done(repository: Path, here: Path) -> None:
    slow = command(repository, "input=in", "inverter.num_steps=200", "chunk_size=1", "batch_size=1", "run_dir=out")
    # A shell's background job ignores Ctrl-C, and so would all that it starts.
    heeding = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(slow, cwd=here, preexec_fn=heeding, **pipes)
    while process.poll() is None and not list((here / "out").glob("latents/*.safetensors")):
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1, output
    assert "the same command goes on" in output
    assert "Traceback" not in output
    rows = json.loads((here / "out" / "table.json").read_text())["rows"]
    assert 1 <= len(rows) < 3
    assert not [path for path in (here / "out").rglob("*") if path.name.endswith(".tmp")]


def test_a_mistake_is_a_sentence_without_a_trace(repository: Path, here: Path) -> None:
    done = run(repository, here, "run_dir=out", "input=in", "space=x")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "space must be one of z, z+, w, w+, got 'x'"
    assert "Traceback" not in done.stderr
