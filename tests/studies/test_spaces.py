"""The picture of the study of spaces: it shows the runs that have both numbers, with short names."""

from pathlib import Path

from PIL import Image

from experiments.studies.spaces.figure import drawn, points, short
from experiments.studies.spaces.tables import baseline_of, tables
from wplus.core.files import write_json
from wplus.sweeps.members import Member
from wplus.sweeps.spec import Spec


def member(space: str, **values: float) -> Member:
    entries = {name.replace("_", "/", 1): {"value": value, "interval": [value - 1, value + 1]}
               for name, value in values.items()}  # fmt: skip
    asked = {"space": space, "inverter.num_steps": 150}
    return Member(Path(space), "edit", "finished", asked, entries)


def test_runs_with_both_numbers_are_drawn(tmp_path):
    members = [member("w", invert_psnr_db=20.0, edit_editable=0.5), member("s", invert_psnr_db=25.0)]
    found = points(members)
    assert found == {"w": {"invert/psnr_db": (20.0, (19.0, 21.0)), "edit/editable": (0.5, (-0.5, 1.5))}}
    with Image.open(drawn(found, tmp_path / "picture.png")) as image:
        assert image.size == (880, 605)
        assert len(image.convert("RGB").getcolors(2**20)) > 50


def test_names_keep_what_differs():
    assert short("space=f16/w+ inverter=preconditioned inverter.num_steps=150 pivot=null prior=null") == "f16/w+"
    assert short("space=w+ inverter.num_steps=600") == "w+ steps=600"
    assert short("space=pn+ inverter=preconditioned inverter.num_steps=150 prior=0.03") == "pn+ prior=0.03"
    tuned = "space=w inverter=pti inverter.num_steps={} pivot=preconditioned pivot.num_steps=100"
    assert [short(tuned.format(steps)) for steps in (5, 150)] == ["w inverter=pti steps=5", "w inverter=pti steps=150"]


def test_an_inversion_is_told_with_what_followed_from_it(tmp_path):
    stages = [{"verb": "invert", "points": [{"space": "w"}, {"space": "w+"}]},
              {"verb": "edit", "overrides": ["latents={invert}"]},
              {"verb": "edit", "name": "channel_edits", "overrides": ["latents={invert}"], "where": {"space": ["w"]}},
              {"verb": "evaluate", "name": "paths", "overrides": ["latents={invert}"]},
              {"verb": "consistency", "axes": {"space": ["w"]}}]  # fmt: skip
    jobs = Spec.of({"stages": stages}, name="x").jobs()
    for number, job in enumerate(jobs):
        name = {"invert": "invert/psnr_db", "consistency": "consistency/lec_accessory=5_per_edit"}
        entry = {name.get(job.stage.verb, "edit/editable"): {"value": number / 8, "interval": [0, 1]}}
        asked = {"space": job.point.get("space")}
        write_json(tmp_path / job.id / "result.json", {"status": "finished", "config": asked, "values": entry})
        if job.stage.verb == "invert":
            psnr = {f"{image}": {"psnr_db": image - 2 * number, "seconds": None} for image in range(8)}
            write_json(tmp_path / job.id / "table.json", {"rows": psnr})
        if job.stage.name == "paths":
            folder, method = tmp_path / job.id / "interpolation", f"{asked['space']}_lerp"
            write_json(
                folder / "table.json", {"means": {method: {"tortuosity_seen": {"value": number, "interval": None}}}}
            )
            rows = [f"{method},{pair},{pair + number},{pair},{2 * pair}" for pair in range(8)]
            lines = ["method,pair,relative_ppl,tortuosity,step_cv", *rows, "cross_dissolve,0,9,9,9"]
            (folder / "rows.csv").write_text("\n".join(lines))
    found = tables(jobs, {job.id: tmp_path / job.id for job in jobs})
    assert [line.split(" | ") for line in found["Inversions and edits"].splitlines()[2:]] == [
        ["| w", "0.0 (0.0 to 1.0)", "0.250 (0.000 to 1.000)", "0.500 (0.000 to 1.000) |"],
        ["| w+", "0.1 (0.0 to 1.0)", "0.375 (0.000 to 1.000)", " |"],
    ]
    assert found["Paths"].splitlines()[2:] == ["| w | 5.00 |", "| w+ | 6.00 |"]
    (line,) = found["Against w+"].splitlines()[2:]
    assert line.split(" | ") == [
        "| w", "+2 (2 to 2), p = 0.008", "-1 (-1 to -1), p = 0.02", "+0 (0 to 0), p = 1", "+0 (0 to 0), p = 1 |"
    ]  # fmt: skip
    assert found["Edits there and back"].splitlines()[2:] == ["| w | 0.88 (0.00 to 1.00) |"]


def test_more_steps_are_compared_with_more_steps():
    names = ["w+", "w+ steps=600", "f16/w+", "f16/w+ steps=600", "w inverter=pti steps=5"]
    assert [baseline_of(name, names) for name in names] == ["w+", "w+", "w+", "w+ steps=600", "w+"]
