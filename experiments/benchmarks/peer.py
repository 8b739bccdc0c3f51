"""Time NVlabs' StyleGAN2 in PyTorch, from the user's checkout of stylegan2-ada-pytorch or stylegan3, beside ours.

Its classes are called as in its training loops: the same networks, the lazy regularisers' intervals and learning
rates, no augmentation, float32, gradients made finite before the optimizer's step.
"""

import copy
import importlib
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

LATER = "networks_stylegan2"  # of stylegan3
NETWORKS = (LATER, "networks")
INTERVALS = {"G": 4, "D": 16}  # of the lazy regularisers
PHASES = {"generator": ("G", "Gmain", 1), "path_length": ("G", "Greg", INTERVALS["G"]),
          "discriminator": ("D", "Dmain", 1), "r1": ("D", "Dreg", INTERVALS["D"])}  # fmt: skip


class Peer:
    """Training at one size; `size` as in `training.SIZES`, `real` (N, 3, H, W) in [-1, 1]."""

    def __init__(self, path: Path, size: tuple[Any, ...], real: Tensor) -> None:
        found = [name for name in NETWORKS if (path / "training" / f"{name}.py").is_file()]
        if not found:
            raise SystemExit(f"--peer needs a checkout of stylegan2-ada-pytorch or stylegan3, got '{path}'")
        networks, losses = imported(path, found[0])
        self.is_later = found[0] == LATER
        resolution, base, maximum, w_dim, layers, _, pl_weight = size
        shape = {"c_dim": 0, "img_resolution": resolution, "img_channels": 3}
        widths = {"channel_base": base, "channel_max": maximum, "num_fp16_res": 0, "conv_clamp": None}
        g = networks.Generator(z_dim=w_dim, w_dim=w_dim, mapping_kwargs={"num_layers": layers}, **shape,
                               **(widths if self.is_later else {"synthesis_kwargs": widths}))  # fmt: skip
        d = networks.Discriminator(**shape, **widths, epilogue_kwargs={"mbstd_group_size": 4})
        self.networks = {
            name: each.train().requires_grad_(False).to(real.device) for name, each in (("G", g), ("D", d))
        }
        self.average, self.real, self.pl_weight = copy.deepcopy(g).eval(), real, pl_weight
        parts = {"G": g} if self.is_later else {"G_mapping": g.mapping, "G_synthesis": g.synthesis}
        self.loss = losses.StyleGAN2Loss(device=real.device, **parts, D=d, r1_gamma=1.0, pl_weight=pl_weight,
                                         style_mixing_prob=0.9)  # fmt: skip
        self.further = {"cur_nimg": 0} if self.is_later else {"sync": True}
        self.optimizers = {}
        for name, network in self.networks.items():
            share = INTERVALS[name] / (INTERVALS[name] + 1)
            self.optimizers[name] = torch.optim.Adam(
                network.parameters(), lr=0.002 * share, betas=(0.0, 0.99**share), eps=1e-8
            )

    def tasks(self) -> dict[str, Callable[[], None]]:
        """Tasks `peer PHASE` for each of our phases, and `peer average`."""
        phases = [name for name in PHASES if self.pl_weight or name != "path_length"]
        return {f"peer {name}": partial(self.run, *PHASES[name]) for name in phases} | {"peer average": self.move}

    def run(self, name: str, phase: str, gain: int) -> None:
        """Take one optimizer step."""
        network, optimizer = self.networks[name], self.optimizers[name]
        z = torch.randn(len(self.real), self.networks["G"].z_dim, device=self.real.device)
        c = torch.zeros(len(self.real), 0, device=self.real.device)
        optimizer.zero_grad(set_to_none=True)
        network.requires_grad_(True)
        self.loss.accumulate_gradients(
            phase=phase, real_img=self.real, real_c=c, gen_z=z, gen_c=c, gain=gain, **self.further
        )
        network.requires_grad_(False)
        for parameter in network.parameters():
            if parameter.grad is not None:
                torch.nan_to_num(parameter.grad, nan=0, posinf=1e5, neginf=-1e5, out=parameter.grad)
        optimizer.step()

    @torch.no_grad()
    def move(self) -> None:
        """Update the moving average of the generator."""
        for mean, now in zip(self.average.parameters(), self.networks["G"].parameters(), strict=True):
            mean.copy_(now.lerp(mean, 0.999))
        for mean, now in zip(self.average.buffers(), self.networks["G"].buffers(), strict=True):
            mean.copy_(now)


def imported(path: Path, networks: str) -> list[ModuleType]:
    """Import the checkout's networks and `training.loss`; one of our modules is called `training`, too."""
    ours = sys.modules.pop("training", None)
    sys.path.insert(0, str(path.resolve()))
    try:
        return [importlib.import_module(f"training.{name}") for name in (networks, "loss")]
    finally:
        sys.path.remove(str(path.resolve()))
        for name in [name for name in sys.modules if name.partition(".")[0] == "training"]:
            del sys.modules[name]
        if ours is not None:
            sys.modules["training"] = ours
