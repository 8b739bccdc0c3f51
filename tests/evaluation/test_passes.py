from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import wplus
from wplus.core.progress import silent
from wplus.errors import UserError
from wplus.evaluation.bench import EvalContext
from wplus.evaluation.passes import FeatureRows
from wplus.evaluation.sampler import generate
from wplus.evaluation.statistics import GroupedStatistics
from wplus.pretrained.effnet_lite0 import EffNetLite0Features


class Counting(torch.nn.Module):
    """An extractor that counts what it is shown."""

    name, dim = "counting", 4

    def __init__(self, version: int = 0) -> None:
        super().__init__()
        self.protocol, self.num_seen = {"extractor": self.name, "extractor_sha256": str(version)}, 0

    def forward(self, images: Tensor) -> Tensor:
        self.num_seen += len(images)
        return images.double().mean(dim=(1, 3))[:, :4]


class CountingGenerator:
    """A generator that counts what it makes."""

    def __init__(self, generator: Any) -> None:
        self.generator, self.num_made = generator, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.generator, name)

    def mapping(self, z: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        self.num_made += len(z)
        return self.generator.mapping(z, *args, **kwargs)


def test_all_requests_share_one_pass(bench: EvalContext) -> None:
    bench.models.generator = CountingGenerator(bench.models.generator)
    first, equal, other = Counting(), Counting(), Counting(version=1)
    pass_ = replace(bench, batch_size=20).generated(20)
    requests = [
        pass_.collect(first, FeatureRows()),
        pass_.collect(equal, FeatureRows()),
        pass_.collect(equal, GroupedStatistics(2)),
        pass_.collect(other, FeatureRows()),
    ]
    assert requests[0] is requests[1]
    values = [request.value for request in requests]
    assert bench.models.generator.num_made == 20
    assert (first.num_seen, equal.num_seen, other.num_seen) == (20, 0, 20)
    torch.testing.assert_close(values[2].whole.total, values[0].rows.double().sum(dim=0))


def test_a_late_request_makes_a_second_pass_for_itself_alone(bench: EvalContext) -> None:
    extractor, pass_ = Counting(), replace(bench, batch_size=16).generated(16)
    early = pass_.collect(extractor, FeatureRows()).value
    late = pass_.collect(extractor, GroupedStatistics(1)).value
    assert pass_.collect(extractor, FeatureRows()).value is early
    assert extractor.num_seen == 32
    torch.testing.assert_close(late.whole.total, early.rows.double().sum(dim=0))


def test_rows_stand_in_the_order_of_the_images(bench: EvalContext, extractor: Any) -> None:
    rows = bench.generated(11).collect(extractor, FeatureRows()).value.rows
    assert rows.dtype == torch.float32
    alone = torch.cat([extractor(generate(bench.models.generator, [index], seed=0)) for index in range(11)])
    torch.testing.assert_close(rows, alone.float(), atol=1e-3, rtol=1e-3)
    other = replace(bench, batch_size=3).generated(11).collect(extractor, FeatureRows()).value.rows
    torch.testing.assert_close(other, rows, atol=1e-6, rtol=1e-5)


def test_features_of_real_nets_do_not_depend_on_the_batch_size(repository: Path) -> None:
    """Their kernels for small batches round otherwise, in the generator as in the extractor."""
    models, extractor = wplus.load(repository / "experiments/models/cats32.safetensors"), EffNetLite0Features()
    rows = {}
    for batch_size, num in {64: 34, 32: 34, 7: 9, 1: 9}.items():
        whole = EvalContext(models, batch_size=batch_size, progress=silent).generated(num)
        rows[batch_size] = whole.collect(extractor, FeatureRows()).value.rows
        torch.testing.assert_close(rows[batch_size], rows[64][:num], rtol=1e-6, atol=1e-7)


# Cache


def collected(bench: EvalContext, extractor: Any, make: Any = FeatureRows, **which: Any) -> tuple[Any, int]:
    """From a new bench, as another command would; and how many images were read for it."""
    bench.real.num_read = 0
    return replace(bench).real_images(**which).collect(extractor, make()).value, bench.real.num_read


def test_real_images_are_read_once_for_each_key(bench: EvalContext, tmp_path: Path) -> None:
    bench, grouped = replace(bench, cache_dir=tmp_path), lambda: GroupedStatistics(2)
    requests = [{}, {}, {"mirror": "x"}, {"num": 20}, {"make": grouped}, {"make": grouped}, {"make": FeatureRows}]
    assert [collected(bench, Counting(), **request)[1] for request in requests] == [40, 0, 40, 20, 40, 0, 0]
    assert collected(bench, Counting(version=1))[1] == 40
    expected = collected(bench, Counting())[0].rows
    bench.real.images = bench.real.images[torch.randperm(40)]
    shuffled, num_read = collected(bench, Counting())
    assert num_read == 0
    assert torch.equal(shuffled.rows, expected)
    bench.real.images[3] += 1
    assert collected(bench, Counting())[1] == 40
    assert [collected(replace(bench, cache_dir=None), Counting())[1] for _ in range(2)] == [40, 40]


def test_generated_images_are_not_kept(bench: EvalContext, extractor: Any, tmp_path: Path) -> None:
    assert replace(bench, cache_dir=tmp_path).generated(4).collect(extractor, FeatureRows()).value
    assert not list(tmp_path.iterdir())


def test_what_is_cached_is_the_same(bench: EvalContext, extractor: Any, tmp_path: Path) -> None:
    bench = replace(bench, cache_dir=tmp_path)
    for make in (FeatureRows, lambda: GroupedStatistics(2)):
        made, again = (collected(bench, extractor, make)[0] for _ in range(2))
        for name, array in made.arrays().items():
            np.testing.assert_array_equal(again.arrays()[name], array)


@pytest.mark.parametrize("damage", [b"", b"nonsense", "half", "a bit"])
def test_a_damaged_file_is_made_again(bench: EvalContext, extractor: Any, tmp_path: Path, damage: bytes | str) -> None:
    bench = replace(bench, cache_dir=tmp_path)
    expected = collected(bench, extractor)[0].rows
    (path,) = tmp_path.iterdir()
    content = path.read_bytes()
    place = content.index(expected.numpy().tobytes())
    changed = {"half": content[: len(content) // 2], "a bit": _flipped(content, place)}
    path.write_bytes(changed.get(damage, damage))  # type: ignore[arg-type]
    found, num_read = collected(bench, extractor)
    assert num_read == 40
    assert torch.equal(found.rows, expected)
    assert collected(bench, extractor)[1] == 0


def _flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_the_cache_is_never_unpickled(bench: EvalContext, extractor: Any, tmp_path: Path) -> None:
    """An array of objects would run code when it is loaded; it counts as damage."""

    class Trap:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return (Path.touch, (tmp_path / "sprung",))

    bench = replace(bench, cache_dir=tmp_path)
    collected(bench, extractor)
    (path,) = tmp_path.iterdir()
    with np.load(path) as arrays:
        content = dict(arrays)
    np.savez(path, **(content | {"rows": np.array([Trap()], dtype=object)}))
    assert collected(bench, extractor)[1] == 40
    assert not (tmp_path / "sprung").exists()


def test_a_cache_that_cannot_be_written_is_told_before_the_work(bench: EvalContext, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    extractor = Counting()
    with pytest.raises(UserError, match="Cannot write to the output folder"):
        collected(replace(bench, cache_dir=tmp_path / "file" / "cache"), extractor)
    assert extractor.num_seen == 0


def test_statistics_take_no_more_memory_for_more_images() -> None:
    """What is held after thousands of rows is what the first few hundred left."""

    def held(grouped: GroupedStatistics) -> int:
        sums = [tensor.numel() for group in grouped._sums for tensor in (group.total, group.outer)]
        return sum(sums) + grouped._rows.numel()

    grouped, most = GroupedStatistics(2), 0
    grouped.begin(8, 20_000, "cpu")
    for rows in torch.arange(20_000).split(100):
        grouped.add(torch.zeros(100, 8), rows)
        most = max(most, held(grouped))
    assert most <= 2 * (8 + 64) + 8 * 2 * 512
