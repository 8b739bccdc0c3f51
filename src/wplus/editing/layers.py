"""Which layers of ws an edit touches: all, a third of them, or a list."""

from __future__ import annotations

from collections.abc import Sequence

from wplus.errors import UserError

THIRDS = ("coarse", "middle", "fine")


def chosen_layers(layers: str | Sequence[int], num_ws: int) -> tuple[int, ...]:
    """The numbers of the chosen layers among 0 to num_ws - 1, ascending.

    `layers` is "all", one of "coarse", "middle", "fine" (thirds of the layers, the coarser ones larger where it does
    not come out even: pose and shape, then features, then colours), or the numbers themselves.
    """
    if layers == "all":
        return tuple(range(num_ws))
    if isinstance(layers, str):
        return _third(layers, num_ws)
    wrong = [layer for layer in layers if not 0 <= layer < num_ws]
    if wrong or not layers:
        named = wrong[0] if wrong else "none"
        raise UserError(f"Layer {named} does not exist: this generator has the layers 0 to {num_ws - 1}; name some.")
    return tuple(sorted(set(layers)))


def _third(name: str, num_ws: int) -> tuple[int, ...]:
    if name not in THIRDS:
        raise UserError(f"layers={name} is not known; allowed are all, {', '.join(THIRDS)} and a list of numbers.")
    ends = [-(-num_ws * part // 3) for part in range(4)]  # rounded up: a remainder goes to the coarser thirds
    first = THIRDS.index(name)
    return tuple(range(ends[first], ends[first + 1]))
