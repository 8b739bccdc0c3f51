"""Weights & Biases, offline and read back; the online path with a stand-in for the server's client."""

import json
import os
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wandb
from PIL import Image

from wplus.config import build
from wplus.core.metric_result import MetricInfo
from wplus.errors import UserError
from wplus.tracking import Tracker, wandb_start, weights_and_biases
from wplus.tracking.local import read_records, read_result
from wplus.tracking.tracker import KIMG
from wplus.tracking.wandb_parts import Parts

CORE = Path(wandb.__file__).parent / "bin" / "wandb-core"


def opened(folder: Path, **changes: Any) -> Tracker:
    run = {"output_dir": folder, "job_type": "train", "name": "n", "project": "p", **changes}
    return weights_and_biases.open_tracker(**run)


def inspected(path: Path) -> list[dict[str, Any]]:
    command = [str(CORE), "leet", "inspect", "--json", "--no-observability", "--run-file", str(path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def settled(path: Path, seconds: float = 30) -> list[dict[str, Any]]:
    """Records of a file once it has stopped changing: W&B's service may still be writing after `finish`."""
    deadline = time.monotonic() + seconds
    before: list[dict[str, Any]] = []
    while time.monotonic() < deadline:
        found = inspected(path)
        if found == before and any(record["type"] == "run" for record in found):
            return found
        before = found
        time.sleep(0.05)
    return before


def records(folder: Path) -> list[dict[str, Any]]:
    """Contents of the offline runs below `folder`, in the order of their start."""
    paths = sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))
    return [record for path in paths for record in settled(path)]


def of_type(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [record[kind] for record in found if record["type"] == kind]


@pytest.fixture
def own_folders(monkeypatch):
    """Environment of a user who has set none of W&B's folders."""
    for variable in ("WANDB_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "WANDB_CONFIG_DIR"):
        monkeypatch.delenv(variable)


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path)
    return path


def test_offline_run_read_back(tmp_path, own_folders, picture):
    config = {"data": {"_target_": "x.y", "size": None}, "betas": [0.0, 0.99]}
    with opened(tmp_path, group="study", tags=["cats", "t" * 80], notes="python train.py", config=config) as tracker:
        tracker.use_artifact(None, name="cats", kind="dataset", metadata={"fingerprint": "f"})
        tracker.log({"train/loss": 1.0}, kimg=0.5)
        tracker.log({"train/loss": 2.0}, kimg=1.0)
        tracker.image("samples/fixed", picture, caption="a cat", kimg=1.0)
        tracker.table("pairs", ["name", "picture"], [["a", picture]])
        tracker.histogram("logits", [1.0, 2.0], kimg=1.0)
        tracker.log_message("All is well.", kimg=1.0)
        tracker.log_message("Diversity fell.", level="warning", kimg=1.0)
        tracker.artifact(picture, name="my model", kind="model", aliases=["latest"], metadata={"kimg": 1})
        tracker.summary({"val/fd": {"value": 3.0, "protocol": {}}, "derived/gamma": {"value": 1.0}})
    found = records(tmp_path)

    (run,) = of_type(found, "run")
    assert (run["project"], run["job_type"], run["run_group"], run["notes"]) == (
        "p",
        "train",
        "study",
        "python train.py",
    )
    assert run["tags"] == ["cats", "t" * 64]
    assert run["config"]["update"]["data"] == {"_target_": "x.y", "size": None}
    rows = [row["item"] for row in of_type(found, "history")]
    assert [(row[KIMG], row["train/loss"]) for row in rows[:2]] == [(0.5, 1.0), (1.0, 2.0)]
    assert any(row.get("samples/fixed.caption") == "a cat" for row in rows)
    (axis,) = [metric for metric in of_type(found, "metric") if metric.get("glob_name") == "*"]
    assert axis["step_metric"] == KIMG
    assert [(item["name"], item["type"], item["aliases"]) for item in of_type(found, "artifact")][-1] == (
        "my-model", "model", ["latest"],
    )  # fmt: skip
    assert {"inputs": {"cats": {"fingerprint": "f", "kind": "dataset"}}} in [
        config["update"] for config in of_type(found, "config")
    ]
    assert {"derived": {"gamma": 1}} in [config["update"] for config in of_type(found, "config")]
    assert {"val/fd": 3} in [summary["update"] for summary in of_type(found, "summary")]
    (alert,) = of_type(found, "alert")
    assert (alert["title"], alert["text"], alert["level"]) == ("n at 1 kimg", "Diversity fell.", "WARN")
    assert of_type(found, "exit")[0].get("exit_code", 0) == 0
    assert read_result(tmp_path)["status"] == "finished"


def test_everything_lies_below_the_output_folder_and_the_environment_is_given_back(tmp_path, own_folders, picture):
    with opened(tmp_path) as tracker:
        assert os.environ["WANDB_DATA_DIR"] == str(tmp_path / "wandb" / "data")
        tracker.table("pairs", ["picture"], [[picture]])
    assert not [name for name in os.environ if name in wandb_start._FOLDERS]
    (staged,) = [item["manifest"]["contents"] for item in of_type(records(tmp_path), "artifact")]
    assert all(entry["local_path"].startswith(str(tmp_path)) for entry in staged)


def test_a_folder_that_the_user_chose_stays(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "elsewhere"))
    (tmp_path / "elsewhere").mkdir()
    opened(tmp_path / "run").finish()
    assert list((tmp_path / "elsewhere" / "wandb").glob("offline-run-*"))
    assert os.environ["WANDB_DIR"] == str(tmp_path / "elsewhere")


