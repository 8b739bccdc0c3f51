"""StyleGAN (Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019).

A mapping network, a learned constant, adaptive instance normalisation and noise in every layer, grown progressively.
The discriminator is ProGAN's with a blur before every second convolution.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from wplus.errors import UserError
from wplus.models import mapping, progan
from wplus.models.identity_mapping import with_label
from wplus.models.layers import SQRT2, leaky_relu, normalize_second_moment
from wplus.models.network import GeneratorNetwork
from wplus.models.progan import Conv, Dense, blur, colours
from wplus.models.progressive import Growth
from wplus.models.sizes import block_resolutions, num_channels
from wplus.models.stylegan2 import NoiseMode


class MappingNetwork(mapping.MappingNetwork):
    """z (and a label) -> w; truncation and its mean are StyleGAN2's. A label is embedded without bias, beside z, and
    both are normalised together."""

    def __init__(self, *, z_dim: int, c_dim: int, w_dim: int, num_ws: int, num_layers: int) -> None:
        super().__init__(z_dim=z_dim, c_dim=0, w_dim=w_dim, num_ws=num_ws, num_layers=num_layers)
        self.c_dim = c_dim
        widths = [2 * z_dim if c_dim else z_dim] + [w_dim] * num_layers
        for i in range(num_layers):
            setattr(self, f"fc{i}", Dense(widths[i], widths[i + 1], gain=SQRT2, lr_mul=0.01, activate=True))
        self.label = nn.Parameter(torch.randn(c_dim, z_dim)) if c_dim else None

    def _input(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        if z is None or z.shape[1:] != (self.z_dim,):
            raise UserError(
                f"z of shape {None if z is None else tuple(z.shape)} does not fit; it must be (N, {self.z_dim})."
            )
        x = z.to(torch.float32)
        if self.label is not None:
            x = torch.cat([x, with_label(x[:, :0], c, self.c_dim) @ self.label], dim=1)
        return normalize_second_moment(x)


def instance_norm(x: Tensor) -> Tensor:
    """Every map of every image to mean 0 and variance 1, (N, C, H, W)."""
    x = x - x.mean(dim=(2, 3), keepdim=True)
    return x * (x.square().mean(dim=(2, 3), keepdim=True) + 1e-8).rsqrt()


class StyledLayer(nn.Module):
    """(Convolution and blur,) noise, bias, leaky ReLU, AdaIN. Without `in_channels` it works on the constant."""

    def __init__(self, in_channels: int | None, out_channels: int, *, w_dim: int, resolution: int, up: int = 1) -> None:
        super().__init__()
        self.resolution, self.up = resolution, up
        self.conv = Conv(in_channels, out_channels, 3, bias=False, activate=False) if in_channels else None
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.noise_strength = nn.Parameter(torch.zeros(out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.affine = Dense(w_dim, 2 * out_channels)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """x (N, in_channels, H, W), w (N, w_dim), noise (N or 1, 1, up H, up W) -> (N, out_channels, up H, up W)."""
        if self.conv is not None:
            x = self.conv(x, up=self.up)
            x = blur(x) if self.up == 2 else x
        if noise is not None:
            x = x + noise * self.noise_strength.view(1, -1, 1, 1)
        x = instance_norm(leaky_relu(x + self.bias.view(1, -1, 1, 1)))
        scale, shift = self.affine(w)[:, :, None, None].chunk(2, dim=1)
        return x * (scale + 1) + shift  # AdaIN, equation 1, with the scale counted from 1


class SynthesisNetwork(nn.Module):
    """ws -> image: two layers at each resolution, the colours of the highest in use."""

    def __init__(self, *, resolution: int, w_dim: int, img_channels: int, channel_base: int, channel_max: int) -> None:
        super().__init__()
        resolutions = block_resolutions(resolution)
        widths = [num_channels(res, channel_base, channel_max) for res in resolutions]
        self.w_dim, self.num_ws = w_dim, 2 * len(resolutions)
        self.growth = Growth()
        self.const = nn.Parameter(torch.ones(1, widths[0], 4, 4))
        layers = []
        for res, below, width in zip(resolutions, [None, *widths], widths, strict=False):
            layers.append(StyledLayer(below, width, w_dim=w_dim, resolution=res, up=2 if below else 1))
            layers.append(StyledLayer(width, width, w_dim=w_dim, resolution=res))
        self.layers = nn.ModuleList(layers)
        self.torgb = nn.ModuleList(Conv(width, img_channels, 1, gain=1.0, activate=False) for width in widths)

    @property
    def noise_shapes(self) -> list[tuple[int, int]]:
        """(H, W) of the noise of each layer, coarse to fine."""
        return [(layer.resolution, layer.resolution) for layer in self.layers]

    def const_noise(self) -> list[Tensor]:
        """The stored noise of each layer as (1, 1, H, W)."""
        return [layer.noise_const[None, None] for layer in self.layers]

    def random_noise(self, num: int) -> list[Tensor]:
        """Fresh noise for `num` images, (num, 1, H, W) per layer, from torch's global generator."""
        return [torch.randn(num, 1, *shape, device=self.const.device) for shape in self.noise_shapes]

    def forward(self, ws: Tensor, noise_mode: NoiseMode = "const", noise: Sequence[Tensor] | None = None) -> Tensor:
        """ws (N, num_ws, w_dim) -> images (N, img_channels, resolution, resolution), about [-1, 1], not clamped.

        `noise`, one (N or 1, 1, H, W) per entry of `noise_shapes`, replaces what `noise_mode` would choose.
        """
        if ws.shape[1:] != (self.num_ws, self.w_dim):
            raise UserError(f"ws of shape {tuple(ws.shape)} does not fit; it must be (N, {self.num_ws}, {self.w_dim}).")
        layer_noise = noise if noise is not None else self._noise(noise_mode, ws.shape[0])
        if len(layer_noise) != len(self.layers):
            raise UserError(f"noise of {len(layer_noise)} maps does not fit; this network takes {len(self.layers)}.")
        x, features = self.const.expand(ws.shape[0], -1, -1, -1), []
        for index in range(self.num_ws - 2 * self.growth.level):
            x = self.layers[index](x, ws[:, index].to(torch.float32), layer_noise[index])
            if index % 2:
                features.append(x)
        return colours(self.growth, self.torgb, features)

    def _noise(self, mode: NoiseMode, num: int) -> Sequence[Tensor | None]:
        if mode == "const":
            return self.const_noise()
        if mode == "random":
            return self.random_noise(num)
        if mode == "none":
            return [None] * len(self.layers)
        raise UserError(f"Noise mode '{mode}' is not known; it must be const, random or none.")


