"""Verdicts over series: problems are found, noise within the errors is not, and nothing is reported twice."""

from collections.abc import Iterable

import numpy as np
import pytest

from wplus.probes.health import Reading, best_of, judged, level_of, state, verdicts
from wplus.probes.quality import Estimate, share


def reading(kimg: float, **values: float) -> Reading:
    """A measurement with exact numbers."""
    return Reading(kimg, {name: Estimate(value, 0.01) for name, value in values.items()})


def told(readings: Iterable[Reading]) -> tuple[list[Reading], list[tuple[float, str, str]]]:
    """The series with its verdicts and messages: kimg, level and sentence."""
    history: list[Reading] = []
    said = []
    for one in readings:
        one = judged(history, one)
        said += [(one.kimg, message.level, message.text) for message in verdicts(history, one)]
        history.append(one)
    return history, said


def series(**values: list[float]) -> list[Reading]:
    """One measurement per kimg, from 0; the run has arrived unless `precision` says otherwise."""
    num = len(next(iter(values.values())))
    values = {"precision": [0.5] * num, **values}
    return [
        reading(float(kimg), **dict(zip(values, row, strict=True)))
        for kimg, row in enumerate(zip(*values.values(), strict=True))
    ]


def test_a_collapse_is_told_once_with_its_numbers_and_recovery_too():
    diversity = [0.1, 0.6, 0.91, 0.9, 0.6, 0.22, 0.2, 0.21, 0.6, 0.86, 0.9]
    distinct = [0.0, 0.5, 0.9, 0.9, 0.8, 0.1, 0.02, 0.02, 0.8, 0.9, 0.9]
    history, said = told(series(diversity=diversity, distinct=distinct))
    assert [(kimg, level) for kimg, level, _ in said] == [(4, "warning"), (5, "warning"), (8, "info"), (9, "info")]
    becoming, collapsed, partly, back = (text for *_, text in said)
    assert "iversity fell from 0.91 (at 2 kimg) to 0.60 of the real images': the images become fewer" in becoming
    assert collapsed.startswith(
        "Diversity fell from 0.91 (at 2 kimg) to 0.22 of the real images', distinct images fell from 0.90 (at 2 kimg) "
        "to 0.10 of the real images': the generator has collapsed to few images."
    )
    assert partly.startswith("Partly back: diversity at 0.60 of the real images' (from 0.20), distinct images at 0.80 ")
    assert back == "Back: diversity at 0.86 of the real images' (from 0.20)."
    levels = ["well", "well", "watch", "alarm", "watch", "well"]
    assert [state(history[: index + 1]) for index in (0, 3, 4, 6, 8, 10)] == levels


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"diversity": [0.1, 0.9, 0.9, 0.85], "distinct": [0, 0.9, 0.9, 0.05]},
         "Distinct images fell from 0.90 (at 1 kimg) to 0.05"),  # few kinds that are far apart
        ({"diversity": [0.9, 0.9, 0.8], "distinct": [0.9, 0.9, 0.8], "recall": [0.5, 0.5, 0.02]},
         "Recall fell from 0.50 (at 0 kimg) to 0.02: most kinds of real images are lost. Smaller learning rates, a "
         "larger gamma, another loss or another seed are what to try."),
        # What has arrived can fall out of sight.
        ({"diversity": [0.9, 0.9, 0.1], "precision": [0.3, 0.3, 0.0]}, "Diversity fell from 0.90"),
    ],
)  # fmt: skip
def test_each_measure_sees_a_loss_of_its_own(values, words):
    ((*_, text),) = told(series(**values))[1]
    assert text.startswith(words)


@pytest.mark.parametrize(
    ("diversity", "precision"),
    [
        (np.linspace(0.02, 0.9, 40).tolist(), np.maximum(np.linspace(-0.38, 0.5, 40), 0).tolist()),
        # A StyleGAN2's first images are as diverse as real ones, and none of them looks like one.
        ([0.98, 0.6, 0.2, 0.3, 0.5, 0.8], [0, 0, 0, 0.02, 0.2, 0.6]),
    ],
)
def test_a_slow_start_and_noise_are_not_accused(diversity, precision):
    history, said = told(series(diversity=diversity, distinct=diversity, precision=precision))
    assert not said
    assert state(history[:4]) == "too early to say"
    assert state(history) == "well"


def test_the_best_is_what_was_surely_reached():
    lucky = Reading(1.0, {"precision": Estimate(0.5, 0.01), "recall": Estimate(0.95, 0.2)})
    sure = Reading(2.0, {"precision": Estimate(0.5, 0.01), "recall": Estimate(0.9, 0.01)})
    early = Reading(0.0, {"precision": Estimate(0.0, 0.01), "recall": Estimate(1.0, 0.001)})
    assert best_of([early, lucky, sure], "recall") is sure
    assert best_of([early], "recall") is None
    assert best_of([sure], "diversity") is None


def test_an_overfitting_discriminator():
    history, said = told(series(r_v=[0.0, 0.1, 0.32, 0.4, 0.6, 0.9, 0.1]))
    assert [(kimg, level) for kimg, level, _ in said] == [(2, "warning"), (4, "warning"), (6, "info")]
    assert "begins to know the training images by heart" in said[0][2]
    assert "overfits" in said[1][2]
    assert "(r_v is 0.60; 0 is none, 1 complete)" in said[1][2]
    assert said[2][2] == "The discriminator takes images that it has not seen for real ones again: r_v is 0.10."
    assert state(history[:5]) == "alarm"


def test_a_gradient_that_vanishes():
    _, said = told(series(loss_slope=[1.0, 0.4, 0.06, 0.05, 0.3]))
    assert [(kimg, level) for kimg, level, _ in said] == [(2, "warning"), (4, "info")]
    assert "its slope is 0.06 of that where the discriminator cannot tell. loss=nonsaturating" in said[0][2]


