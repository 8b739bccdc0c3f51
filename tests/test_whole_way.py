"""End to end at 16 px with the real commands: train, invert, interpolate, evaluate, report."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

import wplus
from tests.keys import logged_keys, strange_keys
from wplus.__main__ import main
from wplus.core.images import to_uint8
from wplus.latents.latent import load_latent
from wplus.tracking.local import read_records
from wplus.tracking.wandb_dashboard import SHOWN


def run(*arguments: object) -> None:
    """Run a command of the project in this process, as the command line would."""
    assert main(list(map(str, arguments))) == 0


FOLDERS = ("train", "invert/z", "invert/w", "invert/w+", "interpolate", "evaluate")


def result(folder: Path) -> dict:
    return json.loads((folder / "result.json").read_text())


def test_the_whole_way(tmp_path, capsys):
    """Each command reads what the previous one wrote; at the end there is one page with everything."""
    data = "data.num_images=300"
    model = tmp_path / "train" / "model.safetensors"
    probes = ["probes=[style_mixing,truncation,noise_map,fd,logits]", "probes.fd.num_images=24"]
    run("train", "debug=quick", "tracking=wandb", *probes, f"cache_dir={tmp_path}/cache", "schedule.kimg=0.064",
        f"run_dir={tmp_path}/train")  # fmt: skip
    assert wplus.load(model).generator.resolution == 16
    assert result(tmp_path / "train")["values"]["train/kimg"]["value"] == 0.064
    took = {
        name: result(tmp_path / "train")["values"][f"train/{name}"]["value"] for name in ("sec_per_kimg", "minutes")
    }
    assert took["sec_per_kimg"] == pytest.approx(took["minutes"] * 60 / 0.064)
    assert 0.1 < result(tmp_path / "train")["values"]["train/peak_memory_gb"]["value"] < 100
    assert result(tmp_path / "train")["config"]["trainer"]["images"] == "host"
    best = result(tmp_path / "train")["values"]["train/best_fd_effnet_lite0"]
    fds = [row["val/fd_effnet_lite0"] for row in read_records(tmp_path / "train") if "val/fd_effnet_lite0" in row]
    assert best["value"] == min(fds)
    assert wplus.load(tmp_path / "train" / "model-best.safetensors").metadata["best"]["value"] == min(fds)
    assert "gamma = 0.0032" in (tmp_path / "train" / "settings.txt").read_text()
    said = capsys.readouterr()
    assert said.out.splitlines()[0].startswith("Training stylegan2 (generator ")
    assert "gamma" not in said.out + said.err
    assert re.search(
        r"Training \(images\): 64/64, .* loss G \S+ D \S+, fd_effnet_lite0 \S+, best \S+ at \S+ kimg, \S+ s/kimg",
        said.err,
    )
    recorded = result(tmp_path / "train")["config"]  # with the numbers that were derived
    assert recorded["training"]["hparams"]["gamma"] == 0.0032
    assert recorded["augment"].get("speed_kimg", 0) is not None

    for space in ("z", "w", "w+"):
        folder = tmp_path / "invert" / space
        run("invert", f"checkpoint={model}", "input=held_out", "num_images=2", f"space={space}", data,
            "inverter.num_steps=3", "tracking=local", f"run_dir={folder}")  # fmt: skip
    latents = sorted((tmp_path / "invert" / "w+" / "latents").glob("*.safetensors"))
    assert len(latents) == 2
    assert load_latent(latents[0], fingerprint=wplus.load(model).fingerprint).space == "w+"

    film = tmp_path / "interpolate"
    run("interpolate", f"checkpoint={model}", f"inputs=[{latents[0]},{latents[1]}]", "path=lerp",
        "num_frames=5", "frames=keep", "tracking=local", f"run_dir={film}")  # fmt: skip
    frames = sorted((film / "frames").glob("*.png"))
    assert len(frames) == 5
    assert (film / "video.mp4").stat().st_size > 0 < (film / "video.gif").stat().st_size
    first = load_file(latents[0])["code"]
    image = wplus.load(model).generator.synthesis(first[None])[0]
    shown = np.asarray(Image.open(frames[0])).astype(int)
    assert np.abs(shown - to_uint8(image).permute(1, 2, 0).numpy()).max() <= 1

    run("evaluate", f"checkpoint={model}", "metrics=[fd,ppl_wend]", data, "tracking=local",
        "metrics.fd.num_generated=64", "metrics.fd.num_real=64", "metrics.ppl_wend.num_samples=16",
        "cache_dir=null", f"run_dir={tmp_path}/evaluate")  # fmt: skip
    values = result(tmp_path / "evaluate")["values"]
    assert values["evaluate/fd_effnet_lite0"]["value"] > 0
    assert values["evaluate/ppl_wend_effnet_lite0"]["protocol"]["num_samples"] == 16

    assert {folder: strange_keys(tmp_path / folder) for folder in FOLDERS} == {folder: set() for folder in FOLDERS}

    for folder in FOLDERS:
        for name, each in result(tmp_path / folder)["values"].items():
            assert each["meaning"], name
            assert isinstance(each["value"], str) or each["direction"] in ("higher", "lower", "neither"), name

    for kind, folder in {"train": "train", "invert": "invert/w", "interpolate": "interpolate"}.items():
        shown = SHOWN[kind]
        named = {*(name for names in shown.curves.values() for name in names), *shown.numbers, *shown.pictures}
        assert named - logged_keys(tmp_path / folder) == set()

    run("report", f"folder={tmp_path}")
    page = (tmp_path / "report.html").read_text()
    assert "fd_effnet_lite0" in page
    assert page.count("data:image/") >= 5
    assert "data:video/mp4" in page
    own = page.partition('<script type="text/plain" id="plotly">')[0]  # plotly's text names addresses it never visits
    assert "http://" not in own
    assert str(tmp_path / "report.html") in capsys.readouterr().out


def test_the_whole_way_of_an_autoencoder(tmp_path):
    """Its decoder is used like a GAN's generator; the encoder in the same file answers first."""
    data, model = ["data=digits", "data.num_images=200"], tmp_path / "train" / "model.safetensors"
    run("train", "model=autoencoder_conv", "debug=quick_autoencoder", *data, "schedule.kimg=0.064", "num_samples=4",
        "probes=[reconstructions,truncation,fd,logits]", "probes.fd.num_images=24", f"cache_dir={tmp_path}/cache",
        f"run_dir={tmp_path}/train")  # fmt: skip
    best = result(tmp_path / "train")["values"]["train/best_l2"]
    assert best["value"] == min(row["val/l2"] for row in read_records(tmp_path / "train") if "val/l2" in row)
    for inverter, steps in (("encoder", []), ("optimize", ["inverter.num_steps=3", "inverter.init=encoder"])):
        run("invert", f"checkpoint={model}", "input=held_out", "num_images=2", "space=code", *data, *steps,
            f"inverter={inverter}", "tracking=local", f"run_dir={tmp_path}/{inverter}")  # fmt: skip
    models = wplus.load(model)
    latents = sorted((tmp_path / "encoder" / "latents").glob("*.safetensors"))
    known = load_latent(latents[0], fingerprint=models.fingerprint)
    assert (known.space, known.code.shape) == ("code", (32,))
    run("interpolate", f"checkpoint={model}", f"inputs=[{latents[0]},{latents[1]}]", "path=[lerp,slerp]", "space=code",
        "num_frames=3", "tracking=local", f"run_dir={tmp_path}/interpolate")  # fmt: skip
    run("directions", f"checkpoint={model}", "finder=pca", "finder.num_samples=60", "tracking=local",
        f"run_dir={tmp_path}/directions")  # fmt: skip
    run("edit", f"checkpoint={model}", f"directions={tmp_path}/directions/directions.safetensors",
        f"latents=[{latents[0]}]", "strengths=[-1,1]", "tracking=local", f"run_dir={tmp_path}/edit")  # fmt: skip
    run("evaluate", f"checkpoint={model}", "metrics=[fd,reconstruction,representation,dci_code]", *data,
        "metrics.fd.num_generated=64", "metrics.fd.num_real=64", "tracking=local",
        "metrics.dci_code.num_trees=2", "metrics.dci_code.num_groups=2", "cache_dir=null",
        f"run_dir={tmp_path}/evaluate")  # fmt: skip
    values = result(tmp_path / "evaluate")["values"]
    assert values["evaluate/fd_effnet_lite0"]["protocol"]["prior"] == "ten Gaussians of 176 codes"
    assert {f"evaluate/{name}" for name in ("reconstruction_psnr", "knn_digit", "mig_code_true")} <= set(values)
    folders = ("train", "encoder", "optimize", "interpolate", "evaluate")
    assert {folder: strange_keys(tmp_path / folder) for folder in folders} == {folder: set() for folder in folders}
    run("report", f"folder={tmp_path}")
    assert "reconstruction_psnr" in (tmp_path / "report.html").read_text()
