"""StyleGAN (Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019).

A mapping network, a learned constant, adaptive instance normalisation and noise in every layer, grown progressively.
The discriminator is ProGAN's with a blur before every second convolution.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from wplus.models import progan
from wplus.models.generator import GeneratorNetwork, NoiseLayer, StyledSynthesis, Styles, check_label
from wplus.models.layers import SQRT2, block_widths, leaky_relu, normalize_second_moment
from wplus.models.mapping import MappingMLP, check_z, with_label
from wplus.models.progan import Conv, Dense, blur, image_at_lod
from wplus.models.progressive import Growth


class Mapping(MappingMLP):
    """z (and a label) -> w; truncation and its mean as in StyleGAN2. A label is embedded without bias, concatenated
    with z, and both are normalised together."""

    def __init__(self, *, z_dim: int, c_dim: int, w_dim: int, num_ws: int, num_layers: int) -> None:
        super().__init__(z_dim=z_dim, c_dim=0, w_dim=w_dim, num_ws=num_ws, num_layers=num_layers)
        self.c_dim = c_dim
        widths = [2 * z_dim if c_dim else z_dim] + [w_dim] * num_layers
        for i in range(num_layers):
            setattr(self, f"fc{i}", Dense(widths[i], widths[i + 1], lr_mul=0.01, activate=True))
        if c_dim:
            self.label = nn.Parameter(torch.randn(c_dim, z_dim))

    def inputs(self, z: Tensor | None, c: Tensor | None) -> Tensor:
        """[z, the label's embedding], normalised."""
        c = check_label(c, self.c_dim)
        embedded = None if c is None else c.to(torch.float32) @ self.label
        return normalize_second_moment(with_label(check_z(z, self.z_dim), embedded))


class StyledLayer(NoiseLayer):
    """(Convolution and blur,) noise, bias, leaky ReLU, AdaIN. Without `in_channels` it is applied to the constant."""

    def __init__(self, in_channels: int | None, out_channels: int, *, w_dim: int, resolution: int, up: int = 1) -> None:
        super().__init__()
        self.resolution, self.up, self.conv = resolution, up, None
        if in_channels:
            self.conv = Conv(in_channels, out_channels, 3, up=up, gain=SQRT2, bias=False, activate=False)
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.noise_strength = nn.Parameter(torch.zeros(out_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.affine = Dense(w_dim, 2 * out_channels)

    def forward(self, x: Tensor, styles: Tensor, noise: Tensor | None) -> Tensor:
        """x (N, in_channels, H, W), styles (N, 2 out_channels), noise (N or 1, 1, up H, up W) -> (N, out_channels,
        up H, up W)."""
        if self.conv is not None:
            x = self.conv(x)
            x = blur(x) if self.up == 2 else x
        if noise is not None:
            x = x + noise * self.noise_strength.view(1, -1, 1, 1)
        x = leaky_relu(x + self.bias.view(1, -1, 1, 1))
        # AdaIN, equation 1: y_s (x - mean) / deviation + y_b for every map, with the scale y_s relative to 1.
        x = x - x.mean(dim=(2, 3), keepdim=True)
        x = x * (x.square().mean(dim=(2, 3), keepdim=True) + 1e-8).rsqrt()
        scale, shift = styles[:, :, None, None].chunk(2, dim=1)
        return x * (scale + 1) + shift


class Synthesis(StyledSynthesis):
    """ws -> image: two layers at each resolution, RGB from the highest resolution in use."""

    def __init__(self, *, resolution: int, w_dim: int, img_channels: int, channel_base: int, channel_max: int) -> None:
        widths = block_widths(resolution, channel_base, channel_max)
        super().__init__(num_ws=2 * len(widths), w_dim=w_dim)
        self.growth = Growth()
        self.const = nn.Parameter(torch.ones(1, widths[4], 4, 4))
        layers = []
        for res, below in zip(widths, [None, *widths.values()], strict=False):
            layers.append(StyledLayer(below, widths[res], w_dim=w_dim, resolution=res, up=2 if below else 1))
            layers.append(StyledLayer(widths[res], widths[res], w_dim=w_dim, resolution=res))
        self.noise_layers, self.layers = layers, nn.ModuleList(layers)
        self.style_sizes = {f"b{layer.resolution}.conv{index % 2}": len(layer.affine.weight)
                            for index, layer in enumerate(layers)}  # fmt: skip
        self.feature_shapes = {res: (widths[res // 2], res // 2, res // 2) for res in list(widths)[1:]}
        self.torgb = progan.to_rgb(widths, img_channels)

    def styles(self, ws: Tensor) -> list[Tensor]:
        """ws (N, num_ws, w_dim) -> the scales and shifts (N, 2 C) of every layer."""
        return [layer.get_submodule("affine")(w) for layer, w in zip(self.layers, ws.unbind(dim=1), strict=True)]

    def draw(self, styles: Styles, noise: Sequence[Tensor | None]) -> Tensor:
        """Styles and a noise map per layer -> images (N, img_channels, resolution, resolution)."""
        first = self.num_ws - len(styles.layers)
        num = styles.layers[0].shape[0]  # not len(): in an exported graph the batch size must stay dynamic
        x = self.const.expand(num, -1, -1, -1) if styles.features is None else styles.features
        maps = dict[int, Tensor]() if styles.features is None else {first // 2 - 1: x}  # by resolution, from 4 px
        for index in range(first, self.num_ws - 2 * self.growth.level):
            x = self.layers[index](x, styles.layers[index - first], noise[index])
            maps[index // 2] = x
        return image_at_lod(self.growth, self.torgb, maps)

    def features(self, ws: Tensor, block: int, noise: Sequence[Tensor | None]) -> Tensor:
        """ws (N, num_ws, w_dim) -> the map (N, C, block / 2, block / 2) that enters a block."""
        x = self.const.expand(ws.shape[0], -1, -1, -1)
        for index, style in enumerate(self.styles(ws)):
            x = self.layers[index](x, style, noise[index]) if self.noise_layers[index].resolution < block else x
        return x


class Generator(GeneratorNetwork):
    """StyleGAN's generator; arguments as in StyleGAN2."""

    progressive = True
    synthesis: Synthesis

    def __init__(
        self, *, resolution: int, z_dim: int = 512, w_dim: int = 512, c_dim: int = 0, img_channels: int = 3,
        num_mapping_layers: int = 8, channel_base: int = 16384, channel_max: int = 512,
    ) -> None:  # fmt: skip
        size: dict[str, Any] = {"resolution": resolution, "w_dim": w_dim, "img_channels": img_channels}
        synthesis = Synthesis(**size, channel_base=channel_base, channel_max=channel_max)
        super().__init__(**size, z_dim=z_dim, c_dim=c_dim, num_ws=synthesis.num_ws)
        self.synthesis = synthesis
        self.mapping = Mapping(z_dim=z_dim, c_dim=c_dim, w_dim=w_dim, num_ws=self.num_ws, num_layers=num_mapping_layers)

    @property
    def num_active_ws(self) -> int:
        """Number of ws of the layers in use while the network grows."""
        return self.num_ws - 2 * self.synthesis.growth.level


class Discriminator(progan.Discriminator):
    """ProGAN's discriminator with blur."""

    blurs = True
