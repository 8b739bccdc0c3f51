"""Resolve pyproject.toml with its `dev` extra to exact versions: `python .ci/lock.py requirements.lock torch==...`.

Nothing is installed: pip reports what a fresh environment of this Python would get.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

HEADER = """\
# What `make demo` and `make test` install: every package with its exact version, torch with its CUDA wheels.
# Made on Linux with Python {version} from pyproject.toml, as for a fresh environment:
#   make lock TORCH="{requirements}"
"""


def resolve(requirements: list[str]) -> list[str]:
    """The pins, one `name==version` each, that pip would install for the project with `dev`, and `requirements`."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        subprocess.run([*command, "--report", str(report), ".[dev]", *requirements], check=True)
        packages = [item["metadata"] for item in json.loads(report.read_text())["install"]]
    pins = [f"{package['name']}=={package['version']}" for package in packages if package["name"] != "wplus"]
    return sorted(pins, key=str.lower)


def main(target: str, *requirements: str) -> None:
    """Write the lock file."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    header = HEADER.format(version=version, requirements=" ".join(requirements))
    Path(target).write_text(header + "\n".join(resolve(list(requirements))) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
