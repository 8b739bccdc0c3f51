"""The text that goes with a model: what it is, of which data, how well it does, under which licence, how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from wplus import __version__
from wplus.adapters.rebuild import plain

TEMPLATE = """\
---
license: {identifier}
library_name: wplus
pipeline_tag: unconditional-image-generation
tags: [wplus, gan, image-generation]
---

# {name}

{summary} Written by wplus {version}.

## How to load it

```python
import torch
import wplus

models = wplus.load("{name}")  # this folder
{example}
```

## Networks

| | architecture | parameters | arguments |
|---|---|---|---|
{networks}

## Data

{data}

## Training

{training}

## Measured

{metrics}

## Licence

{licence}
"""

FROM_Z = """\
z = torch.randn(4, models.generator.z_dim){labels}
images = models.generator(z{argument}, truncation_psi=0.7)  # (4, {channels}, {size}, {size}), about [-1, 1]"""


def model_card(
    name: str,
    networks: Mapping[str, Any],
    metadata: Mapping[str, Any],
    *,
    licence: str | None = None,
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
) -> str:
    """The card as Markdown with the header that the hub reads; what nobody has said is named as unknown.

    `networks` by role; `metrics` by name, each with `value` and perhaps `interval` and `protocol`.
    """
    about = {key: value for key, value in plain(dict(metadata)).items() if key not in ("data", "training_set_kwargs")}
    stated = licence or metadata.get("license")
    return TEMPLATE.format(
        identifier=_word(stated) if stated else "unknown",
        name=_word(name),
        version=__version__,
        summary=_summary(networks),
        example=_example(networks.get("generator")),
        networks="\n".join(_network_row(role, network) for role, network in networks.items()),
        data=_table(plain(metadata.get("data") or metadata.get("training_set_kwargs") or {})),
        training=_table(about),
        metrics=_metrics(metrics or {}),
        licence=_licence(stated, metadata.get("data")),
    )


def _summary(networks: Mapping[str, Any]) -> str:
    generator = networks.get("generator")
    if generator is None:
        return f"{' and '.join(networks).capitalize()} of a generator of images."
    classes = f", of {generator.c_dim} classes" if generator.c_dim else ""
    return f"A generator ({_architecture(generator)}) of images of {_size(generator)} px{classes}."


def _architecture(network: nn.Module) -> str:
    return f"{type(network).__module__.removeprefix('wplus.models.')}.{type(network).__qualname__}"


def _size(generator: Any) -> str:
    return f"{generator.resolution} x {generator.resolution}"


def _example(generator: Any) -> str:
    if generator is None:
        return "print(models)"
    labels = f"\nc = torch.eye({generator.c_dim})[[0, 0, 0, 0]]  # of the first class" if generator.c_dim else ""
    argument = ", c" if generator.c_dim else ""
    return FROM_Z.format(labels=labels, argument=argument, channels=generator.img_channels, size=generator.resolution)


def _network_row(role: str, network: Any) -> str:
    num = sum(parameter.numel() for parameter in network.parameters())
    arguments = ", ".join(f"{name}={value}" for name, value in network.arguments.items())
    return f"| {role} | {_architecture(network)} | {num:,} | {_cell(arguments)} |"


def _table(content: Any) -> str:
    """A row per entry, those of inner mappings by dotted names."""
    rows = [f"| {_cell(name)} | {_cell(value)} |" for name, value in _flat(content)]
    return "\n".join(["| | |", "|---|---|", *rows]) if rows else "The checkpoint does not say."


def _flat(content: Any, prefix: str = "") -> list[tuple[str, Any]]:
    if not isinstance(content, dict):
        return [(prefix.rstrip("."), content)]
    return [row for name, value in content.items() for row in _flat(value, f"{prefix}{name}.")]


def _metrics(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    if not metrics:
        return "Not measured yet: `wplus evaluate checkpoint=FOLDER` does."
    rows = ["| metric | value | interval | protocol |", "|---|---|---|---|"]
    for name, entry in metrics.items():
        bounds = entry.get("interval")
        interval = f"{bounds[0]:.4g} to {bounds[1]:.4g}" if bounds else ""
        protocol = ", ".join(f"{key}={value}" for key, value in (entry.get("protocol") or {}).items())
        value = entry.get("value")
        number = f"{value:.5g}" if isinstance(value, (int, float)) else str(value)
        rows.append(f"| {_cell(name)} | {number} | {interval} | {_cell(protocol)} |")
    return "\n".join(rows)


def _licence(stated: Any, data: Any) -> str:
    source = data.get("source") if isinstance(data, Mapping) else None
    about_data = f" The data's terms hold besides: {_cell(source)}." if source else ""
    if stated:
        return f"{_word(stated)}.{about_data}"
    return f"Not stated; ask whoever trained it before you share it.{about_data}"


def _word(text: Any) -> str:
    """A name for YAML and code: one line without quotes and brackets."""
    kept = "".join(char for char in str(text) if char.isalnum() or char in " ._-+")
    return kept.strip()[:100] or "unnamed"


def _cell(text: Any) -> str:
    """One line of a table, at most 500 characters, that begins no column, tag or link of its own."""
    line = " ".join(str(text).split())[:500]
    return "".join("\\" + char if char in "|<>[]`" else char for char in line if char.isprintable())