def test_recall_that_falls_while_the_distance_falls_is_told_with_both_numbers():
    """As heads on frozen features cause it: images become better but less varied."""
    values = {"recall": [0.3, 0.4, 0.2, 0.1, 0.38], "distance": [2.0, 1.5, 1.0, 0.6, 0.5]}
    history, said = told(series(**values))
    ours = [(kimg, level, text) for kimg, level, text in said if "distance" in text or "come back" in text]
    assert [(kimg, level) for kimg, level, _ in ours] == [(2, "warning"), (3, "warning"), (4, "info")]
    assert ours[1][2].startswith(
        "Recall fell from 0.40 (at 1 kimg) to 0.10 while the distance from the training images fell from 1.50 to 0.60: "
        "images become better and fewer. With heads on frozen features a smaller weight"
    )
    assert ours[2][2] == "Recall has come back to 0.38."
    assert [each.level("narrowing") for each in history] == ["well", "well", "watch", "alarm", "well"]


@pytest.mark.parametrize(
    ("recall", "distance"),
    [
        ([0.3, 0.4, 0.2, 0.1], [1.0, 1.0, 1.5, 2.0]),  # a collapse, which is another message
        ([0.3, 0.4, 0.4, 0.41], [2.0, 1.5, 1.0, 0.5]),  # all is well
        ([0.3, 0.4, 0.1, 0.1], [1.0, 1.0, 0.99, 1.01]),  # no distance that has surely fallen
    ],
)
def test_narrowing_is_recall_and_distance_together(recall, distance):
    history, _ = told(series(recall=recall, distance=distance))
    assert {each.level("narrowing") for each in history} == {"well"}


def test_recall_that_never_rose_beside_precision():
    """The heads have won from the start, so there is no best recall to fall from."""
    history, said = told(series(precision=[0.1, 0.4, 0.6], recall=[0.0, 0.0, 0.0], distance=[2.0, 1.0, 0.5]))
    assert [each.level("narrowing") for each in history] == ["well", "watch", "alarm"]
    assert said[-1][2].startswith(
        "Recall is 0.00 at precision 0.60, and the distance from the training images fell from 2.00 to 0.50: images "
    )
    assert not told(series(precision=[0.1, 0.4, 0.6], recall=[0.1, 0.2, 0.3], distance=[2.0, 1.0, 0.5]))[1]


def test_heads_that_have_won():
    """Their hinge loss is 2 if they cannot tell images apart."""
    _, said = told(series(heads_loss=[1.9, 1.0, 0.15, 0.05, 0.9]))
    assert [(kimg, level) for kimg, level, _ in said] == [(2, "warning"), (4, "info")]
    assert said[0][2].startswith("The heads on frozen features have won: their hinge loss is 0.15 (2 where they ")
    history, _ = told([Reading(0.0, {"heads_loss": Estimate(0.0, 0.001)})])
    assert history[0].level("heads") == "alarm"


def test_what_hovers_about_a_limit_and_held_out_images_that_look_more_real_are_no_news():
    assert not told(series(diversity=[0.9, *[0.9 * limit for limit in (0.74, 0.76) * 20]]))[1]
    assert not told(series(r_v=[-0.5, -0.2, 0.0]))[1]


@pytest.mark.parametrize(
    ("value", "error", "before", "expected"),
    [
        (0.9, 0.01, "well", "well"),
        (0.6, 0.01, "well", "watch"),
        (0.4, 0.01, "well", "alarm"),
        (0.6, 0.01, "alarm", "watch"),
        (0.9, 0.01, "alarm", "well"),
        (0.7, 0.1, "well", "well"),  # not surely below 3/4
        (0.7, 0.1, "watch", "watch"),
        (0.4, 0.1, "well", "watch"),  # surely below 3/4, not below 1/2
        (0.8, 0.1, "alarm", "watch"),  # surely above 1/2, not above 3/4
    ],
)
def test_a_level_changes_when_it_is_sure(value, error, before, expected):
    bounds = (value - 3 * error, value + 3 * error)
    assert level_of(bounds, (0.75, 0.5), before=before) == expected


@pytest.mark.parametrize("num_images", [32, 1000])
def test_a_healthy_run_is_not_accused_because_of_few_images(num_images):
    """Twenty runs of a hundred snapshots whose numbers vary by chance alone."""
    rng = np.random.default_rng(num_images)
    truths = {"diversity": 0.9, "distinct": 0.8, "precision": 0.6, "recall": 0.4, "r_v": 0.05, "distance": 0.1,
              "heads_loss": 1.5}  # fmt: skip
    # r_v: logits of unit deviation, a margin of 3.
    errors = {"diversity": 0.3 / np.sqrt(num_images), "r_v": np.sqrt(2 / num_images) / 3,
              "distance": 0.2 / np.sqrt(num_images), "heads_loss": 1 / np.sqrt(num_images)}  # fmt: skip
    accused = 0
    for _ in range(20):
        readings = []
        for kimg in range(1, 101):
            measures = {name: Estimate(rng.normal(truths[name], error), error) for name, error in errors.items()}
            for name in ("distinct", "precision", "recall"):
                measures[name] = share(int(rng.binomial(num_images, truths[name])), num_images)
            readings.append(Reading(float(kimg), measures))
        accused += bool(told(readings)[1])
    assert accused == 0


def test_a_measure_that_is_missing_leaves_its_level():
    history, said = told([*series(r_v=[0.0, 0.8]), reading(2.0, loss_slope=1.0), reading(3.0, r_v=0.0)])
    assert [one.level("overfitting") for one in history] == ["well", "alarm", "alarm", "well"]
    assert len(said) == 2
