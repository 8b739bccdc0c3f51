"""Turn configs into plain values and objects; the only module that calls `instantiate`."""

import functools
import inspect
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import hydra
import yaml
from hydra._internal.core_plugins import file_config_source as hydra_source
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException, InstantiationException
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from wplus.core.claim import PATHS, digest, question
from wplus.core.sweep import runs_here, swept
from wplus.errors import UserError
from wplus.signatures import complete, listed, takes_further_keys

_PACKAGE = Path(__file__).resolve().parent
_CHECKOUT = _PACKAGE.parents[1]
# Next to the package in a checkout, inside it in an installation.
CONFIG_FOLDER = next(folder for folder in (_PACKAGE / "configs", _CHECKOUT / "configs") if folder.is_dir())
_MODEL_FOLDERS = (_PACKAGE / "bundled", _CHECKOUT / "experiments" / "models")
# Arguments that the code itself passes to the choices of a group; all other parameters are options of the config.
GIVEN = {
    "discriminator": ("c_dim", "img_channels", "pixel", "resolution", "sha256"),
    "data": ("split", "boxes"),
    "encoder": ("w_dim", "img_channels"),
    "finder": ("seed", "labelled"),
    "model": ("c_dim", "img_channels", "in_channels", "conv_clamp"),
    "tracking": ("group", "tags", "notes", "config", "swept"),
    "training": ("anchor", "augment", "discriminator", "probes", "transfer"),
}


class FileConfigSource(hydra_source.FileConfigSource):
    """Hydra's source of YAML files, extended to fill in every `_target_`'s options with the defaults of its signature.

    Every option of a choice is thus visible and overridable, unknown ones are refused, and no file repeats a default.
    """

    def load_config(self, config_path: str) -> ConfigResult:
        """Load a config as Hydra does, then complete it."""
        found = super().load_config(config_path)
        group = config_path.partition("/")[0]
        given = OmegaConf.to_container(found.config)
        completed = complete(given, GIVEN.get(group, ()))
        for entry in given.get("defaults") or () if isinstance(given, dict) else ():
            # GROUP@KEY is chosen there, so it gets no default here
            for choice in entry if isinstance(entry, dict) else ():
                *parents, last = choice.partition("@")[2].split(".")
                node = functools.reduce(lambda tree, key: tree.get(key, {}), parents, completed)
                if last not in functools.reduce(lambda tree, key: tree.get(key, {}), parents, given):
                    node.pop(last, None)
        found.config = OmegaConf.create(completed)
        _open(found.config)
        return found


def _open(node: object) -> None:
    """Allow the command line to add names to mappings from names to numbers, such as weights."""
    if not isinstance(node, DictConfig):
        return
    target = node._get_node("_target_")
    for key in node:
        child = node._get_node(key)
        if isinstance(child, DictConfig) and target is not None and takes_further_keys(str(target), str(key)):
            OmegaConf.set_struct(child, False)
        _open(child)


def build(node: Any, **kwargs: Any) -> Any:
    """Instantiate what `node` describes: a mapping with `_target_`, or a tree of lists and mappings that contains some.

    `kwargs` are passed to the constructor of a `_target_`.

    The arguments bypass OmegaConf and go straight to the constructor: networks, tensors and configs with `_target_`
    keys of their own arrive untouched. If the node has `_partial_: true`, a partial is returned.
    A UserError raised by the constructor propagates unchanged; a target that does not exist, or an argument that it
    does not accept, becomes a UserError.
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


class Parsed(NamedTuple):
    """An override as parsed by Hydra's grammar."""

    value: Any
    """None if the override is a sweep."""
    is_sweep: bool


def parsed(override: str) -> Parsed | None:
    """Parse KEY=VALUE with Hydra's grammar; None if it is not valid."""
    try:
        found = OverridesParser.create().parse_override(override)
    except HydraException:
        return None
    return Parsed(None if found.is_sweep_override() else found.value(), found.is_sweep_override())


def quoted(text: str) -> str:
    """Quote a text so that Hydra's grammar reads it literally."""
    return QuotedString(text, Quote.single).with_quotes()


def composed(config_name: str, overrides: Sequence[str]) -> dict[str, Any]:
    """The config that a command gets with these overrides, for studies and benchmarks that build the same objects."""
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        return plain(hydra.compose(config_name, list(overrides)))


def bundled_models() -> dict[str, Path]:
    """The files of the bundled models, by name without extension: cats32, cats64, ..."""
    folder = next((folder for folder in _MODEL_FOLDERS if folder.is_dir()), _MODEL_FOLDERS[0])
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def bundled_model(name: str) -> str:
    """The file of a bundled model, given its name with or without extension."""
    models = bundled_models()
    found = models.get(name.removesuffix(".safetensors"))
    if found is None:
        raise UserError(f"A bundled model must be one of {', '.join(models) or 'none, as none is here'}, got '{name}'.")
    return str(found)


def plain(cfg: DictConfig) -> dict[str, Any]:
    """A composed config as nested dicts, lists and values, fully resolved; UserError if a key has no value."""
    return checked(resolved(cfg))


def resolved(cfg: DictConfig) -> dict[str, Any]:
    """A composed config as nested dicts, lists and values; UserError if an interpolation cannot be resolved."""
    try:
        container = OmegaConf.to_container(cfg, resolve=True)
    except OmegaConfBaseException as error:
        reason = str(error.__cause__ if isinstance(error.__cause__, UserError) else error).splitlines()[0]
        raise UserError(f"The value of '{error.full_key}' cannot be resolved: {reason.rstrip('.')}.") from error
    return cast(dict[str, Any], container)


