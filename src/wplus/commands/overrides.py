"""Overrides as people type them, with names of files of any kind, into what Hydra's grammar reads as they meant."""

import os
import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException

from wplus.config import RENAMED
from wplus.core.claim import PATHS
from wplus.errors import UserError


def readable(overrides: Sequence[str], *, is_sweep: bool = False) -> list[str]:
    """Overrides that Hydra's grammar reads: names that it cannot read are quoted, and `+` adds nothing unknown.

    UserError for an argument that is no KEY=VALUE, and for a choice that has another name now.
    """
    return [_readable(override, is_sweep) for override in overrides]


def _readable(override: str, is_sweep: bool) -> str:
    key, equals, value = override.partition("=")
    if key.startswith("~"):
        return override
    if not equals:
        raise UserError(f"An argument must be KEY=VALUE, got '{override}'.")
    key = key if key.lstrip("+").startswith("hydra") else key.lstrip("+")
    for choice in filter(None, re.split(r"[\[\],\s]+", value)):
        _refuse_renamed(f"{key.partition('@')[0]}={choice}")
    parsed, takes_names = _parsed(key, value), key.rpartition(".")[2] in PATHS
    is_name = os.path.exists(os.path.expanduser(value))
    if not is_name and value.startswith(("[", "{")):
        return f"{key}={_quoted_items(value, parsed, takes_names=takes_names)}"
    if parsed is None or (is_name and _is_read_otherwise(value, parsed, is_sweep)):
        return f"{key}={_quoted(value, is_name=is_name)}"
    # The name of a file that reads like a number stays a name.
    return f"{key}={_quoted(value)}" if takes_names and _is_number(parsed) else f"{key}={value}"


def _is_read_otherwise(name: str, parsed: Override, is_sweep: bool) -> bool:
    """Whether the grammar takes a name for several values, for one with a `${key}` inside, or cuts spaces off."""
    if parsed.is_sweep_override():
        return not is_sweep
    return "${" in name or (isinstance(parsed.value(), str) and parsed.value() != name)


def _is_number(parsed: Override) -> bool:
    return not parsed.is_sweep_override() and isinstance(parsed.value(), (bool, int, float))


def _refuse_renamed(choice: str) -> None:
    if choice in RENAMED:
        raise UserError(f"'{choice}' is now '{RENAMED[choice]}'.")


def _parsed(key: str, value: str) -> Override | None:
    try:
        return OverridesParser.create().parse_override(f"{key}={value}")
    except HydraException:
        return None


def _quoted(text: str, *, is_name: bool = False) -> str:
    """In quotes; of a name `${` is no reference to a key."""
    text = re.sub(r"(\\*)\$\{", r"\1\1\\${", text) if is_name else text
    return QuotedString(text, Quote.single).with_quotes()


def _quoted_items(text: str, parsed: Override | None, *, takes_names: bool) -> str:
    """A list whose items are quoted where the grammar reads them otherwise; a text that is no list comes back."""
    found = None if parsed is None or parsed.is_sweep_override() else parsed.value()
    is_list = parsed is None or isinstance(found, list)
    if not (is_list and text.startswith("[") and text.endswith("]")) or (parsed is not None and not takes_names):
        return text
    items = [item.strip() for item in text[1:-1].split(",")]
    if isinstance(found, list) and len(items) != len(found):
        return text
    return f"[{','.join(_item(item, takes_names) for item in items)}]"


def _item(text: str, takes_names: bool) -> str:
    parsed, is_name = _parsed("key", text), os.path.exists(os.path.expanduser(text))
    if parsed is None or (
        is_name and (_is_read_otherwise(text, parsed, False) or (takes_names and _is_number(parsed)))
    ):
        return _quoted(text, is_name=is_name)
    return text
