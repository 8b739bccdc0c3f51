"""The local record: valid after a kill, continued by a resumed run without duplicate rows."""

import hashlib
import json
import math
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.processes import Python
from wplus.config import build
from wplus.errors import UserError
from wplus.tracking import Tracker
from wplus.tracking.local import open_tracker, read_records, read_result, to_json
from wplus.tracking.tracker import KIMG


def opened(folder: Path, **changes) -> Tracker:
    return open_tracker(**{"output_dir": folder, "job_type": "train", "name": "n", **changes})


def test_rows_are_valid_json_with_their_axis_and_time(tmp_path):
    tracker = opened(tmp_path)
    tracker.log({"train/loss": 1.5}, kimg=0.032)
    tracker.log({"a": math.nan, "b": math.inf, "c": -math.inf})
    rows = list(read_records(tmp_path))
    assert {key: rows[0][key] for key in rows[0] if key != "time"} == {KIMG: 0.032, "train/loss": 1.5}
    assert abs(rows[0]["time"] - time.time()) < 60
    line = (tmp_path / "records.jsonl").read_text().splitlines()[1]
    row = json.loads(line, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert math.isnan(float(row["a"]))
    assert (float(row["b"]), float(row["c"])) == (math.inf, -math.inf)
    value = {"a": (1, np.int64(2), True, None), 3: np.array([[0.5, math.nan]]), "p": Path("x/y")}
    assert to_json(value) == {"a": [1, 2, True, None], "3": [[0.5, "nan"]], "p": "x/y"}


def test_a_half_written_last_line_is_cut_when_the_run_goes_on(tmp_path):
    opened(tmp_path).log({"a": 1}, kimg=1)
    with open(tmp_path / "records.jsonl", "ab") as file:
        file.write(b'{"progress/kimg": 2, "a"')
    assert [row["a"] for row in read_records(tmp_path)] == [1]
    opened(tmp_path).log({"a": 3}, kimg=3)
    assert [json.loads(line)["a"] for line in (tmp_path / "records.jsonl").read_text().splitlines()] == [1, 3]


def test_a_kill_leaves_a_valid_record(tmp_path):
    program = (
        "import sys; from wplus.tracking.local import open_tracker\n"
        "tracker = open_tracker(output_dir=sys.argv[1], job_type='train', name='n')\n"
        "for step in range(10**9):\n    tracker.log({'a': step}, kimg=step)\n    tracker.summary({'last': step})\n"
    )
    process = Python("-c", program, tmp_path)
    try:
        while not (tmp_path / "records.jsonl").exists() or (tmp_path / "records.jsonl").stat().st_size < 2000:
            assert process.poll() is None, process.output(1)
            time.sleep(0.01)
    finally:
        process.kill()
        process.output(60)
    opened(tmp_path).log({"a": -1}, kimg=1e9)
    values = [json.loads(line)["a"] for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert values == [*range(len(values) - 1), -1]
    assert read_result(tmp_path)["values"]["last"]["value"] in (len(values) - 3, len(values) - 2)


@pytest.mark.parametrize("damage", [b"[", b"\xff", b"\0"])
def test_a_damaged_row_is_named_and_nothing_is_changed(tmp_path, damage):
    """Skipping it would lose it silently."""
    with opened(tmp_path) as tracker:
        for kimg in (1, 2, 3):
            tracker.log({"a": kimg}, kimg=kimg)
    records = tmp_path / "records.jsonl"
    first, second, third = records.read_bytes().splitlines(keepends=True)
    content = first + damage + second[1:] + third
    records.write_bytes(content)
    before = (tmp_path / "result.json").read_bytes()
    with pytest.raises(
        UserError, match=r"Line 2 of '.*records\.jsonl' is damaged: delete it, or choose another run_dir"
    ):
        opened(tmp_path)
    assert (records.read_bytes(), (tmp_path / "result.json").read_bytes()) == (content, before)
    records.write_bytes(first + third[:-5])  # what a kill leaves
    assert [row["a"] for row in (opened(tmp_path), *read_records(tmp_path))[1:]] == [1]


def test_rewind_drops_what_will_come_again(tmp_path):
    tracker = opened(tmp_path)
    tracker.rewind(0)  # nothing to drop yet
    for kimg in (1, 2, 3):
        tracker.log({"a": kimg}, kimg=kimg)
    tracker.log({"free": 1})
    tracker.log_message("All is well.", kimg=1)
    tracker.log_message("Diversity fell.", level="warning", kimg=3)
    tracker.rewind(2)
    rows = list(read_records(tmp_path))
    assert [row.get(KIMG) for row in rows] == [1, 2, None, 1]
    assert rows[3]["message"] == {"text": "All is well.", "level": "info"}


def test_the_result_says_what_was_run_and_what_came_out(tmp_path):
    picture = tmp_path / "a.png"
    picture.write_bytes(b"png")
    config = {"model": {"_target_": "wplus.models.Generator"}, "betas": [0.0, 0.99], "limit": math.inf}
    with opened(tmp_path, config=config, notes="python train.py seed=1", tags=["cats"], group="study") as tracker:
        assert read_result(tmp_path)["status"] == "running"
        tracker.summary({"val/plain": 1, "val/fd": {"value": 2.0, "protocol": {"n": 10}, "interval": (1.0, 3.0)}})
        tracker.image("samples", picture, kimg=1)
    result = read_result(tmp_path)
    assert (result["status"], result["command"], result["group"], result["tags"]) == (
        "finished", "python train.py seed=1", "study", ["cats"],
    )  # fmt: skip
    assert result["config"] == {**config, "limit": "inf"}
    assert result["values"] == {
        "val/plain": {"value": 1.0, "protocol": {}},
        "val/fd": {"value": 2.0, "protocol": {"n": 10}, "interval": [1.0, 3.0]},
    }
    assert result["files"] == {"samples": ["a.png"]}
    assert {"python", "torch", "numpy"} <= result["versions"].keys()
    assert result["device"]["processor"]


def test_pictures_tables_histograms_are_found_again(tmp_path):
    tracker = opened(tmp_path)
    tracker.image("samples/fixed", tmp_path / "samples" / "0.png", caption="start", kimg=0)
    tracker.table("invert/table", ["image", "psnr"], [[tmp_path / "x.png", np.float32(20)]])
    tracker.histogram("logits", [0.0, 1.0, math.nan], kimg=1)
    rows = list(read_records(tmp_path))
    assert rows[0]["samples/fixed"] == {"file": "samples/0.png", "caption": "start"}
    assert sum(rows[1]["logits"]["counts"]) == 2
    assert len(rows[1]["logits"]["edges"]) == 65
    table = json.loads((tmp_path / read_result(tmp_path)["files"]["invert/table"][0]).read_text())
    assert table == {"columns": ["image", "psnr"], "rows": [[{"file": "x.png"}, 20.0]]}


def test_a_resumed_run_keeps_the_earlier_part(tmp_path):
    first = opened(tmp_path)
    first.summary({"a": 1, "b": 1})
    first.artifact(None, name="set", kind="dataset", metadata={"fingerprint": "f"})
    first.finish("failed")
    second = opened(tmp_path)
    second.summary({"b": 2})
    second.finish()
    result = read_result(tmp_path)
    assert {name: entry["value"] for name, entry in result["values"].items()} == {"a": 1.0, "b": 2.0}
    assert result["artifacts"]["set"]["metadata"] == {"fingerprint": "f"}
    assert result["status"] == "finished"


def test_lineage_is_tied_by_content(tmp_path):
    model = tmp_path / "made" / "model.safetensors"
    model.parent.mkdir()
    model.write_bytes(b"weights")
    opened(tmp_path / "made").artifact(model, name="cats", kind="model", aliases=["latest"])
    opened(tmp_path / "used").use_artifact(model, name="cats", kind="model")
    made = read_result(tmp_path / "made")["artifacts"]["cats"]
    used = read_result(tmp_path / "used")["inputs"]["cats"]
    assert made["sha256"] == used["sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert (made["file"], made["aliases"], used["file"]) == ("model.safetensors", ["latest"], str(model))


def test_what_cannot_be_read_or_written(tmp_path):
    (tmp_path / "result.json").write_text('{"values": ')
    assert read_result(tmp_path) == {}
    opened(tmp_path).summary({"a": 1})
    assert read_result(tmp_path)["values"]["a"]["value"] == 1
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="Cannot write to the output folder"):
        opened(tmp_path / "file")


def test_the_config_group_builds_it(tmp_path, repository):
    config = {"data": {"_target_": "nothing.that.exists"}}
    node = {"_target_": yaml.safe_load((repository / "configs/tracking/local.yaml").read_text())["_target_"]}
    build(node, output_dir=tmp_path, job_type="train", name="n", config=config).finish()
    assert read_result(tmp_path)["config"] == config
    assert not (tmp_path / "wandb").exists()
