"""StyleGAN2 (Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020): both networks.

Parameter names follow NVlabs' PyTorch release. Shapes: N batch, I and O input and output channels.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from wplus.errors import check_choice
from wplus.models import ops
from wplus.models.discriminator import DiscriminatorNetwork
from wplus.models.generator import GeneratorNetwork, NoiseLayer, StyledSynthesis, Styles
from wplus.models.layers import SQRT2, EqualizedConv2d, EqualizedLinear, ResolutionBlock, block_widths, leaky_relu
from wplus.models.mapping import MappingMLP

# --- generator ------------------------------------------------------------------------------------------------------


def demodulations(weight: Tensor, styles: Tensor) -> Tensor:
    """Equation 3, 1 / sqrt(sum over inputs and taps of (s w)^2): weight (O, I, k, k), styles (N, I) -> (N, O)."""
    return (styles.square() @ weight.square().sum(dim=(2, 3)).t() + 1e-8).rsqrt()


def modulated_conv2d(
    x: Tensor, weight: Tensor, styles: Tensor, *, gain: float = 1.0, up: int = 1, offset: Tensor | None = None
) -> Tensor:
    """The modulated convolution: x (N, I, H, W), weight (O, I, k, k), styles (N, I) -> (N, O, up H, up W).

    `gain` multiplies the result; `offset` (N or 1, 1, up H, up W) is added to it.
    """
    demodulation = demodulations(weight, styles) * gain
    if not ops.prefers_per_sample_weights(x, weight, up):  # scaling the maps instead is equivalent
        return ops.conv2d_scaled(x, weight, styles, demodulation, up=up, offset=offset)
    # Equation 1: w' = s w, demodulated at once.
    scale = styles[:, None, :] * demodulation[:, :, None]  # (N, O, I)
    weights = (weight * scale[:, :, :, None, None]).to(x.dtype)  # (N, O, I, k, k)
    y = ops.conv2d_per_sample(x, weights, up=up)
    return y if offset is None else y + offset.to(y.dtype)


class SynthesisLayer(NoiseLayer):
    """Modulated 3x3 convolution, noise, bias, leaky ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, *, resolution: int, w_dim: int, up: int = 1,
        conv_clamp: float | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.up, self.resolution, self.conv_clamp = up, resolution, conv_clamp
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.register_buffer("noise_const", torch.randn(resolution, resolution))
        self.noise_strength: Tensor = nn.Parameter(torch.zeros([]))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor, styles: Tensor, noise: Tensor | None) -> Tensor:
        """x (N, I, H, W), styles (N, I), noise (N or 1, 1, up H, up H) or None -> (N, O, up H, up W)."""
        offset = None if noise is None else noise * (self.noise_strength * SQRT2)
        if ops.is_fused(x):
            y, scale = ops.conv2d_styled(x, self.weight, styles, up=self.up), demodulations(self.weight, styles) * SQRT2
            return ops.activated(y, self.bias * SQRT2, scale=scale, offset=offset, clamp=self.conv_clamp)
        y = modulated_conv2d(x, self.weight, styles, gain=SQRT2, up=self.up, offset=offset)
        return leaky_relu(y.add_((self.bias * SQRT2).to(y.dtype).view(1, -1, 1, 1)), self.conv_clamp)

    def silence(self) -> None:
        """Fix the noise strength at 0 by turning it into a buffer of the same name, hidden from optimizers."""
        del self.noise_strength
        self.register_buffer("noise_strength", torch.zeros([]))


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to RGB, without demodulation."""

    def __init__(self, in_channels: int, img_channels: int, *, w_dim: int, conv_clamp: float | None = None) -> None:
        super().__init__()
        self.conv_clamp = conv_clamp
        self.affine = EqualizedLinear(w_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(img_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(img_channels))
        self.weight_gain = 1 / math.sqrt(in_channels)

    def forward(self, x: Tensor, styles: Tensor) -> Tensor:
        """x (N, I, H, W), styles (N, I) -> rgb (N, img_channels, H, W) in float32, by one batched matrix product."""
        styles = styles * self.weight_gain
        weights = (self.weight[:, :, 0, 0] * styles[:, None, :]).to(x.dtype)  # (N, img_channels, I)
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # (N, HW, I), a view of channels-last maps
        y = torch.baddbmm(self.bias.to(x.dtype), pixels, weights.transpose(1, 2))
        y = y.transpose(1, 2).unflatten(2, x.shape[2:])
        return (y if self.conv_clamp is None else y.clamp(-self.conv_clamp, self.conv_clamp)).to(torch.float32)


class SynthesisBlock(ResolutionBlock):
    """One resolution: (up-)convolution, convolution, RGB added to the upsampled image of the block below."""

    def __init__(
        self, in_channels: int, out_channels: int, *, resolution: int, img_channels: int, **layer: Any
    ) -> None:
        super().__init__(resolution=resolution)
        if in_channels == 0:
            self.const = nn.Parameter(torch.randn(out_channels, resolution, resolution))
        else:
            self.conv0 = SynthesisLayer(in_channels, out_channels, resolution=resolution, up=2, **layer)
        self.conv1 = SynthesisLayer(out_channels, out_channels, resolution=resolution, **layer)
        self.torgb = ToRGB(out_channels, img_channels, **layer)
        self.layers = [self.conv0, self.conv1] if in_channels else [self.conv1]
        first = {"conv0": self.conv0.affine} if in_channels else {}
        self.affines = {**first, "conv1": self.conv1.affine, "torgb": self.torgb.affine}

    def styles(self, ws: Sequence[Tensor]) -> list[Tensor]:
        """One w (N, w_dim) per layer and one for RGB -> the styles (N, C) of each."""
        return [affine(w) for affine, w in zip(self.affines.values(), ws, strict=True)]

    def forward(
        self, x: Tensor | None, img: Tensor | None, styles: Sequence[Tensor], noise: Sequence[Tensor | None]
    ) -> tuple[Tensor, Tensor]:
        """`styles` holds one (N, C) per layer and one for RGB; `noise` one entry per layer."""
        x = self.maps(self.start(styles[0].shape[0]) if x is None else x, styles, noise)
        rgb = self.torgb(x, styles[-1])
        return x, rgb if img is None else ops.upsample(img) + rgb

    def start(self, num: int) -> Tensor:
        """The constant (num, C, 4, 4), in channels-last layout from here on: convolutions and the passes between them
        are faster in it."""
        return self.const.expand(num, -1, -1, -1).contiguous(memory_format=torch.channels_last)

    def maps(self, x: Tensor, styles: Sequence[Tensor], noise: Sequence[Tensor | None]) -> Tensor:
        """The output features of the block, without its RGB."""
        x = x.to(self.compute_dtype)
        for layer, style, layer_noise in zip(self.layers, styles, noise, strict=False):
            x = layer(x, style, layer_noise)
        return x


class Synthesis(StyledSynthesis):
    """ws -> image: a chain of blocks with skip connections in RGB (StyleGAN2, figure 7b)."""

    def __init__(self, *, resolution: int, w_dim: int, channel_base: int, channel_max: int, **block: Any) -> None:
        widths = block_widths(resolution, channel_base, channel_max)
        super().__init__(num_ws=2 * len(widths), w_dim=w_dim)
        self.blocks: list[SynthesisBlock] = []
        for res, in_channels in zip(widths, [0, *widths.values()], strict=False):
            self.blocks.append(SynthesisBlock(in_channels, widths[res], resolution=res, w_dim=w_dim, **block))
            setattr(self, f"b{res}", self.blocks[-1])
        self.noise_layers = [layer for block in self.blocks for layer in block.layers]
        self.style_sizes = {f"b{block.resolution}.{name}": len(affine.weight) for block in self.blocks
                            for name, affine in block.affines.items()}  # fmt: skip
        self.feature_shapes = {res: (widths[res // 2], res // 2, res // 2) for res in list(widths)[1:]}

    def styles(self, ws: Tensor) -> list[Tensor]:
        """ws (N, num_ws, w_dim) -> the styles (N, C) of every layer, RGB after those of its block."""
        ws_of_layers, first, found = ws.unbind(dim=1), 0, list[Tensor]()
        for block in self.blocks:
            # RGB takes the w of the next block's first layer: layers + 1 of them, advancing by layers.
            last = first + len(block.layers)
            found += block.styles(ws_of_layers[first : last + 1])
            first = last
        return found

    def draw(self, styles: Styles, noise: Sequence[Tensor | None]) -> Tensor:
        """Styles and a noise map per layer -> images; RGB starts at the first block in use."""
        layers, maps, x, img = iter(styles.layers), iter(noise), styles.features, None
        for block in self.blocks:
            block_noise = [next(maps) for _ in block.layers]
            if block.resolution >= styles.block:
                x, img = block(x, img, [next(layers) for _ in range(len(block.layers) + 1)], block_noise)
        assert img is not None
        return img

    def features(self, ws: Tensor, block: int, noise: Sequence[Tensor | None]) -> Tensor:
        """ws (N, num_ws, w_dim) -> the map (N, C, block / 2, block / 2) that enters a block, float32."""
        layers, maps, x = iter(self.styles(ws)), iter(noise), self.blocks[0].start(ws.shape[0])
        for each in self.blocks:
            if each.resolution < block:
                styles = [next(layers) for _ in range(len(each.layers) + 1)]
                x = each.maps(x, styles, [next(maps) for _ in each.layers])
        return x.to(torch.float32)


class Generator(GeneratorNetwork):
    """StyleGAN2's generator.

    resolution          in pixels, a power of two from 8 to 1024
    c_dim               number of classes (one-hot labels), 0 for an unconditional generator
    num_mapping_layers  depth of the mapping network (8 in the paper, 2 in the `auto` preset of StyleGAN2-ADA)
    channel_base        feature maps at resolution r: min(channel_base / r, channel_max)
    conv_clamp          limit of the activations' magnitude; None: none (256 in checkpoints trained in float16)
    use_noise           False: all noise strengths are fixed at 0, for ablations
    """

    def __init__(
        self, *, resolution: int, z_dim: int = 512, w_dim: int = 512, c_dim: int = 0, img_channels: int = 3,
        num_mapping_layers: int = 8, channel_base: int = 32768, channel_max: int = 512,
        conv_clamp: float | None = None, use_noise: bool = True,
    ) -> None:  # fmt: skip
        check_choice("use_noise", use_noise, (True, False))
        size: dict[str, Any] = {"resolution": resolution, "w_dim": w_dim, "img_channels": img_channels}
        synthesis = Synthesis(**size, channel_base=channel_base, channel_max=channel_max, conv_clamp=conv_clamp)
        super().__init__(**size, z_dim=z_dim, c_dim=c_dim, num_ws=synthesis.num_ws)
        self.synthesis = synthesis
        if not use_noise:
            for block in synthesis.blocks:
                for each in block.layers:
                    each.silence()
        layers = {"num_ws": self.num_ws, "num_layers": num_mapping_layers}
        self.mapping = MappingMLP(z_dim=z_dim, c_dim=c_dim, w_dim=w_dim, **layers)
        self.register_load_state_dict_pre_hook(_drop_filters)


def _drop_filters(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """Drop the FIR kernels that NVlabs stores with every layer; here they are constants in the code."""
    for name in [name for name in state if name.startswith(prefix) and name.endswith("resample_filter")]:
        del state[name]


# --- discriminator --------------------------------------------------------------------------------------------------


class DiscriminatorBlock(ResolutionBlock):
    """Residual or plain block that halves the resolution; with `fromrgb` it also reads the image."""

    def __init__(
        self, in_channels: int, out_channels: int, *, resolution: int, img_channels: int, is_residual: bool, **conv: Any
    ) -> None:
        super().__init__(resolution=resolution)
        gain = math.sqrt(0.5) if is_residual else 1.0
        if img_channels:
            self.fromrgb = EqualizedConv2d(img_channels, in_channels, 1, activate=True, **conv)
        self.conv0 = EqualizedConv2d(in_channels, in_channels, 3, activate=True, **conv)
        self.conv1 = EqualizedConv2d(in_channels, out_channels, 3, activate=True, down=2, gain=gain, **conv)
        if is_residual:
            self.skip = EqualizedConv2d(in_channels, out_channels, 1, bias=False, down=2, gain=gain)

    def forward(self, x: Tensor | None, img: Tensor | None = None) -> Tensor:
        """Features (N, in_channels, H, W), None in the first block, and the image -> (N, out_channels, H/2, W/2)."""
        x = None if x is None else x.to(self.compute_dtype)
        if img is not None:
            rgb = self.fromrgb(img.to(self.compute_dtype))
            x = rgb if x is None else x + rgb
        y = self.conv1(self.conv0(x))
        return self.skip(x) + y if hasattr(self, "skip") else y


class DiscriminatorEpilogue(nn.Module):
    """4x4 features -> logit, or features to compare with the label's embedding."""

    def __init__(
        self, channels: int, *, out_features: int, mbstd_group_size: int, img_channels: int, **conv: Any
    ) -> None:
        super().__init__()
        self.mbstd_group_size = mbstd_group_size
        if img_channels:
            self.fromrgb = EqualizedConv2d(img_channels, channels, 1, activate=True)  # as published, without a clamp
        self.conv = EqualizedConv2d(channels + 1, channels, 3, activate=True, **conv)
        self.fc = EqualizedLinear(channels * 16, channels, activate=True)
        self.out = EqualizedLinear(channels, out_features)

    def forward(self, x: Tensor) -> Tensor:
        """(N, channels, 4, 4) -> (N, out_features)."""
        x = ops.minibatch_stddev(x.to(torch.float32), self.mbstd_group_size)
        return self.out(self.fc(self.conv(x).flatten(1)))


