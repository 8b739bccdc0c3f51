"""Values as a report shows them: text, bounds, one sentence of explanation, the protocol line by line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from wplus.tracking.glossary import explain


def numbers(values: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per number: its value and interval as text, its explanation, its protocol as lines."""
    return [
        {
            "name": last(name),
            "number": cell(entry),
            "explanation": explanation(name, entry),
            "protocol": list(flat(entry.get("protocol") or {})),
        }
        for name, entry in values.items()
    ]


def explanation(name: str, *entries: Mapping[str, Any]) -> str:
    """What the number's own record says it means, else the glossary's sentence for its name."""
    return next((str(entry["meaning"]) for entry in entries if entry.get("meaning")), "") or explain(name)


def cell(entry: Mapping[str, Any] | None) -> dict[str, str]:
    """Value and interval as text; a dash where there is none."""
    if entry is None:
        return {"value": "–", "interval": ""}
    low, high = entry.get("interval") or (None, None)
    interval = "" if low is None else f"{plain_text(low)} to {plain_text(high)}"
    return {"value": plain_text(entry.get("value")), "interval": interval}


def plain_text(value: Any) -> str:
    """Four significant digits of a float; anything else as it is."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def flat(protocol: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested mappings as `a.b` -> text."""
    for name, value in protocol.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", plain_text(value)


def shared_protocol(entries: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """The lines of a number's protocol in every space (or method); what is equal in all of them is said once."""
    protocols = {space: dict(flat(entry["protocol"])) for space, entry in entries.items() if entry.get("protocol")}
    lines = []
    for name in dict.fromkeys(name for protocol in protocols.values() for name in protocol):
        texts = {space: protocol.get(name, "–") for space, protocol in protocols.items()}
        same = len(set(texts.values())) == 1
        lines.append((name, next(iter(texts.values())) if same else ", ".join(f"{s}: {t}" for s, t in texts.items())))
    return lines


def last(name: str) -> str:
    """The part of a name behind its last slash."""
    return name.rsplit("/", 1)[-1]
