"""Properties of every image-pair loss."""

import json
import re

import pytest
import torch

from wplus.config import CONFIG_FOLDER
from wplus.errors import UserError
from wplus.losses.attributes import AttributesDistance
from wplus.losses.discriminator import DiscriminatorFeatures
from wplus.losses.identity import ArcFaceIdentity, EffNetLite0Identity, ExtractorIdentity, MoCoIdentity
from wplus.losses.image_pair import ImageDistance, coloured, mean_over, resized_mask
from wplus.losses.perceptual import EffNetLite0Distance, ExtractorDistance, LPIPSDistance, STLPIPSDistance
from wplus.losses.pixel import L1, L2
from wplus.losses.shape_style import Shape, Style
from wplus.losses.ssim import MSSSIM, SSIM
from wplus.models.stylegan2 import Discriminator
from wplus.pretrained.attribute_classifier import AttributeClassifier, AttributeNet
from wplus.pretrained.effnet_lite0 import EffNetLite0Features

SIZE = 32


def classifier() -> AttributeClassifier:
    torch.manual_seed(0)
    net = AttributeNet(num_classes=[3, 2], input_size=SIZE, width=16).eval()
    factors = {"fur": ["0", "1", "2"], "hat": ["no", "yes"]}
    return AttributeClassifier(net, factors=factors, attributes={"hat": ("hat", ["yes"])}, name="toy", trained={})


def small_discriminator() -> Discriminator:
    return Discriminator(resolution=SIZE, channel_base=256, channel_max=32)


LIGHT = {
    "l1": L1,
    "l2": L2,
    "ssim": SSIM,
    "ms_ssim": MSSSIM,
    "effnet_lite0": EffNetLite0Distance,
    "lpips_squeeze": lambda: LPIPSDistance("squeeze", download=False),
    "stlpips_alex": lambda: STLPIPSDistance("alex"),
    "discriminator_features": lambda: DiscriminatorFeatures(small_discriminator()),
    "discriminator_features (l1)": lambda: DiscriminatorFeatures(small_discriminator(), compare="l1"),
    "identity_effnet_lite0": EffNetLite0Identity,
    "effnet_lite0 (maps)": lambda: ExtractorDistance(EffNetLite0Features()),
    "identity_effnet_lite0 (maps)": lambda: ExtractorIdentity(EffNetLite0Features()),
    "factors": lambda: AttributesDistance(classifier()),
    "shape": Shape,
    "style": lambda: Style(EffNetLite0Distance()),
}
MASKED = [name for name in LIGHT if not name.startswith(("identity", "factors"))]


@pytest.fixture
def distance(request, random_trunks, stlpips_package) -> ImageDistance:
    stlpips_package("alex")
    return LIGHT[request.param]()


@pytest.fixture
def pair(pictures) -> tuple[torch.Tensor, torch.Tensor]:
    """Three pairs of different images."""
    images = pictures(6, SIZE)
    return images[:3], images[3:]


every = pytest.mark.parametrize("distance", LIGHT, indirect=True)
masked = pytest.mark.parametrize("distance", MASKED, indirect=True)


def test_the_sweep_knows_every_class():
    """Every class named by a configuration; ArcFace and MoCo, which are slow, are tested at the end."""
    files = [path for group in ("image_loss", "perceptual") for path in (CONFIG_FOLDER / group).glob("*.yaml")]
    named = {target for path in files for target in re.findall(r"_target_: (wplus\.losses\.\S+)", path.read_text())}
    swept = {L1, L2, SSIM, MSSSIM, EffNetLite0Distance, LPIPSDistance, DiscriminatorFeatures, EffNetLite0Identity}
    swept |= {Shape, Style, STLPIPSDistance, ArcFaceIdentity, MoCoIdentity, AttributesDistance}
    swept |= {ExtractorDistance, ExtractorIdentity}
    assert named <= {f"{cls.__module__}.{cls.__name__}" for cls in swept}


@every
def test_one_positive_number_per_image_symmetric(distance, pair):
    there, back = distance(*pair), distance(*reversed(pair))
    assert there.shape == (3,)
    assert (there > 1e-4).all()
    torch.testing.assert_close(there, back)


