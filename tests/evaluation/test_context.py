import hashlib
from dataclasses import replace

import pytest
import torch

from wplus.checkpoint import Models
from wplus.errors import UserError
from wplus.evaluation.context import deferred
from wplus.evaluation.feature_pass import FeatureRows
from wplus.evaluation.names import distribution_name
from wplus.evaluation.sampler import Sampling, generate


def name_of(real, generated):
    """Of the Fréchet distance."""
    protocol = {"extractor": "inception"} | real.protocol | generated.protocol
    return distribution_name("fid", "fd", protocol, famous="fid50k_full")


def order_of(images):
    """By SHA-256, slowly."""
    digests = [hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in images]
    return torch.tensor(sorted(range(len(digests)), key=digests.__getitem__))


def rows(whole_pass, extractor):
    return whole_pass.ask(extractor, FeatureRows()).value.rows


def test_data_of_another_size_is_refused(context):
    small = type(context.real)(context.real.images[:, :, :8, :8])
    with pytest.raises(UserError, match="16 px with 3 channels and the data has 8 px with 3"):
        replace(context, real=small).real_images()
    with pytest.raises(UserError, match="8 px with 3 channels and the data has 16 px"):
        replace(context, samples=small).real_images()


def test_deferred_images_are_read_once_and_only_when_needed(real):
    reads = []
    images = deferred(lambda: reads.append(1) or real)
    assert not reads
    assert (len(images), images.resolution, images.fingerprint) == (40, 16, real.fingerprint)
    assert len(reads) == 1


def test_equal_requests_are_one_pass(context):
    assert context.generated(8) is context.generated(8, Sampling())
    assert context.generated(8) is not context.generated(8, Sampling(truncation_psi=0.5))
    assert context.real_images() is context.real_images(num=None, mirror="none")
    assert context.real_images() is not context.real_images(mirror="x")


def test_real_images_stand_in_an_order_of_their_own(context, extractor):
    whole = rows(context.real_images(), extractor)
    first = rows(context.real_images(num=13), extractor)
    context.real.images = context.real.images[torch.randperm(40)]
    shuffled = replace(context, batch_size=3)
    torch.testing.assert_close(rows(shuffled.real_images(), extractor), whole, atol=1e-6, rtol=0)
    torch.testing.assert_close(rows(shuffled.real_images(num=13), extractor), first, atol=1e-6, rtol=0)
    torch.testing.assert_close(first, whole[:13], atol=1e-6, rtol=0)


def test_a_flipped_copy_stands_beside_its_original(context, extractor):
    plain, both = rows(context.real_images(), extractor), rows(context.real_images(mirror="x"), extractor)
    torch.testing.assert_close(both[::2], plain, atol=1e-6, rtol=0)
    context.real.images = context.real.images.flip(3)
    flipped = context.real.images[order_of(context.real.images.flip(3))]
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
def test_the_famous_name_needs_the_whole_data_set(context, policies, split, whole):
    context.real.policies |= policies
    given = replace(context).real_images()
    assert given.protocol["split"] == split
    assert (name_of(given, context.generated(50_000)) == "fid50k_full") == whole
    if whole:
        assert context.real_images(num="all") is context.real_images()
    else:
        with pytest.raises(UserError, match=f"the whole data set and 40 images of split={split}.*set split=all"):
            context.real_images(num="all")


def test_the_labels_of_a_conditional_generator_are_accounted_for(context, conditional):
    assert "labels" not in context.generated(8).protocol
    policies = {"split": "train", "held_out_fraction": 0.1}
    real = replace(context.real, labels=torch.eye(3)[torch.arange(40) % 3], policies=policies)
    assert replace(context, models=conditional, real=real).generated(8).protocol["labels"].endswith("split train")


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda context: context.generated(0), "num_generated must be a whole number of at least 1, got 0"),
        (lambda context: context.real_images(num=41), "num_real must be from 1 to the 40 .* got 41"),
        (lambda context: context.real_images(num="some"), "num_real must be a whole number, all, .* got 'some'"),
        (lambda context: context.real_images(mirror="y"), "mirror must be one of none, x, got 'y'"),
        (lambda context: replace(context, batch_size=0), "batch_size must be .* at least 1, got 0"),
        *((lambda context, seed=seed: replace(context, seed=seed), f"seed must be .* got {seed!r}")
          for seed in (-1, 0.5, "a")),
    ],
)  # fmt: skip
def test_too_few_and_unknown_are_refused(context, ask, words):
    with pytest.raises(UserError, match=words):
        ask(context)


# Images in the place of a generator's


def test_given_images_stand_for_generated_ones_in_whatever_order(context, extractor):
    made = generate(context.models.generator, range(20), seed=0)
    given = replace(context, models=Models(), samples=type(context.real)(made))
    found = given.generated(50)
    assert found.num == 20
    assert found.protocol == {"samples": given.samples.fingerprint, "num_generated": 20}
    ours, theirs = rows(context.generated(20), extractor), rows(found, extractor)
    torch.testing.assert_close(theirs, ours[order_of(made)], atol=1e-6, rtol=0)
    other = replace(given, samples=type(context.real)(made[torch.randperm(20)]), batch_size=3)
    torch.testing.assert_close(rows(other.generated(50), extractor), theirs, atol=1e-6, rtol=0)
    torch.testing.assert_close(rows(other.generated(7), extractor), theirs[:7], atol=1e-6, rtol=0)


def test_given_images_cannot_be_truncated_nor_asked_for_a_generator(context):
    given = replace(context, models=Models(), samples=context.real)
    with pytest.raises(UserError, match="truncation_psi=0.5, .* is refused"):
        given.generated(8, Sampling(truncation_psi=0.5))
    with pytest.raises(UserError, match="needs the generator"):
        given.labels([1])
    with pytest.raises(UserError, match="pairs images with .* leave out generated="):
        replace(context, samples=context.real).generated(8, own=True)
