"""A model as a folder for Hugging Face's hub: config.json, model.safetensors, and a model card (README.md).

`wplus.load` reads it. The weights are an ordinary, self-describing file of ours; config.json repeats its description
for readers that do not open it.
"""

import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from wplus import __version__, checkpoint
from wplus.adapters.rebuild import plain
from wplus.core.files import atomic_write, write_json
from wplus.errors import UserError
from wplus.models.generator import GeneratorNetwork
from wplus.models.network import Network

CARD = "README.md"
TEMPLATE = """\
---
{{ card_data }}
---

# {{ name }}

{{ summary }} Written by wplus {{ version }}.

## How to load it

```python
import torch
import wplus

models = wplus.load("{{ name }}")  # this folder
{{ example }}
```

## Networks

{{ networks }}

## Data

{{ data }}

## Training

{{ training }}

## Measured

{{ metrics }}

## Licence

{{ licence }}
"""


def write(
    target: str | Path,
    models: checkpoint.Models,
    *,
    licence: str | None = None,
    metrics: Mapping[str, Mapping[str, Any]] | None = None,
) -> bool:
    """Write the folder `target`; returns whether an existing model card is kept.

    A new folder is created atomically. In an existing model folder the files are replaced one by one, weights first, so
    that readers find either the old or the new model. UserError for a folder with other contents.
    `licence` and `metrics` are those of `model_card`.
    """
    folder = Path(target)
    _require_free(folder)
    temporary = folder if folder.is_dir() else folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    is_kept = (folder / CARD).exists()
    try:
        checkpoint.save(temporary / checkpoint.WEIGHTS, **models.networks, metadata=models.metadata)
        config = {"library_name": "wplus", "wplus_version": __version__, **checkpoint.describe(models.networks)}
        write_json(temporary / checkpoint.CONFIG, {**config, "metadata": plain(models.metadata)})
        if not is_kept:
            card = model_card(folder.resolve().name, models, licence=licence, metrics=metrics or {})
            atomic_write(temporary / CARD, lambda file: file.write(card.encode()))
        if temporary != folder:
            os.replace(temporary, folder)
    except OSError as error:
        raise UserError(f"Cannot write '{folder}': {error.strerror or error}.") from error
    finally:
        if temporary != folder:
            shutil.rmtree(temporary, ignore_errors=True)
    return is_kept


def _require_free(folder: Path) -> None:
    """UserError unless the folder is new, empty or a model: an unrelated README.md must not pass for a model card."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"Cannot write the folder '{folder}': a file of this name is there.")
    visible = [item.name for item in folder.iterdir() if not item.name.startswith(".")] if folder.is_dir() else []
    if visible and checkpoint.WEIGHTS not in visible:
        raise UserError(f"The folder '{folder}' holds other things ('{sorted(visible)[0]}'); give a new or empty one.")


# --- the card ---------------------------------------------------------------------------------------------------------


def model_card(
    name: str, models: checkpoint.Models, *, licence: str | None, metrics: Mapping[str, Mapping[str, Any]]
) -> str:
    """The card as Markdown, with the header that the hub reads; missing information is stated as unknown.

    `licence` is an identifier as in "cc-by-4.0"; `metrics` are the values of an evaluation's result.json by name.
    """
    from huggingface_hub import ModelCard, ModelCardData  # slow to import, needed here only

    networks, metadata = models.networks, models.metadata
    stated = licence or metadata.get("license")
    about = {key: value for key, value in plain(dict(metadata)).items() if key not in ("data", "training_set_kwargs")}
    about |= {"pretrained nets that its discriminator saw": ", ".join(models.saw)} if models.saw else {}
    header = ModelCardData(
        license=_word(stated) if stated else "unknown",
        library_name="wplus",
        pipeline_tag="unconditional-image-generation",
        tags=["wplus", "gan", "image-generation"],
    )
    sections = {
        "summary": _summary(networks),
        "example": _example(networks.get("generator")),
        "networks": _markdown(["", "architecture", "parameters", "arguments"], map(_row, networks, networks.values())),
        "data": _table(plain(metadata.get("data") or metadata.get("training_set_kwargs") or {})),
        "training": _table(about),
        "metrics": _metrics(metrics),
        "licence": f"{_word(stated)}." if stated else "Not stated; ask whoever trained it before you share it.",
    }
    data = metadata.get("data")
    if isinstance(data, Mapping) and data.get("source"):
        sections["licence"] += f" The terms of the data also apply: {_cell(data['source'])}."
    content = {"template_str": TEMPLATE, "name": _word(name), "version": __version__, **sections}
    return str(ModelCard.from_template(header, **content))


def _summary(networks: Mapping[str, Network]) -> str:
    generator = networks.get("generator")
    if not isinstance(generator, GeneratorNetwork):
        return f"{' and '.join(networks).capitalize()} of a generator of images."
    classes = f", of {generator.c_dim} classes" if generator.c_dim else ""
    size = f"{generator.resolution} x {generator.resolution}"
    return f"A generator ({_architecture(generator)}) of images of {size} px{classes}."


def _architecture(network: nn.Module) -> str:
    return f"{type(network).__module__.removeprefix('wplus.models.')}.{type(network).__qualname__}"


def _example(generator: Network | None) -> str:
    if not isinstance(generator, GeneratorNetwork):
        return "print(models)"
    labels = f"c = torch.eye({generator.c_dim})[[0, 0, 0, 0]]  # of the first class\n" if generator.c_dim else ""
    argument, size = (", c" if generator.c_dim else ""), generator.resolution
    shape = f"(4, {generator.img_channels}, {size}, {size})"
    call = f"images = models.generator(z{argument}, truncation_psi=0.7)  # {shape}, about [-1, 1]"
    return f"z = torch.randn(4, models.generator.z_dim)\n{labels}{call}"


def _markdown(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _row(role: str, network: Network) -> list[str]:
    arguments = ", ".join(f"{name}={value}" for name, value in network.arguments.items())
    return [role, _architecture(network), f"{network.num_parameters:,}", arguments]


def _table(content: object) -> str:
    rows = _flat(content)
    return _markdown(["", ""], rows) if rows else "Not stated in the checkpoint."


def _flat(content: object, prefix: str = "") -> list[tuple[str, Any]]:
    """One row per entry, with dotted names for nested mappings."""
    if not isinstance(content, dict):
        return [(prefix.rstrip("."), content)]
    return [row for name, value in content.items() for row in _flat(value, f"{prefix}{name}.")]


def _metrics(metrics: Mapping[str, Mapping[str, Any]]) -> str:
    if not metrics:
        return "Not measured yet: run `wplus evaluate checkpoint=FOLDER`."
    rows = []
    for name, entry in metrics.items():
        bounds, value = entry.get("interval"), entry.get("value")
        interval = f"{bounds[0]:.4g} to {bounds[1]:.4g}" if bounds else ""
        protocol = ", ".join(f"{key}={text}" for key, text in (entry.get("protocol") or {}).items())
        rows.append([name, f"{value:.5g}" if isinstance(value, (int, float)) else value, interval, protocol])
    return _markdown(["metric", "value", "interval", "protocol"], rows)


def _word(text: object) -> str:
    """Sanitise a name for YAML and code: one line without quotes and brackets."""
    kept = "".join(char for char in str(text) if char.isalnum() or char in " ._-+")
    return kept.strip()[:100] or "unnamed"


def _cell(text: object) -> str:
    """Sanitise text for a table cell: one line of at most 500 characters that starts no column, tag or link."""
    line = " ".join(str(text).split())[:500]
    return "".join("\\" + char if char in "|<>[]`" else char for char in line if char.isprintable())