class Generator(GeneratorNetwork):
    """StyleGAN's generator: `mapping` (z, c -> ws) and `synthesis` (ws -> image); arguments as in StyleGAN2."""

    grows = True

    def __init__(
        self,
        *,
        resolution: int,
        z_dim: int = 512,
        w_dim: int = 512,
        c_dim: int = 0,
        img_channels: int = 3,
        num_mapping_layers: int = 8,
        channel_base: int = 16384,
        channel_max: int = 512,
    ) -> None:
        super().__init__()
        self.resolution, self.img_channels = resolution, img_channels
        self.z_dim, self.w_dim, self.c_dim = z_dim, w_dim, c_dim
        self.synthesis = SynthesisNetwork(
            resolution=resolution,
            w_dim=w_dim,
            img_channels=img_channels,
            channel_base=channel_base,
            channel_max=channel_max,
        )
        self.num_ws = self.synthesis.num_ws
        self.mapping = MappingNetwork(
            z_dim=z_dim, c_dim=c_dim, w_dim=w_dim, num_ws=self.num_ws, num_layers=num_mapping_layers
        )

    @property
    def num_active_ws(self) -> int:
        """Layers in use, while the network grows."""
        return self.num_ws - 2 * self.synthesis.growth.level


class Discriminator(progan.Discriminator):
    """ProGAN's, with the blur."""

    blurs = True
