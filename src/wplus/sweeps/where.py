"""Conditions on the rows of a table: `space=w+` on settings, `psnr_db>20` on metrics."""

import operator
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from wplus.errors import UserError
from wplus.sweeps.labels import value_text
from wplus.sweeps.members import Member, short_key, short_value

COMMAND = "command"
_CONDITION = re.compile(r"\s*([\w./+@-]+?)\s*(<=|>=|!=|=|<|>)\s*(.*?)\s*")
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@dataclass(frozen=True)
class Condition:
    """A condition; `key` is a dotted key of the configuration, the command, or the full name of a metric."""

    key: str
    sign: str
    value: str
    is_number: bool
    """Whether it is about a metric rather than a setting."""

    def of(self, member: Member) -> Any:
        """A member's setting for this key; None if it has none."""
        return member.command if self.key == COMMAND else member.asked.get(self.key)

    def holds(self, value: Any) -> bool:
        """Whether the condition holds for a value; words can only be compared for equality."""
        numbers = [_as_number(each) for each in (value, self.value)]
        if None not in numbers:
            return _OPERATORS[self.sign](*numbers)
        if self.sign not in ("=", "!="):
            return False
        return (self.value in (value_text(value), short_value(value))) == (self.sign == "=")


def read_conditions(texts: Iterable[str], members: Sequence[Member]) -> list[Condition]:
    """Parse conditions; UserError for invalid ones, for unknown keys, and for ambiguous short keys."""
    keys = dict.fromkeys(key for member in members for key in member.asked)
    numbers = dict.fromkeys(name for member in members for name in member.numbers())
    return [_condition(text, keys, numbers) for text in texts]


def having(members: Sequence[Member], conditions: Iterable[Condition]) -> list[Member]:
    """The members whose settings fulfil the conditions; UserError if there are none. Missing keys are null."""
    wanted = [each for each in conditions if not each.is_number]
    left = [member for member in members if all(each.holds(each.of(member)) for each in wanted)]
    if not left:
        text = " and ".join(f"{each.key}{each.sign}{each.value}" for each in wanted)
        raise UserError(f"None of the {len(members)} runs has {text}.")
    return left


def full_name(text: str, known: Collection[str], *, separator: str, what: str) -> str:
    """The name in `known` that equals `text` or ends with it, such as psnr_db; UserError unless there is just one."""
    found = [name for name in known if name == text] or [name for name in known if name.endswith(separator + text)]
    if len(found) != 1:
        which = f"it fits {' and '.join(found)}" if found else f"there are {', '.join(known) or 'none'}"
        raise UserError(f"{what} '{text}' must fit one: {which}.")
    return found[0]


def _condition(text: str, keys: Collection[str], numbers: Collection[str]) -> Condition:
    found = _CONDITION.fullmatch(text)
    if found is None:
        raise UserError(f"--where must be KEY=VALUE, or !=, <, <=, >, >= instead of =, got '{text}'.")
    key, sign, value = found.groups()
    is_number = any(name == key or name.endswith(f"/{key}") for name in numbers)
    if is_number:
        return Condition(full_name(key, numbers, separator="/", what="The number"), sign, value, is_number)
    if key != COMMAND and key not in keys:
        short = [each for each in keys if short_key(each) == key]
        if len(short) != 1:
            which = f"it fits {' and '.join(short)}" if short else "no run has it, as a setting or as a number"
            raise UserError(f"--where {text}: '{key}' must be one key: {which}.")
        key = short[0]
    return Condition(key, sign, value, is_number)


def _as_number(value: Any) -> float | None:
    try:
        return None if isinstance(value, bool) or value is None else float(value)
    except (TypeError, ValueError):
        return None
