"""What the table of a folder shows."""

from __future__ import annotations

import math

import pytest
import torch

from tests.inversion.test_objective import Brightness
from wplus.core.images import to_float, to_uint8
from wplus.errors import UserError
from wplus.inversion.objective import image_terms
from wplus.inversion.report import check_masks, image_scores, scores
from wplus.inversion.result import Inversion
from wplus.latents.w_stats import Whitened
from wplus.losses.pixel import MAX_PSNR_DB, l2, psnr
from wplus.losses.ssim import MSSSIM, SSIM


def found(images, **more) -> Inversion:
    num = len(images)
    return Inversion(torch.zeros(num, 6), images, None, {}, seconds=torch.arange(num) + 0.5, **more)


def scored(images, targets, net=None, *, ws=None, losses=None, masks=None, **more):
    ws = torch.randn(len(images), 3, 6) if ws is None else ws
    whitened = Whitened.from_samples(torch.randn(500, 6))
    terms = image_terms(net, losses)
    return scores(found(images, **more), ws, targets, terms=terms, masks=masks, whitened=whitened), whitened


def test_a_column_for_everything_that_was_measured(pooled):
    images, targets, ws = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8), torch.randn(2, 3, 6)
    own = {"moved": torch.tensor([1.0, 2.0])}
    table, whitened = scored(images, targets, pooled, ws=ws, losses={"light": Brightness()}, scores=own)
    assert list(table) == ["l1", "l2", "psnr_db", "pooled", "brightness", "prior_distance", "moved", "seconds"]
    stored = to_float(to_uint8(images))
    torch.testing.assert_close(table["psnr_db"], psnr(stored, targets))
    torch.testing.assert_close(table["pooled"], pooled(stored, targets))
    torch.testing.assert_close(table["prior_distance"], whitened.distance(ws))
    assert table["moved"].tolist() == [1.0, 2.0]
    assert table["seconds"].tolist() == [0.5, 1.5]


def test_similarities_are_shown_as_such_and_named_so():
    images, targets = torch.rand(2, 3, 24, 24) * 2 - 1, torch.rand(2, 3, 24, 24) * 2 - 1
    nets = {"ssim": SSIM(), "ms_ssim": MSSSIM()}
    table, _ = scored(images, targets, losses=nets)
    assert list(table)[3:5] == ["similarity_ssim", "similarity_ms_ssim"]
    torch.testing.assert_close(table["similarity_ssim"], 1 - nets["ssim"](to_float(to_uint8(images)), targets))
    pictures = to_float(to_uint8(targets))
    assert image_scores(pictures, pictures, nets)["similarity_ms_ssim"].tolist() == [1, 1]


def test_under_a_mask_only_what_it_leaves_is_scored(pooled):
    targets, masks = to_float(torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)), torch.zeros(2, 1, 8, 8)
    masks[:, :, :4] = 1
    images = torch.where(masks > 0, targets, -targets)
    table, _ = scored(images, targets, pooled, masks=masks)
    assert table["l2"].tolist() == [0, 0]
    assert table["pooled"].tolist() == [0, 0]
    assert table["psnr_db"].tolist() == [MAX_PSNR_DB] * 2
    images[:, :, :4] = 0
    table, _ = scored(images, targets, masks=masks)
    expected = l2(to_float(to_uint8(images))[:, :, :4], targets[:, :, :4])
    torch.testing.assert_close(table["l2"], expected)
    assert table["psnr_db"][0].item() == pytest.approx(10 * math.log10(4 / expected[0].item()), rel=1e-5)


def test_a_term_of_whole_images_is_refused_before_any_work(stylegan, pooled):
    check_masks({"pooled": pooled}, stylegan)
    with pytest.raises(UserError, match="takes no mask"):
        check_masks({"brightness": Brightness()}, stylegan)
