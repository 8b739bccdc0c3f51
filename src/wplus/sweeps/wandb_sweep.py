"""Exports a sweep to Weights & Biases, whose agents run jobs one after the other on any machine."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from wplus.core.metric_result import Direction
from wplus.errors import UserError, check_choice
from wplus.sweeps.labels import SEED
from wplus.sweeps.search import Search
from wplus.sweeps.spec import Spec

METHODS = ("grid", "random", "bayes")
GOALS = {"lower": "minimize", "higher": "maximize"}
_SAMPLERS = {"random": "random"}  # all other samplers become Bayesian search


def wandb_sweep(
    spec: Spec, *, direction: Direction, project: str, entity: str | None, method: str | None = None
) -> dict[str, Any]:
    """The input of `wandb sweep`. UserError for what W&B does not support: several stages, non-grid combinations.

    The agent's `${args}` are --KEY=VALUE, which every command accepts. The group is that of `wplus sweep run`, so both
    kinds of runs are shown together. `method` None: a grid, or the sweep's search.
    """
    search = spec.search
    method = method or ("grid" if search is None else _SAMPLERS.get(search.sampler, "bayes"))
    check_choice("method", method, METHODS)
    if len(spec.objectives) > 1:
        raise UserError(f"A sweep of W&B's has one objective, and '{spec.name}' has {', '.join(spec.objectives)}.")
    if len(spec.stages) > 1:
        raise UserError(
            f"A sweep of W&B's runs one command and '{spec.name}' has {len(spec.stages)} stages, "
            f"{', '.join(stage.name for stage in spec.stages)}: use wplus sweep run, which logs to W&B as well."
        )
    (stage,) = spec.stages
    if any(stage.points):
        raise UserError(
            f"A sweep of W&B's takes axes alone and '{spec.name}' has points: use wplus sweep run, which logs to W&B "
            "as well, or a sweep for each point."
        )
    command = ["${env}", "${program}", stage.verb, f"group={spec.name}", *stage.overrides, "${args}"]
    objective = next(iter(spec.objectives), None)
    metric = {} if objective is None else {"metric": {"name": objective, "goal": GOALS[direction]}}
    fixed = {key: _parameter(values) for key, values in axes_of(spec).items()}
    searched = {} if search is None else {key: _searched(values) for key, values in search.space.items()}
    return {
        "name": spec.name, **({"description": spec.question} if spec.question else {}), "project": project,
        **({"entity": entity} if entity else {}), "program": "wplus", "method": method, **metric,
        **_ending(search), "parameters": {**searched, **fixed}, "command": command,
    }  # fmt: skip


def _ending(search: Search | None) -> dict[str, Any]:
    """Run cap and early termination of a search; W&B has a single method, which counts values of the objective."""
    if search is None:
        return {}
    early = {} if search.pruner == "none" else {"early_terminate": {"type": "hyperband", "min_iter": 3}}
    return {"run_cap": search.trials, **early}


def _searched(values: Any) -> dict[str, Any]:
    """A list of values, or the bounds of a range, as a W&B distribution."""
    if not isinstance(values, Mapping):
        return _parameter(values)
    bounds = {"min": values["low"], "max": values["high"]}
    is_whole = all(isinstance(value, int) for value in bounds.values())
    if values.get("log"):
        return {"distribution": "q_log_uniform_values" if is_whole else "log_uniform_values", **bounds}
    if (step := values.get("step")) is not None:
        return {"distribution": "q_uniform", "q": step, **bounds}
    return {"distribution": "int_uniform" if is_whole else "uniform", **bounds}


def axes_of(spec: Spec) -> dict[str, Sequence[Any]]:
    """Key -> all its values in the last stage, in order; the seed last."""
    found: dict[str, list[Any]] = {}
    for point in spec.stages[-1].variations():
        for key, value in point.items():
            if value not in found.setdefault(key, []):
                found[key].append(value)
    return dict(sorted(found.items(), key=lambda item: item[0] == SEED))


def swept_of(spec: Spec) -> dict[str, Sequence[Any]]:
    """Like `axes_of`, with the bounds of searched keys."""
    space = {} if spec.search is None else spec.search.space
    searched = {key: [values["low"], values["high"]] if isinstance(values, Mapping) else list(values)
                for key, values in space.items()}  # fmt: skip
    return {**searched, **axes_of(spec)}


def as_yaml(content: Mapping[str, Any], file: str) -> str:
    """Format as YAML, with instructions as a comment on top."""
    where = "/".join(filter(None, [content.get("entity"), content["project"]]))
    return (
        f"# wandb sweep {file}        prints the sweep's ID\n"
        f"# wandb agent {where}/ID    on every machine, once per concurrent job\n"
        f"{yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)}"
    )


def _parameter(values: Sequence[Any]) -> dict[str, Any]:
    return {"value": values[0]} if len(values) == 1 else {"values": list(values)}
