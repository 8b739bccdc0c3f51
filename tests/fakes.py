"""Stand-ins shared by the whole suite; a section for each package."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from wplus.config import CONFIG_FOLDER, training_of
from wplus.core.images import to_float
from wplus.core.metric_result import MetricInfo
from wplus.core.progress import silent
from wplus.data import ImageSet
from wplus.evaluation.measure import measure
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.path import PathContext, even_positions
from wplus.interpolation.trajectory import Trajectory
from wplus.losses.image_pair import ImageDistance
from wplus.losses.perceptual import PerceptualDistance
from wplus.models.encoders.small import SmallEncoder
from wplus.models.generator import GeneratorNetwork, MappingNetwork, NoiseLayer, SynthesisNetwork
from wplus.models.stylegan2 import Generator
from wplus.tracking import Sink
from wplus.training.penalties import R1, R2, GradientPenalty, Penalty

# --- models, losses: a generator whose inversion is known in closed form, tiny real networks, cheap distances


class LinearMapping(MappingNetwork):
    """w is an orthogonal rotation of z, shifted by 0.1 and by the number of the class."""

    def __init__(self, rotation: Tensor) -> None:
        super().__init__()
        self.register_buffer("rotation", rotation)
        self.register_buffer("w_avg", torch.full((16,), 0.1))

    def forward(self, z, c=None, truncation_psi=1.0, truncation_cutoff=None):
        w = z @ self.rotation + 0.1
        w = w if c is None else w + c.argmax(dim=1, keepdim=True)
        return self.truncate(w[:, None].repeat(1, 3, 1), truncation_psi, truncation_cutoff)


class LinearSynthesis(SynthesisNetwork):
    """Pixels are a linear function of the mean of ws, and of the noise."""

    def __init__(self, to_pixels: Tensor) -> None:
        super().__init__(num_ws=3, w_dim=16)
        self.register_buffer("to_pixels", to_pixels)
        self.noise_layers = [NoiseLayer()]
        self.noise_layers[0].resolution, self.noise_layers[0].noise_const = 4, torch.zeros(4, 4)

    def synthesize(self, ws, noise):
        images = (ws.mean(dim=1) @ self.to_pixels).view(-1, 1, 4, 4)
        return images if noise[0] is None else images + 0.1 * noise[0]


class LinearGenerator(GeneratorNetwork):
    """With as many pixels as numbers in w, and an orthonormal matrix, the squared error of a picture is that of its w
    (times 1 / pixels): the inverse of every picture in w is known."""

    def __init__(self, c_dim: int = 0) -> None:
        super().__init__(resolution=4, z_dim=16, w_dim=16, c_dim=c_dim, img_channels=1, num_ws=3)
        rng = torch.Generator().manual_seed(5)
        rotation, self.to_pixels = (torch.linalg.qr(torch.randn(16, 16, generator=rng))[0] for _ in range(2))
        self.mapping, self.synthesis = LinearMapping(rotation), LinearSynthesis(self.to_pixels)

    def w_of(self, images: Tensor) -> Tensor:
        """The one w (N, 16) whose picture is `images`."""
        return images.flatten(1) @ self.to_pixels.T


class LinearEncoder(nn.Module):
    """The inverse of a `LinearGenerator`, going only the share `rate` of the way from the mean, or from its picture."""

    num_ws, w_dim, img_channels = 3, 16, 1

    def __init__(self, generator: LinearGenerator, *, rate: float = 1.0, is_iterative: bool = False) -> None:
        super().__init__()
        self.spaces, self.is_iterative, self.rate, self._w_of = ("w", "w+"), is_iterative, rate, generator.w_of
        self.register_buffer("latent_avg", torch.full((3, 16), 0.1))

    def offsets(self, images, stage=None):
        image, picture = images.chunk(2, dim=1) if self.is_iterative else (images, None)
        seen = self.latent_avg[0] if picture is None else self._w_of(picture)
        return (self.rate * (self._w_of(image) - seen))[:, None].expand(-1, 3, -1)

    def forward(self, images):
        return self.latent_avg + self.offsets(images)


class PooledDistance(PerceptualDistance):
    """A stand-in that needs no weights: unit-length patches of two sizes."""

    name = "pooled"
    provenance = MappingProxyType({"name": "pooled"})

    def _feature_maps(self, images):
        patches = F.pixel_unshuffle(images, 2) + 0.5
        return [patches, F.avg_pool2d(patches, 2)]


class Brightness(ImageDistance):
    """Difference of the mean brightness: of whole images only."""

    name, provenance = "brightness", MappingProxyType({"name": "brightness"})
    info = MetricInfo(meaning="Difference of the mean brightness of two images.", direction="lower")

    def features(self, images):
        return [images.mean(dim=(1, 2, 3))]

    def distance(self, features_a, features_b, mask=None):
        self._refuse(mask)
        return (features_a[0] - features_b[0]).abs()


def tiny_generator(c_dim: int = 0) -> Generator:
    """A StyleGAN2 of 8 px whose noise matters."""
    torch.manual_seed(3)
    net = Generator(resolution=8, z_dim=8, w_dim=12, c_dim=c_dim, num_mapping_layers=2, channel_base=64, channel_max=8)
    for layer in net.synthesis.noise_layers:
        layer.noise_strength.data.fill_(0.1)
    return net.eval().requires_grad_(False)


def tiny_encoder(generator: Generator, *, is_iterative: bool = False) -> SmallEncoder:
    """An untrained encoder for a `tiny_generator`, whose answers differ from image to image."""
    torch.manual_seed(4)
    size = {"num_ws": generator.num_ws, "w_dim": generator.w_dim, "input_size": generator.resolution}
    net = SmallEncoder(**size, width=16, is_iterative=is_iterative)
    for parameter in net.parameters():
        parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
    net.latent_avg.copy_(generator.mapping.w_avg.expand(generator.num_ws, -1))
    return net.eval().requires_grad_(False)


def half_masks(num: int) -> torch.Tensor:
    """Masks (num, 1, 8, 8) of the left half, faint in one column beside it."""
    masks = torch.zeros(num, 1, 8, 8)
    masks[..., :4], masks[..., 4] = 1.0, 0.25
    return masks


class Recorder(Sink):
    """What a tracker was told, by its name: paths of pictures and artifacts, rows of tables, entries of a summary."""

    def __init__(self):
        self.seen = {}

    def image(self, key, path, *, caption="", kimg=None):
        self.seen[key] = path

    def video(self, key, path, *, kimg=None):
        self.seen[key] = path

    def table(self, key, columns, rows):
        self.seen[key] = [dict(zip(columns, row, strict=True)) for row in rows]

    def summary(self, values):
        self.seen |= values

    def artifact(self, path, *, name, kind, aliases=(), metadata=None):
        self.seen[name] = (path, kind)


def read_pixels(path) -> np.ndarray:
    """A picture file as an array (H, W, C)."""
    with Image.open(path) as image:
        return np.array(image)


def overlapping(shape: torch.Size, rng: torch.Generator) -> Tensor:
    """Random weights (out, in, ...) whose rows are overlapping views: in a file millions of them take little room."""
    strides = (7, 3, 5, 1)[: len(shape)]
    reach = sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) + 1
    return (torch.randn(reach, generator=rng) * (2 / shape[1:].numel()) ** 0.5).as_strided(shape, strides)


# --- configs


def nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """Every mapping with `_target_` in a composed config."""
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ()
    for child in children:
        yield from nodes(child)
    if isinstance(tree, dict) and "_target_" in tree:
        yield tree


def gans() -> list[str]:
    """The choices of `model` that are trained as a generator against a discriminator."""
    names = sorted(path.stem for path in (CONFIG_FOLDER / "model").glob("*.yaml"))
    return [name for name in names if training_of(name) == "auto"]


# --- data: pictures of random pixels, as files, folders, zips and sets


def noise(width: int, height: int, *, mode: str = "RGB", seed: int = 0) -> Image.Image:
    """A picture of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    """The bytes of a file with this picture."""
    file = io.BytesIO()
    image.save(file, format=form, **options)
    return file.getvalue()


