"""`wplus evaluate` as a user runs it, from another folder, and every metric's config."""

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import wplus
from wplus.__main__ import main
from wplus.checkpoint import Models
from wplus.commands.evaluate import measure_checkpoint
from wplus.config import plain
from wplus.core.images import save_png
from wplus.errors import UserError
from wplus.evaluation.ppl import ppl_name


def test_two_metrics_of_a_checkpoint(
    models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)
    wplus.save(tmp_path / "model.safetensors", generator=models.generator, metadata=models.metadata)
    for index in range(9):
        save_png(tmp_path / "images" / f"{index}.png", torch.rand(3, 20, 20) * 2 - 1)
    small = ["metrics.fd.num_generated=10", "metrics.fd.num_groups=0", "metrics.ppl_wend.num_samples=6"]
    data = ["data=folder", "data.path=images", "split=all"]
    chosen = ["checkpoint=model.safetensors", "metrics=[fd,ppl_wend]", "tracking=local", "run_dir=out", *small, *data]
    assert main(["evaluate", *chosen]) == 0
    values = json.loads((tmp_path / "out" / "result.json").read_text())["values"]
    assert list(values) == [f"evaluate/{name}" for name in (
        "fd_effnet_lite0", "fd_effnet_lite0_real_halves", "ppl_wend_effnet_lite0"
    )]  # fmt: skip
    protocol = values["evaluate/fd_effnet_lite0"]["protocol"]
    assert (protocol["num_real"], protocol["num_generated"], protocol["weights"]) == (9, 10, "moving average")
    assert len(values["evaluate/ppl_wend_effnet_lite0"]["interval"]) == 2
    assert "fd_effnet_lite0" in capsys.readouterr().out


def in_process(repository: Path, *overrides: str) -> float:
    """What the command does once it is composed; a group's null is one no longer when the command sees it."""
    with initialize_config_dir(str(repository / "configs"), version_base="1.3"):
        cfg = plain(compose("evaluate", ["tracking=local", "cache_dir=null", *overrides]))
    return measure_checkpoint(cfg, torch.device("cpu"))


def test_images_of_somebody_else(repository: Path, tmp_path: Path) -> None:
    """Without any model; the very images of the data have no distance from it."""
    for index in range(6):
        save_png(tmp_path / "images" / f"{index}.png", torch.rand(3, 16, 16) * 2 - 1)
    data = ["data=folder", f"data.path={tmp_path}/images", "data.resolution=16", "split=all"]
    chosen = ["checkpoint=null", f"generated={tmp_path}/images", f"run_dir={tmp_path}/out", "metrics.fd.num_groups=0"]
    assert in_process(repository, *data, *chosen) < 1e-4
    values = json.loads((tmp_path / "out" / "result.json").read_text())["values"]
    assert values["evaluate/fd_effnet_lite0"]["protocol"]["num_generated"] == 6
    with pytest.raises(UserError, match="needs the generator"):
        in_process(repository, *data, *chosen[:-1], "metrics=[ppl_wend]")
    save_png(tmp_path / "wide" / "0.png", torch.rand(3, 16, 20) * 2 - 1)
    with pytest.raises(UserError, match=r"not square .*\(generated=.*wide is measured as it is: no fit, no bad_files"):
        in_process(repository, *data, *chosen, f"generated={tmp_path}/wide")


def test_nothing_to_measure_is_refused(repository: Path) -> None:
    with pytest.raises(UserError, match="checkpoint=FILE, or generated=FOLDER"):
        in_process(repository, "checkpoint=null", "run_dir=none")
    with pytest.raises(UserError, match=r"metrics=\[\] measures nothing"):
        in_process(repository, "checkpoint=none", "metrics=[]", "run_dir=none")


@pytest.mark.parametrize("name", ["fid50k_full", "kid50k_full", "pr50k3_full"])
def test_a_part_of_the_data_is_refused_before_weights_are_looked_for(
    repository: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def looked_for(*_: object, **__: object) -> None:
        raise AssertionError("weights are looked for")

    for module in ("inception", "vgg16"):
        monkeypatch.setattr(f"wplus.pretrained.{module}.find_or_download", looked_for)
    chosen = ["checkpoint=null", "generated=nothing", "run_dir=none", f"metrics=[{name}]"]
    with pytest.raises(UserError, match=r"split=train .* a part of it: set split=all"):
        in_process(repository, *chosen)
    for whole in ("split=all", "data.held_out_fraction=0"):
        with pytest.raises(AssertionError, match="looked for"):
            in_process(repository, *chosen, whole)


def test_ppl2_wend_has_its_numbers(repository: Path) -> None:
    with initialize_config_dir(str(repository / "configs"), version_base="1.3"):
        node = plain(compose("evaluate", ["metrics=[ppl2_wend]", "checkpoint=none"]))["metrics"]["ppl2_wend"]
    way = {key: node[key] for key in ("space", "sampling", "num_samples", "crop", "epsilon", "noise_mode")}
    assert ppl_name("lpips_vgg", **way) == "ppl2_wend"


@pytest.mark.parametrize("name", ["fid50k_full", "kid50k_full", "is50k", "pr50k3_full"])
def test_the_papers_metrics_are_those_of_the_papers(repository: Path, name: str) -> None:
    """50,000 images, all real ones, no truncation, no flips, the network that the name stands for."""
    with initialize_config_dir(str(repository / "configs"), version_base="1.3"):
        cfg = OmegaConf.to_container(compose("evaluate", [f"metrics=[{name}]", "checkpoint=none"]), resolve=False)
    options = cfg["metrics"][name]
    network = "VGG16Features" if name.startswith("pr") else "InceptionFeatures"
    assert options["extractor"]["_target_"].endswith(f".{network}")
    assert options["num_generated"] == 50_000
    assert options.get("num_real", "all") == "all"
    assert options.get("mirror", "none") == "none"
    assert (options["truncation_psi"], options["truncation_cutoff"], options["noise_mode"]) == (1.0, None, "const")
