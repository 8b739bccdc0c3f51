import pytest
import torch

from wplus.evaluation import feature_pass, pairwise
from wplus.evaluation.feature_pass import Accumulator
from wplus.evaluation.pairwise import InBalls, KernelSums, Neighbours, NeighbourSquares, PairPass, pairs_of


class Matrix(Accumulator):
    """Writes down every pair."""

    kept = ("squares",)

    def __init__(self, key="matrix"):
        self.key, self.num_begun, self.diagonal = key, 0, []

    def begin(self, rows, cols, device):
        self.num_begun += 1
        self.times = torch.zeros(len(rows), len(cols))
        self.products, self.squares = (torch.zeros(len(rows), len(cols), dtype=torch.float64) for _ in range(2))

    def add(self, block):
        self.times[block.rows, block.cols] += 1
        self.products[block.rows, block.cols] = block.products
        self.squares[block.rows, block.cols] = block.squares
        self.diagonal += [block.rows] if block.on_diagonal else []


def passed(accumulator, rows, cols=None):
    return PairPass(lambda: rows, None if cols is None else lambda: cols).ask(accumulator).value


def squares_of(x):
    """By differences."""
    return (x.double()[:, None] - x.double()).square().sum(dim=2)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(pairwise, "BLOCK", 7)


@pytest.mark.parametrize("with_itself", [True, False])
def test_every_pair_is_seen_once(with_itself):
    rows, others = torch.randn(17, 5), torch.randn(9, 5)
    cols = rows if with_itself else others
    seen = passed(Matrix(), rows, None if with_itself else others)
    assert (seen.times == 1).all()
    torch.testing.assert_close(seen.products, rows.double() @ cols.double().T / 5)
    torch.testing.assert_close(seen.squares, (rows.double()[:, None] - cols.double()).square().sum(dim=2))
    assert len(seen.diagonal) == (3 if with_itself else 0)


@pytest.mark.parametrize("offset", [0.0, 1e3, 1e5])
def test_a_large_mean_does_not_hide_small_distances(offset):
    """With vectors of length 10^6 and steps of a hundredth |x|^2 + |y|^2 - 2 x.y is off by a hundredth in float64."""
    steps = torch.arange(10, dtype=torch.float64)[:, None] * torch.full((1, 50), 2.0**-6)
    features = (steps + offset).float()
    squares = passed(Matrix(), features).squares
    torch.testing.assert_close(squares, squares_of(features), rtol=1e-9, atol=0)
    assert (squares.diagonal() == 0).all()


def test_equal_vectors_are_at_distance_zero_and_nearly_equal_ones_are_not():
    x = torch.randn(1, 300)
    squares = passed(Matrix(), torch.cat([x, -x, x, x * (1 + 1e-7), x + 1e-4])).squares
    assert squares[0, 2] == squares[0, 3] == 0
    assert squares[0, 4] == pytest.approx(300e-8, rel=0.01)


# Neighbours and balls


KINDS = {  # of sets in which rounding matters
    "gaussian": lambda x: x,
    "ties": lambda x: (torch.randint(-2, 3, (40, 24)) + 1000).float(),
    "duplicates": lambda x: x[:8].repeat(5, 1),
    "near duplicates": lambda x: x[:8].repeat(5, 1) * (1 + 1e-3 * x),
    "large mean": lambda x: x + 1e4,
    "tiny spread": lambda x: 1 + 1e-5 * x,
    "outlier": lambda x: torch.cat([x[:3], 1e3 * x[3:4], x[4:]]),
    "huge": lambda x: 1e22 * x,
    "tiny": lambda x: 1e-25 * x,
    "float64": lambda x: x.double() + 1e-9 * x.double() ** 2,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", [1, 2, 3, 12, 30])
def test_radii_are_those_of_differences(kind, k):
    x = KINDS[kind](torch.randn(40, 24))
    expected = squares_of(x).fill_diagonal_(torch.inf).kthvalue(k, dim=1).values
    found, neighbours = passed(NeighbourSquares(k), x).squares, passed(Neighbours(k), x)
    assert torch.equal(neighbours.squares[:, -1], found)
    same = expected <= pairwise.SAME * x.double().square().sum(dim=1).max()
    torch.testing.assert_close(found[~same], expected[~same], rtol=1e-7, atol=0)
    assert (found[same] <= expected[same]).all()
    by_number = squares_of(x).gather(1, neighbours.numbers)[:, -1]
    torch.testing.assert_close(by_number[~same], expected[~same], rtol=1e-7, atol=0)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("is_closed", [True, False])
def test_the_surface_belongs_to_closed_balls_and_a_hair_is_rounding(kind, is_closed):
    """Balls of a set to its own neighbours: the k-th lies on the surface, which rounding may not move."""
    x, k = KINDS[kind](torch.randn(40, 24)), 3
    squares = squares_of(x)
    balls = InBalls(PairPass(lambda: x).ask(NeighbourSquares(k)), around="rows", is_closed=is_closed)
    found = passed(balls, x, x)
    reach = squares.clone().fill_diagonal_(torch.inf).kthvalue(k, dim=1, keepdim=True).values
    on_surface = (squares / reach - 1).abs() < 1e-7
    expected = ((squares < reach) & ~on_surface) | (on_surface & is_closed) | ((squares == 0) & is_closed)
    expected |= (squares == 0) & (reach > 0)
    assert torch.equal(found.counts, expected.sum(dim=0))
    assert torch.equal(found.met, expected.any(dim=1))


def test_balls_around_either_side():
    """Of 0, 1, 3 in steps of one dimension; radii 1, 1, 2; of 10, 11: 1, 1, around the columns."""
    real, generated = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[1.5], [2.5]])
    reach = [PairPass(lambda x=x: x).ask(NeighbourSquares(1)) for x in (real, generated)]
    cross = PairPass(lambda: real, lambda: generated)
    around_rows = cross.ask(InBalls(reach[0], around="rows", is_closed=True))
    around_cols = cross.ask(InBalls(reach[1], around="cols", is_closed=True))
    assert around_rows.value.counts.tolist() == [2, 1]  # 1.5: of 1 and 3; 2.5: of 3
    assert around_rows.value.met.tolist() == [False, True, True]
    assert around_cols.value.counts.tolist() == [0, 1, 1]
    assert around_cols.value.met.tolist() == [True, True]


