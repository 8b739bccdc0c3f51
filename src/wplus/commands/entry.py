"""Turn a command line into a function call: overrides, Hydra, and one-sentence error messages."""

import argparse
import functools
import itertools
import os
import sys
from collections.abc import Callable, Collection, Sequence
from typing import Any, cast

import yaml
from hydra import version
from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import configure_log
from omegaconf import DictConfig

from wplus.commands.agent import as_overrides
from wplus.commands.compose import choices_kept, composer, shown
from wplus.commands.help import help_text
from wplus.commands.overrides import readable, typed
from wplus.commands.refusals import one_sentence
from wplus.commands.session import exiting_when_interrupted, leaving_on_signals, session
from wplus.commands.shapes import shaped
from wplus.config import CONFIG_FOLDER, checked, plain
from wplus.core.surroundings import settle
from wplus.errors import OneLineParser, UserError

FULL_ERROR = "HYDRA_FULL_ERROR"
# Flags of Hydra that do something other than run the command, or change its composition.
_OF_HYDRA = ("cfg", "info", "hydra_help", "shell_completion", "experimental_rerun", "config_path", "config_name",
             "config_dir", "package", "resolve")  # fmt: skip
Task = Callable[[dict[str, Any]], Any]
Command = Callable[..., Any]


def entry_point(task: Task | None = None, *, resolve: str | None = None, has_folder: bool = True) -> Any:
    """Make `verb(cfg)` a command that composes configs/verb.yaml and passes it as a plain, resolved dict.

    The command takes a list of arguments, by default those of the process. UserErrors, unknown keys and other
    composition errors become one line on standard error and exit status 1. An interrupted command exits with 128 + the
    signal's number. With `-m` it runs a sweep (`wplus.commands.multirun`). `resolve` names a function that fills in
    derived values for `--cfg job`; with `has_folder` the command locks `run_dir`.
    """
    if task is None:
        return functools.partial(entry_point, resolve=resolve, has_folder=has_folder)

    @functools.wraps(task)
    def composed(cfg: DictConfig | dict[str, Any]) -> Any:
        try:
            config = shaped(checked(cfg) if isinstance(cfg, dict) else plain(cfg), task.__name__)
            with session(config, task.__name__, has_folder=has_folder):
                return task(config)
        except UserError as error:
            raise SystemExit(str(error)) from None

    # Hydra takes the job name from __module__, which it would read from the wrapped function.
    del composed.__wrapped__

    @functools.wraps(task)
    def command(arguments: Sequence[str] | None = None) -> None:
        settle()
        given = sys.argv[1:] if arguments is None else list(arguments)
        with exiting_when_interrupted():
            options = _options(task.__name__, given)
            if options.help:
                print(help_text(task.__name__, options.overrides))
            elif options.multirun and not options.cfg:
                from wplus.commands.multirun import multirun

                multirun(command, task.__name__, options.overrides, is_dry=options.dry)
            else:
                _in_one_sentence(composed, task.__name__, options, resolve)

    return command


def program(task: Callable[[Sequence[str]], int]) -> Command:
    """Make `verb(arguments)`, which parses its own arguments and returns an exit status, a command.

    A leading `~` in an argument means the home folder.
    """

    @functools.wraps(task)
    def command(arguments: Sequence[str] | None = None) -> int:
        settle()
        with exiting_when_interrupted(), leaving_on_signals():
            return task([os.path.expanduser(item) for item in (sys.argv[1:] if arguments is None else arguments)])

    return command


def _options(name: str, arguments: list[str]) -> argparse.Namespace:
    parser = OneLineParser(prog=f"wplus {name}", add_help=False, parents=[get_args_parser()])
    parser.add_argument("--dry", action="store_true", help="with -m: show what would be run, and how long it takes")
    flags = {flag for action in parser._actions for flag in action.option_strings}
    overrides = as_overrides(arguments, flags)
    _refuse_keys_with_dashes(overrides, flags)
    options = parser.parse_intermixed_args(overrides)
    options.parser = parser
    return options


def _refuse_keys_with_dashes(arguments: Sequence[str], flags: Collection[str]) -> None:
    """Raise SystemExit for a key written with dashes; flags may be abbreviated."""
    for argument, value in itertools.zip_longest(arguments, arguments[1:], fillvalue="VALUE"):
        is_flag = any(flag.startswith(argument.partition("=")[0]) for flag in flags)
        if argument.startswith("--") and not is_flag:
            key = argument.lstrip("-")
            meant = key if "=" in key else f"{key}={'VALUE' if '=' in value else value}"
            raise SystemExit(f"There is no flag '{argument}': keys are given without dashes, as in {typed(meant)}.")


def _in_one_sentence(task: Callable[[Any], Any], name: str, options: argparse.Namespace, resolve: str | None) -> None:
    """Run the task; errors before it starts end the process with one sentence."""
    try:
        with one_sentence(name, options.overrides):
            _run(task, name, options, resolve)
    except UserError as error:
        raise SystemExit(str(error)) from None


def _run(task: Callable[[Any], Any], name: str, options: argparse.Namespace, resolve: str | None) -> None:
    overrides = options.overrides = readable(options.overrides, is_sweep=options.multirun)
    if options.dry:
        raise UserError("--dry shows the plan of a sweep: it goes with -m.")
    if options.cfg == "job" and options.package is None:
        print(yaml.safe_dump(shown(name, overrides, resolve), sort_keys=False, allow_unicode=True), end="")
    elif any(getattr(options, flag) for flag in _OF_HYDRA) or any("hydra" in each[:7] for each in overrides):
        _run_in_hydra(task, name, options)
    else:
        with choices_kept():
            config = composer().composed(name, overrides)
            configure_log(cast(DictConfig, HydraConfig.get().job_logging))
            task(config)


def _run_in_hydra(task: Callable[[Any], Any], name: str, options: argparse.Namespace) -> None:
    """Run as a Hydra application, which composes twice, for Hydra's own flags. Hydra prints errors in many lines;
    asked for full errors, it raises them instead.
    """  # fmt: skip
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    version.setbase("1.3")
    folder = str(CONFIG_FOLDER)
    try:
        _run_hydra(options, options.parser, task_function=task, config_path=folder, config_name=name)
    finally:
        del os.environ[FULL_ERROR]
        os.environ |= {} if before is None else {FULL_ERROR: before}
