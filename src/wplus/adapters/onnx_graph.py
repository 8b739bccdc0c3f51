"""Export generators as ONNX graphs, which run without Python: z -> images, or ws -> images, with dynamic batch size.

Noise is the stored one, so that graphs are deterministic; truncation is fixed at export.
"""

import json
import math
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wplus.checkpoint import fingerprint
from wplus.core.files import atomic_write
from wplus.errors import UserError
from wplus.models.generator import GeneratorNetwork

Part = Literal["generator", "synthesis"]
PARTS: tuple[Part, ...] = ("generator", "synthesis")
OPSET = 18  # of 2022; runtimes read older graphs, not newer ones


class _Graph(nn.Module):
    """z (N, z_dim), and c (N, c_dim) for a conditional generator -> images; for the synthesis, ws -> images."""

    def __init__(self, network: nn.Module, **options: Any) -> None:
        super().__init__()
        self.network, self.options = network, options

    def forward(self, latents: Tensor, c: Tensor | None = None) -> Tensor:
        return self.network(*((latents,) if c is None else (latents, c)), noise_mode="const", **self.options)


def _examples(generator: GeneratorNetwork, part: Part) -> dict[str, Tensor]:
    """Example inputs with batch size two: a size of one would be treated as constant."""
    if part == "synthesis":
        return {"ws": generator.mapping.w_avg.expand(2, generator.num_ws, -1).contiguous()}
    examples = {"z": torch.randn(2, generator.z_dim, generator=torch.Generator().manual_seed(0))}
    return examples | ({"c": torch.eye(generator.c_dim)[[0, -1]]} if generator.c_dim else {})


def write(
    path: str | Path, generator: GeneratorNetwork, *, part: Part = "generator", truncation_psi: float = 1.0
) -> Path:
    """Write a generator (on the CPU, in evaluation mode) as an ONNX file, atomically.

    `part` "generator": inputs `z` (batch, z_dim) and, with classes, `c` (batch, c_dim), one-hot; w is truncated to
    w_avg + psi (w - w_avg). "synthesis": input `ws` (batch, num_ws, w_dim). Output of both: `images` (batch, C, H, W)
    in about [-1, 1], not clamped. All are float32. UserError for another psi, or a missing package.
    """
    lacking = [name for name in ("onnx", "onnxscript") if find_spec(name) is None]  # torch's exporter needs both
    if lacking:
        needed = " and ".join(lacking)
        raise UserError(f"Writing ONNX needs the package {needed}; install it with: pip install 'wplus[export]'.")
    if not math.isfinite(truncation_psi):
        raise UserError(f"psi must be a finite number, got {truncation_psi}.")
    if part == "synthesis" and truncation_psi != 1:
        raise UserError(f"psi must be 1 for the synthesis, which takes ws, got {truncation_psi}; write the generator.")
    module = _Graph(generator.synthesis) if part == "synthesis" else _Graph(generator, truncation_psi=truncation_psi)
    examples = _examples(generator, part)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns about torch's own code
        program: Any = torch.onnx.export(
            module.eval(),
            tuple(examples.values()),
            dynamo=True,
            input_names=list(examples),
            output_names=["images"],
            dynamic_shapes=tuple({0: torch.export.Dim("batch")} for _ in examples),
            opset_version=OPSET,
            verbose=False,
        )
    said = {"part": part, "truncation_psi": truncation_psi, "noise": "const", "generator": fingerprint(generator),
            **({"saw": list(generator.saw)} if generator.saw else {})}  # fmt: skip
    program.model.metadata_props["wplus"] = json.dumps(said)
    return atomic_write(path, lambda file: file.write(program.model_proto.SerializeToString()))
