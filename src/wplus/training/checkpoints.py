"""Checkpoints that resume a run: written atomically, checked when read, the last good one always kept."""

import warnings
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from wplus.core.files import atomic_write
from wplus.errors import UserError
from wplus.training.layout import contiguous

SUFFIX = ".ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning's checkpoints through a temporary file, fsync and rename; read without running code from the file."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint` (tensors and plain containers) to `path`, whole or not at all."""

        def save(file: BinaryIO) -> None:
            try:
                torch.save(contiguous(checkpoint), file)
            except RuntimeError as error:  # torch fails once more while it closes an archive that cannot be written
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None

        atomic_write(path, save)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read what `save_checkpoint` wrote; always under torch's `weights_only`."""
        return torch.load(path, map_location="cpu", weights_only=True)


def checkpoint_path(folder: Path, nimg: int) -> Path:
    """The file of a checkpoint taken after `nimg` images; names sort by age."""
    return folder / f"nimg-{nimg:012d}{SUFFIX}"


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest intact checkpoint in `folder`; damaged ones are passed over with a warning. None without any.

    UserError when all that exist are damaged, rather than silently starting over.
    """
    candidates = sorted(folder.glob(f"*{SUFFIX}"), reverse=True)
    for path in candidates:
        if _is_intact(path):
            return path
        warnings.warn(f"Checkpoint '{path}' is truncated or damaged; trying the one before it.", stacklevel=2)
    if candidates:
        raise UserError(f"All {len(candidates)} checkpoints in '{folder}' are damaged; remove them to start over.")
    return None


def prune(folder: Path, keep: int) -> None:
    """Delete all but the newest `keep` checkpoints."""
    for path in sorted(folder.glob(f"*{SUFFIX}"), reverse=True)[keep:]:
        path.unlink()


def _is_intact(path: Path) -> bool:
    """torch writes zip archives with a checksum per member; reading them all finds truncation and flipped bits."""
    try:
        with zipfile.ZipFile(path) as archive:
            is_whole = archive.testzip() is None
        return is_whole and torch.load(path, map_location="cpu", weights_only=True, mmap=True) is not None
    except Exception:  # a header that is damaged fails wherever it is trusted
        return False