@every
def test_images_do_not_mix_and_one_image_may_meet_many(distance, pair):
    """From either side, with features computed once."""
    a, b = pair
    alone = torch.cat([distance(a[i : i + 1], b[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(distance(a, b), alone, atol=1e-5, rtol=1e-5)
    each = distance(a[:1].expand(3, -1, -1, -1), b)
    torch.testing.assert_close(distance(b, a[:1]), each, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        once = distance.features(a[:1])
    torch.testing.assert_close(distance.distance(once, distance.features(b)), each, atol=1e-5, rtol=1e-5)


@every
def test_differentiable_in_both(distance, pair):
    a, b = (images.clone().requires_grad_() for images in pair)
    for gradient in torch.autograd.grad(distance(a, b).sum(), (a, b)):
        assert torch.isfinite(gradient).all()
        assert (gradient.flatten(1).norm(dim=1) > 0).all()


@every
def test_equal_images_have_distance_zero_and_a_finite_gradient(distance, pair):
    """The same holds for flat images, whose variances and feature vectors may be zero."""
    a, grey = pair[0].clone().requires_grad_(), torch.zeros(3, 3, SIZE, SIZE, requires_grad=True)
    found = distance(a, pair[0])
    assert torch.equal(found, torch.zeros(3))
    for gradient in torch.autograd.grad(found.sum() + distance(grey, grey.detach() - 1).sum(), (a, grey)):
        assert torch.isfinite(gradient).all()


@every
def test_a_frozen_instrument_that_says_what_it_is(distance):
    holder = torch.nn.ModuleList([distance]).train()
    assert not any(module.training for module in holder[0].modules())
    assert not any(parameter.requires_grad for parameter in distance.parameters())
    assert distance.provenance["name"] == distance.name
    assert json.loads(json.dumps(dict(distance.provenance)))


@every
def test_a_score_explains_itself(distance):
    """Similarities are better when higher, distances when lower; equal images have the value stated in the meaning."""
    name, values, info = distance.score(torch.tensor([0.25]))
    is_similarity = name == f"similarity_{distance.name}"
    assert is_similarity == (distance.similarity is not None)
    assert is_similarity or name == distance.name
    assert values.item() == (0.75 if is_similarity else 0.25)
    assert info.direction == ("higher" if is_similarity else "lower")
    assert f"; {1 if is_similarity else 0} for equal images." in info.meaning
    assert distance.info.direction == "lower"


# Masks


@masked
def test_every_image_has_its_own_mask(distance, pair):
    masks, (a, b) = torch.rand(3, 1, SIZE, SIZE), pair
    alone = torch.cat([distance(a[i : i + 1], b[i : i + 1], masks[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(distance(a, b, masks), alone, atol=1e-5, rtol=1e-5)
    alone = torch.cat([distance(a[:1], b[:1], masks[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(distance(a[:1], b[:1], masks), alone)


@masked
def test_only_the_shape_of_a_mask_counts(distance, pair):
    """Masks are normalised by area: half the weight everywhere is the same mask, and a uniform weight is no mask."""
    mask, even = torch.rand(1, 1, SIZE, SIZE), torch.ones(3, 1, SIZE, SIZE)
    torch.testing.assert_close(distance(*pair, mask / 2), distance(*pair, mask), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(distance(*pair, even), distance(*pair), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(distance(*pair, even[:1]), distance(*pair), atol=1e-6, rtol=1e-6)


@masked
def test_a_mask_looks_where_it_is(distance, pair):
    """Images that differ only on the left."""
    a, left = pair[0], torch.zeros(1, 1, SIZE, SIZE)
    left[..., : SIZE // 2] = 1
    b = torch.where(left > 0, pair[1], a)
    assert (distance(a, b, left) > distance(a, b)).all()
    assert (distance(a, b, 1 - left) < distance(a, b)).all()


@masked
def test_an_empty_mask_is_zero_and_has_a_finite_gradient(distance, pair):
    a, mask = pair[0].clone().requires_grad_(), torch.zeros(3, 1, SIZE, SIZE)
    mask[1] = 1
    found = distance(a, pair[1], mask)
    assert (found > 0).tolist() == [False, True, False]
    (gradient,) = torch.autograd.grad(found.sum(), a)
    assert torch.isfinite(gradient).all()
    assert gradient[1].abs().sum() > 0


@pytest.mark.parametrize("distance", ["l1", "l2", "ssim", "ms_ssim"], indirect=True)
def test_terms_of_pixels_see_nothing_outside(distance, pair):
    mask = torch.zeros(1, 1, SIZE, SIZE)
    mask[..., 3:19, 2:17] = torch.rand(16, 15) + 0.1
    changed = [torch.where(mask > 0, images, torch.rand_like(images)) for images in pair]
    found = distance(*pair, mask)
    torch.testing.assert_close(distance(changed[0], pair[1], mask), found)
    torch.testing.assert_close(distance(pair[0], changed[1], mask), found)
    assert not torch.allclose(distance(changed[0], pair[1]), distance(*pair), rtol=1e-3)


def test_descriptors_have_no_positions(pair):
    with pytest.raises(UserError, match=r"identity_effnet_lite0.*no mask"):
        EffNetLite0Identity()(*pair, torch.ones(1, 1, SIZE, SIZE))


def test_a_mask_at_the_size_of_a_map_holds_covered_shares():
    mask = torch.zeros(1, 1, 4, 4)
    mask[0, 0, 0, :3] = 1
    assert resized_mask(mask, (2, 2)).tolist() == [[[0.5, 0.25], [0, 0]]]
    maps = torch.tensor([[[1.0, 4.0], [100.0, 100.0]]])
    torch.testing.assert_close(mean_over(maps, mask), torch.tensor([(0.5 * 1 + 0.25 * 4) / 0.75]))


@every
def test_grey_images(distance, pair, request):
    name = request.node.callspec.params["distance"]
    a, b = (images[:, :1] for images in pair)
    if name.startswith("discriminator"):
        with pytest.raises(UserError, match=r"\(N, 3, 32, 32\), got \(3, 1, 32, 32\)"):
            distance(a, b)
    else:
        torch.testing.assert_close(distance(a, b), distance(coloured(a), coloured(b)), atol=1e-5, rtol=1e-5)


# The published nets of identity, with random weights


@pytest.mark.parametrize("which", ["arcface", "moco"])
def test_published_nets_keep_the_promises(which, request, pictures):
    make = {"arcface": ArcFaceIdentity, "moco": MoCoIdentity}[which]
    distance, a = make(request.getfixturevalue(f"{which}_file")), pictures(4, SIZE)[:2]
    b = pictures(4, SIZE)[2:].requires_grad_()
    of_a, of_b = distance.features(a), distance.features(b)
    torch.testing.assert_close(distance.features(a[:1])[0], of_a[0][:1], atol=1e-5, rtol=1e-4)
    found = distance.distance(of_a, of_b)
    assert (found > 1e-4).all()
    torch.testing.assert_close(found, 1 - torch.cosine_similarity(of_a[0], of_b[0]), atol=1e-5, rtol=1e-4)
    (gradient,) = torch.autograd.grad(found.sum(), b)
    assert torch.isfinite(gradient).all()
    assert (gradient.flatten(1).norm(dim=1) > 0).all()
    test_a_frozen_instrument_that_says_what_it_is(distance)


# Distances by whatever net has feature maps, and by a classifier


def test_maps_of_an_extractor_give_the_distance_of_its_own_class(pair):
    torch.testing.assert_close(ExtractorDistance(EffNetLite0Features())(*pair), EffNetLite0Distance()(*pair))


def test_the_identity_of_an_extractor_is_the_angle_between_its_pooled_maps(pair):
    net = EffNetLite0Features()
    large = [torch.nn.functional.interpolate(images, size=64, mode="bilinear") for images in pair]
    a, b = (net.maps(images)[-1].mean(dim=(2, 3)) for images in large)
    torch.testing.assert_close(ExtractorIdentity(net)(*pair), 1 - torch.cosine_similarity(a, b), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("make", [ExtractorDistance, ExtractorIdentity])
def test_a_net_without_maps_is_refused(make):
    net = EffNetLite0Features()
    net.map_channels = ()
    with pytest.raises(UserError, match="'effnet_lite0' has no feature maps: take one of effnet_lite0, "):
        make(net)


def test_a_classifier_that_is_sure_gives_the_share_of_factors_that_it_names_differently(pair):
    sure = classifier()
    sure.net.heads.weight.data *= 1e6
    sure.net.heads.bias.data.zero_()
    sure.net.heads.bias.data -= sure.seen(torch.cat(pair)).mean(dim=0)  # so that not all are named alike
    a, b = (torch.stack([part.argmax(dim=1) for part in sure.net.factors(sure.seen(images))]) for images in pair)
    assert 0 < (a != b).sum() < 6
    torch.testing.assert_close(AttributesDistance(sure)(*pair), (a != b).float().mean(dim=0))
    torch.testing.assert_close(AttributesDistance(sure, ["hat"])(*pair), (a != b).float()[1])
    with pytest.raises(UserError, match="factors must be one of fur, hat, got 'tail'"):
        AttributesDistance(sure, ["tail"])
    with pytest.raises(UserError, match=r"factors_toy.*no mask"):
        AttributesDistance(sure)(*pair, torch.ones(1, 1, SIZE, SIZE))
