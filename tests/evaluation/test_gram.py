from __future__ import annotations

import pytest
import torch
from torch import Tensor

from wplus.evaluation import gram
from wplus.evaluation.gram import Block, Kept, Sweep, Vectors, sweeps


class ProbeResult:
    """Writes down every pair."""

    key = "seen"

    def __init__(self) -> None:
        self.num_begun = 0

    def begin(self, rows: Vectors, cols: Vectors, device: object) -> None:
        self.num_begun += 1
        self.times = torch.zeros(len(rows), len(cols))
        self.products, self.squares = (torch.zeros(len(rows), len(cols), dtype=torch.float64) for _ in range(2))
        self.diagonal: list[slice] = []

    def see(self, block: Block) -> None:
        self.times[block.rows, block.cols] += 1
        self.products[block.rows, block.cols] = block.products
        self.squares[block.rows, block.cols] = block.squares
        self.diagonal += [block.rows] if block.on_diagonal else []

    def result(self) -> Tensor:
        return self.squares


def swept(rows: Tensor, cols: Tensor | None = None) -> ProbeResult:
    seen = ProbeResult()
    _ = Sweep(lambda: rows, None if cols is None else lambda: cols).ask(seen).value
    return seen


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(gram, "BLOCK", 7)


@pytest.mark.parametrize("with_itself", [True, False])
def test_every_pair_is_seen_once(with_itself):
    rows, others = torch.randn(17, 5), torch.randn(9, 5)
    cols = rows if with_itself else others
    seen = swept(rows, None if with_itself else others)
    assert (seen.times == 1).all()
    torch.testing.assert_close(seen.products, rows.double() @ cols.double().T)
    torch.testing.assert_close(seen.squares, (rows.double()[:, None] - cols.double()).square().sum(dim=2))
    assert len(seen.diagonal) == (3 if with_itself else 0)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_a_large_mean_does_not_hide_small_distances(offset):
    """With vectors of length 10^6 and steps of a hundredth |x|^2 + |y|^2 - 2 x.y in float32 is off by 10^5."""
    steps = torch.arange(10, dtype=torch.float64)[:, None] * torch.full((1, 50), 2.0**-6)
    features = (steps + offset).float()
    expected = (features.double()[:, None] - features.double()).square().sum(dim=2)
    squares = swept(features).squares
    torch.testing.assert_close(squares, expected, rtol=1e-9, atol=0)
    assert (squares.diagonal() == 0).all()


def test_equal_vectors_are_at_distance_zero_and_nearly_equal_ones_are_not():
    x = torch.randn(1, 300, generator=torch.Generator().manual_seed(0))
    rounded, other = x * (1 + 1e-7), x + 1e-4
    squares = swept(torch.cat([x, -x, x, rounded, other])).squares
    assert squares[0, 2] == 0
    assert squares[0, 3] == 0
    assert squares[0, 4] == pytest.approx(300e-8, rel=0.01)


# What float32 leaves open


class Within:
    """Which pairs are within the reach of their row, with and without the surface."""

    key = "within"

    def __init__(self, reach: Tensor) -> None:
        self.reach = reach

    def begin(self, rows: Vectors, cols: Vectors, device: object) -> None:
        self.closed, self.open = (torch.zeros(len(rows), len(cols), dtype=torch.bool) for _ in range(2))

    def see(self, block: Block) -> None:
        for found, surface in ((self.closed, True), (self.open, False)):
            i, j = block.within(self.reach[block.rows, None], surface=surface)
            found[block.rows, block.cols][i, j] = True

    def result(self) -> Tensor:
        return self.closed


def points(kind: str) -> Tensor:
    """Sets in which float32 is at a loss."""
    x = torch.randn(40, 24, generator=torch.Generator().manual_seed(0))
    ties = (torch.randint(-2, 3, (40, 24), generator=torch.Generator().manual_seed(0)) + 1000).float()
    outlier = x.clone()
    outlier[3] *= 1e6
    return {
        "gaussian": x,
        "ties": ties,
        "duplicates": x[:8].repeat(5, 1),
        "near duplicates": x[:8].repeat(5, 1) * (1 + 1e-3 * x),
        "large mean": x + 1e4,
        "tiny spread": 1 + 1e-5 * x,
        "outlier": outlier,
        "huge": 1e22 * x,
        "tiny": 1e-25 * x,
        "float64": x.double() + 1e-9 * x.double() ** 2,
    }[kind]


KINDS = ["gaussian", "ties", "duplicates", "near duplicates", "large mean", "tiny spread", "outlier", "huge", "tiny"]
KINDS += ["float64"]


