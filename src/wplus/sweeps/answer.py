"""The table that answers a sweep's question, with its objective, baseline, margin and data sets, or those requested."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from wplus.errors import UserError
from wplus.sweeps.groups import NoBaseline, sets_among
from wplus.sweeps.members import Member, varying
from wplus.sweeps.spec import Spec
from wplus.sweeps.table import SweepTable, sweep_table
from wplus.sweeps.where import Condition, full_name

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Settings of a table of runs. By default they are taken from the runs' sweep.

    Args:
        numbers: metrics to test; if empty, the objectives.
        sort: metric to sort by.
        baseline: the configuration to compare with, by its name or its values.
        margin: differences up to it count as equivalent: "[NUMBER=]VALUE", by default for the objective.
        across: keys that distinguish data sets.
    """

    numbers: Sequence[str] = ()
    sort: str | None = None
    baseline: str | None = None
    margin: Sequence[str] = ()
    across: Sequence[str] = ()


def answering_table(
    members: Sequence[Member], specs: Sequence[Spec], asked: Asked | None = None, conditions: Sequence[Condition] = ()
) -> SweepTable:
    """The configurations, best first. UserError for an unknown metric, baseline or key."""
    asked = asked or Asked()
    known = list(dict.fromkeys(name for member in members for name in member.numbers()))
    numbers = [number_named(text, known) for text in asked.numbers]
    objectives = list(dict.fromkeys(name for spec in specs for name in spec.objectives if name in known))
    sort = number_named(asked.sort, known) if asked.sort else _first(objectives)
    own = _first(spec.baseline for spec in specs if spec.baseline)
    done = [member for member in members if member.status == "finished"]
    across = asked.across or sets_among(varying(done), [key for spec in specs for key in spec.across])
    margin = _margins(asked.margin, known, sort) if asked.margin else _margins_of(specs, known)
    tested = numbers or ([sort] if asked.sort and sort else objectives) or None
    try:
        table = sweep_table(members, baseline=asked.baseline or own, margin=margin, tested=tested, across=across)
    except NoBaseline as error:
        if asked.baseline:
            raise
        table = sweep_table(members, margin=margin, tested=tested, across=across)
        # E.g. for a part of the sweep, or for one of several data sets.
        table = replace(table, notes=[*table.notes, str(error)])
    table = replace(table.only(conditions), objectives=objectives)
    return table if sort is None else table.sorted_by(sort)


def number_named(text: str, known: Sequence[str]) -> str:
    """Resolve the full name of a metric."""
    return full_name(text, known, separator="/", what="The number")


def _first(found: Iterable[T]) -> T | None:
    return next(iter(found), None)


def _margins(texts: Sequence[str], known: Sequence[str], objective: str | None) -> dict[str, float]:
    """Number -> margin."""
    found = {}
    for text in texts:
        name, _, value = text.rpartition("=")
        try:
            margin = float(value)
        except ValueError:
            raise UserError(f"--margin must be VALUE or NUMBER=VALUE, got '{text}'.") from None
        if not name and objective is None:
            raise UserError(f"--margin {text} must name its number, as NUMBER={value}: there is no objective.")
        found[number_named(name, known) if name else str(objective)] = margin
    return found


def _margins_of(specs: Sequence[Spec], known: Sequence[str]) -> dict[str, float]:
    """The margins of sweeps whose metrics the runs have; runs of earlier stages lack some."""
    found: dict[str, float] = {}
    for spec in specs:
        own = {} if spec.margin is None else spec.margin
        named = own if isinstance(own, Mapping) else dict.fromkeys(spec.objectives, own)
        found |= {name: margin for name, margin in named.items() if name in known}
    return found
