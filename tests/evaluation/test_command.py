"""experiments/evaluate.py as a user starts it, from another folder, and every metric's config."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

import wplus
from wplus.checkpoint import Models
from wplus.config import build
from wplus.evaluation.bench import Bench
from wplus.evaluation.measure import measure
from wplus.images import save_png

METRICS = ("fd", "ppl_zfull", "ppl_wfull", "ppl_zend", "ppl_wend")


def test_two_metrics_of_a_checkpoint(repository: Path, models: Models, tmp_path: Path) -> None:
    wplus.save(tmp_path / "model.safetensors", generator=models.generator, metadata=models.metadata)
    for index in range(9):
        save_png(tmp_path / "images" / f"{index}.png", torch.rand(3, 20, 20) * 2 - 1)
    small = ["metrics.fd.num_generated=10", "metrics.fd.num_groups=0", "metrics.ppl_wend.num_samples=6"]
    data = ["data=folder", "data.path=images", "split=all"]
    chosen = ["model=model.safetensors", "metrics=[fd,ppl_wend]", "tracking=local", "run_dir=out", *small, *data]
    command = [sys.executable, str(repository / "experiments" / "evaluate.py"), *chosen]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    values = json.loads((tmp_path / "out" / "result.json").read_text())["values"]
    assert list(values) == ["fd_effnet_lite0", "fd_effnet_lite0_real_halves", "ppl_wend_effnet_lite0"]
    protocol = values["fd_effnet_lite0"]["protocol"]
    assert (protocol["num_real"], protocol["num_generated"], protocol["weights"]) == (9, 10, "moving average")
    assert len(values["ppl_wend_effnet_lite0"]["interval"]) == 2
    assert "fd_effnet_lite0" in done.stdout


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_is_built_and_runs(repository: Path, bench: Bench, name: str) -> None:
    with initialize_config_dir(str(repository / "configs"), version_base="1.3"):
        overrides = [f"metrics=[{name}]", "model=none", "run_dir=none"]
        cfg = OmegaConf.to_container(compose("evaluate", overrides), resolve=True)
    assert set(cfg["metrics"]) == {name}
    small = {"num_generated": 10, "num_groups": 0, "floor": "none"} if name == "fd" else {"num_samples": 4}
    (measurement,) = measure(bench, {name: build(cfg["metrics"][name] | small)})
    assert measurement.name == f"{name}_effnet_lite0"
