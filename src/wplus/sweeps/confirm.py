"""Is the winner of a sweep as good on seeds that did not choose it?

The best of many is the best partly by luck: its mean on the seeds that chose it is too good. The best K are run again,
with the baseline, on fresh seeds, and what those say counts.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

from wplus.core.markdown import heading, mean_cell
from wplus.core.seed_stats import MIN_SEEDS
from wplus.errors import UserError, check_number
from wplus.sweeps.labels import SEED
from wplus.sweeps.sections import FORM, Section
from wplus.sweeps.spec import Job, Spec
from wplus.sweeps.table import SweepTable


def chosen(table: SweepTable, num: int) -> list[str]:
    """The best `num` configurations as the table is sorted, and the baseline. UserError where there is no order."""
    check_number("confirm", num, lowest=1, whole=True)
    if table.sort is None:
        raise UserError("--confirm needs a number to choose by: --sort NUMBER, or an objective in the sweep.")
    if table.sort not in table.info or table.info[table.sort].direction == "neither":
        raise UserError(f"--confirm needs a number that judges, and {table.sort} says of no value that it is better.")
    best = [group for group in table.groups if table.sort in table.comparison.means[group]][:num]
    base = table.baseline
    return list(dict.fromkeys([*best, *([base] if base is not None and base in table.groups else [])]))


def fresh_seeds(table: SweepTable) -> list[int]:
    """As many as a configuration has, at least five, none of which any run has used."""
    used = [seed for seeds in table.members.values() for seed in seeds]
    num = max(MIN_SEEDS, *(len(seeds) for seeds in table.members.values()))
    return list(range(max(used) + 1, max(used) + 1 + num))


def confirming(spec: Spec, jobs: Sequence[Job], table: SweepTable, group: str, seeds: Sequence[int]) -> Spec:
    """The sweep over these seeds of one configuration of a sweep with these jobs, and the earlier stages it needs."""
    job = next(iter(table.members[group].values())).job
    if job is None:
        raise UserError("--confirm needs the folder of a sweep: how other runs were started is not known.")
    way = _with_ancestors(job, {each.id: each for each in jobs})
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


def _with_ancestors(job: Job, jobs: Mapping[str, Job]) -> dict[str, Job]:
    """Stage -> the job of it that this one comes from, the first stage first."""
    found: dict[str, Job] = {}
    for parent in job.parents.values():
        found |= _with_ancestors(jobs[parent], jobs)
    return found | {job.stage.name: job}


def _without_seed(job: Job) -> dict[str, object]:
    return {key: value for key, value in job.own.items() if key != SEED}


def confirmation(table: SweepTable, fresh: SweepTable) -> Section:
    """What the seeds that chose say, and what the fresh ones do."""
    number = str(table.sort)
    title = f"{heading(number, table.info.get(number))}: on the seeds that chose (optimistic), and on fresh ones"
    rows = [["configuration", f"seeds {_span(table)}, optimistic", f"fresh seeds {_span(fresh)}", "change"]]
    for group in fresh.groups:
        before, after = (each.comparison.means[group][number] for each in (table, fresh))
        rows.append([group, mean_cell(before, FORM), mean_cell(after, FORM), f"{after.value - before.value:+.3g}"])
    return Section(title, rows)


def _span(table: SweepTable) -> str:
    seeds = sorted({seed for each in table.members.values() for seed in each})
    return f"{seeds[0]} to {seeds[-1]}" if len(seeds) > 1 else str(seeds[0])
