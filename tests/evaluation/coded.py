"""Autoencoders with known codes, bounds and errors, and contexts for metrics of codes."""

import math
from typing import Any

import torch

from wplus.checkpoint import Models
from wplus.core.progress import silent
from wplus.data import ImageSet
from wplus.evaluation.context import EvalContext
from wplus.models.autoencoder import CodeEncoder, Decoder

LINEAR = {"backbone": "mlp", "widths": ()}


def linear_gaussian(code_dim: int = 3, *, off: float = 0.0, sigma: float = 0.3) -> Models:
    """p(x) = N(b, W W^T + sigma^2) of grey images of 16 px, W with orthogonal columns, and its exact posterior as the
    encoder; `off` moves that, and makes it wider."""
    source = torch.Generator().manual_seed(0)
    decoder = Decoder(resolution=16, img_channels=1, code_dim=code_dim, prior="normal", sigma=sigma, **LINEAR)
    encoder = CodeEncoder(w_dim=code_dim, input_size=16, img_channels=1, variational=True, **LINEAR)
    w = torch.linalg.qr(torch.randn(256, code_dim, generator=source))[0] * torch.arange(1, code_dim + 1)
    b = 0.1 * torch.randn(256, generator=source)
    variance = 1 / (1 + w.square().sum(dim=0) / sigma**2)
    (layer,) = [each for each in decoder.synthesis.modules() if isinstance(each, torch.nn.Linear)]
    with torch.no_grad():
        layer.weight.copy_(w), layer.bias.copy_(b)
        encoder.to_code.weight.copy_(variance[:, None] * w.T / sigma**2)
        encoder.to_code.bias.copy_(-encoder.to_code.weight @ b + off)
        encoder.to_log_variance.bias.copy_(variance.log() + off)
    return Models(generator=frozen(decoder), encoder=frozen(encoder))


def log_likelihood(models: Models, images: torch.Tensor) -> torch.Tensor:
    """log p(x) (N,) of images (N, 1, 16, 16) in [-1, 1]."""
    (layer,) = [each for each in models.generator.synthesis.modules() if isinstance(each, torch.nn.Linear)]
    w, sigma = layer.weight.double(), float(models.generator.log_sigma.exp())
    covariance = w @ w.T + sigma**2 * torch.eye(256, dtype=torch.float64)
    x = images.flatten(1).double() - layer.bias.double()
    mahalanobis = (x * torch.linalg.solve(covariance, x.T).T).sum(dim=1)
    return -0.5 * (mahalanobis + torch.logdet(covariance) + 256 * math.log(2 * math.pi))


def frozen(network: Any) -> Any:
    return network.eval().requires_grad_(False)


def grey_images(num: int, *, seed: int = 0, labels: bool = False, **attributes: torch.Tensor) -> ImageSet:
    """Random images of 16 px that have the attribute `body`, the remainder of their number by three, and others."""
    source = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (num, 1, 16, 16), generator=source, dtype=torch.uint8)
    body = torch.arange(num) % 3
    images[:, 0, :8] = (images[:, 0, :8] // 4 + 90 * body[:, None, None]).clamp_max(255)
    return ImageSet(images, torch.eye(3)[body] if labels else None, [str(index) for index in range(num)],
                    attributes={"body": body, **attributes})  # fmt: skip


def coded_context(models: Models | None = None, *, batch_size: int = 8, seed: int = 0, **sets: Any) -> EvalContext:
    """Training and held-out images, and an autoencoder for them."""
    sets = {"real": grey_images(60), "held_out": grey_images(42, seed=1), **sets}
    return EvalContext(
        models or linear_gaussian(off=0.3), **sets, batch_size=batch_size, seed=seed, progress=silent
    )  # fmt: skip
