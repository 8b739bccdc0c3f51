"""Read latents from any file: our own, and arrays and tensors of other projects, which are recognised by their shape.

NVlabs' projector writes `projected_w.npz` (w, [1, num_ws, w_dim]), e4e `latents.pt` (a tensor [N, num_ws, w_dim]),
rosinality's projector a dict of image -> {img, latent, noise}, many others an `.npy`. No code from a file is executed.
"""

import io
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wplus.checkpoint import Models
from wplus.core.files import at_home
from wplus.data.names import clean_name
from wplus.errors import UserError
from wplus.latents.latent import Latent, load_latent
from wplus.latents.space import Space
from wplus.models.generator import GeneratorNetwork

OWN, ARRAYS, TORCH = ".safetensors", (".npy", ".npz"), (".pt", ".pth", ".pkl")
SUFFIXES = (OWN, *ARRAYS, *TORCH)
_KEYS = ("w", "ws", "w_plus", "latents", "latent", "dlatents")  # names other projects use in files with several arrays


def is_latent_file(path: str | Path) -> bool:
    """Whether the file has an extension of latent files."""
    return PurePath(path).suffix.lower() in SUFFIXES


def read_latents(path: str | Path, models: Models) -> list[tuple[str, Latent]]:
    """(name, latent) of all latents in a file, named after the file, their index, or the image they were found for.

    UserError for a file that cannot be read, and for numbers that are not latents of this generator.
    """
    path = at_home(path)
    if path.suffix.lower() == OWN:
        return [(path.stem, load_latent(path, fingerprint=models.fingerprint))]
    content = _arrays(path) if path.suffix.lower() in ARRAYS else _restricted(path)
    if isinstance(content, Mapping) and content and all(_is_projected(entry) for entry in content.values()):
        return [
            _projected(path, PurePath(clean_name(str(image))).stem, entry, models) for image, entry in content.items()
        ]
    space, codes = codes_of(content, path, models.generator)
    names = [path.stem] if len(codes) == 1 else [f"{path.stem}_{index:04d}" for index in range(len(codes))]
    return [(name, Latent(code, space, models.fingerprint)) for name, code in zip(names, codes, strict=True)]


def codes_of(content: object, path: Path, generator: GeneratorNetwork) -> tuple[Space, Tensor]:
    """Numbers in any of the common shapes -> their space and codes (N, ...) in it."""
    num_ws, w_dim = generator.num_ws, generator.w_dim
    allowed = f"({w_dim},), (N, {w_dim}), ({num_ws}, {w_dim}) or (N, {num_ws}, {w_dim})"
    numbers = _numbers(content)
    if numbers is None:
        found = f"a dict of {', '.join(map(str, content))}" if isinstance(content, Mapping) else type(content).__name__
        raise UserError(f"'{path}' must hold numbers of the shape {allowed}, got {found:.200}.")
    *some, last = numbers.shape or (0,)
    of_layers = len(some) > 0 and some[-1] == num_ws
    if last != w_dim or len(some) > 2 or (len(some) == 2 and some[1] not in (1, num_ws)) or not numbers.numel():
        raise UserError(f"'{path}' must hold numbers of the shape {allowed}, got {tuple(numbers.shape)}.")
    if not bool(numbers.isfinite().all()):
        raise UserError(f"'{path}' must hold finite numbers, and some are not.")
    return ("w+", numbers.reshape(-1, num_ws, w_dim)) if of_layers else ("w", numbers.reshape(-1, w_dim))


def _numbers(content: object) -> Tensor | None:
    """The tensor in a file's content as float32; among several arrays, the one with a name from `_KEYS`."""
    if isinstance(content, Mapping):
        known = [content[key] for key in _KEYS if key in content]
        content = known[0] if known else next(iter(content.values())) if len(content) == 1 else None
    if not isinstance(content, (list, tuple)):
        return _tensor(content)
    items = [item for item in map(_tensor, content) if item is not None]
    are_rows = 0 < len(items) == len(content) and len({item.shape for item in items}) == 1
    return torch.stack(items) if are_rows else None


def _tensor(content: object) -> Tensor | None:
    if isinstance(content, np.ndarray) and content.dtype.kind in "fiu":
        with np.errstate(over="ignore"):  # overflows are reported later, with the file's name
            content = torch.from_numpy(content.astype(np.float32))
    return content.detach().float() if isinstance(content, Tensor) and not content.is_complex() else None


def _arrays(path: Path) -> Any:
    try:
        content = np.load(io.BytesIO(path.read_bytes()), allow_pickle=False)
        return {key: content[key] for key in content.files} if isinstance(content, np.lib.npyio.NpzFile) else content
    except Exception as error:  # damage of any kind, and pickles, which are not loaded
        raise UserError(f"Cannot read '{path}' as numbers: {str(error).splitlines()[0]}.") from error


def _restricted(path: Path) -> Any:
    from wplus.adapters.restricted import read_restricted

    return read_restricted(path)


def _is_projected(entry: object) -> bool:
    return isinstance(entry, Mapping) and "latent" in entry


def _projected(path: Path, name: str, entry: Mapping[str, Any], models: Models) -> tuple[str, Latent]:
    """A result of rosinality's projector: w or w+, and its noise if it fits the layers."""
    space, codes = codes_of(entry["latent"], path, models.generator)
    maps = entry.get("noise")
    shapes = models.generator.synthesis.noise_shapes
    noise = None
    if isinstance(maps, (list, tuple)) and [tuple(getattr(each, "shape", ())) for each in maps] == [
        (1, 1, *shape) for shape in shapes
    ]:
        noise = tuple(each[0].detach().float() for each in maps)
    return name, Latent(codes[0], space, models.fingerprint, noise=noise)
