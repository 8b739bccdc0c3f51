"""From command line to plain values: the entry points' decorator, and the only caller of `instantiate`."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException, InstantiationException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from wplus.errors import UserError

CONFIG_FOLDER = Path(__file__).resolve().parents[2] / "configs"
_TAGGED = ("experiment", "data", "model", "inverter", "finder", "perceptual")  # groups whose choice becomes a tag
_KEYED = ("path",)  # groups of which several may be chosen: their options are the keys of the config
# Keys that say where and how loudly a run goes, not what it computes: they do not change a run's name.
_BOOKKEEPING = (
    "run_dir",
    "device",
    "trainer",
    "tracking",
    "hydra",
    "name",
    "debug",
    "group",
    "tags",
    "schedule",
    "experiment",
    "probes",
)


class OneLine(CompactHydraException):
    """A UserError on its way through Hydra, which prints this class without a stack trace."""


def build(node: Any, **kwargs: Any) -> Any:
    """Build what `node` describes: a mapping with `_target_`, or any tree of lists and mappings that holds such.

    `kwargs` are passed to the constructor of a `_target_`.

    The arguments go straight to the constructor, never through OmegaConf: networks, tensors and configs that hold
    `_target_` keys of their own arrive untouched. With `_partial_: true` in the node a partial comes back.
    A UserError raised by the constructor comes out as it is; a target that does not exist, or an argument that
    it does not take, becomes a UserError.
    """
    is_tree = not isinstance(node, (Mapping, DictConfig)) or "_target_" not in node
    try:
        target = hydra.utils.instantiate(node, _convert_="all", **({} if is_tree else {"_partial_": True}))
    except InstantiationException as error:
        raise _user_error(error) from error
    if is_tree:
        return target
    if node.get("_partial_"):
        return functools.partial(target, **kwargs)
    _check_arguments(target, kwargs, name=str(node.get("_target_")))
    return target(**kwargs)


def entry_point(config_name: str) -> Callable[[Callable[[dict[str, Any]], Any]], Callable[[], Any]]:
    """Make `main(cfg)` a command: composes `configs/<config_name>.yaml` and hands over a plain, resolved dict.

    A UserError, an unknown key and whatever else cannot be composed become one line on standard error and exit status
    1; in a sweep Hydra says before it which job it was.
    """

    def decorate(task: Callable[[dict[str, Any]], Any]) -> Callable[[], Any]:
        @functools.wraps(task)
        def composed(cfg: DictConfig) -> Any:
            try:
                return task(plain(cfg))
            except UserError as error:
                if HydraConfig.get().mode == RunMode.MULTIRUN:
                    raise OneLine(str(error)) from None
                raise SystemExit(str(error)) from None

        # wraps() would show Hydra the wrapped function's module as its own; Hydra reads __module__ for the job name.
        del composed.__wrapped__
        run = hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name=config_name)(composed)
        return functools.wraps(task)(lambda: _in_one_sentence(run))

    return decorate


def _in_one_sentence(run: Callable[[], Any]) -> Any:
    """Hydra prints what it refuses in many lines; asked for full errors it raises it, and the user gets one."""
    if "HYDRA_FULL_ERROR" in os.environ:
        return run()
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        return run()
    except CompactHydraException as error:
        raise SystemExit(_sentence(error)) from None
    except ValueError as error:
        if not str(error).startswith("Config group override must be a string"):  # Hydra's words for GROUP=null
            raise
        raise SystemExit("A group cannot be null: choose one of its options, --help lists them.") from None
    finally:
        del os.environ["HYDRA_FULL_ERROR"]


def _sentence(error: CompactHydraException) -> str:
    """The parts of Hydra's message without its search path; where a key is unknown, also the keys that are known."""
    if isinstance(error, OneLine):
        return str(error)
    parts = [line.strip(" \t.:") for line in str(error).split("Config search path")[0].splitlines()]
    named = re.search(r"Could not load '(\w+)/", str(error))  # Hydra lists the options where one of a group is chosen
    if named is not None:
        folders = (CONFIG_FOLDER / named[1], CONFIG_FOLDER / "train" / named[1])  # both are on the search path
        options = sorted(path.stem for folder in folders for path in folder.glob("*.yaml"))
        parts.append(f"available options in '{named[1]}' are {', '.join(options)}")
    known = getattr(error.__cause__, "parent_node", None)
    if isinstance(known, DictConfig):
        parts.append(f"known are {', '.join(sorted(map(str, known)))}")
    return "; ".join(filter(None, parts)) + "."


