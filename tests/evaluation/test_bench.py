from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from wplus.checkpoint import Models
from wplus.core.images import save_png, to_float
from wplus.data.sources import folder_images
from wplus.errors import UserError
from wplus.evaluation.bench import EvalContext, NoModel, check_images
from wplus.evaluation.images import Deferred
from wplus.evaluation.names import frechet_name
from wplus.evaluation.passes import FeatureRows, Sampling
from wplus.evaluation.sampler import generate


def rows(whole_pass: Any, extractor: Any) -> torch.Tensor:
    return whole_pass.collect(extractor, FeatureRows()).value.rows


def test_data_of_another_size_is_refused(models: Models, real: Any) -> None:
    check_images(models.generator, real)
    real.images = real.images[:, :, :8, :8]
    with pytest.raises(UserError, match="16 px with 3 channels and the data has 8 px with 3"):
        check_images(models.generator, real)


def test_deferred_images_are_read_once_and_only_when_needed(real: Any) -> None:
    reads = []
    deferred = Deferred(lambda: reads.append(1) or real)
    assert not reads
    assert (len(deferred), deferred.resolution, deferred.fingerprint) == (40, 16, real.fingerprint)
    assert len(reads) == 1


def test_equal_requests_are_one_pass(bench: EvalContext) -> None:
    assert bench.generated(8) is bench.generated(8, Sampling())
    assert bench.generated(8) is not bench.generated(8, Sampling(truncation_psi=0.5))
    assert bench.real_images() is bench.real_images(num=None, mirror="none")
    assert bench.real_images() is not bench.real_images(mirror="x")


def test_real_images_stand_in_an_order_of_their_own(bench: EvalContext, extractor: Any) -> None:
    whole = rows(bench.real_images(), extractor)
    first = rows(bench.real_images(num=13), extractor)
    bench.real.images = bench.real.images[torch.randperm(40)]
    shuffled = replace(bench, batch_size=3)
    torch.testing.assert_close(rows(shuffled.real_images(), extractor), whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(rows(shuffled.real_images(num=13), extractor), first, atol=1e-6, rtol=0)
    torch.testing.assert_close(first, whole[:13], atol=1e-6, rtol=0)


def test_a_flipped_copy_stands_beside_its_original(bench: EvalContext, extractor: Any) -> None:
    plain, both = rows(bench.real_images(), extractor), rows(bench.real_images(mirror="x"), extractor)
    torch.testing.assert_close(both[::2], plain, atol=1e-6, rtol=0)
    bench.real.images = bench.real.images.flip(3)
    flipped = bench.real.images[torch.from_numpy(order_of(bench.real.images.flip(3)))]
    torch.testing.assert_close(both[1::2], extractor(flipped).float(), atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("policies", "split", "whole"),
    [
        ({}, "all", True),
        ({"split": "all", "num_skipped": 0}, "all", True),
        ({"split": "train", "held_out_fraction": 0}, "all", True),  # the training sets of the papers
        ({"split": "train", "held_out_fraction": 0.1}, "train", False),
        ({"split": "held_out", "held_out_fraction": 0.1}, "held_out", False),
        ({"split": "all", "num_skipped": 2}, "all", False),
        ({"split": "all", "subset_of": 50}, "all", False),
    ],
)
def test_the_famous_name_needs_the_whole_data_set(bench: EvalContext, policies: dict, split: str, whole: bool) -> None:
    bench.real.policies |= policies
    given, generated = replace(bench).real_images(), bench.generated(50_000).protocol
    assert given.protocol["split"] == split
    assert (frechet_name("inception", given.protocol, generated) == "fid50k_full") == whole
    if whole:
        assert bench.real_images(num="all") is bench.real_images()
    else:
        with pytest.raises(UserError, match=f"the whole data set and 40 images of split={split}.*set split=all"):
            bench.real_images(num="all")


@pytest.mark.parametrize("split", ["train", "all"])
def test_the_split_of_a_folder_is_seen_by_the_name(bench: EvalContext, split: str, tmp_path: Path) -> None:
    for index, image in enumerate(bench.real.images):
        save_png(tmp_path / f"{index}.png", to_float(image))
    images = folder_images(str(tmp_path), resolution=16, split=split, held_out_fraction=0.3)
    names = {}
    for words, real in {"given": images, "part": images.subset(torch.arange(5))}.items():
        ours = replace(bench, real=Deferred(lambda real=real: real))
        names[words] = frechet_name("inception", ours.real_images().protocol, ours.generated(50_000).protocol)
    expected = {"train": ["fid_50000_train", "fid_50000_train_5_real"], "all": ["fid50k_full", "fid_50000_5_real"]}
    assert list(names.values()) == expected[split]


def test_the_labels_of_a_conditional_generator_are_accounted_for(bench: EvalContext, conditional: Models) -> None:
    assert "labels" not in bench.generated(8).protocol
    bench.real.policies |= {"split": "train", "held_out_fraction": 0.1}
    assert replace(bench, models=conditional).generated(8).protocol["labels"].endswith("split train")


def order_of(images: torch.Tensor) -> Any:
    """By SHA-256, slowly."""
    import hashlib

    import numpy as np

    digests = [hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in images]
    return np.array(sorted(range(len(digests)), key=digests.__getitem__))


def test_too_few_and_unknown_are_refused(bench: EvalContext) -> None:
    with pytest.raises(UserError, match="0 generated images"):
        bench.generated(0)
    with pytest.raises(UserError, match="41 real images cannot be measured: at least 1, at most the 40 given"):
        bench.real_images(num=41)
    with pytest.raises(UserError, match="num_real=some is not allowed: a whole number, all, or null"):
        bench.real_images(num="some")
    with pytest.raises(UserError, match="mirror=y .*none, x"):
        bench.real_images(mirror="y")


# Images in the place of a generator's


def test_given_images_stand_for_generated_ones_in_whatever_order(bench: EvalContext, extractor: Any) -> None:
    made = generate(bench.models.generator, range(20), seed=0)
    given = replace(bench, models=NoModel(), samples=type(bench.real)(made))
    found = given.generated(50)
    assert found.num == 20
    assert found.protocol == {"samples": given.samples.fingerprint, "num_generated": 20}
    ours, theirs = rows(bench.generated(20), extractor), rows(found, extractor)
    torch.testing.assert_close(theirs, ours[torch.from_numpy(order_of(made))], atol=1e-6, rtol=0)
    other = replace(given, samples=type(bench.real)(made[torch.randperm(20)]), batch_size=3)
    torch.testing.assert_close(rows(other.generated(50), extractor), theirs, atol=1e-6, rtol=0)
    torch.testing.assert_close(rows(other.generated(7), extractor), theirs[:7], atol=1e-6, rtol=0)


def test_given_images_cannot_be_truncated_nor_asked_for_a_generator(bench: EvalContext) -> None:
    given = replace(bench, models=NoModel(), samples=bench.real)
    with pytest.raises(UserError, match="truncation_psi=0.5, .* is refused"):
        given.generated(8, Sampling(truncation_psi=0.5))
    with pytest.raises(UserError, match="needs the generator"):
        given.labels([1])


def test_given_images_of_another_size_are_refused(bench: EvalContext) -> None:
    small = type(bench.real)(bench.real.images[:, :, :8, :8])
    with pytest.raises(UserError, match="8 px with 3 channels and the data has 16 px"):
        replace(bench, samples=small).real_images()