def logged(tracker: Tracker, kimgs: Sequence[int], picture: Path, *, salt: int = 0) -> None:
    """Log a row, a picture and a histogram at each time."""
    for kimg in kimgs:
        tracker.log({"train/loss": kimg + salt / 10}, kimg=kimg)
        tracker.image("samples/fixed", picture, caption=f"{kimg}", kimg=kimg)
        tracker.histogram("probe/logits", [0.0, kimg], kimg=kimg)


def history(folder: Path) -> list[tuple[int, float, float]]:
    """Step, kimg and loss of every row that a synchronisation would upload, in order."""
    rows = [row["item"] for row in of_type(records(folder), "history")]
    return [(row["_step"], row[KIMG], row["train/loss"]) for row in rows if "train/loss" in row]


def test_a_continued_run_is_one_true_history(tmp_path, own_folders, picture):
    """Killed at 3 kimg with a checkpoint of 2: everything logged after that is discarded."""
    tracker = opened(tmp_path, artifacts="all")
    logged(tracker, [0, 1, 2], picture)
    tracker.log_message("Diversity fell.", level="warning", kimg=2)
    tracker.artifact(picture, name="model", kind="model", metadata={"nimg": 2000})
    logged(tracker, [3], picture, salt=9)
    tracker.artifact(picture, name="model", kind="model", metadata={"nimg": 3000})
    tracker.finish("failed")
    with opened(tmp_path, artifacts="all") as tracker:
        tracker.rewind(2)
        logged(tracker, [3, 4], picture)
    assert history(tmp_path) == [(1000 * kimg, kimg, kimg) for kimg in range(5)]
    found = records(tmp_path)
    (run,) = of_type(found, "run")
    assert run["run_id"] == (tmp_path / "wandb" / "run-id.txt").read_text().strip()
    rows = [row["item"] for row in of_type(found, "history")]
    assert [row["samples/fixed.caption"] for row in rows] == list("01234")
    assert all(row["probe/logits._type"] == "histogram" for row in rows)
    assert len(of_type(found, "alert")) == 1
    assert [json.loads(item["metadata"]) for item in of_type(found, "artifact")] == [{"nimg": 2000}]


@pytest.mark.parametrize("share", [0, 0.4, 0.99])
@pytest.mark.parametrize("torn", ["wandb/run-id.txt", "wandb/parts.json", "wandb/offline-run-*/run-*.wandb"])
def test_what_a_crash_leaves_of_wandbs_files_neither_stops_nor_doubles_a_run(tmp_path, own_folders, torn, share):
    with opened(tmp_path) as tracker:
        tracker.log({"train/loss": 1}, kimg=1)
    (path,) = tmp_path.glob(torn)
    run_id = (tmp_path / "wandb" / "run-id.txt").read_text()
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with opened(tmp_path) as tracker:
        tracker.rewind(1)
        tracker.log({"train/loss": 2}, kimg=2)
    assert history(tmp_path) == [(1000, 1, 1), (2000, 2, 2)]
    assert [run["run_id"] for run in of_type(records(tmp_path), "run")] == [run_id.strip()]