def checked(container: dict[str, Any]) -> dict[str, Any]:
    """A resolved config, validated for use by a command; UserError for keys without a value and for invalid seeds."""
    missing = sorted(_missing(container))
    if missing:
        raise UserError(
            f"These keys have no value yet: {', '.join(missing)}; give them on the command line as key=value."
        )
    _check_values(container)
    return cast(dict[str, Any], expand_home(_listed(container)))


def _missing(node: object, place: str = "") -> list[str]:
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    return [name for key, value in items for name in (
        [f"{place}{key}"] if value == "???" else _missing(value, f"{place}{key}.")
    )]  # fmt: skip


def expand_home(value: object) -> Any:
    """Expand a leading `~` to the home folder, as a shell does, in every string of a config."""
    if isinstance(value, dict):
        return {key: expand_home(item) for key, item in value.items()}
    if isinstance(value, list):
        return [expand_home(item) for item in value]
    if not isinstance(value, str) or not re.match(r"~[\w.-]*(/|$)", value):
        return value
    expanded, start = os.path.expanduser(value), value.partition("/")[0]
    if expanded == value and "/" in value and not os.path.exists(start):
        raise UserError(f"'{value}' begins with the home folder of a user '{start[1:]}', and there is none.")
    return expanded


def _check_values(node: object, place: str = "") -> None:
    """Check every `seed` of a config early, rather than when it is first used, and refuse empty file names, which would
    mean the working directory."""
    for key, value in node.items() if isinstance(node, dict) else ():
        if key == "seed" and (isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**63):
            raise UserError(f"{place}seed={value} is not allowed; it must be a whole number from 0 to 2^63 - 1.")
        if key in PATHS and "" in (value if isinstance(value, list) else [value]):
            raise UserError(f"{place}{key} is empty: give the name of a file or folder, or leave it out.")
        _check_values(value, f"{place}{key}.")


def _listed(node: object) -> Any:
    """Wrap single values in a list where the signature of a `_target_` expects several, so strings are not iterated."""
    if isinstance(node, list):
        return [_listed(item) for item in node]
    if not isinstance(node, dict):
        return node
    target, found = node.get("_target_"), {key: _listed(value) for key, value in node.items()}
    return {key: listed(target, key, value) for key, value in found.items()} if isinstance(target, str) else found


def at(cfg: Any, key: str) -> Any:
    """The value of a dotted key; None if there is none, as for a group of options."""
    for part in key.split("."):
        cfg = cfg.get(part) if isinstance(cfg, Mapping) else None
    return cfg


def refuse_sweep_of_processes(trainer: Mapping[str, Any]) -> None:
    """Raise UserError if a sweep that runs its jobs in this process has a run that starts processes of its own.

    Lightning starts further processes with this process's command line, which would start the whole sweep again.
    """
    num_processes = trainer["devices"] * trainer["num_nodes"]
    if num_processes > 1 and runs_here():
        raise UserError(
            f"A sweep in one process of runs on {num_processes} processes is refused: give slots=cpu:1 or slots=slurm, "
            "where each run is started for itself."
        )


def training_of(model: str | None) -> str:
    """The default `training` for a choice of `model`: the value of `training` in the model's file or in one that it
    extends, else auto, which trains a generator against a discriminator."""
    path = CONFIG_FOLDER / "model" / f"{model}.yaml"
    said = yaml.safe_load(path.read_text()) if path.is_file() else {}
    bases = [entry for entry in said.get("defaults", ()) if isinstance(entry, str) and entry != "_self_"]
    found = said.get("training") or next((found for base in bases if (found := training_of(base)) != "auto"), "auto")
    return str(found)


def run_name(prefix: str, *, _root_: DictConfig) -> str:
    """`prefix` followed by a digest of the config, so that the same command finds the same folder again.

    In a sweep, everything that differs between its jobs enters the digest, so that no two jobs share a folder.
    """
    keys = [str(key) for key in _root_ if key not in ("run_dir", "hydra")]
    config = OmegaConf.to_container(OmegaConf.masked_copy(_root_, keys), resolve=True)
    assert isinstance(config, dict)
    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else ()
    return f"{prefix}-{digest(question(expand_home(config), also=swept()) | swept_presets(config, given))}"


def swept_presets(config: Mapping[Any, Any], given: Sequence[str]) -> dict[str, str]:
    """Among the overrides `given`, the presets (`experiment=`, `debug=`) that differ between the jobs of a sweep.

    Presets leave no key of their own in the composed config.
    """
    pairs = (each.lstrip("+").partition("=") for each in given)
    return {key: choice for key, _, choice in pairs if key in swept() and "." not in key and key not in config}


def _check_arguments(target: functools.partial[Any], kwargs: dict[str, Any], *, name: str) -> None:
    """Raise UserError for a wrong argument name; a TypeError from inside the constructor is a bug and left alone."""
    try:
        inspect.signature(target.func).bind(*target.args, **{**target.keywords, **kwargs})
    except (TypeError, ValueError) as error:
        raise UserError(f"Cannot build '{name}': {error}.") from error


def _user_error(error: InstantiationException) -> Exception:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UserError):
            return cause
        root, cause = cause, cause.__cause__
    # A wrong argument or target is the user's mistake; any other failure inside the constructor is a bug.
    if isinstance(root, (TypeError, ImportError, AttributeError, InstantiationException)):
        named = re.search(r"target '([^']+)'", str(error))
        return UserError(f"Cannot build '{named[1] if named else '?'}': {str(root).splitlines()[0]}.")
    return root if isinstance(root, Exception) else error


SourcesRegistry.instance().types["file"] = FileConfigSource  # Hydra requires this class name
OmegaConf.register_new_resolver("run_name", run_name, replace=True)
OmegaConf.register_new_resolver("bundled_model", bundled_model, replace=True)
OmegaConf.register_new_resolver("training_of", training_of, replace=True)
