"""The list of pairs in the repository is what `wplus draw_pairs` says of it."""

from __future__ import annotations

import json
from types import SimpleNamespace

from wplus.evaluation.interpolation.pairs import STRATA, read_pairs


def test_the_list_of_the_cats(repository):
    path = repository / "experiments" / "pairs" / "cats32_held_out.json"
    content = json.loads(path.read_text())
    names = [name for pair in content["pairs"] for name in (pair["a"], pair["b"])]
    found = read_pairs(path, SimpleNamespace(fingerprint=content["data"], names=names))
    assert [sum(pair.stratum == stratum for pair in found.pairs) for stratum in STRATA] == [67, 67, 66]
    assert found.protocol["px"] == 32
    assert found.protocol["distance"] == "effnet_lite0"
