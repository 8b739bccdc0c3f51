"""The picture of the study of spaces: it shows the runs that have both numbers, under short names."""

from pathlib import Path

from PIL import Image

from experiments.studies.spaces.figure import drawn, points, short
from wplus.sweeps.members import Member


def member(space: str, **values: float) -> Member:
    entries = {name.replace("_", "/", 1): {"value": value, "interval": [value - 1, value + 1]}
               for name, value in values.items()}  # fmt: skip
    asked = {"space": space, "inverter.num_steps": 300 if space == "w" else 100}
    return Member(Path(space), "edit", "finished", asked, entries)


def test_runs_with_both_numbers_are_drawn(tmp_path):
    members = [member("w", invert_psnr_db=20.0, edit_editable=0.5), member("s", invert_psnr_db=25.0)]
    found = points(members)
    assert found == {"w": {"invert/psnr_db": (20.0, (19.0, 21.0)), "edit/editable": (0.5, (-0.5, 1.5))}}
    with Image.open(drawn(found, tmp_path / "picture.png")) as image:
        assert image.size == (880, 605)
        assert len(image.convert("RGB").getcolors(2**20)) > 50


def test_names_keep_what_differs():
    assert short("space=f16/w+ inverter=staged first.num_steps=200") == "f16/w+ inverter=staged"
    assert short("space=pn+ inverter=preconditioned inverter.num_steps=300 prior=0.03") == "pn+ prior=0.03"
