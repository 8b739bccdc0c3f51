"""What is kept during a search: history, the best parameters, finished images."""

import pytest
import torch

from wplus.inversion.result import CHECK_EVERY, EarlyStop, Record


def done_after(losses: list[float], *, patience: int, tolerance: float) -> int | None:
    """Number of the evaluation after which an image is done."""
    stop = EarlyStop({"patience": patience, "tolerance": tolerance}, torch.zeros(1))
    return next((number for number, loss in enumerate(losses, 1) if stop.done(torch.tensor([loss])).item()), None)


@pytest.mark.parametrize(
    ("losses", "number"),
    [
        ([1.0, 1.0, 1.0, 1.0], 4),
        ([1.0, 0.95, 0.89, 0.85, 0.81, 0.805], 6),  # 0.89 is a tenth below 1; 0.805 is not a tenth below 0.89
        ([1.0, 2.0, 0.5, 2.0, 2.0, 0.4], None),
        ([1.0, float("nan"), float("nan"), float("nan")], 4),
        ([float("nan"), 1.0, 0.5, 0.2], None),
    ],
)
def test_done_when_the_best_has_not_fallen_by_a_tenth_for_three_evaluations(losses, number):
    assert done_after(losses, patience=3, tolerance=0.1) == number


def test_images_are_decided_one_by_one_and_frozen_for_good():
    stop, record = EarlyStop({"patience": 2, "tolerance": 0.0}, torch.zeros(2)), Record(4, 2, [torch.zeros(2, 3)])
    for loss in ([1.0, 1.0], [1.0, 0.9], [1.0, 0.8], [0.1, 0.7]):
        record.freeze(stop.done(torch.tensor(loss)))
    assert record.frozen.tolist() == [True, False]


def test_the_device_is_asked_now_and_then():
    record = Record(100, 1, [torch.zeros(1, 2)])
    record.freeze(torch.tensor([True]))
    for number in range(1, CHECK_EVERY + 1):
        record.add({"loss": torch.ones(1)}, [torch.zeros(1, 2)])
        assert record.is_over() == (number == CHECK_EVERY)
    free = Record(100, 2, [torch.zeros(2, 2)])
    free.freeze(torch.tensor([True, False]))
    for _ in range(CHECK_EVERY):
        free.add({"loss": torch.ones(2)}, [torch.zeros(2, 2)])
    assert not free.is_over()


def test_best_and_history_image_by_image():
    record = Record(5, 2, [torch.zeros(2, 1)])
    for step, loss in enumerate(([3.0, 1.0], [2.0, 2.0], [1.0, 0.5])):
        terms = {"loss": torch.tensor(loss), **({"once": torch.ones(2)} if step == 0 else {})}
        record.add(terms, [torch.full((2, 1), float(step))])
        if step == 1:
            record.freeze(torch.tensor([False, True]))
    assert record.best[0].tolist() == [[2], [0]]
    assert record.lowest.tolist() == [1, 1]  # frozen before it reached 0.5
    history = record.finished_history()
    assert history["loss"].tolist() == [[3, 1], [2, 2], [1, 2], [1, 2], [1, 2]]
    assert history["once"].tolist() == [[1, 1]] * 5
