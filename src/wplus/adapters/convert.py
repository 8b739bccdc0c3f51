"""Convert checkpoints between projects: `python -m wplus.adapters.convert IN OUT`.

IN is whatever `wplus.load` reads. OUT is ours when it ends in .safetensors, and a torch file when it ends in .pt: in
rosinality's or NVlabs' layout a generator and its discriminator, in e4e's, which pSp and ReStyle share, a generator and
its encoder. Pickles that need NVlabs' source code are not written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from wplus import checkpoint
from wplus.adapters import e4e, nvlabs, rosinality
from wplus.errors import UserError
from wplus.files import atomic_write
from wplus.models.encoders.base import Encoder
from wplus.models.stylegan2 import Discriminator, Generator

LAYOUTS = {"rosinality": rosinality, "nvlabs": nvlabs, "e4e": e4e}
WRITABLE = (Generator, Discriminator, Encoder)


def convert(source: str | Path, target: str | Path, *, layout: str = "rosinality") -> str:
    """Read `source`, write `target` atomically, and return a sentence about what was written.

    `layout` ("rosinality", "nvlabs" or "e4e") is that of a .pt file.

    UserError when the target cannot hold the networks.
    """
    suffix = Path(target).suffix.lower()
    if suffix not in (".safetensors", ".pt"):
        raise UserError(
            f"Cannot write '{target}': the ending must be .safetensors (wplus) or .pt ({', '.join(LAYOUTS)} layout)."
        )
    models = checkpoint.load(source)
    if suffix == ".safetensors":
        checkpoint.save(
            target,
            generator=models.generator,
            discriminator=models.discriminator,
            encoder=models.encoder,
            metadata=models.metadata,
        )
        written = [role for role in checkpoint.ROLES if getattr(models, role) is not None]
    else:
        written = _write_torch(models, Path(target), layout)
    left_out = [role for role in checkpoint.ROLES if getattr(models, role) is not None and role not in written]
    remarks = ["left out " + ", ".join(left_out)] if left_out else []
    if suffix == ".pt" and "encoder" in written and models.encoder.stage < models.encoder.num_ws - 1:
        remarks.append(
            f"the encoder is at stage {int(models.encoder.stage)} of {models.encoder.num_ws - 1}, which the published "
            "inference code does not look at: it would add heads without training"
        )
    return "; ".join([f"Wrote {' and '.join(written)} to '{target}'", *remarks]) + "."


def _write_torch(models: checkpoint.Models, target: Path, layout: str) -> list[str]:
    if layout not in LAYOUTS:
        raise UserError(f"Layout '{layout}' is not known; it must be one of {', '.join(LAYOUTS)}.")
    roles = ("generator", "encoder") if layout == "e4e" else ("generator", "discriminator")
    networks = {role: getattr(models, role) for role in roles if getattr(models, role) is not None}
    others = [type(network).__name__ for network in networks.values() if not isinstance(network, WRITABLE)]
    if others or not networks:
        found = " and ".join(others) or ("a discriminator only" if layout == "e4e" else "an encoder only")
        raise UserError(f"Cannot write '{target}': the {layout} layout is for StyleGAN2, and the source has {found}.")
    content = LAYOUTS[layout].export(**networks, **_options(models, layout))
    atomic_write(target, lambda file: torch.save(content, file))
    return list(networks)


def _options(models: checkpoint.Models, layout: str) -> dict[str, Any]:
    """What an encoder's training was told, where the source is of the same layout."""
    is_theirs = layout == "e4e" and models.metadata.get("format") == "e4e"
    return {"options": models.metadata.get("options", {})} if is_theirs else {}


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 on success, 1 after one sentence on stderr."""
    description = (__doc__ or "").partition("\n\n")[2]
    parser = argparse.ArgumentParser(prog="python -m wplus.adapters.convert", description=description)
    parser.add_argument("source", metavar="IN", help="NVlabs .pkl, rosinality or e4e .pt, or wplus .safetensors")
    parser.add_argument("target", metavar="OUT", help="name of the new file, ending in .safetensors or .pt")
    parser.add_argument(
        "--layout", choices=sorted(LAYOUTS), default="rosinality", help="of a .pt (default: %(default)s)"
    )
    chosen = parser.parse_args(arguments)
    try:
        print(convert(chosen.source, chosen.target, layout=chosen.layout))
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