def test_what_is_no_number_is_nowhere_near():
    x = torch.randn(20, 4)
    x[2, 1] = torch.nan
    radii = PairPass(lambda: x).ask(NeighbourSquares(3))
    assert not passed(InBalls(radii, around="rows", is_closed=True), x, x).met.any()


def test_kernel_sums_against_a_loop():
    x, y = torch.randn(40, 8, dtype=torch.float64) + 0.5, torch.randn(30, 8, dtype=torch.float64)
    left, right, over_y = (torch.randn(3, num, dtype=torch.float64) for num in (40, 40, 30))
    for cols, weights in ((None, right), (y, over_y)):
        kernel = (x @ (x if cols is None else y).T / 8 + 1) ** 3
        kernel = kernel.fill_diagonal_(0) if cols is None else kernel
        found = passed(KernelSums("any", left, weights), x, cols).sums
        torch.testing.assert_close(found, (left @ kernel * weights).sum(dim=1))


# One pass for all


def test_one_pass_for_all_who_ask():
    num_read = 0

    def rows():
        nonlocal num_read
        num_read += 1
        return torch.randn(9, 3)

    whole, first = PairPass(rows), Matrix()
    requests = [whole.ask(first), whole.ask(Matrix("another")), whole.ask(Matrix())]
    assert requests[2] is requests[0]
    assert torch.equal(requests[0].value.squares, requests[1].value.squares)
    assert first.num_begun == 1
    read_once = num_read
    assert whole.ask(Matrix("late")).value.squares.shape == (9, 9)
    assert (first.num_begun, num_read) == (1, 2 * read_once)


def test_results_are_kept_for_their_images_and_extractor_and_by_all_processes(tmp_path, monkeypatch):
    """What another process lacks is computed by all, or one would begin a pass that the others never come to."""
    rows, kept = torch.randn(9, 3), {"cache_dir": tmp_path, "about": {"images": "a"}}
    seen, again, other, lacking = Matrix(), Matrix(), Matrix(), Matrix()
    first = PairPass(lambda: rows, **kept).ask(seen).value.squares
    assert torch.equal(PairPass(lambda: 1 / 0, **kept).ask(again).value.squares, first)
    _ = PairPass(lambda: rows + 1, cache_dir=tmp_path, about={"images": "b"}).ask(other).value
    monkeypatch.setattr(feature_pass, "all_agree", lambda found: False)
    _ = PairPass(lambda: rows, **kept).ask(lacking).value
    assert [each.num_begun for each in (seen, again, other, lacking)] == [1, 0, 1, 1]


def test_metrics_of_one_context_share_their_passes(context, extractor):
    real, generated = context.real_images(), context.generated(20)
    one, two = (pairs_of(context, extractor, real, generated) for _ in range(2))
    other = pairs_of(context, extractor, real, context.generated(30))
    assert one.real is two.real is other.real
    assert one.generated is two.generated is not other.generated
    assert one.cross is two.cross is not other.cross
    assert (one.num_real, one.num_generated) == (40, 20)
