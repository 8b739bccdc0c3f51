"""Print the table of the study and draw the inversions of the first pictures of each kind, a row for each space.

python -m experiments.studies.out_of_domain.figure runs/sweeps/out_of_domain
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from experiments.run_command import run_script
from wplus.core.files import atomic_write
from wplus.sweeps.members import Member, read_members

FOLDER = Path(__file__).parent
NUM, PX = 4, 48
NUMBERS = {
    "invert/psnr_db": "PSNR, dB",
    "invert/mobilenet_v2": "mobilenet_v2",
    "invert/similarity_identity_mobilenet_v2": "identity-like",
    "invert/prior_distance": "from the prior",
    "evaluate/precision_mobilenet_v2": "passes for a cat",
}


def main() -> None:
    """Read the sweep, print the table, write grid.png."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the sweep")
    parser.add_argument("--output", type=Path, default=FOLDER / "grid.png", help="(default: %(default)s)")
    options = parser.parse_args()
    members = [each for each in read_members([options.folder]) if NUMBERS.keys() <= each.values.keys()]
    print(table(members))
    print(drawn({key(each): each.earlier[-1] for each in members}, options.output))


def key(member: Member) -> tuple[str, str]:
    """Kind of the pictures and space."""
    return Path(member.asked["input"]).name, str(member.asked["space"])


def table(members: Sequence[Member]) -> str:
    """Markdown table with a row for each kind and space."""
    lines = ["| pictures | space | " + " | ".join(NUMBERS.values()) + " |", "|---" * (2 + len(NUMBERS)) + "|"]
    for member in members:
        entries = [member.values[number] for number in NUMBERS]
        cells = [
            f"{entry['value']:.3g} ({entry['interval'][0]:.3g} to {entry['interval'][1]:.3g})" for entry in entries
        ]
        lines.append("| " + " | ".join([*key(member), *cells]) + " |")
    return "\n".join(lines)


def drawn(folders: Mapping[tuple[str, str], Path], path: Path) -> Path:
    """Draw the pictures on top and the inversions in each space below; the kinds are side by side."""
    kinds, spaces = (list(dict.fromkeys(each)) for each in zip(*folders, strict=True))
    rows = [np.concatenate([strip(folders[kind, spaces[0]] / "targets") for kind in kinds], axis=1)]
    rows += [np.concatenate([strip(folders[kind, space] / "images") for kind in kinds], axis=1) for space in spaces]
    picture = Image.fromarray(np.concatenate(rows))
    return atomic_write(path, lambda file: picture.save(file, format="png"))


def strip(folder: Path) -> np.ndarray:
    """The first pictures of a folder side by side, followed by a white column."""
    files = sorted(folder.glob("*.png"))[:NUM]
    images = [np.asarray(Image.open(file).convert("RGB").resize((PX, PX), Image.Resampling.NEAREST)) for file in files]
    return np.concatenate([*images, np.full((PX, 6, 3), 255, np.uint8)], axis=1)


if __name__ == "__main__":
    run_script(main)