@pytest.mark.parametrize("content", ["[]", "3", '{"offline-run-1": {"onlin": false}}', '{"a": null}'])
def test_a_note_of_parts_that_says_nothing_is_passed_over(tmp_path, content):
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "parts.json").write_text(content)
    parts = Parts(tmp_path, tmp_path / "wandb" / "own", online=False, next_step=0)
    assert (list(parts.known), parts.first_step) == (["own"], 0)


@pytest.mark.parametrize("change", [{"files": {"a": 3}}, {"files": {"a": "/gone"}}, {"step": "x"}, {"nmae": 1}, {}])
def test_of_the_artifacts_of_earlier_parts_the_whole_ones_are_logged_again(tmp_path, picture, change):
    entry = {"step": 1, "files": {"a": str(picture)}, "aliases": [], "name": "n", "kind": "model", "metadata": {}}
    earlier = {"online": False, "last_step": 1, "artifacts": [{**entry, **change}, 3]}
    (tmp_path / "wandb").mkdir()
    (tmp_path / "wandb" / "parts.json").write_text(json.dumps({"offline-run-1": earlier}))
    parts = Parts(tmp_path, tmp_path / "wandb" / "own", online=False, next_step=0)
    assert parts.artifacts() == ([] if change else [entry])


def test_rows_that_are_replayed_keep_their_time(tmp_path, own_folders):
    with opened(tmp_path) as tracker:
        tracker.log({"train/loss": 1}, kimg=1)
    (row,) = read_records(tmp_path)
    before = row["time"] - 3600
    (tmp_path / "records.jsonl").write_text(json.dumps({**row, "time": before}) + "\n")
    with opened(tmp_path) as tracker:
        tracker.rewind(1)
        tracker.log({"train/loss": 2}, kimg=2)
    first, second = (row["item"] for row in of_type(records(tmp_path), "history"))
    assert first["_timestamp"] == pytest.approx(before, abs=0.01)
    assert second["_timestamp"] - before > 3599


def test_what_was_decided_stands_in_the_configuration(tmp_path, own_folders):
    config = {"space": "auto", "trainer": {"precision": "auto", "devices": 1}}
    with opened(tmp_path, config=config) as tracker:
        tracker.decided({"space": "w", "trainer.precision": "float32"})
    decided = {"space": "w", "trainer": {"precision": "float32", "devices": 1}}
    assert read_result(tmp_path)["config"] == decided
    updates = [each["update"] for each in of_type(records(tmp_path), "config")]
    assert {key: value for each in updates for key, value in each.items() if key in decided} == decided
    assert config["trainer"]["precision"] == "auto"


def test_what_was_uploaded_is_not_logged_again(tmp_path, own_folders, picture):
    with opened(tmp_path) as tracker:
        logged(tracker, [0, 1], picture)
    (part,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    part.with_suffix(".wandb.synced").touch()
    with opened(tmp_path) as tracker:
        tracker.rewind(1)
        logged(tracker, [2], picture)
    assert history(tmp_path) == [(0, 0, 0), (1000, 1, 1), (2000, 2, 2)]
    assert len(of_type(records(tmp_path), "run")) == 2


def test_a_key_that_is_logged_twice_has_two_rows(tmp_path, own_folders, picture):
    with opened(tmp_path) as tracker:
        for caption in "ab":
            tracker.image("edit/filmstrip", picture, caption=caption)
    rows = [row["item"] for row in of_type(records(tmp_path), "history")]
    assert [(row["_step"], row["edit/filmstrip.caption"]) for row in rows] == [(0, "a"), (1, "b")]


def test_without_a_rewind_the_earlier_rows_come_first(tmp_path, own_folders, picture):
    for kimg in (1, 2):
        with opened(tmp_path) as tracker:
            logged(tracker, [kimg], picture)
    assert history(tmp_path) == [(1000, 1, 1), (2000, 2, 2)]


@pytest.mark.parametrize(("artifacts", "versions"), [("none", []), ("last", [2]), ("all", [1, 2])])
def test_versions_of_what_a_run_makes_are_a_choice(tmp_path, own_folders, picture, artifacts, versions):
    with opened(tmp_path, artifacts=artifacts) as tracker:
        for version in (1, 2):
            picture.write_bytes(bytes([version]))
            tracker.artifact(picture, name="model", kind="model", metadata={"version": version})
    found = of_type(records(tmp_path), "artifact")
    assert [json.loads(item["metadata"])["version"] for item in found] == versions


def test_an_unknown_choice_of_artifacts_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match=r"tracking.artifacts must be one of none, last, all, got 'best'"):
        opened(tmp_path / "run", artifacts="best")
    assert not (tmp_path / "run").exists()


