"""The bundled chain, tiny: generators, encoders for them, inversions by both, and one comparison of all."""

import json
import shlex
from pathlib import Path

import yaml

from wplus.__main__ import main
from wplus.config import CONFIG_FOLDER
from wplus.sweeps.members import read_members
from wplus.sweeps.state import SweepFolder
from wplus.sweeps.table import sweep_table

TINY = [
    "tracking=local", "generator:debug=quick", "generator:schedule.kimg=0.016", "generator:probes=[]",
    "encoder:debug=quick_encoder", "encoder:schedule.kimg=0.008", "encoder:num_samples=2",
    "invert:num_images=2", "invert:data.num_images=60", "compare:image_loss=[]",
]  # fmt: skip


def test_a_later_stage_takes_the_checkpoints_of_the_earlier(tmp_path, monkeypatch, capsys, without_curves):
    monkeypatch.chdir(tmp_path)
    content = yaml.safe_load((CONFIG_FOLDER / "sweep" / "encoder_start.yaml").read_text())
    content["stages"][0]["seeds"] = [1]
    content["stages"][2] |= {"axes": {}, "points": [{"inverter": "encoder"}, *(
        {"inverter": name, "inverter.num_steps": 1} for name in ("optimize", "hybrid")
    )]}  # fmt: skip
    Path("encoder_start.yaml").write_text(yaml.safe_dump(content))
    assert main(["sweep", "run", "./encoder_start.yaml", *TINY]) == 0, capsys.readouterr()
    states = SweepFolder(Path("runs/sweeps/encoder_start")).states()
    assert {state.state for state in states.values()} == {"done"}
    labels = [state.label for job_id, state in states.items() if job_id.startswith("invert-")]
    assert labels == ["encoder", "optimize num_steps=1", "hybrid num_steps=1"]
    inverted = json.loads((Path(states["invert-001"].run_dir) / "result.json").read_text())
    assert inverted["inputs"]["model"]["file"].endswith(f"{states['encoder-000'].run_dir}/model.safetensors")
    table = sweep_table(read_members([Path("runs/sweeps/encoder_start")]), baseline={"inverter": "encoder"})
    assert {"invert/psnr_db", "train/kimg"} <= set(table.numbers)  # of the encoder that they were found with
    assert "train/kimg" not in table.comparison.tested
    compared = json.loads((Path(states["compare-000"].run_dir) / "result.json").read_text())
    assert compared["config"]["labels"] == labels
    verb, folders = shlex.split(compared["command"])[1:3]  # its own command, not the sweep's
    assert (verb, folders.partition("=")[0]) == ("compare", "folders")
    assert compared["group"] == "encoder_start"
