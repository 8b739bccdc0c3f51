"""Helpers shared by fixtures and tests: sizes, stand-ins for trained networks, states and gradients to compare."""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from wplus.core.images import to_float
from wplus.core.runtime import Runtime
from wplus.losses.adversarial import (
    least_squares_discriminator,
    least_squares_generator,
    logistic_discriminator,
    nonsaturating_generator,
)
from wplus.models import mlp_gan, stylegan1, stylegan2
from wplus.training.hparams import auto

CPU = Runtime(device=torch.device("cpu"))
LOSS = {"generator_loss": nonsaturating_generator, "discriminator_loss": logistic_discriminator}
LEAST_SQUARES = {"generator_loss": least_squares_generator, "discriminator_loss": least_squares_discriminator}
SMALL = {"channel_base": 64, "channel_max": 8}
# The same width at every resolution: whatever is paired wrongly fits all the same.
EVEN = {"channel_base": 1024, "channel_max": 8}
SIZES: dict[Any, dict[str, Any]] = {
    stylegan2.Generator: {"z_dim": 6, "w_dim": 5, "num_mapping_layers": 2, **EVEN},
    stylegan1.Generator: {"z_dim": 6, "w_dim": 5, "num_mapping_layers": 2, **EVEN},
    mlp_gan.Generator: {"z_dim": 6, "width": 7},
    mlp_gan.Discriminator: {"width": 7},
}


def network(kind: Any, resolution: int = 16, *, seed: int = 0, **arguments: Any) -> Any:
    """A network of the class `kind`; its growth is left alone."""
    made = kind(resolution=resolution, **{**SIZES.get(kind, EVEN), **arguments})
    source = torch.Generator().manual_seed(seed)
    for name, tensor in made.state_dict().items():
        if not name.endswith("lod"):
            tensor.copy_(torch.randn(tensor.shape, generator=source))
    return made


def model(**generator: Any) -> dict[str, Any]:
    """Build configs/model/stylegan2, small."""
    sizes = {name: generator.get(name) for name in ("channel_base", "channel_max")}
    latents = {"z_dim": 6, "w_dim": 6, "num_mapping_layers": None}
    return {
        "generator": partial(stylegan2.Generator, **{**latents, **sizes, **generator}),
        "discriminator": partial(stylegan2.Discriminator, mbstd_group_size=None, **sizes),
        "preset": auto,
        "loss": LOSS,
    }


def snapshot(*modules: nn.Module) -> list[Tensor]:
    """State of modules, to be compared before and after."""
    return [tensor.clone() for module in modules for tensor in module.state_dict().values()]


def equal(a: list[Tensor], b: list[Tensor]) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def gradients(module: Any, name: str, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Gradients of one phase on uint8 images, without an optimizer step."""
    (phase,) = [phase for phase in module.phases() if phase.name == name]
    network = getattr(module, phase.network)
    module.run_phase(phase, to_float(images), labels, torch.optim.SGD(network.parameters(), lr=0.0, fused=True))
    return {name: p.grad.clone() for name, p in network.named_parameters() if p.grad is not None}


def assert_gradients_close(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 1e-5) -> None:
    """Within `tolerance` of the largest value of all."""
    assert found.keys() == expected.keys()
    scale = max(gradient.abs().max().item() for gradient in expected.values())
    assert scale > 0
    for name, gradient in expected.items():
        assert (found[name] - gradient).abs().max().item() <= tolerance * scale, name
