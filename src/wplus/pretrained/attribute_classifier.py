"""Classifiers of binary attributes, as used by linear separability: the interface, a small network, its file format.

A classifier is a module with `.name`, `.attributes` (names), `.protocol` (plain values) and `forward(images uint8
(N, C, H, W)) -> logits (N, attributes)`; the probability of an attribute is softmax([l, -l]), as in Karras et al. 2019.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wplus.checkpoint import fingerprint, located
from wplus.core.images import to_float
from wplus.core.safetensors_file import SafetensorsFormat
from wplus.errors import UserError, check_choice, reason
from wplus.models.encoders.small import Normalise, maps_of, trunk
from wplus.models.network import Network, assign, meta_init

FILE = SafetensorsFormat(
    noun="classifier",
    entry="wplus_classifier",
    version=1,
    foreign="'{path}' belongs to the generator {maker}, not {fingerprint}",
    source="`wplus classifier` trains one",
)


class AttributeNet(Network):
    """Images (N, img_channels, input_size, input_size) in [-1, 1] -> logits (N, sum of num_classes).

    Strided convolutions reduce images to 16x16 maps, followed by three residual units, each at half the previous
    resolution, and global average pooling. It uses group normalisation, so the images of a batch are independent. At
    width 32 it has 0.36 M parameters.

    num_classes  number of classes of each factor, at least 2; the logits are concatenated in this order
    input_size   a power of two from 8 up
    width        a multiple of 16
    """

    def __init__(self, *, num_classes: Sequence[int], input_size: int, img_channels: int = 3, width: int = 32) -> None:
        super().__init__()
        if not num_classes or min(num_classes) < 2:
            raise UserError(f"num_classes must be 2 or more of each factor, got {list(num_classes)}.")
        if input_size < 8 or input_size & (input_size - 1):
            raise UserError(f"input_size must be a power of two from 8 up, got {input_size}.")
        self.num_classes, self.input_size, self.img_channels = tuple(num_classes), input_size, img_channels
        self.stem, self.units, self.downs, channels = trunk(img_channels, width, input_size=input_size)
        self.norm = Normalise(channels[-1])
        self.heads = nn.Linear(channels[-1], sum(num_classes))

    def forward(self, images: Tensor) -> Tensor:
        """(N, img_channels, input_size, input_size) -> (N, sum of num_classes)."""
        coarse = maps_of(images, self.stem, self.units, self.downs)[-1]  # (N, 3 width, 4, 4)
        return self.heads(self.norm(coarse).mean(dim=(2, 3)))

    def factors(self, logits: Tensor) -> list[Tensor]:
        """Split logits (N, sum of num_classes) into those of each factor, (N, its classes)."""
        return list(torch.split(logits, list(self.num_classes), dim=1))


class AttributeClassifier(nn.Module):
    """An `AttributeNet` as a classifier of binary attributes: some classes of a factor against the others.

    net         network for the logits of all factors
    factors     factor -> names of its classes, in the net's order
    attributes  the binary attributes: name -> (factor, the classes of it that have the attribute)
    name        name of the classifier, part of the names of its metrics
    trained     training data and settings, plain values, for the protocol
    """

    _inside: Tensor
    _outside: Tensor

    def __init__(
        self,
        net: AttributeNet,
        *,
        factors: Mapping[str, Sequence[str]],
        attributes: Mapping[str, tuple[str, Sequence[str]]],
        name: str,
        trained: Mapping[str, Any],
    ) -> None:
        super().__init__()
        check_name(name)
        self.net, self.name, self.trained = net, name, dict(trained)
        self.classes = {factor: list(classes) for factor, classes in factors.items()}
        self.groups = {attribute: (factor, list(group)) for attribute, (factor, group) in attributes.items()}
        self.attributes, self.dim = list(self.groups), len(self.groups)
        if not self.groups:
            raise UserError(f"'{name}' has no attributes, so there is nothing to ask it.")
        for attribute, (factor, group) in self.groups.items():
            known = self.classes.get(factor, [])
            if not 0 < len(set(group) & set(known)) == len(group) < len(known):
                allowed = ", ".join(known) or "a factor that it does not have"
                raise UserError(f"'{attribute}' must be some, not all, classes of '{factor}' ({allowed}), got {group}.")
        self.register_buffer("_inside", self._places(inside=True), persistent=False)
        self.register_buffer("_outside", self._places(inside=False), persistent=False)

    @property
    def protocol(self) -> dict[str, Any]:
        """Name, fingerprint of the weights, input size and what it was trained on."""
        return {
            "classifier": self.name,
            "classifier_fingerprint": fingerprint(self.net),
            "classifier_input": f"{self.net.input_size} px, bilinear, antialiased when shrunk",
            "classifier_trained": self.trained,
            "attributes": {attribute: [factor, *group] for attribute, (factor, group) in self.groups.items()},
        }

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Images uint8 (N, C, H, W) -> logits (N, attributes) float32, half the log odds of each attribute.

        softmax([l, -l]) is then exactly the probability that the factor's softmax assigns to the attribute's classes.
        """
        logits = self.logits(images)[:, None]  # (N, 1, all classes)
        inside, outside = (logits.masked_fill(~own, -torch.inf).logsumexp(2) for own in (self._inside, self._outside))
        return (inside - outside) / 2

    def logits(self, images: Tensor) -> Tensor:
        """Images uint8 (N, C, H, W) -> logits (N, all classes of all factors)."""
        return self.seen(to_float(images))

    def seen(self, pixels: Tensor) -> Tensor:
        """Like `logits`, but for images (N, C, H, W) in [-1, 1], and differentiable with respect to them."""
        channels = self.net.img_channels
        if pixels.shape[1] not in (1, channels):
            raise UserError(f"'{self.name}' classifies images of {channels} channel(s), not of {pixels.shape[1]}.")
        pixels = pixels.expand(-1, channels, -1, -1)
        size = (self.net.input_size, self.net.input_size)
        if pixels.shape[2:] != size:
            shrunk = pixels.shape[2] > size[0]
            pixels = F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=shrunk)
        return self.net(pixels)

    def predicted(self, images: Tensor) -> Tensor:
        """Images uint8 (N, C, H, W) -> the most probable class of every factor, int64 (N, factors)."""
        return torch.stack([part.argmax(dim=1) for part in self.net.factors(self.logits(images))], dim=1)

    def _places(self, *, inside: bool) -> Tensor:
        """(attributes, all classes) bool: the classes of each attribute's factor that have it, or that do not."""
        rows = [
            [own == factor and (value in group) == inside for own, values in self.classes.items() for value in values]
            for factor, group in self.groups.values()
        ]
        return torch.tensor(rows).view(self.dim, -1)


