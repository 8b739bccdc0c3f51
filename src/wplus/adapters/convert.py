"""Convert checkpoints between projects: `python -m wplus.adapters.convert IN OUT`.

IN is whatever `wplus.load` reads. OUT is ours when it ends in .safetensors, and a torch file in rosinality's or NVlabs'
layout when it ends in .pt; pickles that need NVlabs' source code are not written.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from wplus import checkpoint
from wplus.adapters import nvlabs, rosinality
from wplus.errors import UserError
from wplus.files import atomic_write
from wplus.models.stylegan2 import Discriminator, Generator

LAYOUTS = {"rosinality": rosinality, "nvlabs": nvlabs}


def convert(source: str | Path, target: str | Path, *, layout: str = "rosinality") -> str:
    """Read `source`, write `target` atomically, and return a sentence about what was written.

    `layout` ("rosinality" or "nvlabs") is that of a .pt file. UserError when the target cannot hold the networks.
    """
    suffix = Path(target).suffix.lower()
    if suffix not in (".safetensors", ".pt"):
        raise UserError(
            f"Cannot write '{target}': the ending must be .safetensors (wplus) or .pt (rosinality or nvlabs layout)."
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
    return f"Wrote {' and '.join(written)} to '{target}'{'; left out ' + ', '.join(left_out) if left_out else ''}."


def _write_torch(models: checkpoint.Models, target: Path, layout: str) -> list[str]:
    if layout not in LAYOUTS:
        raise UserError(f"Layout '{layout}' is not known; it must be one of {', '.join(LAYOUTS)}.")
    both = {"generator": models.generator, "discriminator": models.discriminator}
    networks = {role: network for role, network in both.items() if network is not None}
    others = [
        type(network).__name__ for network in networks.values() if type(network) not in (Generator, Discriminator)
    ]
    if others or not networks:
        found = " and ".join(others) or "an encoder only"
        raise UserError(f"Cannot write '{target}': the {layout} layout is for StyleGAN2, and the source has {found}.")
    content = LAYOUTS[layout].export(**networks)
    atomic_write(target, lambda file: torch.save(content, file))
    return list(networks)


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
