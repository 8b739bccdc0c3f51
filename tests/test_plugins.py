"""Every kind of plugin can be added from outside: one function or class, and one YAML in the user's folder."""

import json
from pathlib import Path

import pytest

import wplus
from tests.plugins import MEANING, noise_images
from wplus.__main__ import main
from wplus.core.images import save_png
from wplus.models.mlp_gan import Generator

FILES = {
    "data/noise": "_target_: tests.plugins.noise_images\n",
    "model/mine": """
generator: {_target_: tests.plugins.Generator, _partial_: true, z_dim: 4, width: 8}
discriminator: {_target_: wplus.models.mlp_gan.Discriminator, _partial_: true, width: 4, num_pieces: 2}
preset: {name: mine, batch_size: 8, lr_generator: 1.0e-3, lr_discriminator: 1.0e-3, beta1: 0.5, beta2: 0.99,
  gamma: 0.1, ema_kimg: 0.1, ema_rampup: null, style_mixing_prob: 0.0, pl_weight: 0.0}
""",
    "loss/shifted": """
generator_loss: {_target_: tests.plugins.shifted_loss, _partial_: true}
discriminator_loss: {_target_: wplus.losses.adversarial.hinge_discriminator, _partial_: true}
penalties: [{_target_: tests.plugins.Penalty, weight: gamma}]
""",
    "probes/brightness": "brightness: {_target_: tests.plugins.brightness_probe, _partial_: true}\n",
    "image_loss/darkness": "darkness: {_target_: tests.plugins.Darkness}\n",
    "inverter/guess": "_target_: tests.plugins.guess\n_partial_: true\n",
    "extractor/colour": "_target_: tests.plugins.MeanColour\n",
    "metrics/brightness": "brightness: {_target_: tests.plugins.darkest, _partial_: true}\n",
}


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """run(verb, *overrides) -> the values of the run of a command with the folder of configs above."""
    for name, text in FILES.items():
        path = tmp_path / "configs" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)

    def started(verb: str, *overrides: str) -> dict:
        main([verb, "--config-dir", "configs", "tracking=local", f"run_dir={verb}", *overrides])
        main(["report", f"folder={verb}"])
        return json.loads((tmp_path / verb / "result.json").read_text())["values"]

    return started


def test_a_training_of_parts_from_outside(run, tmp_path):
    values = run("train", "data=noise", "model=mine", "loss=shifted", "loss.generator_loss.shift=2", "num_samples=4",
                 "probes=[brightness]", "probes.brightness.num_images=2", "schedule.kimg=0.016",
                 "schedule.log_kimg=0.008", "schedule.snapshot_kimg=0.016")  # fmt: skip
    assert values["train/kimg"]["value"] == 0.016
    rows = [json.loads(line) for line in (tmp_path / "train" / "records.jsonl").read_text().splitlines()]
    assert any("probe/brightness" in row for row in rows)
    assert "brightness" in (tmp_path / "train" / "report.html").read_text()


def test_a_metric_and_an_extractor_from_outside(run, tmp_path):
    small = ["data=noise", "metrics.fd.num_groups=0", "metrics.fd.floor=none", "metrics.brightness.num_samples=7"]
    images = tmp_path / "images"
    images.mkdir()
    for index, image in enumerate(noise_images(num_images=8).images):
        save_png(images / f"{index}.png", image)
    values = run("evaluate", "checkpoint=null", "generated=images", "extractor=colour", "metrics=[fd,brightness]",
                 "cache_dir=null", *small)  # fmt: skip
    assert values["evaluate/fd_mean_colour"]["value"] >= 0
    assert (values["evaluate/brightness"]["value"], values["evaluate/brightness"]["meaning"]) == (7, MEANING)
    assert MEANING in (tmp_path / "evaluate" / "report.html").read_text()


def test_an_inverter_and_an_image_loss_from_outside(run, tmp_path):
    wplus.save("model.safetensors", generator=Generator(resolution=8, z_dim=4, width=8))
    (tmp_path / "in").mkdir()
    save_png(tmp_path / "in" / "a.png", noise_images(num_images=1).images[0])
    values = run("invert", "checkpoint=model.safetensors", "input=in", "space=z", "inverter=guess", "inverter.scale=1",
                 "image_loss=[darkness]")  # fmt: skip
    (name,) = [name for name in values if "darkness" in name]
    assert values[name]["meaning"].startswith("Mean brightness")
    assert "darkness" in (tmp_path / "invert" / "report.html").read_text()
