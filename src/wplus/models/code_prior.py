"""The prior over codes that an autoencoder's generator samples from: normal, or a mixture of ten Gaussians.

A variational autoencoder learns normally distributed codes; for any other autoencoder a mixture is fitted to the codes
afterwards (Ghosh et al., "From variational to deterministic autoencoders", 2020, arXiv:1903.12436). Both are maps from
normal z to codes, so that anything that samples a generator can sample an autoencoder.
"""

import math
import warnings
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from wplus.errors import check_choice
from wplus.models.generator import MappingNetwork, check_label
from wplus.models.mapping import check_z, with_label

Prior = Literal["normal", "mixture"]
NUM_GAUSSIANS = 10
MAX_FULL = 128  # dimension of codes up to which the Gaussians have full covariances; above, they are diagonal
SMALLEST_SHARE = 1e-3  # of the mean variance, added to every variance: codes may lie in a subspace
MAX_STEPS = 50  # of expectation and maximisation


class CodeMapping(MappingNetwork):
    """z (and a label) -> ws (N, 1, code_dim + c_dim).

    With prior="normal" the code is z. With "mixture" the first number of z selects one of ten Gaussians by its quantile
    in the normal distribution, and the others, multiplied by the Gaussian's Cholesky factor, are the deviation from its
    mean, so z has code_dim + 1 numbers. Before `set_mixture` all ten are standard normal.

    Buffers: `w_avg` (code_dim + c_dim,), the mean code; `shares` (10,), `means` (10, code_dim), `factors` (10,
    code_dim, code_dim), or (10, code_dim) if covariances are diagonal.
    """

    shares: Tensor
    means: Tensor
    factors: Tensor

    def __init__(self, *, code_dim: int, c_dim: int, prior: Prior) -> None:
        super().__init__()
        check_choice("prior", prior, ("normal", "mixture"))
        self.code_dim, self.c_dim, self.kind = code_dim, c_dim, prior
        self.z_dim = code_dim + (prior == "mixture")
        self.register_buffer("w_avg", torch.zeros(code_dim + c_dim))
        if prior == "mixture":
            unit = torch.eye(code_dim) if code_dim <= MAX_FULL else torch.ones(code_dim)
            self.register_buffer("shares", torch.full((NUM_GAUSSIANS,), 1 / NUM_GAUSSIANS))
            self.register_buffer("means", torch.zeros(NUM_GAUSSIANS, code_dim))
            self.register_buffer("factors", unit.repeat(NUM_GAUSSIANS, *[1] * unit.dim()))

    def forward(
        self, z: Tensor, c: Tensor | None = None, truncation_psi: float = 1.0, truncation_cutoff: int | None = None
    ) -> Tensor:
        """z (N, z_dim), c (N, c_dim) one-hot -> ws (N, 1, code_dim + c_dim); truncation leaves the label alone."""
        z = check_z(z, self.z_dim)
        code = z if self.kind == "normal" else self._of_mixture(z)
        ws = with_label(code, check_label(c, self.c_dim)).unsqueeze(1)
        return self.truncate(ws, truncation_psi, truncation_cutoff)

    def truncate(self, ws: Tensor, psi: float, cutoff: int | None) -> Tensor:
        """Replace the code in ws (N, 1, code_dim + c_dim) by mean + psi (code - mean)."""
        if psi == 1 or cutoff == 0:
            return ws
        code, c = ws.split([self.code_dim, self.c_dim], dim=2)
        return torch.cat([self.w_avg[: self.code_dim].lerp(code, psi), c], dim=2)

    def _of_mixture(self, z: Tensor) -> Tensor:
        place = 0.5 * (1 + torch.erf(z[:, :1] / math.sqrt(2)))  # (N, 1), uniform
        chosen = (place >= self.shares.cumsum(0)[:-1]).sum(dim=1)
        factors, deviation = self.factors[chosen], z[:, 1:]
        # Sum each row separately: the rounding of a matrix product would depend on the number of rows.
        coloured = (factors * deviation[:, None]).sum(dim=2) if factors.dim() == 3 else factors * deviation
        return self.means[chosen] + coloured

    def distance(self, codes: Tensor) -> Tensor:
        """Codes (N, code_dim) -> mean squared deviation (N,), about 1 for samples: from 0, or from the nearest Gaussian
        of the mixture, whitened by its covariance."""
        if self.kind == "normal":
            return codes.square().mean(dim=1)
        deviation = codes[:, None] - self.means  # (N, 10, code_dim)
        if self.factors.dim() == 2:
            return (deviation / self.factors).square().mean(dim=2).amin(dim=1)
        white = torch.linalg.solve_triangular(self.factors, deviation.permute(1, 2, 0), upper=False)
        return white.square().mean(dim=1).amin(dim=0)

    @torch.no_grad()
    def set_mixture(self, codes: Tensor, *, seed: int) -> None:
        """Fit the Gaussians to codes (M, code_dim), and set `w_avg` to their mean; does nothing for a normal prior."""
        if self.kind == "normal":
            return
        shares, means, factors = fitted(codes.double().cpu().numpy(), diagonal=self.factors.dim() == 2, seed=seed)
        for buffer, value in ((self.shares, shares), (self.means, means), (self.factors, factors)):
            buffer.copy_(torch.from_numpy(value))
        self.w_avg[: self.code_dim].copy_(self.shares @ self.means)

    def described(self, num_codes: int) -> str:
        """Name of the sampler, to be reported with metrics of its samples."""
        if self.kind == "normal":
            return "standard normal"
        return f"ten {'diagonal ' if self.factors.dim() == 2 else ''}Gaussians of {num_codes} codes"


def fitted(codes: np.ndarray, *, diagonal: bool, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares (10,), means (10, D) and Cholesky factors (10, D, D), or deviations (10, D), of codes (M, D).

    Fitted by expectation maximisation, initialised with k-means. For fewer than twenty codes, one Gaussian is repeated
    ten times.
    """
    from sklearn.exceptions import ConvergenceWarning  # slow to import, needed here only
    from sklearn.mixture import GaussianMixture

    num = NUM_GAUSSIANS if len(codes) >= 2 * NUM_GAUSSIANS else 1
    floor = SMALLEST_SHARE * float(codes.var(axis=0).mean()) + 1e-12
    found = GaussianMixture(num, covariance_type="diag" if diagonal else "full", reg_covar=floor, max_iter=MAX_STEPS,
                            random_state=seed % 2**32)  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # further steps would change little
        found.fit(codes)
    factors = np.sqrt(found.covariances_) if diagonal else np.linalg.cholesky(found.covariances_)
    repeats = NUM_GAUSSIANS // num
    return (np.repeat(found.weights_ / repeats, repeats), np.repeat(found.means_, repeats, axis=0),
            np.repeat(factors, repeats, axis=0))  # fmt: skip