def test_the_console_is_kept(tmp_path, own_folders):
    with opened(tmp_path):
        print("Training on 9 cats")
    assert "Training on 9 cats" in "".join(line["line"] for line in of_type(records(tmp_path), "output_raw"))


def test_runs_in_one_process_stay_apart(tmp_path, own_folders):
    for name in ("a", "b"):
        with opened(tmp_path / name, name=name) as tracker:
            tracker.log({"value": 1.0})
    (first,), (second,) = (of_type(records(tmp_path / name), "run") for name in ("a", "b"))
    assert first["run_id"] != second["run_id"]
    assert (first["display_name"], second["display_name"]) == ("a", "b")


def test_a_sweep_agents_id_wins_and_its_run_is_whole(tmp_path, own_folders, picture, monkeypatch):
    """Also in the folder of a run that has been uploaded: the agent's run gets all rows, the other run stays."""
    tracker = opened(tmp_path)
    logged(tracker, [0, 1], picture)
    tracker.finish()
    (earlier,) = (tmp_path / "wandb").glob("offline-run-*")
    (earlier / f"run-{earlier.name.rpartition('-')[2]}.wandb.synced").touch()
    monkeypatch.setenv("WANDB_RUN_ID", "fromagent")
    tracker = opened(tmp_path)
    tracker.rewind(1)
    tracker.finish()
    (own,) = (tmp_path / "wandb").glob("offline-run-*-fromagent")
    (file,) = own.glob("*.wandb")
    rows = [row["item"] for row in of_type(settled(file), "history")]
    assert [row[KIMG] for row in rows if "train/loss" in row] == [0, 1]
    assert earlier.is_dir()
    assert (tmp_path / "wandb" / "run-id.txt").read_text() == "fromagent\n"


def test_the_environment_says_what_a_run_is_called(tmp_path, own_folders, monkeypatch):
    for variable, value in {"NAME": "mine", "RUN_GROUP": "ours", "PROJECT": "other", "TAGS": "a,b"}.items():
        monkeypatch.setenv(f"WANDB_{variable}", value)
    opened(tmp_path, group="study", tags=["c"]).finish()
    (run,) = of_type(records(tmp_path), "run")
    assert (run["display_name"], run["run_group"], run["project"]) == ("mine", "ours", "other")
    assert run["tags"] == ["a", "b"]


def test_what_varies_is_pinned_and_the_best_of_a_curve_is_told(tmp_path, own_folders):
    swept = {"space": "w+", "inverter.num_steps": 3}
    infos = {"val/fd": MetricInfo(meaning="An a.", direction="lower"), "val/x": MetricInfo(meaning="An x."),
             "val/recall": MetricInfo(meaning="A b.", direction="higher")}  # fmt: skip
    tracker = opened(tmp_path, swept=swept)
    tracker.log({"val/fd": 2.0, "val/recall": 0.5, "val/x": 1.0}, kimg=1)
    tracker.finish()
    with opened(tmp_path, swept=swept) as tracker:  # continued, in a process of its own
        tracker.rewind(1)
        tracker.describe(infos)
        tracker.log({"val/fd": 3.0, "val/recall": 0.7, "val/x": 1.0}, kimg=2)
    found = records(tmp_path)
    (run,) = of_type(found, "run")
    assert run["config"]["update"]["swept/inverter/num_steps"] == 3
    updates = [each["update"] for each in of_type(found, "config")]
    pinned = [each["_wandb.pinned_keys"] for each in updates if "_wandb.pinned_keys" in each]
    assert pinned == [["swept/space", "swept/inverter/num_steps"]]
    summaries = {key: value for each in of_type(found, "summary") for key, value in each["update"].items()}
    assert {key: summaries.get(key) for key in ("val/fd_min", "val/recall_max", "val/fd_max", "val/x_min")} == {
        "val/fd_min": 2.0, "val/recall_max": 0.7, "val/fd_max": None, "val/x_min": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "status", "code"), [(RuntimeError, "failed", 1), (KeyboardInterrupt, "interrupted", 130)]
)
def test_a_run_that_ends_early_says_so(tmp_path, own_folders, error, status, code):
    with pytest.raises(error), opened(tmp_path):
        raise error
    found = records(tmp_path)
    assert of_type(found, "exit")[0]["exit_code"] == code
    assert {"status": status} in [summary["update"] for summary in of_type(found, "summary")]
    assert read_result(tmp_path)["status"] == status


