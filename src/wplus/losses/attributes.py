"""Distance between two images by how differently an attribute classifier predicts their factors."""

import torch
from torch import Tensor

from wplus.core.metric_result import MetricInfo
from wplus.losses.image_pair import ImageDistance
from wplus.pretrained.attribute_classifier import AttributeClassifier, chosen_factors


class AttributesDistance(ImageDistance):
    """`factors_<classifier>`: 1/2 sum |p(a) - p(b)| over the values of a factor, averaged over the factors.

    This is the total variation between the classifier's probabilities. For confident predictions it is the share of
    factors predicted differently; otherwise it varies smoothly.

    Args:
        classifier: classifier of the images' factors, see `wplus classifier`.
        factors: factors to compare; None: all that the classifier knows.
    """

    info = MetricInfo(
        meaning="How differently the classifier predicts the factors of two images: about the share of factors with "
        "different predictions; 0 for equal images.", direction="lower",
    )  # fmt: skip
    similarity = MetricInfo(
        meaning="How similarly the classifier predicts the factors of two images: about the share of factors with the "
        "same prediction; 1 for equal images.", direction="higher",
    )  # fmt: skip

    def __init__(self, classifier: AttributeClassifier, factors: list[str] | None = None) -> None:
        super().__init__()
        self.name, self.classifier = f"factors_{classifier.name}", classifier
        self.factors = chosen_factors(classifier, factors)
        self.freeze(**{**classifier.protocol, "attributes": None, "factors": self.factors})

    def features(self, images: Tensor) -> list[Tensor]:
        """Probabilities (N, K) of each factor's values."""
        parts = dict(
            zip(self.classifier.classes, self.classifier.net.factors(self.classifier.seen(images)), strict=True)
        )
        return [parts[factor].softmax(dim=1) for factor in self.factors]

    def distance(self, features_a: list[Tensor], features_b: list[Tensor], mask: Tensor | None = None) -> Tensor:
        """Distances (N,) from 0 to 1; UserError for a mask, because a classifier sees whole images."""
        self._refuse(mask)
        pairs = zip(features_a, features_b, strict=True)
        return torch.stack([(a - b).abs().sum(dim=1) / 2 for a, b in pairs]).mean(dim=0)
