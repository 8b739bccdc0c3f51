"""The commands of the first minute: doctor, estimate, completion, demo."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from wplus.__main__ import main
from wplus.commands import demo, doctor
from wplus.commands.completion import candidates
from wplus.commands.compose import Composer, choices_kept
from wplus.commands.estimate import Measured, configuration, report
from wplus.errors import UserError

# A step takes a tenth of a second.
FEW = ["probes=[]", "num_samples=4", "training.hparams.batch_size=4", "--seconds", "3"]


def test_doctor_finds_what_is_here(capsys):
    assert main(["doctor", "--quick"]) == 0
    shown = capsys.readouterr().out
    assert re.search(r"^  torch +\d", shown, re.MULTILINE)
    assert re.search(r"^  models +cats32, .*cats64", shown, re.MULTILINE)
    assert shown.rstrip().endswith("Everything that is needed is here.")
    assert "\n! " not in shown


def test_doctor_says_what_is_wrong(monkeypatch, capsys):
    def refuse():
        raise UserError("mp4 needs ffmpeg, and there is none.")

    monkeypatch.setattr("wplus.core.video.find_ffmpeg", refuse)
    monkeypatch.setattr(doctor, "bundled_models", dict)
    assert main(["doctor", "--quick"]) == 1
    shown = capsys.readouterr().out
    assert re.search(r"^! ffmpeg +mp4 needs ffmpeg", shown, re.MULTILINE)
    assert re.search(r"^! models +none", shown, re.MULTILINE)


def test_doctor_looks_for_weights_without_a_network():
    found = {finding.what: finding for finding in doctor.weights()}
    assert found["extractor=effnet_lite0"].verdict == found["perceptual=effnet_lite0"].verdict == "ok"
    lacking = found["perceptual=lpips_vgg"]
    assert lacking.verdict == "absent"
    assert "download.pytorch.org" in lacking.text
    assert {"identity=arcface", "extractor=inception"} <= found.keys()


def test_doctor_inverts_a_sample_of_its_own(monkeypatch):
    """A search that makes no progress is noticed; how close a good one gets depends on the generator."""
    monkeypatch.setattr(doctor, "NUM_STEPS", 30)
    (finding,) = doctor.inversion("cpu")
    assert finding.verdict == "ok", finding.text
    monkeypatch.setattr(doctor, "NUM_STEPS", 1)
    (finding,) = doctor.inversion("cpu")
    assert finding.verdict == "wrong"
    assert re.search(r"PSNR \d+\.\d dB on its own sample, -?0\.0 dB above the start of the search", finding.text)


def test_an_estimate_of_a_tiny_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["estimate", "train", "debug=quick", *FEW]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["training", "time", "memory", "disk"]
    assert "0.8 kimg" in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_an_estimate_is_arithmetic():
    """Steps of 10 images take 0.5 s, every 16th of them 1.3, and the first 9; a snapshot 3 s. The 32 steps that count,
    which are whole periods, take 17.6 s.
    """  # fmt: skip
    steps = [(10, 9.0)]
    for number in range(2, 36):
        steps.append((10 * number, steps[-1][1] + (1.3 if number % 16 == 3 else 0.5)))
    found = Measured(steps, [7.0, 3.0], start=2.0, memory_gib=1.5, checkpoint=2 * 2**20, model=2**20, pictures=2**19)
    found.what = "a net"
    schedule = {"kimg": 40, "minutes": None, "snapshot_kimg": 20, "keep_checkpoints": 2}
    training, time, memory, disk = report(found, schedule)
    assert training == "training  a net, 40 kimg"
    assert "37 min: 37 min of steps at 18.2 images/s (measured over 34 steps)" in time
    assert "4 snapshots of 3.0 s" in time
    assert "1.50 GiB" in memory
    assert disk.startswith("disk      10 MiB: 3 checkpoint(s) of 2 MiB, 2 model(s) of 1 MiB, pictures of 2 MiB")
    found.num_models = 1
    first, *_, disk = report(found, {**schedule, "minutes": 1})
    assert first.endswith("1.091 kimg")
    assert disk.startswith("disk      4 MiB: 1 checkpoint(s) of 2 MiB, 1 model(s) of 1 MiB")  # at its end
    assert "fewer than 16" in report(Measured(steps[:5], [3.0]), schedule)[1]
    with pytest.raises(UserError, match="Fewer than two steps"):
        report(Measured(steps[:1], [3.0]), schedule)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["train", "experiment=nothing"], "experiment must be one of"),
        (["train", "gamma=1"], "There is no key 'gamma'"),
        (["train", "--seconds", "0"], "--seconds must be above 0, got 0."),
    ],
)
def test_what_makes_no_training_is_refused(arguments, word, capsys):
    assert main(["estimate", *arguments]) == 1
    said = capsys.readouterr().err
    assert word in said
    assert said.count("\n") == 1


def test_an_estimate_knows_the_keys_of_the_training():
    assert configuration(["experiment=cats32", "schedule.kimg=7"])["schedule"]["kimg"] == 7


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("wplus inv", ["invert "]),
        ("wplus invert inverter=p", ["inverter=preconditioned ", "inverter=pti "]),
        ("wplus invert inverter.num_s", ["inverter.num_steps="]),
        ("wplus invert inverter=pti inverter.num_o", ["inverter.num_others="]),
        ("wplus evaluate metrics=[fd,kd", ["metrics=[fd,kd"]),
        ("wplus evaluate metrics=[fd,ppl2", ["metrics=[fd,ppl2_wend"]),
        ("wplus invert inverter@inverter.pivot=qu", ["inverter@inverter.pivot=quick "]),
        ("wplus interpolate checkpoint=cats32_o", ["checkpoint=cats32_outline "]),
        ("wplus estimate train model=stylegan", ["model=stylegan1 ", "model=stylegan2 "]),
        ("wplus train --h", ["--help "]),
        ("wplus train schedule.k", ["schedule.kimg=", "schedule.keep_checkpoints="]),
        ("wplus invert seed=", []),
        ("wplus convert ", []),
        ("wplus nothing ", []),
    ],
)
def test_words_are_completed(line, expected):
    words = line.split() + ([""] if line.endswith(" ") else [])
    assert candidates(words) == expected


def test_bash_completes(tmp_path):
    program = tmp_path / "wplus"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m wplus "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    script = 'eval "$(wplus completion bash)"; COMP_LINE="wplus invert inverter=p"; COMP_POINT=${#COMP_LINE}; _wplus; '
    script += 'printf "<%s>" "${COMPREPLY[@]}"; complete -p wplus'
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("<preconditioned ><pti >")
    assert "-F _wplus wplus" in done.stdout


def test_every_step_of_the_demo_composes(tmp_path):
    """The demo itself takes minutes: `make demo`. It inverts with the model it trained, unless another is given."""
    latents = tmp_path / "invert" / "w" / "latents"
    latents.mkdir(parents=True)
    for name in "ab":
        (latents / f"{name}.safetensors").touch()
    composer = Composer()
    with choices_kept():
        commands = [command for _, command in demo.steps(tmp_path, None, 1.0, 2)]
        found = [composer.config(command[0], command[1:]) for command in commands[:-1]]
    verbs = [command[0] for command in commands]
    assert verbs == ["train", "invert", "invert", "invert", "interpolate", "evaluate", "report"]
    assert {config["checkpoint"] for config in found[1:]} == {f"{found[0]['run_dir']}/model.safetensors"}
    demo.write_about(tmp_path, None)
    assert "this generator" in (tmp_path / "about.json").read_text()
    demo.write_about(tmp_path, "cats32")
    assert "cats32, which was trained before" in (tmp_path / "about.json").read_text()


def test_a_step_of_the_demo_that_fails_ends_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "steps", lambda *_: iter([("nothing", ["nothing"]), ("more", ["report"])]))
    assert main(["demo"]) == 1
    assert Path("runs/demo/about.json").is_file()
