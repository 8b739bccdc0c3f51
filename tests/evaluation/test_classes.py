"""Metrics of classes, with generators that draw each class well, mix them up, or copy."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.fakes import checking, measured
from wplus.checkpoint import Models
from wplus.data import ImageSet
from wplus.errors import UserError
from wplus.evaluation.classification_score import balanced, cas
from wplus.evaluation.context import EvalContext
from wplus.evaluation.fd_per_class import fd_per_class
from wplus.evaluation.frechet import FeatureStatistics, frechet_distance
from wplus.evaluation.labelled import averaged_down, classes_of, made

CLASSES = 3
SHORT = {"num_generated": 240, "num_real": (4, 10_000), "kimg": 2.0, "width": 16}


def painted(classes: torch.Tensor, noise: torch.Tensor, px: int = 8) -> torch.Tensor:
    """A grey stripe of each class's own height before noise (N, px): images (N, 1, px, px) in [-1, 1]."""
    images = 0.45 * noise[:, None, None, :px].expand(-1, 1, px, px).clone()
    images[torch.arange(len(classes)), 0, 2 * classes] += 0.7
    return images.clamp(-1, 1)


class Painter(nn.Module):
    """Paints what `data` has; `takes_for` says which class it paints when one is asked for."""

    z_dim, c_dim, resolution, img_channels = 8, CLASSES, 8, 1
    data_labels = None

    def __init__(self, takes_for: tuple[int, ...] = (0, 1, 2)) -> None:
        super().__init__()
        self.register_buffer("takes_for", torch.tensor(takes_for))
        self.asked: list[torch.Tensor] = []

    def mapping(self, z, c, **_):
        self.asked.append(c.argmax(dim=1))
        return torch.cat([z, self.takes_for[c.argmax(dim=1), None]], dim=1)

    def synthesis(self, ws, **_):
        return painted(ws[:, -1].long(), ws[:, :-1])


def data(num: int, seed: int, *, shares: tuple[float, ...] = (1.0, 1.0, 1.0)) -> ImageSet:
    rng = torch.Generator().manual_seed(seed)
    classes = torch.multinomial(torch.tensor(shares), num, replacement=True, generator=rng)
    images = painted(classes, torch.randn(num, 8, generator=rng))
    return ImageSet((127.5 * images + 128).floor().clamp(0, 255).to(torch.uint8), F.one_hot(classes, CLASSES).float(),
                    [f"{seed}-{index}" for index in range(num)], label_names=["low", "mid", "high"])  # fmt: skip


def context_of(painter: nn.Module, **changes: object) -> EvalContext:
    given = {"real": data(300, 1), "held_out": data(200, 2), "batch_size": 32, "progress": checking}
    return EvalContext(Models(generator=painter), **given | changes)  # type: ignore[arg-type]


class Pixels(nn.Module):
    """Features that are the means of the rows."""

    name, dim, protocol = "rows", 8, {"extractor": "rows"}

    def forward(self, images):
        return images.double().mean(dim=(1, 3)) / 255


# Classification accuracy


def test_of_a_good_painter_one_learns_as_from_real_images_and_of_a_liar_nothing():
    found = measured(context_of(Painter()), cas, **SHORT)
    assert list(found) == ["cas_small", *(f"cas_small_{what}_{num}" for num in (4, 300)
                                          for what in ("real", "both", "gain"))]  # fmt: skip
    assert found["cas_small"].value > 0.95
    assert found["cas_small_real_300"].value > 0.95
    assert found["cas_small_both_4"].value > found["cas_small_real_4"].value
    gain = found["cas_small_gain_4"]
    assert gain.value == pytest.approx(found["cas_small_both_4"].value - found["cas_small_real_4"].value)
    assert gain.interval[0] > 0
    liar = measured(context_of(Painter((1, 2, 0))), cas, **SHORT | {"num_real": (300,)})
    assert liar["cas_small"].value < 0.05
    assert liar["cas_small_gain_300"].interval[1] < 0  # half of each batch is wrong


def test_neither_order_nor_batches_change_the_accuracy():
    options = SHORT | {"num_real": (12,), "kimg": 0.3}
    found = measured(context_of(Painter()), cas, **options)
    shuffled = {name: images.subset(torch.randperm(len(images)))
                for name, images in (("real", data(300, 1)), ("held_out", data(200, 2)))}  # fmt: skip
    others = measured(context_of(Painter(), batch_size=7, **shuffled), cas, **options)
    assert {name: each.value for name, each in others.items()} == {name: each.value for name, each in found.items()}


