"""Stems of 16, 32 and 64 px in one command: each starts from the previous networks; a second run does nothing."""

import json
from pathlib import Path

import wplus
from wplus.__main__ import main

TINY = [
    "data.num_images=40", "model.generator.channel_base=64", "model.generator.channel_max=8", "model.generator.z_dim=8",
    "model.generator.w_dim=8", "training.hparams.batch_size=8", "probes=[]", "num_samples=1", "tracking=local",
    "schedule.kimg=0.008", "schedule.minutes=null", "schedule.log_kimg=0.008",
]  # fmt: skip


def test_each_stem_starts_from_the_networks_of_the_last(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["sweep", "run", "stems", *TINY, "--folder", "made"]
    assert main(command) == 0
    said = capsys.readouterr().out
    folders = {}
    for path in (tmp_path / "made" / "jobs").glob("*.json"):
        state = json.loads(path.read_text())
        folders[state["id"].partition("-")[0]] = Path(state["run_dir"])
    loaded = [wplus.load(folders[name] / "model.safetensors") for name in ("px16", "px32", "px64")]
    assert [models.generator.resolution for models in loaded] == [
        16, 32, 64
    ]  # fmt: skip
    for before, stem in (("px16", "px32"), ("px32", "px64")):
        report = json.loads((folders[stem] / "transfer.json").read_text())
        for role in ("generator", "discriminator"):
            assert Path(report[role]["checkpoint"]).parent.name == folders[before].name
            assert not report[role]["mismatched"]["names"]
            assert report[role]["loaded"]["tensors"] > report[role]["new"]["tensors"]
    assert "px64-000 px64: done" in said
    assert main(command) == 0
    assert "px64: done after" not in capsys.readouterr().out