def test_a_run_without_kimg_keeps_wandbs_own_axis(tmp_path, own_folders):
    with opened(tmp_path) as tracker:
        tracker.log({"a": 1.0})
    assert of_type(records(tmp_path), "metric") == []


def test_disabled_accepts_everything(tmp_path, own_folders, picture, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with opened(tmp_path) as tracker:
        tracker.use_artifact(picture, name="m", kind="model")
        tracker.log({"a": 1.0}, kimg=1.0)
        tracker.image("i", picture)
        tracker.artifact(picture, name="m", kind="model")
        tracker.summary({"a": 1.0})
    assert records(tmp_path) == []
    assert read_result(tmp_path)["values"]["a"]["value"] == 1.0


def test_the_config_group_builds_it(tmp_path, own_folders, repository):
    from omegaconf import OmegaConf

    node = OmegaConf.load(repository / "configs" / "tracking" / "wandb.yaml")
    build(node, output_dir=tmp_path, job_type="invert", name="n", config={"a": {"_target_": "b"}}).finish()
    assert of_type(records(tmp_path), "run")[0]["project"] == "wplus"


@pytest.mark.parametrize(
    ("netrc", "environment", "expected"),
    [
        ("", {}, False),
        ("machine example.org login user password secret\n", {}, False),
        ("machine api.wandb.ai login user password secret\n", {}, True),
        ("machine our.server login user password secret\n", {"WANDB_BASE_URL": "https://our.server:8080"}, True),
        ("not a netrc file", {}, False),
        ("", {"WANDB_API_KEY": "secret"}, True),
    ],
)
def test_an_account_is_a_key_or_a_line_in_netrc(tmp_path, monkeypatch, netrc, environment, expected):
    (tmp_path / "netrc").write_text(netrc)
    for variable in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in {"NETRC": str(tmp_path / "netrc"), **environment}.items():
        monkeypatch.setenv(variable, value)
    assert wandb_start.has_account() is expected


class FakeRun:
    """The part of wandb.Run that is used online."""

    offline, disabled, dir, url, step, summary = False, False, "run-1/files", "https://server/run", 0, {}

    def __init__(self) -> None:
        self.used: list[wandb.Artifact] = []
        self.config: dict[str, Any] = {}
        self.config_update = self.config.update
        self.config = type("Config", (), {"update": lambda *_, **__: None})()

    def use_artifact(self, artifact):
        self.used.append(artifact)

    def finish(self, exit_code):
        self.exit_code = exit_code


@pytest.fixture
def server(monkeypatch):
    """wandb.init that records its modes and returns stand-ins; `server.down` makes going online fail."""

    class Server:
        down, modes, runs = False, [], []

        def init(self, mode, **_):
            self.modes.append(mode)
            if self.down and mode == "online":
                raise wandb.errors.CommError("no route\nto host")
            self.runs.append(FakeRun())
            return self.runs[-1]

    Server.modes, Server.runs = [], []
    fake = Server()
    monkeypatch.setattr(wandb, "init", fake.init)
    monkeypatch.setattr(wandb, "teardown", lambda: None)
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    return fake


def test_online_uses_the_artifact_by_content(tmp_path, server, picture):
    sink = weights_and_biases.WeightsAndBiases(
        weights_and_biases.Run(output_dir=tmp_path, job_type="invert", name="n"), project="p"
    )
    sink.use_artifact(picture, name="m", kind="model")
    sink.finish()
    assert server.modes == ["online"]
    (used,) = server.runs[0].used
    assert list(used.manifest.entries) == ["a.png"]
    assert used.digest == artifact_of(picture, "model").digest


def artifact_of(path: Path, kind: str, metadata: Any = None) -> wandb.Artifact:
    files = weights_and_biases._files(path, kind)
    return weights_and_biases._artifact(files, name=kind, kind=kind, metadata=metadata)


def test_a_server_out_of_reach_makes_the_run_offline(tmp_path, server, caplog):
    server.down = True
    opened(tmp_path).finish()
    assert server.modes == ["online", "offline"]
    assert "no route" in caplog.text
    opened(tmp_path / "next").finish()  # another run: the server may be back
    assert server.modes == ["online", "offline"] * 2


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("WANDB_MODE", "ofline", "mode='ofline': Input should be 'online', 'offline'"),
        ("WANDB_PROJECT", "a/b?c", "Invalid project name 'a/b?c'"),
        ("WANDB_TAGS", "a,,b", "Tag at index 1 is empty"),
        ("WANDB_RUN_ID", "../x", "Run ID cannot contain the characters"),
    ],
)
def test_what_wandb_itself_refuses_is_one_sentence(tmp_path, own_folders, monkeypatch, variable, value, words):
    monkeypatch.setenv(variable, value)
    with pytest.raises(UserError, match="W&B refuses a setting .* WANDB_") as error:
        opened(tmp_path)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_a_sweep_waits_once_for_a_server_out_of_reach(tmp_path, server):
    server.down = True
    for name in ("a", "b"):
        opened(tmp_path / name, sweep_dir=tmp_path / "sweep").finish()
    assert server.modes == ["online", "offline", "offline"]
    os.utime(tmp_path / "sweep" / ".wandb-unreachable", (0, 0))  # long ago
    opened(tmp_path / "c", sweep_dir=tmp_path / "sweep").finish()
    assert server.modes[3:] == ["online", "offline"]


