"""Checkpoints for resuming a run: written atomically, verified on reading, the last good one always kept."""

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
    """Writes Lightning checkpoints via temporary file, fsync and rename; reads them without executing pickled code."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write `checkpoint` (tensors and plain containers) to `path` atomically."""

        def save(file: BinaryIO) -> None:
            try:
                torch.save(contiguous(checkpoint), file)
            except RuntimeError as error:  # torch raises a second error while closing an archive it could not write
                raise error.__context__ if isinstance(error.__context__, OSError) else error from None

        atomic_write(path, save)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read a checkpoint written by `save_checkpoint`, always with torch's `weights_only`."""
        return torch.load(path, map_location="cpu", weights_only=True)


def checkpoint_path(folder: Path, nimg: int) -> Path:
    """Return the path of the checkpoint after `nimg` images; names sort by age."""
    return folder / f"nimg-{nimg:012d}{SUFFIX}"


def latest_checkpoint(folder: Path) -> Path | None:
    """Return the newest intact checkpoint in `folder`, or None; damaged ones are skipped with a warning.

    Raises UserError if all existing ones are damaged, instead of silently starting over.
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
    """Check for truncation and flipped bits by reading everything: torch's zip archives have a checksum per member."""
    try:
        with zipfile.ZipFile(path) as archive:
            is_whole = archive.testzip() is None
        return is_whole and torch.load(path, map_location="cpu", weights_only=True, mmap=True) is not None
    except Exception:  # a damaged header can cause any kind of error
        return False
