"""Arguments of a method as the configuration of its command: the same keys, choices, defaults and refusals."""

import functools
import re
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from wplus.commands.compose import Composer, choices_kept
from wplus.commands.help import choices, entries
from wplus.commands.overrides import as_text
from wplus.commands.shapes import shaped
from wplus.config import CONFIG_FOLDER, checked
from wplus.errors import UserError

_WORD = re.compile(r"(?!(true|false|null|nan|inf|yes|no|on|off)$)[A-Za-z_]\w*", re.IGNORECASE)
_INSTEAD = {
    "device": "move the model, as in model.to('cuda')",
    "inverter": "the argument method chooses it",
    **dict.fromkeys(("tracking", "run_dir", "name", "group", "tags"), "nothing is recorded; output_dir keeps files"),
}
_composer = functools.cache(Composer)
_turn = threading.Lock()  # Hydra has one global state


def configuration(
    verb: str, given: Mapping[str, object], options: Mapping[str, object], *, section: str | None = None
) -> dict[str, Any]:
    """The configuration that `wplus VERB` has with these keys; UserError, as the command's, for what it refuses.

    Values are plain ones of Python; a mapping gives keys of a section, as `metrics={"fd": {"num_generated": 1000}}`.
    Of the `options` those that are no key of the command belong to `section`. What has an argument of its own, or
    no effect without the record of a run, is refused among them.
    """
    known = _keys(verb)
    for key in options:
        if key in given or key.partition(".")[0] in _of_a_run():
            raise UserError(f"'{key}' is no option here: {_INSTEAD.get(key, 'the arguments of the method say it')}.")
    own = {
        key if section is None or key.rpartition("@")[2].partition(".")[0] in known else f"{section}.{key}": value
        for key, value in options.items()
    }
    overrides = [override for key, value in {**given, **own}.items() for override in _overrides(key, value)]
    with _turn, choices_kept():
        return shaped(checked(_composer().config(verb, overrides)), verb)


@functools.cache
def _keys(verb: str) -> frozenset[str]:
    """The keys and choices of a command, sections by their first part."""
    files = [CONFIG_FOLDER / f"{name}.yaml" for name in (verb, "common")]
    found = [entry.key for file in files for entry in (*entries(file), *choices(file))]
    return frozenset(key.partition(".")[0] for key in found)


@functools.cache
def _of_a_run() -> frozenset[str]:
    """Keys that say where a command runs and records."""
    return frozenset({entry.key for entry in entries(CONFIG_FOLDER / "common.yaml")} | {"tracking"}) - {"seed"}


def _overrides(key: str, value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _overrides(f"{key}.{name}", item)
    else:
        yield f"{key}={_text(value)}"


def _text(value: object) -> str:
    """As Hydra's grammar has it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    return text if _WORD.fullmatch(text) else as_text(text, is_name=True)