class Discriminator(DiscriminatorNetwork):
    """StyleGAN2's discriminator; with labels, the projection of StyleGAN2-ADA. Arguments as in `Generator`, and

    mbstd_group_size  images per group of the minibatch standard deviation, which must divide the batch
    architecture      resnet, orig for blocks without a residual branch, or skip for such blocks that all read the
                      image, at their resolution (figure 7b)
    """

    logit_layer = "b4.out"

    def __init__(
        self, *, resolution: int, c_dim: int = 0, img_channels: int = 3, channel_base: int = 32768,
        channel_max: int = 512, mbstd_group_size: int = 4, num_mapping_layers: int = 8,
        conv_clamp: float | None = None, architecture: Literal["resnet", "orig", "skip"] = "resnet",
    ) -> None:  # fmt: skip
        check_choice("architecture", architecture, ("resnet", "orig", "skip"))
        super().__init__(resolution=resolution, c_dim=c_dim, img_channels=img_channels)
        widths = block_widths(resolution, channel_base, channel_max)
        self.block_resolutions, self.reads_everywhere = [*widths][:0:-1], architecture == "skip"
        is_residual, top = architecture == "resnet", widths[4]
        for res in self.block_resolutions:
            read = img_channels if res == resolution or self.reads_everywhere else 0
            options: dict[str, Any] = {"img_channels": read, "is_residual": is_residual, "conv_clamp": conv_clamp}
            setattr(self, f"b{res}", DiscriminatorBlock(widths[res], widths[res // 2], resolution=res, **options))
        read = img_channels if self.reads_everywhere else 0
        options = {"mbstd_group_size": mbstd_group_size, "img_channels": read, "conv_clamp": conv_clamp}
        self.b4 = DiscriminatorEpilogue(top, out_features=top if c_dim else 1, **options)
        if c_dim:
            self.mapping = MappingMLP(z_dim=0, c_dim=c_dim, w_dim=top, num_ws=0, num_layers=num_mapping_layers)
        self.register_load_state_dict_pre_hook(_drop_filters)

    def logits(self, img: Tensor, c: Tensor | None) -> Tensor:
        """Images (N, img_channels, resolution, resolution), labels (N, c_dim) -> logits (N, 1)."""
        x = self.b4(self.features(img))
        return x if c is None else (x * self.mapping.w(None, c)).sum(dim=1, keepdim=True) / math.sqrt(x.shape[1])

    def features(self, img: Tensor) -> Tensor:
        """Images -> (N, channels, 4, 4), each image independently."""
        return self.feature_maps(img)[-1]

    def feature_maps(self, img: Tensor) -> list[Tensor]:
        """Images -> the features after every block, each image independently; the last are the epilogue's input."""
        x, seen, maps = None, img.contiguous(memory_format=torch.channels_last), []
        for res in self.block_resolutions:
            x = getattr(self, f"b{res}")(x, seen if x is None or self.reads_everywhere else None)
            seen = ops.downsample(seen) if self.reads_everywhere else seen
            maps.append(x)
        return [*maps[:-1], maps[-1] + self.b4.fromrgb(seen)] if self.reads_everywhere else maps

    @property
    def epilogue(self) -> DiscriminatorEpilogue:
        """Features -> logits, where the images of a group interact."""
        return self.b4

    def layers_from_image(self) -> list[nn.Module]:
        """The blocks, counted as by StyleGAN2-ADA's `--freezed`; the epilogue is not included."""
        blocks = [getattr(self, f"b{res}") for res in self.block_resolutions]
        names = ("fromrgb", "conv0", "conv1", "skip")
        return [getattr(block, name) for block in blocks for name in names if hasattr(block, name)]
