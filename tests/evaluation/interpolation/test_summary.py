from __future__ import annotations

import pytest
import torch

from wplus.evaluation.interpolation.pairs import Pair, PairList
from wplus.evaluation.interpolation.realism import RealFeatures, shown_frames
from wplus.evaluation.interpolation.summary import summarise
from wplus.evaluation.interpolation.walking import PairResult
from wplus.interpolation.walk import even_positions

T = even_positions(17)


def test_a_column_that_the_first_pair_lacks_is_tested():
    pairs = [Pair(f"a{i}", f"b{i}", ("near", "mid", "far")[i % 3], 1.0) for i in range(8)]
    features = {place: torch.randn(len(rows), 5) for place, rows in shown_frames(T, frames_per_bin=1).items()}
    results = {}
    for number, pair in enumerate(pairs):
        rows = {"one": {"tortuosity": 1.0 + number}, "two": {"tortuosity": 3.0 + number}}
        if number:  # the images of the first pair are the same person
            rows["one"]["backtrack_net"], rows["two"]["backtrack_net"] = 0.1 * number, 0.1 * number + 0.5
        results[pair.name] = PairResult(rows, {name: {} for name in rows}, dict.fromkeys(rows, features))
    found = summarise(results, PairList(tuple(pairs), "data", {}), real=RealFeatures(torch.randn(20, 5)),
                      extractor="net", t=T, baseline="one")  # fmt: skip
    assert set(found.paired["two"]) == {"tortuosity", "backtrack_net"}
    assert found.paired["two"]["backtrack_net"].difference == pytest.approx(0.5)
    assert found.paired["two"]["backtrack_net"].num_items == 7
