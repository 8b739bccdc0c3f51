"""Feature extractors: uint8 images in, feature vectors out, with everything that a protocol must say about them.

An extractor is a module with `.name`, `.dim`, `.protocol` (plain values) and `forward(images uint8 (N, C, H, W)) ->
(N, dim)`. Its name is part of the name of every number that it gives. One that can tell classes apart has
`logits(features (N, dim)) -> (N, classes)` as well. None takes the place of another by itself.
"""

from wplus.evaluation.extractors.effnet_lite0 import EffNetLite0Features
from wplus.evaluation.extractors.inception import InceptionFeatures
from wplus.evaluation.extractors.mobilenet_v2 import MobileNetV2Features
from wplus.evaluation.extractors.vgg16 import VGG16Features

__all__ = ["EffNetLite0Features", "InceptionFeatures", "MobileNetV2Features", "VGG16Features"]
