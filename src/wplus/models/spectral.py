"""Convolutions of spectral norm 1 (Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks").

The power iteration that estimates the largest singular value runs once per training step, on request, rather than in
every pass, so that parts of a batch, and all processes, use the same weights as the whole batch.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ITERATIONS_AT_START = 15


class SpectralConv2d(nn.Module):
    """Convolution with weight / sigma, sigma the largest singular value of the weight as a matrix (out, in k k).

    sigma = u^T W v with the vectors of the last power iteration, treated as constants in the gradient (algorithm 1).
    """

    u: Tensor
    v: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, padding: int = 0,
        bias: bool = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.stride, self.padding = stride, padding
        plain = nn.Conv2d(in_channels, out_channels, kernel_size, bias=bias)  # torch's initial weights
        self.weight, self.bias = plain.weight, plain.bias
        self.register_buffer("u", F.normalize(torch.randn(out_channels), dim=0))
        self.register_buffer("v", F.normalize(torch.randn(self.weight[0].numel()), dim=0))
        self.iterate(ITERATIONS_AT_START)

    @torch.no_grad()
    def iterate(self, num: int = 1) -> None:
        """Run power iterations towards the largest singular value: v <- W^T u, u <- W v, normalised to length 1."""
        matrix = self.weight.flatten(1)
        for _ in range(num):
            v = F.normalize(matrix.t() @ self.u, dim=0)
            u = F.normalize(matrix @ v, dim=0)
            good = v.isfinite().all() & u.isfinite().all()  # non-finite weights must not persist in the vectors
            self.v.copy_(torch.where(good, v, self.v))
            self.u.copy_(torch.where(good, u, self.u))

    def sigma(self) -> Tensor:
        """The estimate of the largest singular value, a scalar differentiable in the weight."""
        return self.u.clone() @ self.weight.flatten(1) @ self.v.clone()

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H', W')."""
        return F.conv2d(x, self.weight / self.sigma(), self.bias, stride=self.stride, padding=self.padding)


def iterate_all(network: nn.Module) -> None:
    """Run one power iteration in every spectral convolution of a network."""
    for module in network.modules():
        if isinstance(module, SpectralConv2d):
            module.iterate()
