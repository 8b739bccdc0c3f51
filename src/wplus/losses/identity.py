"""Identity distances: 1 - cosine of one descriptor per image, from a face net, a self-supervised net, or a stand-in.

They ignore much of an image's appearance, so none can be the only term of a loss: with too large a weight, images
become alike while the term looks good. Weights of published nets are given by path or found in torch's cache; a
stand-in is only used if selected by its own name.
"""

from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.transforms.functional import normalize

from wplus.core.files import sha256
from wplus.core.metric_result import MetricInfo
from wplus.errors import check_choice
from wplus.losses.image_pair import ImageDistance, coloured
from wplus.losses.perceptual import unit_length
from wplus.models.encoders.base import resized
from wplus.pretrained import effnet_lite0
from wplus.pretrained.arcface import INPUT_SIZE, ArcFaceNet
from wplus.pretrained.extractor import IMAGENET_MEAN, IMAGENET_STD, Extractor, check_maps
from wplus.pretrained.weights import find, load_into, read_tensors

INSTEAD = "give it as identity.path=FILE (image_loss.identity.path=FILE), or choose effnet_lite0, a stand-in"


class IdentityDistance(ImageDistance):
    """Distance between images of 1 or 3 channels by the angle between descriptors; subclasses define `_descriptors`."""

    info = MetricInfo(
        meaning="1 minus the cosine similarity of two images' descriptors by the net named; 0 for equal images.",
        direction="lower",
    )
    similarity = MetricInfo(
        meaning="Cosine similarity of two images' descriptors by the net named; 1 for equal images.", direction="higher"
    )

    def features(self, images: Tensor) -> list[Tensor]:
        """Unit-length descriptors (N, D)."""
        return [unit_length(self._descriptors(coloured(images)))]

    def distance(self, features_a: list[Tensor], features_b: list[Tensor], mask: Tensor | None = None) -> Tensor:
        """1 - cosine (N,), from 0 to 2; UserError for a mask, because a descriptor has no positions."""
        self._refuse(mask)
        (a,), (b,) = features_a, features_b
        return (a - b).square().sum(dim=1) / 2  # equals 1 - a.b for unit vectors, and is exactly 0 for equal ones

    def _descriptors(self, images: Tensor) -> Tensor:
        """Images (N, 3, R, R) -> (N, D)."""
        raise NotImplementedError


ARCFACE_FILE = "model_ir_se50.pth"  # as used by pSp and e4e
ARCFACE_URL = "https://drive.google.com/file/d/1KW7bjndL3QG3sxBbZxreGHigcCCpsDgn/view (TreB1eN/InsightFace_Pytorch)"
ALIGNED_SIZE, FACE_ROWS, FACE_COLUMNS = 256, (35, 223), (32, 220)  # e4e's protocol


class ArcFaceIdentity(IdentityDistance):
    """`identity_arcface`: ArcFace on IR-SE50, for faces aligned as in FFHQ.

    crop: `face` crops rows 35 to 222, columns 32 to 219 of the image at 256 px, as e4e does; `none` uses all of it.
    The result is resized to 112 px. The descriptors are not meaningful for anything but faces.
    """

    name = "identity_arcface"

    def __init__(self, path: str | Path | None = None, *, crop: Literal["face", "none"] = "face") -> None:
        check_choice("crop", crop, ("face", "none"))
        super().__init__()
        self.crop = crop
        file = find(ARCFACE_FILE, ARCFACE_URL, user=self.name, path=path, instead=INSTEAD)
        self.net = ArcFaceNet()
        load_into(self.net, read_tensors(file), file)
        cut = f"rows {FACE_ROWS}, columns {FACE_COLUMNS} of {ALIGNED_SIZE} px" if crop == "face" else "none"
        seen = f"{INPUT_SIZE} px; area when reduced, bilinear when enlarged"
        self.freeze(weights=file.name, sha256=sha256(file), layers="embedding", crop=cut, input=seen)

    def _descriptors(self, images: Tensor) -> Tensor:
        if self.crop == "face":
            images = resized(images, ALIGNED_SIZE)[..., slice(*FACE_ROWS), slice(*FACE_COLUMNS)]
        return self.net(resized(images, INPUT_SIZE))