def test_a_data_set_is_known_by_its_fingerprint_and_stays_where_it_is(tmp_path):
    def artifact(folder, fingerprint):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "image.png").write_bytes(b"image")
        return artifact_of(tmp_path / folder, "dataset", {"fingerprint": fingerprint})

    assert artifact("here", "a").digest == artifact("there", "a").digest != artifact("here", "b").digest
    assert list(artifact("here", "a").manifest.entries) == ["metadata.json"]
    assert artifact("here", "a").metadata == {"fingerprint": "a"}


def test_a_folder_of_latents_is_stored_with_its_files(tmp_path):
    (tmp_path / "latents").mkdir()
    (tmp_path / "latents" / "a.safetensors").write_bytes(b"a")
    artifact = artifact_of(tmp_path / "latents", "latents")
    assert list(artifact.manifest.entries) == ["a.safetensors"]


def test_results_come_with_interval_meaning_and_protocol(tmp_path, own_folders):
    """W&B's summary has bare numbers; the rest is in a table."""
    with opened(tmp_path) as tracker:
        info = {"meaning": "How far.", "unit": "px", "direction": "lower"}
        measured = {"value": 3.0, "protocol": {"num": 5}, "interval": (2.0, 4.0), **info}
        tracker.summary({"fd_net": measured, "invert/psnr_db": {"value": 20, "protocol": {"px": 32}}})
        tracker.summary({"derived/gamma": {"value": 1.0, "protocol": {"why": "given"}}, "train/kimg": 7.0})
        tracker.methods("compare/methods", {"w": {"l2": measured}, "z": {"l2": measured}})
    (path,) = tmp_path.glob("wandb/offline-run-*/files/media/table/results*.json")
    content = json.loads(path.read_text())
    assert content["columns"] == ["name", "value", "low", "high", "unit", "direction", "meaning", "protocol"]
    first, second = content["data"]
    assert first == ["fd_net", 3.0, 2.0, 4.0, "px", "lower", "How far.", '{"num": 5}']
    assert second == ["invert/psnr_db", 20.0, None, None, "", "", "", '{"px": 32}']
    (path,) = tmp_path.glob("wandb/offline-run-*/files/media/table/compare/methods*.json")
    content = json.loads(path.read_text())
    assert [row[:3] for row in content["data"]] == [["w", "l2", 3.0], ["z", "l2", 3.0]]


def test_a_run_without_results_has_no_table_of_them(tmp_path, own_folders):
    with opened(tmp_path) as tracker:
        tracker.summary({"kimg": 1.0})
    assert not list(tmp_path.glob("wandb/offline-run-*/files/media/table/*"))
