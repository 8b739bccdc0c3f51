"""One-line messages for Hydra's errors: what was given and what is allowed."""

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
import yaml
from hydra.errors import CompactHydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig

from wplus.commands.overrides import RENAMED, as_text, typed
from wplus.config import CONFIG_FOLDER, GIVEN, parsed
from wplus.errors import UserError
from wplus.signatures import complete

# Hydra's message for GROUP=null, and the error that GROUP=[1] causes inside Hydra.
_NO_OPTION = re.compile(r"(?s)Config group override must be a string.*Got (\w+)|argument of type '(\w+)' is not ")


@contextmanager
def one_sentence(name: str, overrides: Sequence[str]) -> Iterator[None]:
    """Turn Hydra's errors in the block into UserErrors; an interruption that Hydra mistook for an error stays one.

    With HYDRA_FULL_ERROR in the environment, errors are unchanged.
    """
    if "HYDRA_FULL_ERROR" in os.environ:
        yield
        return
    try:
        yield
    except CompactHydraException as error:
        _pass_interruption_on(error)
        raise UserError(sentence(error, name, overrides)) from None
    except (ValueError, TypeError) as error:
        given = _NO_OPTION.match(str(error))
        if given is None:
            raise
        kind = given[1] or given[2]
        what = "null" if kind == "NoneType" else f"a number ({kind})"
        raise UserError(f"A choice must be one of the options that --help lists, got {what}.") from None


def _pass_interruption_on(error: BaseException | None) -> None:
    """Re-raise the Ctrl-C or signal behind an error: while composing, Hydra wraps interrupts as errors."""
    while error is not None:
        error = error.__cause__ or error.__context__
        if isinstance(error, KeyboardInterrupt):
            raise error


def sentence(error: CompactHydraException, name: str, overrides: Sequence[str] = ()) -> str:
    """Summarize Hydra's message in one line: what was given and what is allowed."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _unknown_option(error.missing_cfg_file)
    key = re.search(r"Could not override '([^']+)'", str(error))
    if key is not None:
        return _unknown_key(key[1], name, overrides, getattr(error.__cause__, "parent_node", None))
    ambiguous = re.search(r"Ambiguous value for argument '([^']*)'", str(error))
    if ambiguous is not None:
        name, _, value = ambiguous[1].partition("=")
        return (
            f"'{ambiguous[1]}' has several values: write {name}=[{value}] for a list, \"{name}='{value}'\" for a name "
            "with a comma, or add -m to run each of them."
        )
    if isinstance(error, OverrideParseException):
        return _ungrammatical(error.override)
    several = re.search(r"Sweep parameters '([^']+)' requires --multirun", str(error))
    if several is not None:
        return f"'{several[1]}' has several values: add -m to run each of them."
    open_reference = re.fullmatch(r"Error merging override ([^=]+)='(.*\$\{.*)'\.?", str(error))
    if open_reference is not None:
        return _open_reference(*open_reference.groups())
    lines = (line.strip(" \t.:") for line in str(error).split("Config search path")[0].splitlines())
    return "; ".join(line for line in lines if line and not line.startswith("See https://hydra.cc")) + "."


def _ungrammatical(override: str) -> str:
    """The message for a list or mapping that is not closed, or has empty items."""
    key, _, value = override.partition("=")
    items = [item for item in re.split(r"[\s,]*,[\s,]*", value.strip("[]{} ,")) if item]
    listed = ",".join(item if parsed(f"key={item}") is not None else as_text(item) for item in items)
    return (
        f"'{override}' cannot be read: write {typed(f'{key}=[{listed}]')} for a list, or "
        f"{typed(f'{key}={as_text(value)}')} for a text."
    )


def _open_reference(key: str, value: str) -> str:
    return (
        f"'{key}={value}' refers to another key and does not name it: write {key}=${{seed}} for the value of seed, or "
        f"{typed(f'{key}={as_text(value, is_name=True)}')} for the text."
    )


def _unknown_option(file: str) -> str:
    group, slash, option = file.partition("/")
    folder, name = (CONFIG_FOLDER / group, group) if slash else (CONFIG_FOLDER, "--config-name")
    options = sorted(path.stem for path in folder.glob("*.yaml"))
    kind = "zip" if option.lower().endswith(".zip") else "folder"
    is_place = group == "data" and re.search(r"[./~]", option)
    cure = f"; images of your own are {typed(f'data={kind}')} {typed(f'data.path={option}')}" if is_place else ""
    return f"{name} must be one of {', '.join(options)}, got '{option or file}'{cure}."


def _unknown_key(key: str, name: str, overrides: Sequence[str], parent: DictConfig | None) -> str:
    given = next((item for item in overrides if item.lstrip("+").startswith(f"{key}=")), f"{key}=")
    root = parent._get_root() if parent is not None else _defaults(name)
    new = renamed(key, root)
    if new is not None:
        return f"'{given}' is now '{new}={given.partition('=')[2]}'."
    meant = suggestions(key, list(dotted_keys(root)))
    beside = parent if parent is not None and "." in key else root
    known = sorted(str(name) for name in beside if str(name) != "hydra" and not str(name).startswith("_"))
    takers = " or ".join(_takers(key))
    question = f"; did you mean {' or '.join(meant)}?" if meant else f"; it goes with {takers}." if takers else "."
    there = "there " if "." in key else ""
    listed = f"Known {there}are {', '.join(known)}." if known else f"Nothing can be given {there.strip()}."
    return f"There is no key '{key}'{question} {listed}"


def _takers(key: str) -> list[str]:
    """The choices of a group that have an option of this name, such as data.path."""
    group, _, option = key.partition(".")
    found = {}
    for path in sorted((CONFIG_FOLDER / group).glob("*.yaml")) if option else ():
        found[path.stem] = complete(yaml.safe_load(path.read_text()), GIVEN.get(group, ()))
    return [f"{group}={name}" for name, content in found.items() if isinstance(content, dict) and option in content]


def renamed(key: str, config: object) -> str | None:
    """The new name of a key that `config` lacks, wherever the old name occurs in the key."""
    parts, known = key.split("."), set(dotted_keys(config))
    for start in range(len(parts)):
        for end in range(len(parts), start, -1):
            new = RENAMED.get(".".join(parts[start:end]))
            if new is not None and ".".join(parts[:end]) not in known:
                return ".".join([*parts[:start], new, *parts[end:]])
    return None


def suggestions(key: str, known: Sequence[str]) -> list[str]:
    """At most three known keys that may have been meant by `key`, the most likely first."""
    last = {name: name.rpartition(".")[2] for name in known}
    wanted = key.rpartition(".")[2].lower()
    same = [name for name in known if last[name].lower() == wanted]
    part = [name for name in known if wanted in last[name].split("_")]
    alike = difflib.get_close_matches(wanted, set(last.values()), cutoff=0.75)
    close = [name for word in alike for name in known if last[name] == word]
    begun = [name for name in known if len(wanted) > 2 and last[name].startswith(wanted)]
    return list(dict.fromkeys([*same, *part, *close, *begun]))[: 1 if len(same) == 1 else 3]


def dotted_keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every key of a config, as written on the command line."""
    for key in (
        map(str, node) if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing() else ()
    ):
        if key != "hydra" and not key.startswith("_"):
            yield f"{prefix}{key}"
            yield from dotted_keys(node._get_node(key), f"{prefix}{key}.")


def _defaults(name: str) -> DictConfig:
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return hydra.compose(name)
