from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import wplus
from wplus.core.progress import silent
from wplus.errors import UserError
from wplus.evaluation.context import EvalContext
from wplus.evaluation.feature_pass import FeatureRows
from wplus.evaluation.frechet import GroupedStatistics
from wplus.evaluation.sampler import generate
from wplus.pretrained.effnet_lite0 import EffNetLite0Features


class Counting(torch.nn.Module):
    """An extractor that counts what it is shown."""

    name, dim = "counting", 4

    def __init__(self, version=0):
        super().__init__()
        self.protocol, self.num_seen = {"extractor": self.name, "extractor_sha256": str(version)}, 0

    def forward(self, images):
        self.num_seen += len(images)
        return images.double().mean(dim=(1, 3))[:, :4]


def test_all_requests_share_one_pass_and_a_late_one_makes_a_second_for_itself_alone(context):
    made, mapping = [], context.generator.mapping.forward
    context.generator.mapping.forward = lambda z, *args, **kwargs: made.append(len(z)) or mapping(z, *args, **kwargs)
    first, equal, other = Counting(), Counting(), Counting(version=1)
    pass_ = replace(context, batch_size=20).generated(20)
    asked = [(first, FeatureRows()), (equal, FeatureRows()), (equal, GroupedStatistics(2)), (other, FeatureRows())]
    requests = [pass_.ask(*each) for each in asked]
    assert requests[0] is requests[1]
    values = [request.value for request in requests]
    assert sum(made) == 20
    assert (first.num_seen, equal.num_seen, other.num_seen) == (20, 0, 20)
    late = pass_.ask(first, GroupedStatistics(1)).value
    assert pass_.ask(first, FeatureRows()).value is values[0]
    assert (sum(made), first.num_seen, other.num_seen) == (40, 40, 20)
    for groups in (values[2], late):
        torch.testing.assert_close(groups.whole.total, values[0].rows.double().sum(dim=0))


def test_rows_stand_in_the_order_of_the_images(context, extractor):
    rows = context.generated(11).ask(extractor, FeatureRows()).value.rows
    assert rows.dtype == torch.float32
    alone = torch.cat([extractor(generate(context.models.generator, [index], seed=0)) for index in range(11)])
    torch.testing.assert_close(rows, alone.float(), atol=1e-3, rtol=1e-3)
    other = replace(context, batch_size=3).generated(11).ask(extractor, FeatureRows()).value.rows
    torch.testing.assert_close(other, rows, atol=1e-6, rtol=1e-5)


def test_features_of_real_nets_do_not_depend_on_the_batch_size(repository):
    """Their kernels for small batches round otherwise, in the generator as in the extractor."""
    models, extractor = wplus.load(repository / "experiments/models/cats32.safetensors"), EffNetLite0Features()
    rows = {}
    for batch_size, num in {64: 34, 32: 34, 7: 9, 1: 9}.items():
        whole = EvalContext(models, batch_size=batch_size, progress=silent).generated(num)
        rows[batch_size] = whole.ask(extractor, FeatureRows()).value.rows
        torch.testing.assert_close(rows[batch_size], rows[64][:num], rtol=1e-6, atol=1e-7)


# Cache


def collected(context, extractor, make=FeatureRows, **which):
    """From a new context, as another command would; and how many images were read for it."""
    context.real.num_read = 0
    return replace(context).real_images(**which).ask(extractor, make()).value, context.real.num_read


def test_real_images_are_read_once_for_each_key(context, tmp_path):
    context, grouped = replace(context, cache_dir=tmp_path), lambda: GroupedStatistics(2)
    requests = [{}, {}, {"mirror": "x"}, {"num": 20}, {"make": grouped}, {"make": grouped}, {"make": FeatureRows}]
    assert [collected(context, Counting(), **request)[1] for request in requests] == [40, 0, 40, 20, 40, 0, 0]
    assert collected(context, Counting(version=1))[1] == 40
    expected = collected(context, Counting())[0].rows
    context.real.images = context.real.images[torch.randperm(40)]
    shuffled, num_read = collected(context, Counting())
    assert num_read == 0
    assert torch.equal(shuffled.rows, expected)
    context.real.images[3] += 1
    assert collected(context, Counting())[1] == 40
    assert [collected(replace(context, cache_dir=None), Counting())[1] for _ in range(2)] == [40, 40]


def test_what_is_cached_is_the_same_and_generated_images_are_not(context, extractor, tmp_path):
    context = replace(context, cache_dir=tmp_path)
    assert context.generated(4).ask(extractor, FeatureRows()).value
    assert not list(tmp_path.iterdir())
    for make in (FeatureRows, lambda: GroupedStatistics(2)):
        made, again = (collected(context, extractor, make)[0] for _ in range(2))
        for name, array in made.arrays().items():
            np.testing.assert_array_equal(again.arrays()[name], array)


@pytest.mark.parametrize("damage", [b"", b"nonsense", "half", "a bit"])
def test_a_damaged_file_is_made_again(context, extractor, tmp_path, damage):
    context = replace(context, cache_dir=tmp_path)
    expected = collected(context, extractor)[0].rows
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    place = content.index(expected.numpy().tobytes())
    flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    changed = {"half": content[: len(content) // 2], "a bit": flipped}
    path.write_bytes(changed.get(damage, damage))
    found, num_read = collected(context, extractor)
    assert num_read == 40
    assert torch.equal(found.rows, expected)
    assert collected(context, extractor)[1] == 0


def test_the_cache_is_never_unpickled(context, extractor, tmp_path):
    """An array of objects would run code when it is loaded; it counts as damage."""

    class Trap:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "sprung",))

    context = replace(context, cache_dir=tmp_path)
    collected(context, extractor)
    (path,) = tmp_path.iterdir()
    with np.load(path) as arrays:
        content = dict(arrays)
    np.savez(path, **(content | {"rows": np.array([Trap()], dtype=object)}))
    assert collected(context, extractor)[1] == 40
    assert not (tmp_path / "sprung").exists()


def test_a_cache_that_cannot_be_written_is_told_before_the_work(context, tmp_path):
    (tmp_path / "file").write_text("")
    extractor = Counting()
    with pytest.raises(UserError, match="Cannot write to the output folder"):
        collected(replace(context, cache_dir=tmp_path / "file" / "cache"), extractor)
    assert extractor.num_seen == 0
