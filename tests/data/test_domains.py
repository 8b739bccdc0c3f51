"""Two domains: pairs in three layouts, unpaired sets, and tasks rendered from the cats, with known ground truth."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.fakes import random_images
from wplus.core.images import save_png
from wplus.data.cat_domains import CHANGED, cat_domains
from wplus.data.cat_pairs import TASKS, cat_pairs
from wplus.data.cat_render import FACTORS
from wplus.data.cats import cat_images
from wplus.data.domains import DomainBatches, TwoDomains, refuse_one_set, require_domains
from wplus.data.pairs import pairs, unpaired
from wplus.data.sources import folder_images
from wplus.errors import UserError

FEW = {"resolution": 32, "num_images": 120}


@pytest.fixture
def folders(tmp_path: Path) -> dict[str, str]:
    """Eight pairs of 8 px in every layout; the first pixel of a is the pair's number, of b 100 more."""
    for number in range(8):
        a, b = (torch.full((3, 8, 8), value, dtype=torch.uint8) for value in (number, 100 + number))
        for name, image in (("a/{}.png", a), ("b/{}.tif", b), ("ab/{}_a.png", a), ("ab/{}_b.png", b)):
            save_png(tmp_path / name.format(number), image)
        save_png(tmp_path / "wide" / f"{number}.png", torch.cat([a, b], dim=2))
    return {name: str(tmp_path / name) for name in ("a", "b", "ab", "wide")}


def layouts(folders: dict[str, str]) -> list[tuple[str, dict]]:
    return [(folders["a"], {"path_b": folders["b"]}), (folders["ab"], {"layout": "suffixes"}), (folders["wide"], {})]


def test_every_layout_gives_the_same_pairs(folders):
    for path, options in layouts(folders):
        found = pairs(path, resolution=8, split="all", **options)
        assert (len(found), found.is_paired, found.a.resolution) == (8, True, 8)
        assert torch.equal(found.a.images[:, 0, 0, 0], torch.arange(8, dtype=torch.uint8))
        assert torch.equal(found.images[:, 0, 0, 0], torch.arange(8, dtype=torch.uint8) + 100)
        swapped = pairs(path, resolution=8, split="all", swap=True, **options)
        assert torch.equal(swapped.a.images, found.images)
        assert swapped.fingerprint != found.fingerprint
        parts = [pairs(path, resolution=8, split=split, held_out_fraction=0.4, **options)
                 for split in ("train", "held_out")]  # fmt: skip
        assert sorted(parts[0].names + parts[1].names) == found.names
        assert all(part.names == part.a.names and len(part) for part in parts)
        lazily = pairs(path, resolution=8, split="all", memory_limit_gb=0, cache_dir=f"{folders['a']}/..", **options)
        assert torch.equal(lazily.a.images[:], found.a.images)


def test_a_bad_picture_takes_its_partner_along(folders):
    Path(folders["b"], "3.tif").write_bytes(b"none")
    with pytest.raises(UserError, match=r"1 of 8 image\(s\) in '.*b' cannot be used; .* 3\."):
        pairs(folders["a"], path_b=folders["b"], resolution=8, split="all")
    with pytest.warns(UserWarning, match="1 of 8 image"):
        found = pairs(folders["a"], path_b=folders["b"], resolution=8, split="all", bad_files="skip")
    assert found.a.names == found.names
    assert found.a.images[:, 0, 0, 0].tolist() == [0, 1, 2, 4, 5, 6, 7]


WRONG = [
    (lambda f: pairs(f["a"], path_b=f["ab"], resolution=8), "8 of 8 .* have no partner of the same name in '.*ab'"),
    (lambda f: pairs(f["a"], resolution=8, layout="suffixes"), "'0.png' in '.*a' has no partner: with layout=suff"),
    (lambda f: pairs(f["a"], resolution=8), "'0.png' in '.*a' is 8x8: two pictures side by side are about twice as"),
    (lambda f: pairs(f["wide"], resolution=8, fit="pad"), "fit=pad is not allowed for pictures side by side"),
    (lambda f: pairs(f["wide"], resolution=8, layout="x"), "layout must be one of side_by_side, suffixes, got 'x'"),
    (lambda f: unpaired(f["a"], f"{f['a']}/no", resolution=8), "The image folder '.*no' does not exist"),
    (lambda f: cat_pairs(resolution=8, task="hat"), "task must be one of outline, silhouette, low_resolution, scr"),
    (lambda f: cat_domains(resolution=8, task="tail"), "task must be one of fur, hat, robots, got 'tail'"),
    (lambda f: require_domains(random_images(), paired=True, model="pix2pix"), "^pix2pix needs images of two domains"),
    (lambda f: require_domains(unpaired(f["a"], f["b"], resolution=8), paired=True, model="pix2pix"),
     "^pix2pix learns from pairs, and data has two unpaired sets"),
    (lambda f: refuse_one_set(cat_images, paired=True, model="pix2pix"), "^pix2pix needs images of two domains"),
    (lambda f: refuse_one_set(folder_images, paired=False, model="cyclegan"), "choose data=cat_pairs, data=cat_dom"),
]  # fmt: skip


def test_a_source_of_two_domains_is_known_before_it_is_asked():
    """Also one that does not say what it makes, which is seen later."""
    for source in (cat_pairs, cat_domains, pairs, unpaired, lambda **options: None):
        refuse_one_set(source, paired=True, model="pix2pix")


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_what_cannot_be_is_one_sentence(folders, call, message):
    with pytest.raises(UserError, match=message) as error:
        call(folders)
    assert "\n" not in str(error.value)


