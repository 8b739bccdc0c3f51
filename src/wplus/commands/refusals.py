"""Words for what Hydra refuses: what was given and what is allowed, in one line."""

import difflib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import hydra
from hydra.errors import CompactHydraException, MissingConfigException
from omegaconf import DictConfig

from wplus.config import CONFIG_FOLDER, RENAMED
from wplus.errors import UserError


@contextmanager
def one_sentence(name: str, overrides: Sequence[str]) -> Iterator[None]:
    """What Hydra refuses in the block becomes a UserError; an interruption that it took for a mistake stays one.

    With HYDRA_FULL_ERROR in the environment nothing is changed.
    """
    if "HYDRA_FULL_ERROR" in os.environ:
        yield
        return
    try:
        yield
    except CompactHydraException as error:
        _pass_interruption_on(error)
        raise UserError(sentence(error, name, overrides)) from None
    except ValueError as error:
        if not str(error).startswith("Config group override must be a string"):  # Hydra's words for GROUP=null
            raise
        given = str(error).rpartition("Got ")[2]
        what = "null" if given == "NoneType" else f"a number ({given})"
        raise UserError(f"A choice must be one of the options that --help lists, got {what}.") from None


def _pass_interruption_on(error: BaseException | None) -> None:
    """Raise the Ctrl-C or signal behind an error: one that comes while Hydra composes it takes for a mistake."""
    while error is not None:
        error = error.__cause__ or error.__context__
        if isinstance(error, KeyboardInterrupt):
            raise error


def sentence(error: CompactHydraException, name: str, overrides: Sequence[str] = ()) -> str:
    """What was given and what is allowed, in one line, where Hydra says it in many."""
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
    lines = (line.strip(" \t.:") for line in str(error).split("Config search path")[0].splitlines())
    return "; ".join(line for line in lines if line and not line.startswith("See https://hydra.cc")) + "."


def _unknown_option(file: str) -> str:
    group, _, option = file.rpartition("/")
    options = sorted(path.stem for path in (CONFIG_FOLDER / group).glob("*.yaml"))
    return f"{group} must be one of {', '.join(options)}, got '{option}'."


def _unknown_key(key: str, name: str, overrides: Sequence[str], parent: DictConfig | None) -> str:
    given = next((item for item in overrides if item.lstrip("+").startswith(f"{key}=")), f"{key}=")
    root = parent._get_root() if parent is not None else _defaults(name)
    new = renamed(key, root)
    if new is not None:
        return f"'{given}' is now '{new}={given.partition('=')[2]}'."
    meant = suggestions(key, list(dotted_keys(root)))
    beside = parent if parent is not None and "." in key else root
    known = sorted(str(name) for name in beside if str(name) != "hydra" and not str(name).startswith("_"))
    question = f"; did you mean {' or '.join(meant)}?" if meant else "."
    return f"There is no key '{key}'{question} Known {'there ' if '.' in key else ''}are {', '.join(known)}."


def renamed(key: str, config: object) -> str | None:
    """The new name of a key that `config` lacks, wherever in the key the old name stands."""
    parts, known = key.split("."), set(dotted_keys(config))
    for start in range(len(parts)):
        for end in range(len(parts), start, -1):
            new = RENAMED.get(".".join(parts[start:end]))
            if new is not None and ".".join(parts[:end]) not in known:
                return ".".join([*parts[:start], new, *parts[end:]])
    return None


def suggestions(key: str, known: Sequence[str]) -> list[str]:
    """At most three known keys that somebody who wrote `key` may have meant, the likeliest first."""
    last = {name: name.rpartition(".")[2] for name in known}
    wanted = key.rpartition(".")[2]
    same = [name for name in known if last[name] == wanted]
    part = [name for name in known if wanted in last[name].split("_")]
    alike = difflib.get_close_matches(wanted, set(last.values()), cutoff=0.75)
    close = [name for word in alike for name in known if last[name] == word]
    begun = [name for name in known if len(wanted) > 2 and last[name].startswith(wanted)]
    return list(dict.fromkeys([*same, *part, *close, *begun]))[: 1 if len(same) == 1 else 3]


def dotted_keys(node: Any, prefix: str = "") -> Iterator[str]:
    """Every key of a config, as it is given on the command line."""
    for key in (
        map(str, node) if isinstance(node, DictConfig) and not node._is_none() and not node._is_missing() else ()
    ):
        if key != "hydra" and not key.startswith("_"):
            yield f"{prefix}{key}"
            yield from dotted_keys(node._get_node(key), f"{prefix}{key}.")


def _defaults(name: str) -> DictConfig:
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return hydra.compose(name)
