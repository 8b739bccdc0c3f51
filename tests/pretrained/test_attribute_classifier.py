from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from tests.test_checkpoint import Allocated
from wplus.core.images import to_float
from wplus.errors import UserError
from wplus.pretrained.attribute_classifier import AttributeClassifier, AttributeNet, load_classifier, save_classifier

FACTORS = {"fur": ["0", "1", "2"], "flip": ["0", "1"]}
GROUPS = {"flip=1": ("flip", ["1"]), "light": ("fur", ["0", "2"]), "fur=2": ("fur", ["2"])}


def a_classifier(**changes: Any) -> AttributeClassifier:
    net = AttributeNet(num_classes=[3, 2], input_size=16, width=16)
    for parameter in net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    described = {"factors": FACTORS, "attributes": GROUPS, "name": "toy", "trained": {"kimg": 1}}
    return AttributeClassifier(net, **(described | changes)).eval()


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)


def test_the_pair_of_a_logit_has_the_probability_of_its_class(images: torch.Tensor) -> None:
    classifier = a_classifier()
    fur, flip = classifier.net(to_float(images)).split([3, 2], dim=1)
    expected = torch.stack(
        [flip.softmax(1)[:, 1], fur.softmax(1)[:, 0] + fur.softmax(1)[:, 2], fur.softmax(1)[:, 2]], dim=1
    )
    logits = classifier(images)
    found = torch.stack([logits, -logits]).softmax(dim=0)[0]
    torch.testing.assert_close(found, expected)
    assert torch.equal(classifier.predicted(images), torch.stack([fur.argmax(1), flip.argmax(1)], dim=1))


def test_a_file_gives_the_same_answers_and_the_same_protocol(images: torch.Tensor, tmp_path: Path) -> None:
    classifier = a_classifier()
    again = load_classifier(save_classifier(tmp_path / "a.safetensors", classifier))
    assert torch.equal(again(images), classifier(images))
    assert (again.name, again.attributes, again.dim) == ("toy", list(GROUPS), 3)
    assert again.protocol == classifier.protocol
    assert not again.training
    assert not any(parameter.requires_grad for parameter in again.parameters())
    assert a_classifier().protocol != classifier.protocol  # other weights


def test_other_sizes_and_grey_images_are_brought_to_the_net(images: torch.Tensor) -> None:
    classifier = a_classifier()
    large = images.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    shrunk = F.interpolate(to_float(large), (16, 16), mode="bilinear", antialias=True)
    torch.testing.assert_close(classifier.logits(large), classifier.net(shrunk))
    grey = images[:, :1]
    torch.testing.assert_close(classifier(grey), classifier(grey.repeat(1, 3, 1, 1)))
    with pytest.raises(UserError, match=r"'toy' classifies images of 3 channel\(s\), not of 4"):
        classifier(torch.zeros(1, 4, 16, 16, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("make", "changes", "word"),
    [(a_classifier, {"attributes": {"a": ("fur", ["7"])}}, r"'a' must be some, not all, classes of 'fur' \(0, 1, 2\)"),
     (a_classifier, {"attributes": {"a": ("fur", ["0", "1", "2"])}}, "some, not all"),
     (a_classifier, {"attributes": {"a": ("tail", ["0"])}}, "a factor that it does not have"),
     (a_classifier, {"attributes": {}}, "'toy' has no attributes"),
     (a_classifier, {"name": "my cats"}, "cannot be called 'my cats'"),
     (AttributeNet, {"num_classes": [3, 1], "input_size": 16}, r"num_classes must .* \[3, 1\]"),
     (AttributeNet, {"num_classes": [], "input_size": 16}, r"num_classes must .* \[\]"),
     (AttributeNet, {"num_classes": [2], "input_size": 24}, "input_size must .* 24"),
     (AttributeNet, {"num_classes": [2], "input_size": 16, "width": 20}, "width must be .*, got 20")],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(make: Callable[..., object], changes: dict[str, Any], word: str) -> None:
    with pytest.raises(UserError, match=word):
        make(**changes)


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"does not exist; `wplus classifier` trains one"):
        load_classifier(tmp_path / "none.safetensors")
    classifier = a_classifier()
    del classifier.net.heads
    with pytest.raises(UserError, match=r"is incomplete: .*heads"):
        load_classifier(save_classifier(tmp_path / "a.safetensors", classifier))


@pytest.mark.parametrize("claim", [{"width": 2**30}, {"num_classes": [3, 10**5]}, {"img_channels": 2**60}])
def test_claimed_sizes_take_no_memory(claim: dict[str, Any], tmp_path: Path) -> None:
    classifier = a_classifier()
    classifier.net.arguments |= claim
    classifier.net.num_classes = claim.get("num_classes", classifier.net.num_classes)
    path = save_classifier(tmp_path / "a.safetensors", classifier)
    with pytest.raises(UserError, match=r"The classifier file .* is incomplete"), Allocated() as forged:
        load_classifier(path)
    assert forged.largest <= path.stat().st_size


def test_the_one_that_comes_with_the_project(repository: Path) -> None:
    path = repository / "experiments" / "models" / "cats32_attributes.safetensors"
    classifier = load_classifier(path)
    assert path.stat().st_size < 1.5e6
    assert classifier.name == "cats32_attributes"
    assert set(classifier.classes) >= {"body", "fur", "eyes", "mouth", "accessory"}


# The net


@pytest.mark.parametrize(("input_size", "channels"), [(8, 3), (32, 1), (64, 3)])
def test_logits_of_all_factors_and_a_gradient_everywhere(input_size: int, channels: int) -> None:
    net = AttributeNet(num_classes=[3, 2, 5], input_size=input_size, img_channels=channels, width=16)
    for parameter in net.parameters():  # units start as the identity, which hides their first convolution
        parameter.data += 0.01 * torch.randn_like(parameter)
    logits = net(torch.randn(2, channels, input_size, input_size))
    assert [tuple(part.shape) for part in net.factors(logits)] == [(2, 3), (2, 2), (2, 5)]
    logits.square().sum().backward()
    assert all(parameter.grad is not None and bool(parameter.grad.any()) for parameter in net.parameters())


def test_images_of_a_batch_never_mix() -> None:
    net = AttributeNet(num_classes=[4], input_size=16, width=16)
    images = torch.randn(5, 3, 16, 16)
    torch.testing.assert_close(net(images)[2:3], net(images[2:3]))


def test_it_is_small_and_rebuilt_from_its_arguments() -> None:
    net = AttributeNet(num_classes=[15, 9, 15, 10, 16], input_size=32)
    assert sum(parameter.numel() for parameter in net.parameters()) < 360_000
    AttributeNet(**net.arguments).load_state_dict(net.state_dict())