def test_each_class_is_drawn_equally_often_and_each_part_seen_equally_often():
    images = made(context_of(Painter()), 32, max_px=8)
    assert images.classes.bincount().tolist() in ([11, 11, 10], [11, 10, 11], [10, 11, 11])
    painter = Painter()
    made(context_of(painter), 32, max_px=8)
    assert torch.cat(painter.asked)[:32].tolist() == images.classes.tolist()
    rows = balanced([2, 5])
    assert rows.tolist() == [0, 1, 0, 1, 0, 2, 3, 4, 5, 6]


def test_large_images_are_averaged_down():
    images = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)
    blocks = images.double().reshape(2, 3, 64, 2, 64, 2).mean(dim=(3, 5))
    assert (averaged_down(images, 64).double() - blocks).abs().max() <= 0.5
    assert averaged_down(images, 128) is images


# Distance within classes


def test_the_distance_within_each_class_is_that_of_its_images():
    context = context_of(Painter())
    found = measured(context, fd_per_class, extractor=Pixels(), num_generated=300, num_groups=3)
    mean, worst = found["fd_per_class_rows"], found["fd_worst_class_rows"]
    rows = Pixels()(context.real.images)
    classes = classes_of(context.labels(range(300)))
    of_each = {}
    for number, name in enumerate(("low", "mid", "high")):
        z = context.generated(300).source.images(torch.arange(300))
        ours = FeatureStatistics.of(Pixels()(z)[classes == number])
        of_each[name] = frechet_distance(FeatureStatistics.of(rows[context.real.labels[:, number] == 1]), ours)
    assert mean.protocol["classes"] == pytest.approx(of_each, abs=1e-4)
    assert mean.value == pytest.approx(sum(of_each.values()) / 3)
    assert worst.value == pytest.approx(max(of_each.values()))
    assert of_each[worst.protocol["class"]] == max(of_each.values())
    assert mean.interval[0] <= mean.value <= mean.interval[1]


def test_classes_that_are_mixed_up_are_seen_within_them_alone():
    good, liar = (measured(context_of(Painter(takes_for)), fd_per_class, extractor=Pixels(), num_generated=300)
                  for takes_for in ((0, 1, 2), (1, 0, 2)))  # fmt: skip
    assert liar["fd_per_class_rows"].value > 10 * good["fd_per_class_rows"].value
    assert set(liar["fd_per_class_rows"].protocol["classes"]) == {"low", "mid", "high"}
    assert liar["fd_worst_class_rows"].protocol["class"] in ("low", "mid")


# What is refused


@pytest.mark.parametrize(("changes", "said"), [
    ({"real": replace(data(300, 1), labels=None)}, "they have no labels: set data.labels"),
    ({"real": replace(data(300, 1), labels=torch.rand(300, 2))}, "knows 3 classes and the data has 2"),
])  # fmt: skip
@pytest.mark.parametrize("metric", [cas, lambda context: fd_per_class(context, extractor=Pixels())])
def test_data_without_classes_is_refused_before_anything_is_drawn(metric, changes, said):
    painter = Painter()
    with pytest.raises(UserError, match=said):
        metric(context_of(painter, **changes))
    assert painter.asked == []


def test_an_unconditional_generator_is_refused():
    painter = Painter()
    painter.c_dim = 0
    for metric in (cas, lambda context: fd_per_class(context, extractor=Pixels())):
        with pytest.raises(UserError, match="trained without labels"):
            metric(context_of(painter))


def test_a_classifier_that_cannot_be_is_refused_before_anything_is_drawn():
    painter = Painter()
    for options, said in (({"width": 20}, "multiple of 16"), ({"kimg": 0}, "kimg=0"), ({"num_real": [0]}, "num_real")):
        with pytest.raises(UserError, match=said):
            cas(context_of(painter), **options)
    assert painter.asked == []


def test_too_few_of_a_class_and_several_classes_at_once_are_refused():
    with pytest.raises(UserError, match=r"Class high has \d+ real and \d generated images"):
        measured(context_of(Painter(), real=data(300, 1, shares=(1, 1, 0.02))), fd_per_class, extractor=Pixels(),
                 num_generated=60)  # fmt: skip
    with pytest.raises(UserError, match="one-hot labels"):
        classes_of(torch.ones(2, 3))
    with pytest.raises(UserError, match="measured on held-out images"):
        measured(context_of(Painter(), held_out=None), cas, **SHORT)