def chosen_factors(classifier: AttributeClassifier, factors: Sequence[str] | None) -> list[str]:
    """Return `factors`, or all of the classifier's for None; UserError for one it does not know."""
    for factor in factors or ():
        check_choice("factors", factor, classifier.classes)
    return list(classifier.classes if factors is None else factors)


def check_name(name: str) -> None:
    """Raise UserError unless a name can be part of a metric's name: letters, digits and underscores."""
    if not re.fullmatch(r"[A-Za-z0-9_]+", str(name)):
        raise UserError(f"A classifier cannot be called '{name}': its name has letters, digits and underscores only.")


# File


def save_classifier(path: str | Path, classifier: AttributeClassifier) -> Path:
    """Write a classifier to a safetensors file, atomically; `load_classifier` reads it."""
    header = {
        "generator": None,  # not bound to a generator: it takes images
        "arguments": {**classifier.net.arguments, "num_classes": list(classifier.net.num_classes)},
        "factors": classifier.classes,
        "attributes": classifier.groups,
        "name": classifier.name,
        "trained": classifier.trained,
    }
    return FILE.write(path, header, classifier.net.state_dict())


def load_classifier(path: str | Path) -> AttributeClassifier:
    """Load a classifier trained by `wplus classifier`, frozen; UserError for any other file. `cats32_attributes` is a
    bundled one."""
    return FILE.read(located(path), _assemble, fingerprint=None).eval().requires_grad_(False)


def _assemble(header: dict[str, Any], tensors: dict[str, Tensor]) -> AttributeClassifier:
    try:
        net = meta_init(AttributeNet, header["arguments"])
        assign(net, tensors)
    except RuntimeError as error:
        raise ValueError(reason(error)) from error
    return AttributeClassifier(net, **{key: header[key] for key in ("factors", "attributes", "name", "trained")})
