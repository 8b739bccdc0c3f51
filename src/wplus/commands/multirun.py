"""`-m` for any verb: runs a sweep over values in Hydra's grammar (choices, ranges, globs, intervals) in a folder."""

import hashlib
import itertools
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, cast

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob, IntervalSweep, Override, RangeSweep

from wplus.commands.overrides import readable
from wplus.commands.refusals import one_sentence
from wplus.commands.session import leaving_on_signals
from wplus.commands.sweep_run import SweepKeys, called, launched
from wplus.config import CONFIG_FOLDER
from wplus.errors import UserError
from wplus.sweeps.labels import short_keys
from wplus.sweeps.search import Search
from wplus.sweeps.spec import Spec, Stage

_MOST = 10_000  # limit on the values of a range: a mistyped one would exhaust the memory


def multirun(command: Callable[[Sequence[str]], Any], verb: str, arguments: Sequence[str], *, is_dry: bool) -> None:
    """Run every combination of what has several values, or search among them; exits with the sweep's status."""
    try:
        with leaving_on_signals():
            keys, overrides = SweepKeys.of(arguments)
            if keys.size != "full":
                raise UserError(f"size={keys.size} is only for named sweeps: wplus sweep run NAME size={keys.size}.")
            spec = spec_of(verb, overrides, keys)
            status = launched(spec, keys, lambda given: called(command, given[1:]), is_dry=is_dry)
    except UserError as error:
        raise SystemExit(str(error)) from None
    if status:
        raise SystemExit(status)


def spec_of(verb: str, arguments: Sequence[str], keys: SweepKeys) -> Spec:
    """Build the sweep described by a command line; its default name is made of the varying keys."""
    with one_sentence(verb, arguments):
        parsed = OverridesParser.create().parse_overrides(readable(arguments, is_sweep=True))
        several = {each.get_key_element(): each for each in parsed if each.is_sweep_override()}
    fixed = [str(each.input_line) for each in parsed if not each.is_sweep_override()]
    if isinstance(keys.objective, str) and "\nobjective:" in (CONFIG_FOLDER / f"{verb}.yaml").read_text():
        fixed.append(f"objective={keys.objective}")  # the command uses it as well
    trials = keys.search.get("trials")
    if trials is None:
        axes, search = {key: list(values(each)) for key, each in several.items()}, None
    else:
        space = {key: searched(each) for key, each in several.items() if key != "seed"}
        axes = {key: list(values(each)) for key, each in several.items() if key == "seed"}
        search = Search(**keys.search, space=space)
    varying = list(several)
    content = [verb, fixed, axes, None if search is None else search.space]
    return Spec(
        name=keys.sweep or _name(verb, varying, content),
        stages=[Stage(verb=verb, overrides=fixed, axes=axes)],
        question=keys.question,
        objective=keys.objective,
        search=search,
    )


def values(override: Override) -> Iterator[Any]:
    """The values of a choice, a range or a glob: numbers as numbers, all else as in the override."""
    key, found = override.get_key_element(), cast(Any, override.value())
    if isinstance(found, Glob):
        yield from found.filter(sorted(path.stem for path in (CONFIG_FOLDER / key).glob("*.yaml")))
        return
    if isinstance(found, IntervalSweep):
        raise UserError(f"{key}={override.get_value_string()} is a range to search in: give search.trials=N.")
    if isinstance(found, RangeSweep) and not _is_countable(found):
        raise UserError(
            f"{key}={override.get_value_string()} has more than {_MOST} values, the most that a sweep takes."
        )
    for text in override.sweep_string_iterator():
        plain = OverridesParser.create().parse_override(f"key={text}").value()
        is_plain = plain is None or isinstance(plain, int) or (isinstance(plain, float) and math.isfinite(plain))
        yield plain if is_plain else text


def _is_countable(found: RangeSweep) -> bool:
    return next(itertools.islice(found.range(), _MOST, None), None) is None


def searched(override: Override) -> Any:
    """The search space of an override: the values of choices, the bounds of ranges and intervals, and tag(log, ...)."""
    found: Any = override.value()
    if isinstance(found, IntervalSweep):
        kind: Callable[[Any], Any] = int if "int" in found.tags else float
        return {"low": kind(found.start), "high": kind(found.end), "log": "log" in found.tags}
    if isinstance(found, RangeSweep):
        numbers = list(found.range())
        return {"low": numbers[0], "high": numbers[-1], "step": found.step}
    return list(values(override))


def _name(verb: str, varying: Sequence[str], content: object) -> str:
    """`invert-space-perceptual-1f6b02`: repeating the command finds the same sweep."""
    words: Mapping[str, str] = short_keys(varying)
    short = "-".join([verb, *(re.sub(r"[^\w.]", "", words[key]) for key in varying)])[:60]
    return f"{short}-{hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:6]}"