def test_batches_keep_pairs_together_and_nothing_else():
    """Pairs by one order and the same flips; without them each domain by its own, from any moment on."""
    a, b = random_images(7, numbered=True), random_images(7, numbered=True)
    data = TwoDomains.pairs(a, b)
    for paired in (True, False):
        batches = DomainBatches(data, 4, paired=paired, mirror="x")
        straight = [images for images, _ in itertools.islice(batches, 30)]
        together = [torch.equal(images[:, :3], images[:, 3:]) for images in straight]
        assert all(together) if paired else not any(together)
        later = DomainBatches(data, 4, paired=paired, mirror="x", start_nimg=lambda: 40)
        assert torch.equal(next(iter(later))[0], straight[10])
        assert torch.equal(later.at(40)[0], straight[10])
        two = [DomainBatches(data, 4, paired=paired, mirror="x", rank=rank, world_size=2) for rank in range(2)]
        halves = [side.at(12)[0] for side in two]
        assert torch.equal(torch.stack(halves, dim=1).flatten(0, 1), straight[3])


def test_sets_of_other_sizes_are_each_seen_whole():
    data = TwoDomains.unpaired(random_images(5, numbered=True), random_images(3, numbered=True))
    seen = torch.cat([images for images, _ in itertools.islice(DomainBatches(data, 5, paired=False), 3)])
    assert sorted(seen[:5, 0, 0, 0].tolist()) == [0, 1, 2, 3, 4]
    assert sorted(seen[:3, 3, 0, 0].tolist()) == [0, 1, 2]


# --- drawn of the cats ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_a_picture_is_made_of_its_cat(task):
    """Deterministic, lazily or not; of other cats another; held-out combinations apart."""
    found, lazy = cat_pairs(task=task, **FEW), cat_pairs(task=task, memory_limit_gb=0, **FEW)
    assert torch.equal(lazy.a.images[:], found.a.images)
    assert found.a.images.shape[1] == TASKS[task][1]
    assert len(found.a.images.flatten(1).unique(dim=0)) > len(found) / 2
    held_out = cat_pairs(task=task, split="held_out", **FEW)
    assert not set(held_out.names) & set(found.names)
    assert found.side("backward") == (found.b, found.a) or torch.equal(found.side("backward")[1].images, found.a.images)


def test_what_pictures_show():
    cats = cat_pairs(task="silhouette", **FEW)
    grey = (cats.images.float() - 208).abs().amax(dim=1, keepdim=True)
    assert (cats.a.images[grey < 1] > 200).float().mean() > 0.95  # where the background is, there is no cat
    assert cats.a.images[:, :, 28:, 14:18].float().mean() < 60  # in the middle at the bottom there is
    low = cat_pairs(task="low_resolution", **FEW)
    blocks = torch.nn.functional.avg_pool2d(low.images.float(), 4)
    assert (low.a.images[:, :, ::4, ::4].float() - blocks).abs().max() <= 0.5
    outline = cat_pairs(task="outline", **FEW).a.images
    assert set(outline.unique().tolist()) == {0, 255}
    scribble = cat_pairs(task="scribble", **FEW).a.images
    assert 0.6 < (scribble == 255).all(dim=1).float().mean() < 0.95
    pen = (scribble == 30).all(dim=1)
    assert 0.02 < pen.float().mean() < 0.12
    inside = torch.nn.functional.max_pool2d((cats.a.images > 127).float(), 7, stride=1, padding=3)[:, 0] == 0
    assert not pen[inside].any()  # a contour, and nothing three pixels from it


@pytest.mark.parametrize("task", CHANGED)
def test_the_true_counterpart_differs_in_the_factor_alone(task):
    factor, a, b = CHANGED[task]
    held_out, train = (cat_domains(task=task, split=split, **FEW) for split in ("held_out", "train"))
    for side, truth, own, other in ((held_out.a, held_out.a_as_b, a, b), (held_out.b, held_out.b_as_a, b, a)):
        assert (set(side.attributes[factor].tolist()), set(truth.attributes[factor].tolist())) == ({own}, {other})
        assert side.names == truth.names
        same = [name for name in side.attributes if torch.equal(side.attributes[name], truth.attributes[name])]
        assert set(side.attributes) - set(same) == {factor}
        changed = (side.images[:] != truth.images[:]).flatten(1).any(dim=1).float().mean()
        assert changed > 0.9
    assert train.a_as_b is None
    assert not set(train.a.names) & set(train.names)
    others = [name for name in FACTORS if name != factor]
    rows = [set(zip(*(part.attributes[name].tolist() for name in others), strict=True)) for part in (train, held_out.a)]
    assert not rows[0] & rows[1]


def test_robots():
    found = cat_domains(task="robots", **FEW)
    assert (found.a_as_b, found.is_paired) == (None, False)
    assert len(found.images.flatten(1).unique(dim=0)) == len(found)
    assert found.images.float().std() > 20
    again = cat_domains(task="robots", split="held_out", **FEW)
    assert not set(again.names) & set(found.names)
    assert np.isin([name[:5] for name in found.names], "robot").all()


def test_side_by_side_takes_the_middle_of_each_half(tmp_path):
    """Of 24x10, two halves of 12x10, whose outer columns go."""
    canvas = np.zeros((10, 24, 3), dtype=np.uint8)
    canvas[:, 1:11], canvas[:, 13:23] = 50, 150
    (tmp_path / "in").mkdir()
    Image.fromarray(canvas).save(tmp_path / "in" / "x.png")
    found = pairs(str(tmp_path / "in"), resolution=8, split="all")
    assert (found.a.images.unique().tolist(), found.images.unique().tolist()) == ([50], [150])
