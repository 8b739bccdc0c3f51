"""From a command line to a function: overrides, Hydra, and one sentence for whatever is refused."""

import argparse
import difflib
import functools
import importlib
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import hydra
import yaml
from hydra import version
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException, MissingConfigException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from wplus.commands.help import help_text
from wplus.commands.overrides import readable
from wplus.commands.session import exiting_when_interrupted, leaving_on_signals, session
from wplus.commands.shapes import shaped
from wplus.config import CONFIG_FOLDER, RENAMED, plain
from wplus.core.surroundings import settle
from wplus.core.sweep import INTERRUPTED, is_worker, note, noted, sweep
from wplus.errors import Interrupted, UserError

Task = Callable[[dict[str, Any]], Any]
Command = Callable[..., Any]
_PLUGINS = r"hydra/(launcher/(joblib|submitit)|sweeper/)\w*"  # come with an extra


class OneLine(CompactHydraException):
    """A UserError on its way through Hydra, which prints this class without a stack trace."""


def entry_point(task: Task | None = None, *, resolve: str | None = None, has_folder: bool = True) -> Any:
    """Make `verb(cfg)` a command: composes configs/verb.yaml and hands over a plain, resolved dict.

    The command takes a list of arguments, by default those of the process. A UserError, an unknown key and whatever
    else cannot be composed become one line on standard error and exit status 1; in a sweep Hydra says before it which
    job it was. Interrupted, a command exits with 128 + the signal's number. `resolve` names a function that fills in
    what is derived, for `--cfg job`; with `has_folder` the command has `run_dir` for itself.
    """
    if task is None:
        return functools.partial(entry_point, resolve=resolve, has_folder=has_folder)

    @functools.wraps(task)
    def composed(cfg: DictConfig) -> Any:
        try:
            config = shaped(plain(cfg), task.__name__)
            with session(config, task.__name__, has_folder=has_folder):
                return task(config)
        except UserError as error:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                raise OneLine(str(error)) from None
            raise SystemExit(str(error)) from None
        except KeyboardInterrupt as error:
            if not is_worker():
                raise
            # Out of a worker it would tear down the others before they have saved; a job that fails ends alone.
            note(INTERRUPTED, noted(INTERRUPTED) or str(getattr(error, "number", int(signal.SIGINT))))
            raise OneLine("Interrupted.") from None

    # wraps() would show Hydra the wrapped function's module as its own; Hydra reads __module__ for the job name.
    del composed.__wrapped__

    @functools.wraps(task)
    def command(arguments: Sequence[str] | None = None) -> None:
        settle()
        given = sys.argv[1:] if arguments is None else list(arguments)
        with exiting_when_interrupted():
            _in_one_sentence(composed, task.__name__, given, resolve)

    return command


def program(task: Callable[[Sequence[str]], int]) -> Command:
    """Make `verb(arguments)`, which reads its arguments itself and returns an exit status, a command.

    `~` in front of an argument means the home folder.
    """

    @functools.wraps(task)
    def command(arguments: Sequence[str] | None = None) -> int:
        settle()
        with exiting_when_interrupted(), leaving_on_signals():
            return task([os.path.expanduser(item) for item in (sys.argv[1:] if arguments is None else arguments)])

    return command


def _in_one_sentence(task: Callable[[DictConfig], Any], name: str, arguments: list[str], resolve: str | None) -> None:
    """Hydra prints what it refuses in many lines; asked for full errors it raises it, and the user gets one."""
    parser = get_args_parser()
    parser.prog = f"wplus {name}"
    options = parser.parse_intermixed_args(arguments)
    if options.help:
        print(help_text(name, options.overrides))
        return
    if "HYDRA_FULL_ERROR" in os.environ:
        return _run(task, name, parser, options, resolve)
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        _run(task, name, parser, options, resolve)
    except UserError as error:
        raise SystemExit(str(error)) from None
    except CompactHydraException as error:
        _pass_interruption_on(error)
        raise SystemExit(sentence(error, name, options.overrides)) from None
    except ValueError as error:
        if not str(error).startswith("Config group override must be a string"):  # Hydra's words for GROUP=null
            raise
        given = str(error).rpartition("Got ")[2]
        what = "null" if given == "NoneType" else f"a number ({given})"
        raise SystemExit(f"A choice must be one of the options that --help lists, got {what}.") from None
    finally:
        del os.environ["HYDRA_FULL_ERROR"]


def _pass_interruption_on(error: BaseException | None) -> None:
    """Raise the Ctrl-C or signal behind an error: one that comes while Hydra composes it takes for a mistake."""
    while error is not None:
        error = error.__cause__ or error.__context__
        if isinstance(error, KeyboardInterrupt):
            raise error


def _run(
    task: Callable[[DictConfig], Any], name: str, parser: argparse.ArgumentParser, options: Any, resolve: str | None
) -> None:
    options.overrides = readable(options.overrides, is_sweep=options.multirun)
    if options.cfg == "job" and options.package is None:
        print(yaml.safe_dump(shown(name, options.overrides, resolve), sort_keys=False, allow_unicode=True), end="")
        return
    version.setbase("1.3")
    run = functools.partial(
        _run_hydra, args_parser=parser, task_function=task, config_path=str(CONFIG_FOLDER), config_name=name
    )
    if not options.multirun:
        run(args=options)
        return
    with sweep(swept_keys(options.overrides), in_processes="hydra/launcher=joblib" in options.overrides):
        try:
            run(args=options)
        finally:
            number = noted(INTERRUPTED)
            if number is not None:
                raise Interrupted(int(number)) from None


def swept_keys(overrides: Sequence[str]) -> list[str]:
    """The keys that have several values in a sweep."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [override.get_key_element().lstrip("+~") for override in parsed if override.is_sweep_override()]


def shown(name: str, overrides: Sequence[str], resolve: str | None = None) -> dict[str, Any]:
    """The config of a command as `--cfg job` prints it, with what is derived filled in."""
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        cfg = hydra.compose(name, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    container = OmegaConf.to_container(own, resolve=True)
    if resolve is not None:
        module, _, function = resolve.rpartition(".")
        container = getattr(importlib.import_module(module), function)(container)
    return container  # type: ignore[return-value]


# What is refused


def sentence(error: CompactHydraException, name: str, overrides: Sequence[str] = ()) -> str:
    """What was given and what is allowed, in one line, where Hydra says it in many."""
    if isinstance(error, OneLine):
        return str(error)
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
    if re.fullmatch(_PLUGINS, file):
        return f"'{file}' needs further packages: pip install 'wplus[sweep]'."
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
    return list(dict.fromkeys([*same, *part, *close]))[: 1 if len(same) == 1 else 3]


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
