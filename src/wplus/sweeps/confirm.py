"""Confirm the winners of a sweep on fresh seeds.

The best of many configurations is the best partly by luck, so its mean on the seeds used for selection is optimistic.
The best K and the baseline are run again on fresh seeds, which give the unbiased result.
"""

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from wplus.core.markdown import heading, mean_cell
from wplus.core.seed_stats import MIN_SEEDS
from wplus.errors import UserError, check_number
from wplus.sweeps.labels import SEED
from wplus.sweeps.members import Member, matches, members_in
from wplus.sweeps.sections import FORM, Section, findings, notes
from wplus.sweeps.spec import Job, Spec, ancestors
from wplus.sweeps.state import SWEEP
from wplus.sweeps.table import SweepTable, sweep_table

FOLDER = "confirm"  # in a sweep's folder: a sweep for each configuration to confirm


def chosen(table: SweepTable, num: int) -> list[str]:
    """The best `num` configurations in the table's order, and the baseline. UserError if the table has no order."""
    check_number("confirm", num, lowest=1, whole=True)
    if table.sort is None:
        raise UserError("--confirm needs a number to choose by: --sort NUMBER, or an objective in the sweep.")
    if table.sort not in table.info or table.info[table.sort].direction == "neither":
        raise UserError(f"--confirm needs a number with a direction, and {table.sort} has no better or worse.")
    if table.across:
        raise UserError("--confirm chooses among the configurations of one data set: leave --across out, and say which "
                        f"with --where {table.across[0]}=...")  # fmt: skip
    best = [group for group in table.groups if table.sort in table.comparison.means[group]][:num]
    base = table.baseline
    return list(dict.fromkeys([*best, *([base] if base is not None and base in table.groups else [])]))


def fresh_seeds(table: SweepTable) -> list[int]:
    """Seeds that no run has used, as many as a configuration has, but at least five."""
    used = [seed for seeds in table.members.values() for seed in seeds]
    num = max(MIN_SEEDS, *(len(seeds) for seeds in table.members.values()))
    return list(range(max(used) + 1, max(used) + 1 + num))


def confirming(spec: Spec, jobs: Sequence[Job], table: SweepTable, group: str, seeds: Sequence[int]) -> Spec:
    """A sweep over `seeds` for one configuration of a sweep with these `jobs`, with the earlier stages it needs."""
    job = next(iter(table.members[group].values())).job
    if job is None:
        raise UserError("--confirm needs the folder of a sweep: how other runs were started is not known.")
    known = {each.id: each for each in jobs}
    way = {known[each].stage.name: known[each] for each in [*ancestors(job, known), job.id]}
    seeded = [name for name, each in way.items() if SEED in each.own] or [next(iter(way))]
    stages = [
        replace(way[stage.name].stage, axes={}, points=[_without_seed(way[stage.name])],
                seeds=list(seeds) if stage.name in seeded else None)
        for stage in spec.stages if stage.name in way
    ]  # fmt: skip
    name = re.sub(r"[^\w.+-]+", "_", group)
    return replace(
        spec, name=name, question=f"Confirmation of '{group}': {spec.question}", stages=stages, baseline={}, search=None
    )


def _without_seed(job: Job) -> dict[str, object]:
    return {key: value for key, value in job.own.items() if key != SEED}


def confirmed(folder: Path, table: SweepTable) -> tuple[list[Section], list[str]]:
    """Results of the runs on fresh seeds below the sweep's `folder`, and notes; empty if none has finished."""
    if table.sort is None or table.across:
        return [], []
    used = {seed for seeds in table.members.values() for seed in seeds}
    paths = sorted(path.parent for path in (folder / FOLDER).glob(f"*/{SWEEP}"))
    members = [each for each in members_in(paths)
               if each.status == "finished" and each.seed not in used and table.sort in each.numbers()]  # fmt: skip
    if not members:
        return [], []
    others = {member.folder for member in members if not _is(member, table, table.baseline)}
    baseline = table.settings[table.baseline] if table.baseline and 0 < len(others) < len(members) else None
    margins = table.comparison.margins
    fresh = sweep_table(members, baseline=baseline, margin=margins, tested=[table.sort], keys=table.keys)
    found = [
        replace(each, title=f"On fresh seeds: {each.title[0].lower()}{each.title[1:]}")
        for each in findings(fresh, [table.sort])
    ]
    return [*found, confirmation(table, fresh)], notes(fresh, [table.sort])


def _is(member: Member, table: SweepTable, group: str | None) -> bool:
    """Whether a run belongs to this configuration of another table, where names may be shorter."""
    return group is not None and matches(member, table.settings[group])


def confirmation(table: SweepTable, fresh: SweepTable) -> Section:
    """Compare the results on the seeds used for selection and on fresh ones."""
    number = str(table.sort)
    title = f"{heading(number, table.info.get(number))}: on the seeds that chose (optimistic), and on fresh ones"
    rows = [["configuration", f"seeds {_span(table)}, optimistic", f"fresh seeds {_span(fresh)}", "change"]]
    for group, seeds in fresh.members.items():
        own = next((each for each in table.comparison.means if _is(next(iter(seeds.values())), table, each)), None)
        if own is not None and number in table.comparison.means[own]:
            before, after = table.comparison.means[own][number], fresh.comparison.means[group][number]
            change = f"{after.value - before.value:+.3g}"
            rows.append([own, mean_cell(before, FORM), mean_cell(after, FORM), change])
    return Section(title, rows)


def _span(table: SweepTable) -> str:
    seeds = sorted({seed for each in table.members.values() for seed in each})
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])