def composed(config_name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """What a command would get with these overrides, for studies and benchmarks that build what it builds."""
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return plain(hydra.compose(config_name, list(overrides)))


def plain(cfg: DictConfig) -> dict[str, Any]:
    """A composed config as nested dicts, lists and values, all resolved; UserError names a key without a value."""
    try:
        missing = sorted(OmegaConf.missing_keys(cfg))
        container = None if missing else OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(f"The value of '{error.full_key}' cannot be resolved: {str(error).splitlines()[0]}.") from error
    if missing:
        raise UserError(
            f"These keys have no value yet: {', '.join(missing)}; give them on the command line as key=value."
        )
    assert isinstance(container, dict)
    _check_seeds(container)
    return container  # type: ignore[return-value]


def _check_seeds(node: Any, place: str = "") -> None:
    """Every `seed` of a config, wherever it stands: what draws from it would say so in its own words, and late."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if key == "seed" and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise UserError(f"{place}seed={value} is not allowed; it must be a whole number of at least 0.")
        _check_seeds(value, f"{place}{key}.")


def command_line() -> str:
    """The command that started this process, for notes and reports."""
    return " ".join(["python", *(_quote(part) for part in sys.argv)])


def record_fields(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """What a tracker wants to know about a run besides its folder: name, group, tags, the whole config, the command."""
    choices = HydraConfig.get().runtime.choices if HydraConfig.initialized() else {}
    chosen = [str(choices[group]) for group in _TAGGED if choices.get(group) not in (None, "null")]
    chosen += [str(name) for group in _KEYED for name in cfg.get(group) or ()]
    return {
        "name": Path(cfg["run_dir"]).name,
        "group": cfg["group"] or cfg["name"],
        "tags": [*chosen, *cfg["tags"]],
        "config": dict(cfg),
        "notes": command_line(),
    }


def refuse_sweep_of_processes(trainer: Mapping[str, Any]) -> None:
    """UserError for a sweep, on this machine, of runs that start processes of their own.

    Lightning starts the further processes with this process's command line, which would start the whole sweep again.
    """
    if trainer["devices"] * trainer["num_nodes"] == 1 or not HydraConfig.initialized():
        return
    config = HydraConfig.get()
    if config.mode == RunMode.MULTIRUN and str(config.runtime.choices.get("hydra/launcher")) in ("basic", "joblib"):
        raise UserError(
            f"A sweep (-m) of runs on {trainer['devices'] * trainer['num_nodes']} processes is refused here; "
            "use hydra/launcher=slurm, or start the runs one by one."
        )


def run_name(prefix: str) -> str:
    """`prefix` plus a digest of the overrides: the same command finds the same folder again."""
    if not HydraConfig.initialized():
        return prefix
    overrides = [item for item in HydraConfig.get().overrides.task if _key(item) not in _BOOKKEEPING]
    return (
        f"{prefix}-{hashlib.sha256(chr(10).join(sorted(overrides)).encode()).hexdigest()[:6]}" if overrides else prefix
    )


def _check_arguments(target: functools.partial[Any], kwargs: dict[str, Any], *, name: str) -> None:
    """A wrong argument name is the user's mistake; a TypeError from inside the constructor is ours and stays one."""
    try:
        inspect.signature(target.func).bind(*target.args, **{**target.keywords, **kwargs})
    except (TypeError, ValueError) as error:
        raise UserError(f"Cannot build '{name}': {error}.") from error


def _key(override: str) -> str:
    return override.lstrip("+~").split("=")[0].split(".")[0].split("/")[0]


def _quote(part: str) -> str:
    return f"'{part}'" if set(part) & set(" []{}*?$;&|<>()") else part


def _user_error(error: InstantiationException) -> Exception:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return cause
        root, cause = cause, cause.__cause__
    # A wrong argument or target is the user's mistake; anything else that broke inside the constructor is ours.
    if isinstance(root, (TypeError, ImportError, AttributeError, InstantiationException)):
        named = re.search(r"target '([^']+)'", str(error))
        return UserError(f"Cannot build '{named[1] if named else '?'}': {str(root).splitlines()[0]}.")
    return root if isinstance(root, Exception) else error


os.environ["WPLUS_CONFIGS"] = str(CONFIG_FOLDER)  # configs/train.yaml adds a folder of its own to Hydra's search path
OmegaConf.register_new_resolver("run_name", run_name, replace=True)