def write_folder(root: Path, files: Mapping[str, object], labels: object = None) -> Path:
    """Files below `root`: name -> bytes, a picture, or the (width, height) of one; and perhaps a dataset.json."""
    for name, content in _contents(files, labels).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def write_zip(
    path: Path, files: Mapping[str, object], labels: object = None, compression: int = zipfile.ZIP_STORED
) -> Path:
    """As `write_folder`, into a zip."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in _contents(files, labels).items():
            archive.writestr(name, content)
    return path


def _contents(files: Mapping[str, object], labels: object) -> dict[str, bytes]:
    found = {}
    for seed, (name, content) in enumerate(files.items()):
        picture = content if isinstance(content, (bytes, Image.Image)) else noise(*content, seed=seed)
        found[name] = picture if isinstance(picture, bytes) else encoded(picture)
    return found if labels is None else {**found, "dataset.json": json.dumps({"labels": labels}).encode()}


def random_images(
    num: int = 10, *, resolution: int = 8, c_dim: int = 0, numbered: bool = False, channels: int = 3
) -> ImageSet:
    """Random images called 0.png, 1.png, ..., the same for the same arguments; the label is the number mod `c_dim`.

    With `numbered` the first pixel of each tells its number.
    """
    source = torch.Generator().manual_seed(num)
    images = torch.randint(0, 256, (num, channels, resolution, resolution), generator=source, dtype=torch.uint8)
    if numbered:
        images[:, 0, 0, 0] = torch.arange(num)
    labels = torch.eye(c_dim)[torch.arange(num) % c_dim] if c_dim else None
    return ImageSet(images, labels, [f"{index}.png" for index in range(num)])


# --- editing: a generator whose images can be inverted exactly


class ExactGenerator:
    """w = 2 z + 1 and images that are the ws themselves, pixel for pixel: 3 layers of 4 numbers, 12 pixels."""

    z_dim = w_dim = 4
    c_dim, num_ws = 0, 3

    def mapping(self, z: Tensor, c: Tensor | None = None, **truncation: float) -> Tensor:
        return (2 * z + 1)[:, None].repeat(1, 3, 1)

    mapping.w_avg = torch.ones(4)

    def synthesis(self, ws: Tensor, noise_mode: str = "const") -> Tensor:
        assert noise_mode == "const"
        return ws[:, None]

    def inverse(self, images: Tensor) -> Tensor:
        return images[:, 0]


# --- evaluation: a random extractor, a set of real images, a progress bar that checks, and the results of one metric


class RandomConv(nn.Module):
    """An untrained convolution, in float64 so that what is tested is not the rounding of the extractor."""

    name, dim = "random_conv", 6

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv2d(3, self.dim, 3, stride=2).double().requires_grad_(False)

    @property
    def protocol(self):
        return {"extractor": self.name, "extractor_sha256": f"{self.scale}"}

    def forward(self, images):
        return self.scale * self.conv(to_float(images).double()).relu().mean(dim=(2, 3))


@dataclass
class RealImages:
    """Images that count how many of them were read."""

    images: Tensor
    labels: Tensor | None = None
    fingerprint: str = "0123456789abcdef"
    policies: dict = field(default_factory=dict)
    num_read: int = 0

    @property
    def resolution(self):
        return self.images.shape[3]

    @property
    def img_channels(self):
        return self.images.shape[1]

    @property
    def digests(self):
        content = b"".join(hashlib.sha256(image.numpy().tobytes()).digest() for image in self.images)
        return np.frombuffer(content, dtype=np.uint8).reshape(len(self), 32)

    def __len__(self):
        return len(self.images)

    def batch(self, indices):
        self.num_read += len(indices)
        labels = torch.empty(len(indices), 0) if self.labels is None else self.labels[indices]
        return self.images[indices], labels


def checking(items, description, *, total, advance=lambda _: 1):
    """Shows nothing, but checks what a bar relies on: that the announced number is right."""
    done = 0.0
    for item in items:
        done += advance(item)
        yield item
    assert done == total, description


def measured(context, metric, **options):
    """What a metric yields, by name."""
    return {result.name: result for result in measure(context, {"metric": functools.partial(metric, **options)})}


# --- interpolation: distances, and ways whose lengths, angles and speeds are known


class SquaredPixels(ImageDistance):
    """|x - y|^2 of the pixels, in float64: of the LPIPS family, with features that a test chooses."""

    name, provenance = "squared", MappingProxyType({"weights": "none"})
    info = MetricInfo(meaning="Sum of the squared differences of the pixels.", direction="lower")

    def features(self, images):
        return [images.double().flatten(1)]

    def distance(self, features_a, features_b, mask=None):
        return (features_a[0] - features_b[0]).square().sum(dim=1)


class CosinePixels(SquaredPixels):
    """1 - cosine of the pixels."""

    name = "cosine"

    def features(self, images):
        return [F.normalize(images.double().flatten(1), dim=1)]

    def distance(self, features_a, features_b, mask=None):
        return super().distance(features_a, features_b) / 2


class DrawnGenerator:
    """Draws `picture` (N, w_dim) -> (N, D) of w, that of the first layer, as images (N, 1, 1, D)."""

    num_ws = 2

    def __init__(self, picture: Callable[[Tensor], Tensor], w_dim: int) -> None:
        self.picture, self.w_dim = picture, w_dim

    def synthesis(self, ws, noise_mode, noise):
        return self.picture(ws[:, 0])[:, None, None]


def context_of(picture: Callable[[Tensor], Tensor], w_dim: int, **options: object) -> PathContext:
    """What a path sees of a `DrawnGenerator`."""
    return PathContext(DrawnGenerator(picture, w_dim), SquaredPixels(), progress=silent, **options)


def keyframes_at(*codes: list[float], closed: bool = False) -> Keyframes:
    """Keyframes of w called a, b, c, ..."""
    keys = torch.tensor(codes, dtype=torch.float32)
    return Keyframes(keys, "w", tuple("abcdefgh"[: len(keys)]), closed=closed)


def trajectory_of(at: Callable[[Tensor], Tensor], num_frames: int = 33, **further: object) -> Trajectory:
    """The trajectory of a function from positions to images."""
    t = even_positions(num_frames)
    images = at(t)
    return Trajectory("a to b", t, images, SquaredPixels().features(images), at, **further)


def plane(points: Tensor) -> Tensor:
    """Points (N, 2) as images (N, 1, 4, 4), lengths kept."""
    images = torch.zeros(len(points), 1, 4, 4, dtype=torch.float64)
    images[:, 0, 1, 1], images[:, 0, 2, 2] = points[:, 0], points[:, 1]
    return images


def half_circle(t: Tensor) -> Tensor:
    """Of radius 1, from the right to the left."""
    return plane(torch.stack([torch.cos(torch.pi * t), torch.sin(torch.pi * t)], dim=1))


def straight(t: Tensor) -> Tensor:
    """Of length sqrt(5)."""
    return plane(torch.stack([2 * t, t], dim=1))


def dissolve(t: Tensor) -> Tensor:
    """Between two unrelated pictures of noise."""
    a, b = torch.randn(2, 1, 3, 64, 64, generator=torch.Generator().manual_seed(0)).double()
    return a + t.view(-1, 1, 1, 1) * (b - a)


def moving_square(t: Tensor) -> Tensor:
    """A white square that moves from left to right over black: a true morph."""
    images = -torch.ones(len(t), 1, 32, 32, dtype=torch.float64)
    for image, position in zip(images, (2 + (t * 20).round()).long().tolist(), strict=True):
        image[0, 12:20, position : position + 8] = 1
    return images


# --- inversion: images of a generator and of nothing, weights without a perceptual net

PIXELS_ONLY = {"l2": 1.0, "perceptual": 0.0}


def generated(generator, num: int, **mapping) -> Tensor:
    """Images (num, C, R, R) that the generator makes of random z."""
    z = torch.randn(num, generator.z_dim, generator=torch.Generator().manual_seed(9))
    return generator.synthesis(generator.mapping(z, **mapping))


def noise_images(num: int, channels: int = 3) -> Tensor:
    """Images of 8 px in [-1, 1] that no generator makes."""
    return torch.rand(num, channels, 8, 8, generator=torch.Generator().manual_seed(4)) * 2 - 1


# --- training


def penalties(*names: str) -> list[Penalty]:
    """Penalties by their names, weighed by the hyper-parameters that the losses weigh them with."""
    known = (R1("gamma"), R2("gamma"), GradientPenalty("gp_weight"))
    return [next(penalty for penalty in known if penalty.name == name) for name in names]