def squares_of(x: Tensor) -> Tensor:
    """By differences in float64."""
    return (x.double()[:, None] - x.double()).square().sum(dim=2)


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_float64(kind, alone, monkeypatch):
    """At distances that occur, and a hair below and above: whether pairs are looked at again one by one or together."""
    monkeypatch.setattr(gram, "BLOCK", 17)
    monkeypatch.setattr(gram, "MANY", 1.0 if alone else 0.0)
    x = points(kind)
    squares = squares_of(x)
    for k in (1, 10):
        for factor in (1, 1 - 1e-9, 1 + 1e-9):
            reach = squares.kthvalue(k + 1, dim=1).values * factor
            found = Within(reach)
            _ = Sweep(lambda: x).ask(found).value
            clear = (squares / reach[:, None] - 1).abs() > (1e-10 if alone else 1e-7)  # |x|^2 + |y|^2 - 2 x.y
            clear |= squares == 0
            assert torch.equal(found.closed[clear], (squares <= reach[:, None])[clear])
            assert torch.equal(found.open[clear], (squares < reach[:, None])[clear])


@pytest.mark.parametrize("kind", KINDS)
def test_few_pairs_are_looked_at_again(kind, monkeypatch):
    """Of vectors that float32 can tell apart; all of those that leave its range."""
    looked_at, squares = [], gram.Block.squares_of
    monkeypatch.setattr(gram.Block, "squares_of", lambda self, i, j: looked_at.append(len(i)) or squares(self, i, j))
    x = points(kind)
    _ = Sweep(lambda: x).ask(Within(squares_of(x).kthvalue(4, dim=1).values * (1 + 1e-9))).value
    if kind in ("gaussian", "float64", "large mean"):
        assert 0 < sum(looked_at) <= 2 * 40 * 2
    if kind == "huge":
        assert sum(looked_at) == 2 * 40 * 40


def test_what_is_no_number_is_nowhere_near():
    x = torch.randn(20, 4)
    x[2, 1] = torch.nan
    found = Within(torch.full((20,), 1e3, dtype=torch.float64))
    _ = Sweep(lambda: x).ask(found).value
    assert not found.closed.any()  # the centre is none either


@pytest.mark.parametrize("allowed", ["high", "medium"])
def test_products_are_float32_whatever_is_allowed_elsewhere(allowed):
    """And what was allowed is allowed again."""
    x = torch.randn(64, 512, generator=torch.Generator().manual_seed(0))
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(allowed)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found = gram.product(x, x.T)
        assert torch.get_float32_matmul_precision() == allowed
    finally:
        torch.set_float32_matmul_precision(before)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), x.double() @ x.double().T, rtol=0, atol=1e-3)


def test_one_sweep_for_all_who_ask():
    num_read = 0

    def rows() -> Tensor:
        nonlocal num_read
        num_read += 1
        return torch.randn(9, 3)

    sweep = Sweep(rows)
    first, other = ProbeResult(), ProbeResult()
    other.key = "another"
    requests = [sweep.ask(first), sweep.ask(other), sweep.ask(ProbeResult())]
    assert requests[2] is requests[0]
    assert torch.equal(requests[0].value, requests[1].value)
    assert num_read == first.num_begun == other.num_begun == 1
    third = ProbeResult()
    third.key = "late"
    assert sweep.ask(third).value.shape == (9, 9)
    assert first.num_begun == 1


def test_results_are_kept_for_their_images_and_extractor(tmp_path):
    rows = torch.randn(9, 3)
    kept = Kept(str(tmp_path), {"data": "a"}, {"extractor": "b"})
    seen, again, other = ProbeResult(), ProbeResult(), ProbeResult()
    first = Sweep(lambda: rows, kept=kept).ask(seen).value
    assert torch.equal(Sweep(lambda: 1 / 0, kept=kept).ask(again).value, first)
    _ = Sweep(lambda: rows + 1, kept=Kept(str(tmp_path), {"data": "c"}, {"extractor": "b"})).ask(other).value
    assert (seen.num_begun, again.num_begun, other.num_begun) == (1, 0, 1)


def test_what_another_process_lacks_is_computed_by_all(tmp_path, monkeypatch):
    """Or one would begin a pass that the others never come to."""
    kept = Kept(str(tmp_path), {"data": "a"}, {"extractor": "b"})
    rows, seen = torch.randn(9, 3), ProbeResult()
    _ = Sweep(lambda: rows, kept=kept).ask(ProbeResult()).value
    monkeypatch.setattr(gram, "all_agree", lambda found: False)
    assert Sweep(lambda: rows, kept=kept).ask(seen).value.shape == (9, 9)
    assert seen.num_begun == 1


def test_metrics_of_one_bench_share_their_sweeps(bench, extractor):
    real, generated = bench.real_images(), bench.generated(20)
    one, two = (sweeps(bench, extractor, real, generated) for _ in range(2))
    other = sweeps(bench, extractor, real, bench.generated(30))
    assert one.real is two.real is other.real
    assert one.cross is two.cross is not other.cross
    assert (one.num_real, one.num_generated) == (40, 20)
