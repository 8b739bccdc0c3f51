"""Normalize the shapes of a configuration: single values become lists if lists are expected, sections stay mappings."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml
from hydra.core.hydra_config import HydraConfig

from wplus.commands.help import options_of
from wplus.config import CONFIG_FOLDER, GIVEN, at
from wplus.errors import UserError
from wplus.signatures import is_closed, options, signature

# Groups with exactly one choice.
_NEEDED = ("data", "tracking", "trainer", "training", "inverter", "finder", "perceptual", "identity")
# Keys that may be null although their default is not.
_NULLABLE = ("evaluate.checkpoint", "directions.num_images", "translate.classifier")


def shaped(config: dict[str, Any], verb: str) -> dict[str, Any]:
    """Wrap single values of a command's configuration in lists where needed, in place.

    A key is a list or mapping if its default, or its parameter in the source, is one. Raises UserError for other values
    in place of a mapping, for a key removed with `~`, and for a choice given as a value.
    """
    for key, default in _defaults(verb):
        _refuse_absent(key, key not in config)
        if config[key] is None and default is not None and f"{verb}.{key}" not in _NULLABLE and key != "cache_dir":
            raise UserError(f"{key} must not be null: leave it out for its default.")
        config[key] = _shape(key, config[key], is_list=isinstance(default, list), section=default)
        for name in default if isinstance(default, Mapping) and isinstance(config[key], Mapping) else ():
            _refuse_absent(f"{key}.{name}", name not in config[key])
    _refuse_words(config)
    _shape_nodes(config)
    return config


def _refuse_words(config: Mapping[str, Any]) -> None:
    """Raise UserError for a plain value where GROUP@PLACE chooses, e.g. metrics.interpolation.inverter=hybrid."""
    for choice in HydraConfig.get().runtime.choices if HydraConfig.initialized() else ():
        group, _, place = str(choice).partition("@")
        value = at(config, place) if place else None
        if isinstance(value, str):
            options = ", ".join(options_of(group))
            raise UserError(f"{place}={value} is not a choice: write {choice}=NAME, one of {options}.")


def _refuse_absent(key: str, is_absent: bool) -> None:
    if is_absent:
        raise UserError(f"'~{key}' removes what the command needs; leave it out.")


def _defaults(verb: str) -> Iterator[tuple[str, Any]]:
    """Yield (key, default) of the command's own config and of the common one; required groups have {}."""
    content = yaml.safe_load((CONFIG_FOLDER / f"{verb}.yaml").read_text())
    for entry in content.pop("defaults"):
        if entry == "common":
            yield from _defaults(entry)
        groups = entry.items() if isinstance(entry, dict) else ()
        yield from ((group, {}) for group, option in groups if group in _NEEDED and option is not None)
    yield from ((key, value) for key, value in content.items() if key != "hydra")


def _shape_nodes(node: object, place: str = "") -> None:
    """Check the parameters of every `_target_`: that it has them, and that mappings are mappings."""
    for key, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        _shape_nodes(value, f"{place}{key}.")
    if not isinstance(node, dict) or "_target_" not in node:
        return
    target = str(node["_target_"])
    for key in (key for key in node if key not in signature(target) and not str(key).startswith("_")):
        _refuse_unknown(f"{place}{key}", target)
    for key, option in signature(target).items():
        if key in node and _is_mapping(option.annotation):
            node[key] = _shape(f"{place}{key}", node[key], is_list=False, section={})


def _refuse_unknown(key: str, target: str) -> None:
    """Raise UserError for a key that a target does not have, as from a preset for another class."""
    if is_closed(target):
        given = GIVEN.get(key.partition(".")[0], ())
        own = ", ".join(name for name in options(target) if name not in given)
        raise UserError(f"{key} is not an option of {'.'.join(target.split('.')[-2:])}; it has {own}.")


def _is_mapping(annotation: str) -> bool:
    """Whether an annotation allows only a mapping, or None."""
    kinds = [kind for kind in re.split(r"\s*\|\s*(?![^\[]*\])", annotation) if kind != "None"]
    return all(re.match(r"(Mapping|dict)\[", kind) for kind in kinds) and bool(kinds)


def _shape(key: str, value: object, *, is_list: bool, section: object) -> Any:
    if is_list and isinstance(value, str | int | float):
        return [value]
    if isinstance(section, Mapping) and value is not None and not isinstance(value, Mapping):
        names = f", as in {key}.{next(iter(section))}=..." if section else ""
        raise UserError(f"{key} holds keys of its own{names}, got {value!r}.")
    return value
