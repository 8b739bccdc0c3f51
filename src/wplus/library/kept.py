"""Loading, moving, saving and sharing a model, and the temporary folders in which commands work for it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

from wplus import checkpoint
from wplus.adapters import hub, model_folder
from wplus.checkpoint import Models
from wplus.core.files import ensure_folder
from wplus.core.runtime import float32_convolutions, resolve_device

Own = TypeVar("Own", bound="Kept")


class Kept(Models):
    """The networks of a checkpoint as one object that can be loaded, moved, saved and shared."""

    @classmethod
    def read(cls: type[Own], path: str | Path, device: str | torch.device = "cpu", *, needs: Sequence[str] = ()) -> Own:
        """See `wplus.load`."""
        found = checkpoint.load(path, resolve_device(device) if isinstance(device, str) else device, needs=needs)
        model = cls(metadata=found.metadata, path=found.path)
        model.networks |= found.networks
        return model

    def to(self: Own, device: str | torch.device) -> Own:
        """Move every network to a device (auto, cpu, cuda, cuda:1, mps), in place."""
        super().to(device if str(device) == "meta" else resolve_device(str(device)))  # meta: shapes without data
        return self

    def save_pretrained(self, folder: str | Path, **card: Any) -> Path:
        """Write config.json, model.safetensors and a model card; `card` may set the card's `licence` and `metrics`."""
        model_folder.write(folder, self, **card)
        return Path(folder)

    def push_to_hub(self, name: str, **options: Any) -> str:
        """Upload the model to USER/NAME on the Hugging Face Hub; returns its URL. Options are those of `hub.uploaded`:
        licence, metrics, private, token, message."""
        return hub.uploaded(self, name, **options)

    @classmethod
    def from_pretrained(cls: type[Own], name: str | Path, device: str = "cpu") -> Own:
        """Load a folder written by `save_pretrained`, or USER/NAME from the Hugging Face Hub."""
        return cls.read(name if Path(name).exists() else f"{checkpoint.HUB}{name}", device)

    @property
    def _name(self) -> str:
        return "memory" if self.path is None else str(self.path)

    def __repr__(self) -> str:
        parts = []
        for role, network in self.networks.items():
            size = f", {network.resolution} px" if isinstance(getattr(network, "resolution", None), int) else ""
            parts.append(f"{role} ({type(network).__module__.rpartition('.')[2]}{size if role == 'generator' else ''})")
        name = "in memory" if self.path is None else Path(self.path).stem
        return f"<Model {name}: {', '.join(parts) or 'no network'}>"


@contextmanager
def folders(output_dir: str | Path | None) -> Iterator[tuple[Path, Path]]:
    """A temporary folder for inputs, and the output folder, also temporary if none is named. GPUs compute in exact
    float32 inside the block, as in the commands."""
    with tempfile.TemporaryDirectory() as temporary, float32_convolutions():
        given, out = Path(temporary) / "in", Path(temporary) / "out"
        yield ensure_folder(given), ensure_folder(out if output_dir is None else output_dir)


@contextmanager
def removed_if_it_fails(folder: str | None) -> Iterator[None]:
    """Delete the folder if the block fails; otherwise keep it."""
    try:
        yield
    except BaseException:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        raise
