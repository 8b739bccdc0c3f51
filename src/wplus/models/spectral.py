"""Convolutions of spectral norm 1 (Miyato et al. 2018, "Spectral Normalization for Generative Adversarial Networks").

The power iteration that estimates the largest singular value moves once per training step, when it is told, not in
every pass: parts of a batch, and processes, then see the same weights as the whole batch does.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ITERATIONS_AT_START = 15


class SpectralConv2d(nn.Module):
    """Convolution by weight / sigma, sigma the largest singular value of the weight as a matrix (out, in k k).

    sigma = u^T W v with the vectors of the last power iteration, held constant for the gradient (algorithm 1).
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
        """Move the vectors towards the largest singular value's: v <- W^T u, u <- W v, of length 1."""
        matrix = self.weight.flatten(1)
        for _ in range(num):
            v = F.normalize(matrix.t() @ self.u, dim=0)
            u = F.normalize(matrix @ v, dim=0)
            good = v.isfinite().all() & u.isfinite().all()  # a lost weight must not stay in the vectors
            self.v.copy_(torch.where(good, v, self.v))
            self.u.copy_(torch.where(good, u, self.u))

    def sigma(self) -> Tensor:
        """The estimate of the largest singular value, a scalar that the weight gets a gradient by."""
        return self.u.clone() @ self.weight.flatten(1) @ self.v.clone()

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, H', W')."""
        return F.conv2d(x, self.weight / self.sigma(), self.bias, stride=self.stride, padding=self.padding)


def iterate_all(network: nn.Module) -> None:
    """One power iteration in every spectral convolution of a network."""
    for module in network.modules():
        if isinstance(module, SpectralConv2d):
            module.iterate()
