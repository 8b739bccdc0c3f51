"""Install the project into fresh environments and use it from another folder: `python .ci/installs.py`.

For every Python 3.10 to 3.13 that is at hand (on the PATH, or pyenv's), with the newest torch and the oldest that is
allowed. An environment takes about 6 GB, one is there at a time. Ends with status 1 when one fails.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
TORCHES = ("torch", "torch==2.11.*")
SOURCES = ("pyproject.toml", "README.md", "LICENSE", "src", "configs", "experiments")
DRAW = "import torch, wplus; print(torch.__version__, wplus.load('cats32').generate(2, psi=0.7))"
INVERT = "invert checkpoint=cats32 input=held_out num_images=1 data.num_images=60 inverter.num_steps=2 tracking=local"
USES = (["wplus"], ["wplus", "doctor"], ["wplus", *INVERT.split()], ["python", "-c", DRAW])


def interpreters() -> dict[str, Path]:
    """The Pythons at hand, by version."""
    pyenv = sorted(Path.home().glob(".pyenv/versions/*/bin"))
    found = {}
    for version in PYTHONS:
        places = [
            shutil.which(f"python{version}"),
            *(shutil.which(f"python{version}", path=folder) for folder in pyenv),
        ]
        working = [place for place in places if place is not None and _is(place, version)]
        if working:
            found[version] = Path(working[0])
    return found


def _is(python: str, version: str) -> bool:
    """Whether it runs, which pyenv's shims of absent versions do not, and can make environments."""
    program = "import ensurepip, sys, venv; print('%d.%d' % sys.version_info[:2])"
    done = subprocess.run([python, "-c", program], capture_output=True, text=True)
    return done.returncode == 0 and done.stdout.strip() == version


def tried(python: Path, torch: str) -> str:
    """What failed, or nothing."""
    with tempfile.TemporaryDirectory(prefix="wplus-install-") as folder:
        environment, source, elsewhere = (Path(folder) / name for name in ("venv", "source", "elsewhere"))
        elsewhere.mkdir()
        source.mkdir()
        for name in SOURCES:  # pip builds where the source is
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
            copy(ROOT / name, source / name)
        steps: list[Sequence[str]] = [[str(python), "-m", "venv", str(environment)]]
        steps.append([str(environment / "bin" / "python"), "-m", "pip", "install", "--quiet", str(source), torch])
        steps += [[str(environment / "bin" / program), *words] for program, *words in USES]
        for step in steps:
            done = subprocess.run(step, cwd=elsewhere, capture_output=True, text=True)
            said = done.stdout.strip().rpartition("\n")[2][:100]
            print(f"    {Path(step[0]).name} {' '.join(step[1:])[:100]}: {done.returncode} {said}", flush=True)
            if done.returncode:
                return (done.stderr or done.stdout).strip()[-2000:]
    return ""


def main() -> int:
    """Try all that is asked for; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--python", nargs="+", default=PYTHONS, help="versions (default: %(default)s)")
    parser.add_argument("--torch", nargs="+", default=TORCHES, help="requirements (default: %(default)s)")
    options = parser.parse_args()
    found, failures = interpreters(), 0
    for version in options.python:
        if version not in found:
            print(f"Python {version}: not at hand, not tried")
            continue
        for torch in options.torch:
            began = time.monotonic()
            print(f"Python {version} ({found[version]}), {torch}", flush=True)
            failure = tried(found[version], torch)
            failures += bool(failure)
            print(f"  {'failed: ' + failure if failure else 'works'} ({time.monotonic() - began:.0f} s)", flush=True)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
