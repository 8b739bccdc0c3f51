"""The notes beside a page's tables: meanings, protocols, settings, messages, the machine."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from wplus.report.runs import PageRun, Part
from wplus.sweeps.labels import value_text
from wplus.tracking.tracker import DERIVED

_MOST = 4  # number of different values spelt out in one line
_MAX_MESSAGES = 24


def meanings(part: Part, block: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row for every metric of a block: its meaning, and its protocol line by line."""
    rows = []
    for number in block["numbers"]:
        entries = {
            run.label: run.member.values[number["name"]] for run in part.runs if number["name"] in run.member.values
        }
        rows.append({**number, "protocol": _protocol(entries), "cell": block["rows"][0]["cells"].get(number["name"])})
    return [row for row in rows if row["cell"] is not None or len(block["rows"]) > 1]


def derived_settings(part: Part) -> list[dict[str, str]]:
    """Settings derived from others, with the reason; for several runs, every value that occurred."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for run in part.runs:
        for name, entry in run.member.values.items():
            if name.startswith(DERIVED):
                protocol = entry.get("protocol") or {}
                why = protocol.get("why", "") if isinstance(protocol, Mapping) else str(protocol)
                texts = found.setdefault(name.removeprefix(DERIVED), {"value": {}, "why": {}})
                texts["value"][digits(entry.get("value"))] = None
                texts["why"][str(why)] = None
    return [
        {"name": name, "value": _joined(texts["value"]), "why": _joined(texts["why"])} for name, texts in found.items()
    ]


def common_settings(part: Part) -> list[tuple[str, str]]:
    """The settings that are the same in all runs of a part."""
    first, *others = [run.member.asked for run in part.runs]
    return [(key, value_text(value)) for key, value in first.items()
            if all(other.get(key) == value for other in others)]  # fmt: skip


def run_notes(part: Part) -> list[dict[str, str]]:
    """Messages about the runs; with several runs only warnings, limited in number."""
    is_alone = len(part.runs) == 1
    said = [{**message, "label": "" if is_alone else run.label} for run in part.runs for message in run.messages
            if is_alone or message.get("level") != "info"]  # fmt: skip
    return said[:_MAX_MESSAGES]


def environment(runs: Iterable[PageRun]) -> dict[str, dict[str, str]]:
    """Machine, code and versions; all values that occurred if runs differ."""
    found: dict[str, dict[str, dict[str, None]]] = {}
    for run in runs:
        for section in ("device", "git", "versions"):
            for name, value in run.result.get(section, {}).items():
                found.setdefault(section, {}).setdefault(name, {})[str(value)] = None
    return {section: {name: _joined(texts) for name, texts in entries.items()} for section, entries in found.items()}


def duration(seconds: float | None) -> str:
    """Format as minutes and seconds."""
    if seconds is None:
        return ""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def _protocol(entries: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Merge protocols: equal values once, else all that occurred."""
    protocols = [
        dict(_flat(entry["protocol"])) for entry in entries.values() if isinstance(entry.get("protocol"), Mapping)
    ]
    names = dict.fromkeys(name for protocol in protocols for name in protocol)
    return [(name, _joined(dict.fromkeys(protocol.get(name, "–") for protocol in protocols))) for name in names]


def _flat(protocol: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Flatten nested mappings to `a.b` -> text."""
    for name, value in protocol.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", digits(value)


def digits(value: object) -> str:
    """Format floats with four significant digits, and anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _joined(texts: Iterable[str]) -> str:
    shown: Sequence[str] = [text for text in texts if text]
    more = f"; and {len(shown) - _MOST} more" if len(shown) > _MOST else ""
    return "; ".join(shown[:_MOST]) + more
