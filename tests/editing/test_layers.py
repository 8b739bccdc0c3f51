from __future__ import annotations

import pytest

from wplus.editing.layers import chosen_layers
from wplus.errors import UserError


@pytest.mark.parametrize("num_ws", range(4, 19))
def test_thirds_share_the_layers(num_ws: int) -> None:
    thirds = [chosen_layers(name, num_ws) for name in ("coarse", "middle", "fine")]
    assert sum(thirds, ()) == tuple(range(num_ws)) == chosen_layers("all", num_ws)
    assert max(map(len, thirds)) - min(map(len, thirds)) <= 1
    assert len(thirds[0]) >= len(thirds[2])


def test_a_list_is_sorted_and_unique() -> None:
    assert chosen_layers([3, 0, 3], 8) == (0, 3)


@pytest.mark.parametrize(
    ("layers", "word"),
    [("low", "layers=low is not known"), ([8], "Layer 8 does not exist"), ([-1], "Layer -1"), ([], "Layer none")],
)
def test_what_is_not_there_is_refused(layers: object, word: str) -> None:
    with pytest.raises(UserError, match=word):
        chosen_layers(layers, 8)
