"""Draw reconstruction against editability for each space of the study.

python -m experiments.studies.spaces.figure runs/sweeps/spaces
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from experiments.run_command import run_script
from wplus.core.files import atomic_write
from wplus.sweeps.members import Member, names_of, read_members, varying

NUMBERS = {"invert/psnr_db": "PSNR of the inversion, dB", "edit/editable": "other factors kept by edits that arrive"}
FOLDER = Path(__file__).parent
USUAL = 150  # steps of an inversion


def main() -> None:
    """Read the sweep, write pareto.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the sweep")
    parser.add_argument("--output", type=Path, default=FOLDER / "pareto.png", help="(default: %(default)s)")
    options = parser.parse_args()
    members = read_members([options.folder])
    print(drawn(points(members), options.output))


def points(members: Sequence[Member]) -> dict[str, Mapping[str, tuple[float, tuple[float, float]]]]:
    """Name -> number -> value and interval over images, for the runs that have both numbers."""
    names = [short(name) for name in names_of(members, varying(members))]
    return {
        name: {number: (member.values[number]["value"], tuple(member.values[number]["interval"])) for number in NUMBERS}
        for name, member in zip(names, members, strict=True)
        if all(number in member.values for number in NUMBERS)
    }


def short(name: str) -> str:
    """Shorten a name by what most have in common: "space=pn+ inverter=preconditioned prior=0.03" -> "pn+ prior=0.03".

    The number of steps is kept where the generator is tuned and where it is unusual.
    """
    words = [word.removeprefix("space=") for word in name.split()]
    silent = ("prior=0", "prior=0.0", *(() if "inverter=pti" in words else (f"inverter.num_steps={USUAL}",)))
    kept = [word for word in words if not word.startswith("pivot") and not word.endswith(("=null", "preconditioned"))
            and word not in silent]  # fmt: skip
    return " ".join(sorted(kept, key=lambda word: "=" in word)).replace("inverter.num_steps", "steps")


def drawn(found: Mapping[str, Mapping[str, tuple[float, tuple[float, float]]]], path: Path) -> Path:
    """Draw crosses with 95 % intervals; upper right is better."""
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    colours = mpl.colormaps["tab20"].colors  # type: ignore[attr-defined]
    for index, (name, numbers) in enumerate(found.items()):
        (x, across), (y, along) = (numbers[number] for number in NUMBERS)
        spans = [[[x - across[0]], [across[1] - x]], [[y - along[0]], [along[1] - y]]]
        axes.errorbar(x, y, xerr=spans[0], yerr=spans[1], fmt="o", ms=4, lw=1, color=colours[index % 20])
        axes.annotate(name, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set(xlabel=NUMBERS["invert/psnr_db"], ylabel=NUMBERS["edit/editable"])
    axes.margins(x=0.22)
    axes.grid(alpha=0.3)
    return atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=110))


if __name__ == "__main__":
    run_script(main)
