"""Turn a method's arguments into its command's configuration: same keys, choices, defaults and error messages."""

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
_turn = threading.Lock()  # Hydra's state is global


def configuration(
    verb: str, given: Mapping[str, object], options: Mapping[str, object], *, section: str | None = None
) -> dict[str, Any]:
    """Compose the configuration of `wplus VERB` with these keys; raises the command's UserError for invalid ones.

    Values are plain Python values; a mapping sets keys of a section, e.g. `metrics={"fd": {"num_generated": 1000}}`.
    `options` that are not keys of the command belong to `section`. Options that have an argument of their own, or only
    affect the record of a run, are refused.
    """
    known = _keys(verb)
    for key in options:
        if key in given or key.partition(".")[0] in _of_a_run():
            raise UserError(
                f"'{key}' is not an option here: {_INSTEAD.get(key, 'the arguments of the method set it')}."
            )
    own = {
        key if section is None or key.rpartition("@")[2].partition(".")[0] in known else f"{section}.{key}": value
        for key, value in options.items()
    }
    overrides = [override for key, value in {**given, **own}.items() for override in _overrides(key, value)]
    with _turn, choices_kept():
        return shaped(checked(_composer().config(verb, overrides)), verb)


@functools.cache
def _keys(verb: str) -> frozenset[str]:
    """The keys and choices of a command; sections are given by their first part."""
    files = [CONFIG_FOLDER / f"{name}.yaml" for name in (verb, "common")]
    found = [entry.key for file in files for entry in (*entries(file), *choices(file))]
    return frozenset(key.partition(".")[0] for key in found)


@functools.cache
def _of_a_run() -> frozenset[str]:
    """Keys that control where a command runs and what it records."""
    return frozenset({entry.key for entry in entries(CONFIG_FOLDER / "common.yaml")} | {"tracking"}) - {"seed"}


def _overrides(key: str, value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _overrides(f"{key}.{name}", item)
    else:
        yield f"{key}={_text(value)}"


def _text(value: object) -> str:
    """Format a value in Hydra's grammar."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, int | float):
        return repr(value)
    text = str(value)
    return text if _WORD.fullmatch(text) else as_text(text, is_name=True)
