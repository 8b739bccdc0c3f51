import json
from types import SimpleNamespace

import pytest
import torch

from tests.fakes import Brightness
from wplus.__main__ import main
from wplus.core.progress import silent
from wplus.data.image_set import ImageSet
from wplus.errors import UserError
from wplus.evaluation.interpolation.pairs import STRATA, draw_pairs, read_pairs


def flat(order=range(80)):
    """Grey images of 80 different shades."""
    shades = torch.tensor([3 * number for number in order], dtype=torch.uint8).view(-1, 1, 1, 1)
    return ImageSet(shades.expand(-1, 3, 8, 8).contiguous(), None, [f"img{number:02d}" for number in order])


IMAGES = flat()


def drawn(num=12, images=IMAGES, **options):
    return draw_pairs(images, num_pairs=num, distance=Brightness(), batch_size=7, progress=silent, **options)


def test_as_many_near_as_mid_and_far_and_no_image_twice():
    found = drawn(13)
    by = {stratum: [pair.distance for pair in found.pairs if pair.stratum == stratum] for stratum in STRATA}
    assert list(map(len, by.values())) == [5, 4, 4]
    assert len(set(found.names)) == 26
    assert max(by["near"]) <= min(by["mid"]) <= max(by["mid"]) <= min(by["far"])
    for pair in found.pairs:
        assert pair.distance == pytest.approx(abs(int(pair.a[3:]) - int(pair.b[3:])) * 3 / 127.5, abs=1e-5)


def test_the_same_draw_again_and_another_by_another_seed():
    assert drawn() == drawn() != drawn(seed=1)
    assert set(drawn().pairs) <= set(drawn(24).pairs)  # a longer list holds the shorter one


def test_the_order_of_the_files_changes_nothing():
    other = flat(torch.randperm(80).tolist())
    assert drawn().pairs == drawn(images=other).pairs
    assert drawn().protocol["order"] == "digests"
    by_files = [drawn(images=images, order="files") for images in (IMAGES, other)]
    assert by_files[0].pairs != by_files[1].pairs
    assert "order" not in by_files[0].protocol


def test_there_and_back_through_a_file(tmp_path):
    pairs = drawn()
    found = read_pairs(pairs.save(tmp_path / "pairs.json"), IMAGES)
    assert found.names == pairs.names
    assert [pair.stratum for pair in found.pairs] == [pair.stratum for pair in pairs.pairs]
    assert found.protocol["distance"] == "brightness"


def test_refusals(tmp_path):
    with pytest.raises(UserError, match="order must be one of digests, files, got 'names'"):
        drawn(order="names")
    with pytest.raises(UserError, match="num_pairs must be from 3 to 40, .* of 80 images twice, got 41"):
        drawn(41)
    with pytest.raises(UserError, match="Drawing pairs needs at least 6 images, got 5"):
        drawn(3, images=flat(range(5)))
    path = drawn().save(tmp_path / "pairs.json")
    with pytest.raises(UserError, match="must be draw or an existing list, got"):
        read_pairs(tmp_path / "none.json", IMAGES)
    content = json.loads(path.read_text())
    for change, message in (
        ({"data": "other"}, "of the images with fingerprint other"),
        ({"pairs": []}, "no pairs"),
        ({"pairs": [{**content["pairs"][0], "a": "nobody"}]}, "does not exist: nobody"),
        ({"pairs": content["pairs"][:1] * 2}, "twice"),
        ({"pairs": [{"a": "img00"}]}, "damaged"),
        (None, "damaged"),
    ):
        path.write_text("{" if change is None else json.dumps(content | change))
        with pytest.raises(UserError, match=message):
            read_pairs(path, IMAGES)


def test_the_command_writes_a_list(tmp_path, capsys):
    command = ["draw_pairs", "num_pairs=6", "resolution=16", "data.num_images=200", f"data.cache_dir={tmp_path}"]
    assert main([*command, f"output={tmp_path / 'pairs.json'}"]) == 0
    assert "2 near, 2 mid, 2 far pairs" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "pairs.json").read_text())["pairs"]) == 6


def test_the_committed_list_of_the_cats_is_what_the_command_says_of_it(repository):
    path = repository / "experiments" / "pairs" / "cats32_held_out.json"
    content = json.loads(path.read_text())
    names = [name for pair in content["pairs"] for name in (pair["a"], pair["b"])]
    found = read_pairs(path, SimpleNamespace(fingerprint=content["data"], names=names))
    assert [sum(pair.stratum == stratum for pair in found.pairs) for stratum in STRATA] == [67, 67, 66]
    assert (found.protocol["px"], found.protocol["distance"]) == (32, "effnet_lite0")
