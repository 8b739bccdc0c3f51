"""Every metric of configs/metrics with small sizes and stand-in networks, except those with separate tests:
they need more than a network to measure with."""

import functools
from functools import partial

import torch
from torch import Tensor

from wplus.config import CONFIG_FOLDER, build, composed
from wplus.evaluation.factors import factors
from wplus.evaluation.frechet import fd
from wplus.evaluation.measure import Metric

TESTED_ALONE = ("interpolation", "factors", "digits", "cas", "fd_per_class")
CODED = ("anomaly", "dci_code", "denoising", "elbo", "reconstruction", "representation")  # of an autoencoder
SMALL = {"num_generated": 30, "num_samples": 40, "num_groups": 3, "num_splits": 3, "min_per_class": 1,
         "extrapolate": True, "num_trees": 3, "num_images": 30, "num_train": 30, "num_draws": 3,
         "factor": "body", "value": 1}  # fmt: skip


class Pixels(torch.nn.Module):
    """Features that are a few pixels, and the logits of five classes."""

    name, dim = "pixels", 5
    protocol = {"extractor": name}

    def forward(self, images: Tensor) -> Tensor:
        """(N, 5)."""
        return images.double().flatten(1)[:, : self.dim] / 255

    def logits(self, features: Tensor) -> Tensor:
        """(N, 5)."""
        return features


class Odd(Pixels):
    """Classifies: is the value of a pixel odd? About half of them are, whatever the generator."""

    name, attributes = "odd", tuple("abcde")
    protocol = {"classifier": name}

    def forward(self, images: Tensor) -> Tensor:
        """(N, 5)."""
        values = images.flatten(1)[:, : self.dim].double()
        return (values % 2 - 0.5) * (1 + values)


class Bodies(torch.nn.Module):
    """Names one of three bodies, by a pixel."""

    name, protocol, classes = "bodies", {"classifier": "bodies"}, {"body": list("012")}

    def predicted(self, images: Tensor) -> Tensor:
        """(N, 1)."""
        return images[:, 0, 0, :1].long() % 3


small_factors = partial(factors, classifier=Bodies(), num_generated=30, num_compared=20, num_groups=3)


class Squares(torch.nn.Module):
    """A distance of images."""

    name, provenance = "squares", {"weights": "none"}

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """(N,)."""
        return (a - b).square().sum(dim=(1, 2, 3))


@functools.cache
def _every_metric() -> dict[str, Metric]:
    names = sorted(path.stem for path in (CONFIG_FOLDER / "metrics").glob("*.yaml") if path.stem not in TESTED_ALONE)
    nodes = composed("evaluate", [f"metrics=[{','.join(names)}]", "checkpoint=none", "run_dir=none"])["metrics"]
    nets = {"extractor": Pixels(), "classifier": Odd(), "distance": Squares()}
    metrics = {}
    for name, node in nodes.items():
        nets["classifier"] = Bodies() if name.startswith("dci") else Odd()  # one asks for factors, one for attributes
        given = {key: net for key, net in nets.items() if node.get(key) is not None}
        options = {key: SMALL.get(key, value) for key, value in node.items() if key not in given}
        metrics[name] = build(options, **given)
    assert len(metrics) == len(names)
    return metrics


def every_metric() -> dict[str, Metric]:
    """Config -> metric of a GAN, and a Fréchet distance from the data with its mirror images."""
    mirrored = partial(fd, extractor=Pixels(), num_generated=30, num_groups=3, mirror="x")
    return {"mirrored": mirrored} | {name: each for name, each in _every_metric().items() if name not in CODED}


def coded_metrics() -> dict[str, Metric]:
    """Config -> metric of an autoencoder."""
    return {name: each for name, each in _every_metric().items() if name in CODED}
