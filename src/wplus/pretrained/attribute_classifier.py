"""Classifiers of binary attributes, which linear separability asks: the protocol, a small net, and its file.

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
from wplus.errors import UserError, check_choice
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

    Images come to a map of side 16 by strided convolutions, then follow three residual units, each at half the side of
    the last, and the mean over positions. Group normalisation: the images of a batch never mix. At width 32 it has
    0.36 M parameters.

    num_classes  of each factor, at least 2; the factors' logits stand side by side in this order
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
        """Logits (N, sum of num_classes) -> those of each factor, (N, its classes)."""
        return list(torch.split(logits, list(self.num_classes), dim=1))


class AttributeClassifier(nn.Module):
    """An `AttributeNet` as a classifier of binary attributes: some classes of a factor against its others.

    net         gives the logits of all factors
    factors     factor -> names of its classes, in the net's order
    attributes  what is asked: name -> (factor, those of its classes that have the attribute)
    name        of the classifier, part of the names of the numbers that it gives
    trained     on what and how, plain values, for the protocol
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

        Then softmax([l, -l]) is exactly the probability that the factor's own softmax gives to its classes.
        """
        logits = self.logits(images)[:, None]  # (N, 1, all classes)
        inside, outside = (logits.masked_fill(~own, -torch.inf).logsumexp(2) for own in (self._inside, self._outside))
        return (inside - outside) / 2

    def logits(self, images: Tensor) -> Tensor:
        """Images uint8 (N, C, H, W) -> logits (N, all classes of all factors)."""
        return self.seen(to_float(images))

    def seen(self, pixels: Tensor) -> Tensor:
        """The same of images (N, C, H, W) in [-1, 1]; gradients reach them."""
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
        """(attributes, all classes) bool: the classes of each attribute's factor that have it, or that lack it."""
        rows = [
            [own == factor and (value in group) == inside for own, values in self.classes.items() for value in values]
            for factor, group in self.groups.values()
        ]
        return torch.tensor(rows).view(self.dim, -1)


def chosen_factors(classifier: AttributeClassifier, factors: Sequence[str] | None) -> list[str]:
    """Those factors, or all that it knows for None; UserError for one that it does not know."""
    for factor in factors or ():
        check_choice("factors", factor, classifier.classes)
    return list(classifier.classes if factors is None else factors)


def check_name(name: str) -> None:
    """UserError unless a name can be part of a number's name: letters, digits and underscores."""
    if not re.fullmatch(r"[A-Za-z0-9_]+", str(name)):
        raise UserError(f"A classifier cannot be called '{name}': its name has letters, digits and underscores only.")


# File


def save_classifier(path: str | Path, classifier: AttributeClassifier) -> Path:
    """Write a classifier to a safetensors file, whole or not at all; `load_classifier` reads it."""
    header = {
        "generator": None,  # of no generator: it looks at images
        "arguments": {**classifier.net.arguments, "num_classes": list(classifier.net.num_classes)},
        "factors": classifier.classes,
        "attributes": classifier.groups,
        "name": classifier.name,
        "trained": classifier.trained,
    }
    return FILE.write(path, header, classifier.net.state_dict())


def load_classifier(path: str | Path) -> AttributeClassifier:
    """Read a classifier that `wplus classifier` trained, frozen; UserError for any other file. `cats32_attributes` is
    one that comes with the project."""
    return FILE.read(located(path), _assemble, fingerprint=None).eval().requires_grad_(False)


def _assemble(header: dict[str, Any], tensors: dict[str, Tensor]) -> AttributeClassifier:
    try:
        net = meta_init(AttributeNet, header["arguments"])
        assign(net, tensors)
    except RuntimeError as error:
        raise ValueError(" ".join(str(error).split())[:300]) from error
    return AttributeClassifier(net, **{key: header[key] for key in ("factors", "attributes", "name", "trained")})
