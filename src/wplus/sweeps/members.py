"""Any folders of runs as members of one table: what each was asked, what it found, what varies between them."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wplus.core.claim import question
from wplus.core.metric_result import MetricInfo
from wplus.errors import UserError
from wplus.sweeps.labels import SEED, Point, value_text
from wplus.sweeps.state import SWEEP, SweepFolder
from wplus.tracking.local import read_result
from wplus.tracking.run_folder import read_json, true_status


@dataclass(frozen=True)
class Member:
    """One run."""

    folder: Path
    status: str
    asked: Mapping[str, Any]
    """Dotted key -> value of its configuration, without bookkeeping."""
    values: Mapping[str, Mapping[str, Any]]
    """Name -> entry, as `MetricResult.entry()`."""
    seconds: float | None = None

    @property
    def seed(self) -> int:
        """0 where the command has none."""
        seed = self.asked.get(SEED, 0)
        return seed if isinstance(seed, int) else 0

    def numbers(self) -> dict[str, float]:
        """The values that are numbers; what was derived from settings is none."""
        return {name: float(entry["value"]) for name, entry in self.values.items()
                if isinstance(entry.get("value"), int | float) and not name.startswith("derived/")}  # fmt: skip

    def items(self, name: str) -> list[float]:
        """What was measured item by item (image by image) of a number; empty where it was not."""
        rows = read_json(self.folder / "table.json").get("rows", {})
        column = name.rpartition("/")[2]
        return [float(row[column]) for row in rows.values() if column in row]


def read_members(folders: Iterable[Path]) -> list[Member]:
    """Of runs, of sweeps, and of folders that hold runs, each once. UserError where there is none.

    A sweep's jobs that other jobs read (a training that is inverted) are not members: the last stage answers.
    """
    found: dict[Path, Member] = {}
    for folder in folders:
        for path in _runs(folder):
            member = read_member(path)
            if member is not None:
                found.setdefault(path.resolve(), member)
    if not found:
        raise UserError(f"There are no runs in {', '.join(map(str, folders))}: give folders of runs or of sweeps.")
    return list(found.values())


def read_member(folder: Path) -> Member | None:
    """None for a folder that no run has written to."""
    result = read_result(folder)
    if not result:
        return None
    asked = read_json(folder / "run.json").get("question") or question(result.get("config", {}))
    status = true_status(folder, result.get("status")) or "unknown"
    return Member(folder, status, asked, result.get("values", {}), result.get("seconds"))


def varying(members: Sequence[Member]) -> list[str]:
    """The keys that differ between members, the seed last; of a class and its options the choice alone is told."""
    keys = dict.fromkeys(key for member in members for key in member.asked)
    differ = [key for key in keys if len({value_text(member.asked.get(key)) for member in members}) > 1]
    roots = {key.rpartition(".")[0] for key in differ if key.endswith("_target_")}
    told = [key for key in differ if key.endswith("_target_") or not any(key.startswith(f"{root}.") for root in roots)]
    return sorted((key for key in told if not key.endswith("_partial_")), key=lambda key: key == SEED)


def group_of(member: Member, keys: Sequence[str]) -> str:
    """What tells a member from others but for its seed: "space=w+ inverter=Optimize"."""
    words = [f"{_short_key(key)}={_short_value(member.asked.get(key))}" for key in keys if key != SEED]
    return " ".join(words) or member.folder.name


def matches(member: Member, point: Point) -> bool:
    """Whether a member has these values; 1 is 1.0."""
    pairs = [(member.asked.get(key), value) for key, value in point.items()]
    return all(own == value or value_text(own) == value_text(value) for own, value in pairs)


def infos(members: Iterable[Member]) -> dict[str, MetricInfo]:
    """What the numbers mean, as the members say."""
    entries = itertools.chain.from_iterable(member.values.items() for member in members)
    return {name: MetricInfo(meaning=entry["meaning"], unit=entry.get("unit", ""),
                             direction=entry.get("direction", "neither"))
            for name, entry in entries if entry.get("meaning")}  # fmt: skip


def _runs(folder: Path) -> list[Path]:
    if (folder / SWEEP).is_file():
        sweep = SweepFolder(folder)
        last = sweep.spec.stages[-1].name
        return [Path(state.run_dir) for state in sweep.states().values()
                if state.run_dir and state.id.startswith(f"{last}-")]  # fmt: skip
    if (folder / "result.json").is_file():
        return [folder]
    return sorted(path.parent for path in folder.glob("**/result.json"))


def _short_key(key: str) -> str:
    return key.removesuffix("._target_").rpartition(".")[2]


def _short_value(value: Any) -> str:
    text = value_text(value)
    return text.rpartition(".")[2] if text.startswith("wplus.") else text
