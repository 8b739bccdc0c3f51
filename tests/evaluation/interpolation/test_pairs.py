import json
import subprocess
import sys
from types import MappingProxyType, SimpleNamespace

import pytest
import torch
from torch import nn

from wplus.data.image_set import ImageSet
from wplus.errors import UserError
from wplus.evaluation.interpolation.pairs import STRATA, draw_pairs, read_pairs


class Colour(nn.Module):
    """|difference of mean colours|."""

    name, provenance = "colour", MappingProxyType({"weights": "none"})

    def forward(self, a, b):
        return (a.mean(dim=(1, 2, 3)) - b.mean(dim=(1, 2, 3))).abs()


@pytest.fixture
def images() -> ImageSet:
    pixels = torch.randint(0, 256, (80, 1, 1, 1)).expand(-1, 3, 8, 8).to(torch.uint8).contiguous()
    return ImageSet(pixels, None, [f"img{index:02d}" for index in range(80)])


def drawn(images: ImageSet, num: int = 12, seed: int = 0, order: str = "digests"):
    quiet = lambda items, description, **_: items  # noqa: E731
    return draw_pairs(images, num_pairs=num, distance=Colour(), seed=seed, batch_size=7, progress=quiet, order=order)


def test_as_many_near_as_mid_and_far_and_no_image_twice(images):
    pairs = drawn(images, 13).pairs
    assert [sum(pair.stratum == stratum for pair in pairs) for stratum in STRATA] == [5, 4, 4]
    names = [name for pair in pairs for name in (pair.a, pair.b)]
    assert len(set(names)) == 26
    by = {stratum: [pair.distance for pair in pairs if pair.stratum == stratum] for stratum in STRATA}
    assert max(by["near"]) <= min(by["mid"]) <= max(by["mid"]) <= min(by["far"])
    shade = dict(zip(images.names, images.images[:, 0, 0, 0].tolist(), strict=True))
    for pair in pairs:
        assert pair.distance == pytest.approx(abs(shade[pair.a] - shade[pair.b]) / 127.5, abs=1e-5)


def test_the_same_draw_again_and_another_by_another_seed(images):
    assert drawn(images) == drawn(images) != drawn(images, seed=1)
    more = drawn(images, 24).pairs  # a longer list holds the shorter one
    assert set(drawn(images).pairs) <= set(more)


def test_the_order_of_the_files_changes_nothing():
    pixels = torch.arange(0, 240, 3).view(-1, 1, 1, 1).expand(-1, 3, 8, 8).to(torch.uint8).contiguous()
    first, shuffle = ImageSet(pixels, None, [f"img{i:02d}" for i in range(80)]), torch.randperm(80)
    other = ImageSet(pixels[shuffle], None, [f"img{i:02d}" for i in shuffle])
    assert drawn(first).pairs == drawn(other).pairs
    assert drawn(first).protocol["order"] == "digests"
    by_files = [drawn(images, order="files") for images in (first, other)]
    assert by_files[0].pairs != by_files[1].pairs
    assert "order" not in by_files[0].protocol
    with pytest.raises(UserError, match="order must be one of digests, files, got 'names'"):
        drawn(first, order="names")


def test_there_and_back_through_a_file(images, tmp_path):
    pairs = drawn(images)
    found = read_pairs(pairs.save(tmp_path / "pairs.json"), images)
    assert found.names == pairs.names
    assert [pair.stratum for pair in found.pairs] == [pair.stratum for pair in pairs.pairs]
    assert found.protocol["distance"] == "colour"


def test_refusals(images, tmp_path):
    with pytest.raises(UserError, match="num_pairs must be from 3 to 40, .* of 80 images twice, got 41"):
        drawn(images, 41)
    path = drawn(images).save(tmp_path / "pairs.json")
    with pytest.raises(UserError, match="fingerprint"):
        read_pairs(path, images.subset(torch.arange(79)))
    with pytest.raises(UserError, match="must be draw or a list that exists, got"):
        read_pairs(tmp_path / "none.json", images)
    content = json.loads(path.read_text())
    for change, message in (
        ({"pairs": []}, "no pairs"),
        ({"pairs": [{**content["pairs"][0], "a": "nobody"}]}, "not there: nobody"),
        ({"pairs": content["pairs"][:1] * 2}, "twice"),
        ({"pairs": [{"a": "img00"}]}, "damaged"),
    ):
        path.write_text(json.dumps(content | change))
        with pytest.raises(UserError, match=message):
            read_pairs(path, images)
    path.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        read_pairs(path, images)


def test_the_command_writes_a_list(repository, tmp_path):
    command = [sys.executable, "-m", "wplus", "draw_pairs", "num_pairs=6", "resolution=16", "data.num_images=200",
               f"data.cache_dir={tmp_path}", f"output={tmp_path / 'pairs.json'}"]  # fmt: skip
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 near, 2 mid, 2 far pairs" in done.stdout
    assert len(json.loads((tmp_path / "pairs.json").read_text())["pairs"]) == 6


def test_the_committed_list_of_the_cats_is_what_the_command_says_of_it(repository):
    path = repository / "experiments" / "pairs" / "cats32_held_out.json"
    content = json.loads(path.read_text())
    names = [name for pair in content["pairs"] for name in (pair["a"], pair["b"])]
    found = read_pairs(path, SimpleNamespace(fingerprint=content["data"], names=names))
    assert [sum(pair.stratum == stratum for pair in found.pairs) for stratum in STRATA] == [67, 67, 66]
    assert found.protocol["px"] == 32
    assert found.protocol["distance"] == "effnet_lite0"
