from pathlib import Path

import numpy as np
import pytest
import torch

from wplus.data import ImageSet, cat_images
from wplus.data.cat_render import FACTORS
from wplus.errors import UserError


def cats(**options: object) -> ImageSet:
    return cat_images(**{"resolution": 8, "num_images": 300, **options})


def combinations(images: ImageSet, factors: tuple[str, ...] = FACTORS) -> set[tuple[int, ...]]:
    return set(zip(*(images.attributes[factor].tolist() for factor in factors), strict=True))


def test_splits_are_complete_and_share_no_combination() -> None:
    train, held_out, everything = (cats(split=split) for split in ("train", "held_out", "all"))
    assert sorted(train.names + held_out.names) == everything.names
    assert 20 < len(held_out) < 80
    assert not combinations(train) & combinations(held_out)
    assert not combinations(train) & combinations(cats(seed=2, split="held_out")), "of every set the same are held out"
    rows = [everything.names.index(name) for name in held_out.names]
    assert torch.equal(held_out.images, everything.images[rows])


def test_fewer_factors_hold_out_whole_regions() -> None:
    factors = ("body", "accessory")
    options = {"held_out_factors": list(factors), "num_images": 2000}
    train, held_out = cats(**options), cats(split="held_out", **options)
    assert not combinations(train, factors) & combinations(held_out, factors)
    assert 0.05 < len(held_out) / 2000 < 0.25
    again = cats(split="held_out", num_images=2000, held_out_factors=["accessory", "body"])
    assert again.names == held_out.names


def test_a_cat_depends_on_seed_and_number_alone() -> None:
    few, many = cats(num_images=50, split="all"), cats(num_images=60, split="all")
    assert torch.equal(few.images, many.images[:50])
    assert not torch.equal(few.images, cats(num_images=50, split="all", seed=1).images)
    finer = cats(num_images=50, split="all", resolution=16)
    assert all(torch.equal(few.attributes[name], finer.attributes[name]) for name in few.attributes)
    coarse = torch.nn.functional.avg_pool2d(finer.images.float(), 2)
    assert (coarse - few.images.float()).abs().mean() < 6


@pytest.mark.parametrize(
    ("labels", "width"), [("body", 15), ("fur", 9), ("eyes", 15), ("mouth", 10), ("accessory", 16)]
)
def test_labels_are_a_factor(labels: str, width: int) -> None:
    images = cats(labels=labels)
    assert images.c_dim == width
    assert torch.equal(images.labels.argmax(1), images.attributes[labels])
    assert images.label_names == [f"{labels}{index}" for index in range(width)]
    assert sum(images.describe()["class_counts"].values()) == len(images)


def test_nuisances_can_be_turned_off() -> None:
    still = cats(background=0, shift=0, scale=0, flip=0, split="all").attributes
    assert all(still[f"background_{colour}"].unique().numel() == 1 for colour in ("red", "green", "blue"))
    assert all(still[name].unique().tolist() == [0] for name in ("shift_x", "shift_y", "flip"))
    assert still["size"].unique().tolist() == [900]
    lively = cats(split="all").attributes
    assert all(lively[name].unique().numel() > 1 for name in lively)


def test_drawn_once_then_read_from_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    first = cats(num_images=20, cache_dir=str(tmp_path))
    assert any(path.name.startswith("cats-8px-") for path in tmp_path.iterdir())
    monkeypatch.setattr("wplus.data.cats.render", None)
    assert cats(num_images=20, cache_dir=str(tmp_path)).fingerprint == first.fingerprint
    for path in tmp_path.glob("cats-8px-*"):
        path.write_bytes(path.read_bytes()[:100])
    monkeypatch.undo()
    with pytest.warns(UserWarning, match="damaged"):
        assert cats(num_images=20, cache_dir=str(tmp_path)).fingerprint == first.fingerprint


def test_a_set_that_does_not_fit_is_drawn_when_asked_for() -> None:
    lazy, memory = cats(num_images=40, memory_limit_gb=0), cats(num_images=40)
    assert torch.equal(lazy.images[:], memory.images)
    assert lazy.names == memory.names


WRONG = {
    "resolution": [12], "num_images": [0, 2.5, 10**12], "seed": [-1, 2**63], "labels": ["colour"], "split": ["test"],
    "background": [2], "shift": [-0.1], "scale": [0.9], "flip": [1.5], "held_out_factors": [["hat"]],
    "held_out_fraction": [3],
}  # fmt: skip


def test_options_that_are_not_allowed() -> None:
    for key, value in [(key, value) for key, values in WRONG.items() for value in values]:
        with pytest.raises(UserError, match="must be"):
            cats(**{key: value})
    with pytest.raises(UserError, match="held_out split of the cats is empty"):
        cats(split="held_out", held_out_fraction=0)
    with pytest.raises(UserError, match="held_out_factors must name"):
        cats(held_out_factors=[])


def test_factors_are_uniform_and_independent() -> None:
    attributes = cats(num_images=6000, split="all", memory_limit_gb=0).attributes
    body, accessory = attributes["body"].numpy(), attributes["accessory"].numpy()
    table = np.histogram2d(body, accessory, bins=(15, 16))[0]
    expected = 6000 / (15 * 16)
    chi_square = ((table - expected) ** 2 / expected).sum()
    assert chi_square < 239 + 4 * np.sqrt(2 * 239)