MOCO_FILE = "moco_v2_800ep_pretrain.pth.tar"
MOCO_URL = f"https://dl.fbaipublicfiles.com/moco/moco_checkpoints/moco_v2_800ep/{MOCO_FILE}"
MOCO_SIZE = 224  # px
MOCO_PREFIX = "module.encoder_q."


class MoCoIdentity(IdentityDistance):
    """`identity_moco`: ResNet50 trained without labels (MoCo v2, He et al. 2020), for domains other than faces.

    compat: `published` feeds pixels in [-1, 1], as pSp and e4e do, although the net was trained on normalised ones;
    `imagenet_normalised` applies the expected normalisation. Both resize to 224 px by nearest neighbour. The
    descriptors are the 2048 pooled features of the query encoder.
    """

    name = "identity_moco"

    def __init__(
        self, path: str | Path | None = None, *, compat: Literal["published", "imagenet_normalised"] = "published"
    ) -> None:
        from torchvision.models import resnet50

        check_choice("compat", compat, ("published", "imagenet_normalised"))
        super().__init__()
        self.compat = compat
        file = find(MOCO_FILE, MOCO_URL, user=self.name, path=path, instead=INSTEAD)
        state = read_tensors(file, entry="state_dict")
        query = {name.removeprefix(MOCO_PREFIX): state[name] for name in state if name.startswith(MOCO_PREFIX)}
        self.net = resnet50(weights=None)
        self.net.fc = nn.Identity()
        load_into(self.net, {name: tensor for name, tensor in query.items() if not name.startswith("fc.")}, file)
        pixels = "in [-1, 1]" if compat == "published" else "normalised as ImageNet's"
        seen = f"{MOCO_SIZE} px, nearest neighbour, pixels {pixels}"
        self.freeze(weights=file.name, sha256=sha256(file), layers="pooled features before the head", input=seen)

    def _descriptors(self, images: Tensor) -> Tensor:
        images = F.interpolate(images, size=(MOCO_SIZE, MOCO_SIZE), mode="nearest")
        if self.compat == "imagenet_normalised":
            images = normalize((images + 1) / 2, IMAGENET_MEAN, IMAGENET_STD)
        return self.net(images)


MIN_SIZE, MAX_SIZE = 64, 224  # px


class EffNetLite0Identity(IdentityDistance):
    """`identity_effnet_lite0`: pooled features (1280) of the bundled ImageNet net. A stand-in, not ArcFace, not MoCo.

    The features are non-negative, so no distance exceeds 1: on cats at 64 px the median is 0.31 to another cat, 0.14 to
    the same image blurred by 1 px, 0.07 to its mirror image. The net halves the size five times and was trained at
    224 px.
    """

    name = "identity_effnet_lite0"

    def __init__(self) -> None:
        super().__init__()
        self.net = effnet_lite0.load_effnet_lite0()
        seen = f"{MIN_SIZE} to {MAX_SIZE} px; area when reduced, bilinear when enlarged"
        layers = "pooled features before the classifier"
        self.freeze(**effnet_lite0.weights_provenance(), layers=layers, input=seen)

    def _descriptors(self, images: Tensor) -> Tensor:
        images = resized(images, min(max(images.shape[-1], MIN_SIZE), MAX_SIZE))
        return self.net.pooled(images.contiguous(memory_format=torch.channels_last))


class ExtractorIdentity(IdentityDistance):
    """`identity_<net>`: pooled coarsest feature maps of an extractor that has maps; sizes as above. A stand-in."""

    def __init__(self, extractor: Extractor) -> None:
        super().__init__()
        check_maps(extractor)
        self.name, self.net = f"identity_{extractor.name}", extractor
        seen = f"{MIN_SIZE} to {MAX_SIZE} px; area when reduced, bilinear when enlarged"
        layers = f"maps at stride {extractor.map_strides[-1]}, pooled"
        weights = extractor.protocol["extractor_weights"]
        self.freeze(weights=weights, sha256=extractor.weights_sha256, layers=layers, input=seen)

    def _descriptors(self, images: Tensor) -> Tensor:
        return self.net.maps(resized(images, min(max(images.shape[-1], MIN_SIZE), MAX_SIZE)))[-1].mean(dim=(2, 3))
