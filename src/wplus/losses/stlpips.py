"""ST-LPIPS, a published relative of LPIPS whose weights, trunk and heads, come with a package: no download by torch."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from wplus.errors import UserError
from wplus.losses.perceptual import SIZE_POLICY, PerceptualDistance
from wplus.pretrained.shift_tolerant import ShiftTolerantNet, renamed
from wplus.pretrained.weights import from_package, load_into, read, sha256

PACKAGE = "stlpips-pytorch"
NETS = ("alex", "vgg")


class STLPIPSDistance(PerceptualDistance):
    """`stlpips_alex`, `stlpips_vgg`: shift-tolerant LPIPS (Ghildyal and Liu 2022, https://arxiv.org/abs/2207.13686).

    Of the package only the weights file is read. Its numbers are not LPIPS: other trunks, other heads, another scale.
    """

    def __init__(self, net: Literal["alex", "vgg"]) -> None:
        if net not in NETS:
            raise UserError(f"There is no ST-LPIPS trunk '{net}': choose one of {', '.join(NETS)}.")
        super().__init__()
        self.name = f"stlpips_{net}"
        path = from_package(PACKAGE, "weights", "vST0.0", f"{net}_shift_tolerant.pth")
        self.net = _network(net, path)
        self.provenance = {
            "name": self.name,
            "weights": path.name,
            "sha256": sha256(path),
            "layers": f"as published, heads vST0.0 of {PACKAGE}",
            "input": SIZE_POLICY,
        }
        self.eval().requires_grad_(False)

    def _feature_maps(self, images: Tensor) -> list[Tensor]:
        return self.net.feature_maps(images)

    def _compare(self, squares: Tensor, layer: int) -> Tensor:
        return self.net.heads[layer](squares)[:, 0]


def _network(net: str, path: Path) -> nn.Module:
    state, module = read(path), ShiftTolerantNet(net)
    if not isinstance(state, dict):
        raise UserError(f"'{path}' is not a weights file of {PACKAGE}: it must hold named tensors.")
    load_into(module, renamed(state), path)
    return module
