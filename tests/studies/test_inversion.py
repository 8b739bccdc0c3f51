"""The study of inverters: its tables say what the folders say; pictures whose truth is known are counted."""

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from experiments.studies.inversion import known_truth, tables
from wplus.config import CONFIG_FOLDER
from wplus.core.files import write_json
from wplus.core.images import save_png
from wplus.sweeps.spec import Job, Spec, read_spec

WAYS = [
    {"checkpoint": "x", "space": "w+", "inverter": "preconditioned", "inverter.num_steps": 150},
    {"checkpoint": "x", "space": "w+", "inverter": "hybrid", "inverter.num_steps": 50},
    {"checkpoint": "y", "space": "w+", "inverter": "restyle"},
]
STAGES = [
    {"verb": "directions"},
    {"verb": "invert", "points": WAYS},
    {"verb": "edit", "overrides": ["directions={directions}", "latents={invert}"]},
    {"verb": "consistency", "overrides": ["directions={directions}"], "points": WAYS[1:]},
]
RED, BLUE = (255, 0, 0), (0, 0, 255)
ENTRY = {"invert": "invert/psnr_db", "edit": "edit/editable", "consistency": "consistency/lec_accessory=5_per_edit"}


@pytest.fixture
def of(tmp_path):
    """Stages of every method, whose runs have written their numbers: that of the n-th job is n / 8."""
    jobs = Spec.of({"stages": STAGES}, name="x").jobs()
    for number, job in enumerate(jobs):
        if job.stage.verb in ENTRY:
            entry = {"value": number / 8, "interval": [0, 1]}
            write_run(tmp_path / job.id, job, {ENTRY[job.stage.verb]: entry}, number)
    return tables.by_stage(jobs, {job.id: tmp_path / job.id for job in jobs})


def write_run(folder: Path, job: Job, numbers: dict, number: int) -> None:
    write_json(folder / "result.json", {"status": "finished", "config": dict(job.point), "values": numbers})
    if job.stage.verb == "invert":
        rows = {f"{image}": {"psnr_db": image - 2 * number, "seconds": None} for image in range(8)}
        write_json(folder / "table.json", {"rows": rows})
        for part, colour in (("targets", BLUE), ("images", RED)):
            for image in range(10):
                save_png(
                    folder / part / f"{image}.png", torch.tensor(colour)[:, None, None].expand(3, 8, 8) / 127.5 - 1
                )


def test_a_way_is_told_with_its_edits(of):
    found = tables.tables(of)
    assert [line.split(" | ") for line in found["Inversions and edits"].splitlines()[2:]] == [
        ["| preconditioned, w+", "0.1 (0.0 to 1.0)", "0.500 (0.000 to 1.000) |"],
        ["| hybrid, w+, 50 steps", "0.2 (0.0 to 1.0)", "0.625 (0.000 to 1.000) |"],
        ["| restyle, w+", "0.4 (0.0 to 1.0)", "0.750 (0.000 to 1.000) |"],
    ]
    assert found["Edits there and back"].splitlines()[2:] == [
        "| hybrid, w+, 50 steps | 0.88 (0.00 to 1.00) |", "| restyle, w+ | 1.00 (0.00 to 1.00) |"
    ]  # fmt: skip


def test_differences_are_paired_with_the_baseline(of):
    lines = tables.tables(of)[f"Against {tables.BASELINE}"].splitlines()[2:]
    assert lines == [  # all eight signs alike, twice: 2 / 2^8 each, two comparisons
        "| hybrid, w+, 50 steps | -2 (-2 to -2), p = 0.02 |", "| restyle, w+ | -4 (-4 to -4), p = 0.02 |"
    ]  # fmt: skip
    del of[tables.BASELINE]["invert"]
    assert len(tables.tables(of)[f"Against {tables.BASELINE}"].splitlines()) == 2 + 2


def test_ways_have_names_of_their_own():
    inversions = read_spec(CONFIG_FOLDER / "sweep" / "inverters.yaml").stages[1]
    names = [tables.name_of(point) for point in inversions.points]
    assert {"hybrid, w+, 50 steps", "lbfgs from best_of_n, w+", tables.BASELINE} <= set(names)
    assert len(set(names)) == len(names)


def test_the_picture_has_the_target_first(of, tmp_path):
    tables.draw({name: folders["invert"] for name, folders in of.items()}, tmp_path)
    with Image.open(tmp_path / "grid.png") as image:
        picture = image.convert("RGB")
    shown = {colour: num for num, colour in picture.getcolors(2**20)}
    assert shown[RED] == 3 * shown[BLUE] > 0
    left = {colour for _, colour in picture.crop((0, 0, picture.width // 5, picture.height)).getcolors(2**20)}
    assert left & {RED, BLUE} == {BLUE}
    assert not (tmp_path / "convergence.png").exists()  # no run has a history


def test_known_truth_counts_what_reaches_35_db(tmp_path):
    rows = {name: {"psnr_db": psnr} for name, psnr in (("a", 34.9), ("b", 35.0), ("c", 60.0), ("d", 40.0))}
    means = {"latent_error": {"value": 0.02, "interval": [0.01, 0.03]}}
    (tmp_path / "table.json").write_text(json.dumps({"rows": rows, "means": means}))
    assert known_truth.summary(tmp_path).startswith("3 of 4 pictures (75.0%) reach 35 dB; the lowest has 34.9")
