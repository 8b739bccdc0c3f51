"""Compose configurations of commands without running them, cheaply for many jobs, with their digests and folders."""

import contextlib
import importlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, OverrideType, ValueType
from omegaconf import DictConfig, OmegaConf

from wplus.commands.overrides import readable, with_block
from wplus.commands.refusals import one_sentence
from wplus.commands.shapes import shaped
from wplus.config import CONFIG_FOLDER, at, checked, expand_home, resolved, swept_presets
from wplus.core.claim import digest, question
from wplus.core.sweep import runs_here, swept

_RUN_DIR = "runs/${run_name:${name}}"  # as in configs/common.yaml
_SIMPLE = (int, float, bool, str, type(None))


def shown(name: str, overrides: Sequence[str], resolve: str | None = None) -> dict[str, Any]:
    """The config of a command as printed by `--cfg job`, with derived values filled in."""
    container = OmegaConf.to_container(_composed(name, overrides), resolve=True)
    if resolve is not None:
        module, _, function = resolve.rpartition(".")
        container = getattr(importlib.import_module(module), function)(container)
    return container  # type: ignore[return-value]


def _composed(name: str, overrides: Sequence[str]) -> DictConfig:
    """Compose the config; HydraConfig then holds Hydra's part of it."""
    with hydra.initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        cfg = hydra.compose(name, list(overrides), return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


@dataclass(frozen=True)
class _Base:
    """A composed configuration in which keys can be set as long as no other value is derived from them."""

    content: Mapping[str, Any]
    derived_from: frozenset[str]
    hydra: Any


_shared: list["Composer"] = []


@contextlib.contextmanager
def choices_kept() -> Iterator[None]:
    """Restore HydraConfig, with its record of the chosen options, after the block."""
    before = HydraConfig.instance().cfg
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


@contextlib.contextmanager
def shared_composer() -> Iterator["Composer"]:
    """Share one composer for a whole sweep, so that configs composed for the plan are reused for jobs run here."""
    with choices_kept():
        _shared.append(Composer())
        try:
            yield _shared[-1]
        finally:
            _shared.pop()


def composer() -> "Composer":
    """The composer of the sweep that this process runs, else a new one."""
    return _shared[-1] if _shared and runs_here() else Composer()


class Composer:
    """Composes configs of jobs: Hydra composes once per choice of options; plain values are set in the result."""

    def __init__(self) -> None:
        self._bases: dict[tuple[str, tuple[str, ...]], _Base] = {}
        self._parsed: dict[str, tuple[str, Override]] = {}

    def asked(self, verb: str, overrides: Sequence[str]) -> tuple[str, str, str]:
        """The digest of a job's config, its folder (empty if it has none), and the digest for claiming the folder.

        Raises UserError if the config cannot be composed, or if the command would refuse it immediately.
        """
        config = self.config(verb, overrides)
        shaped(checked(config), verb)
        run_dir = str(config.get("run_dir", ""))
        asked = question(config)
        # In a sweep everything that differs counts, even if it does not affect results.
        also = swept()
        presets = swept_presets(config, overrides)
        own = digest({**asked, **question({key: at(config, key) for key in also}, also=also), **presets})
        return own, run_dir.replace(_RUN_DIR, f"runs/{config.get('name')}-{own}"), digest(asked)

    def composed(self, verb: str, overrides: Sequence[str]) -> dict[str, Any]:
        """The configuration that a command gets, resolved; UserError if it cannot be composed."""
        config = self.config(verb, overrides)
        if config.get("run_dir") == _RUN_DIR:
            config["run_dir"] = self.asked(verb, overrides)[1]
        return config

    def config(self, verb: str, overrides: Sequence[str]) -> dict[str, Any]:
        """The resolved configuration; `run_dir` may still be the default's expression."""
        with one_sentence(verb, overrides):
            pairs = [self._parse(override) for override in with_block(overrides)]
            simple = [pair for pair in pairs if _is_simple(pair[1])]
            rest = tuple(text for text, override in pairs if not _is_simple(override))
            if all(override.type is OverrideType.CHANGE for _, override in pairs):
                found = self._set(self._base(verb, rest), [override for _, override in simple])
                if found is not None:
                    return found
            return _with_run_dir(_composed(verb, [text for text, _ in pairs]))

    def _parse(self, override: str) -> tuple[str, Override]:
        if override not in self._parsed:
            (text,) = readable([override])
            self._parsed[override] = (text, OverridesParser.create().parse_overrides([text])[0])
        return self._parsed[override]

    def _base(self, verb: str, overrides: tuple[str, ...]) -> _Base:
        if (verb, overrides) not in self._bases:
            cfg = _composed(verb, overrides)
            raw = OmegaConf.to_container(cfg, resolve=False)
            assert isinstance(raw, dict)
            run_dir = raw.pop("run_dir", "")
            texts = [run_dir.replace(_RUN_DIR, ""), *_texts(raw)]
            derived = frozenset(word for text in texts if "${" in text for word in re.findall(r"\w+", text))
            self._bases[verb, overrides] = _Base(_with_run_dir(cfg), derived, HydraConfig.instance().cfg)
        base = self._bases[verb, overrides]
        HydraConfig.instance().cfg = base.hydra  # the chosen options, for the record; `set_config` would copy it
        return base

    def _set(self, base: _Base, overrides: Sequence[Override]) -> dict[str, Any] | None:
        """The base with these values set; None if they need Hydra's own composition."""
        found = dict(base.content)
        for override in overrides:
            *parents, last = override.key_or_group.split(".")
            node = found
            for parent in parents:
                if not isinstance(node.get(parent), dict):
                    return None
                node[parent] = node = dict(node[parent])
            if last not in node or isinstance(node[last], dict) or base.derived_from & {*parents, last}:
                return None
            node[last] = override.value()
        return found


def _with_run_dir(cfg: DictConfig) -> dict[str, Any]:
    """Resolve all but a default run_dir, which contains the digest of the rest and is left to the caller."""
    if "run_dir" in cfg and OmegaConf.to_container(OmegaConf.masked_copy(cfg, ["run_dir"])) == {"run_dir": _RUN_DIR}:
        cfg = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "run_dir"])
        return {**expand_home(resolved(cfg)), "run_dir": _RUN_DIR}
    return expand_home(resolved(cfg))


def _is_simple(override: Override) -> bool:
    """Whether it sets a key that is not a config group to a plain value."""
    if override.type is not OverrideType.CHANGE or override.package is not None or override.is_sweep_override():
        return False
    if (CONFIG_FOLDER / override.key_or_group).is_dir() or override.key_or_group.startswith("hydra"):
        return False
    value = override.value() if override.value_type in (ValueType.ELEMENT, None) else ...
    items = value if isinstance(value, list) else [value]
    return all(isinstance(item, _SIMPLE) and "${" not in str(item) and item != "???" for item in items)


def _texts(node: Any) -> list[str]:
    if isinstance(node, str):
        return [node]
    items = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [text for item in items for text in _texts(item)]
