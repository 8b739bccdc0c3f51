"""Print the table of the study and draw its numbers over the perceptual weight, with intervals over the cats.

python -m experiments.studies.loss_weights.figure runs/sweeps/loss_weights
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from experiments.run_command import run_script
from wplus.core.files import atomic_write
from wplus.sweeps.members import Member, read_members

FOLDER = Path(__file__).parent
WEIGHT, PIXELS = "inverter.loss_weights.perceptual", "inverter.loss_weights.l1"
NUMBERS = {
    "invert/psnr_db": "PSNR, dB",
    "invert/similarity_ms_ssim": "MS-SSIM",
    "invert/effnet_lite0_seen": "the loss's own net",
    "invert/mobilenet_v2": "another net",
    "invert/similarity_identity_mobilenet_v2": "identity-like",
    "invert/similarity_factors_cats32_attributes": "factors",
}
Point = tuple[float, float, float, float]  # weight, value, low, high


def main() -> None:
    """Read the sweep, print the table, write weights.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the sweep")
    parser.add_argument("--output", type=Path, default=FOLDER / "weights.png", help="(default: %(default)s)")
    options = parser.parse_args()
    curves = curves_of([member for member in read_members([options.folder]) if NUMBERS.keys() <= member.values.keys()])
    print(table(curves))
    print(drawn(curves, options.output))


def curves_of(members: Sequence[Member]) -> dict[str, dict[str, list[Point]]]:
    """ "w+, l2" -> number -> points, the smallest weight first."""
    found: dict[str, dict[str, list[Point]]] = {}
    for member in sorted(members, key=lambda member: float(member.asked[WEIGHT])):
        pixels = "l1" if float(member.asked[PIXELS]) else "l2"
        curve = found.setdefault(f"{member.asked['space']}, {pixels}", {})
        for number in NUMBERS:
            entry = member.values[number]
            curve.setdefault(number, []).append((float(member.asked[WEIGHT]), entry["value"], *entry["interval"]))
    return found


def table(curves: Mapping[str, Mapping[str, Sequence[Point]]]) -> str:
    """Markdown table with a row for each run."""
    lines = ["| space, pixels | weight | " + " | ".join(NUMBERS.values()) + " |", "|---" * (2 + len(NUMBERS)) + "|"]
    for name, curve in curves.items():
        for points in zip(*curve.values(), strict=True):
            cells = [f"{value:.3g} ({low:.3g} to {high:.3g})" for _, value, low, high in points]
            lines.append(f"| {name} | {points[0][0]:g} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def drawn(curves: Mapping[str, Mapping[str, Sequence[Point]]], path: Path) -> Path:
    """Draw a panel for each number."""
    figure = Figure(figsize=(11, 6), layout="constrained")
    for axes, (number, label) in zip(figure.subplots(2, 3).flat, NUMBERS.items(), strict=True):
        for name, curve in curves.items():
            weights, values, low, high = zip(*curve[number], strict=True)
            (line,) = axes.plot(weights, values, "o-", ms=3, lw=1, label=name)
            axes.fill_between(weights, low, high, color=line.get_color(), alpha=0.15, lw=0)
        axes.set(xscale="log", title=label)
        axes.grid(alpha=0.3)
    figure.axes[0].legend(fontsize=8)
    figure.supxlabel("weight of the perceptual term beside pixels of weight 1")
    return atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=100))


if __name__ == "__main__":
    run_script(main)
