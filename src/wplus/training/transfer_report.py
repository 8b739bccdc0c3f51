"""Transfer report: what happened to each tensor of the networks that a run started from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from wplus.core.files import atomic_write, write_json
from wplus.core.metric_result import MetricInfo
from wplus.tracking import Tracker
from wplus.training.checkpoints import SUFFIX

KINDS = {
    kind: MetricInfo(meaning=meaning)
    for kind, meaning in (
        ("loaded", "Numbers copied unchanged from the checkpoint."),
        ("mismatched", "Numbers with another shape in the checkpoint: initialised as in an untrained network."),
        ("skipped", "Numbers of the checkpoint that the network has no place for."),
        ("new", "Numbers missing from the checkpoint: initialised as in an untrained network."),
    )
}
NUM_SHOWN = 4  # modules named per printed line


@dataclass(frozen=True, kw_only=True)
class NetworkReport:
    """Report on one network. By tensor name: element counts in loaded, skipped and new, both shapes in mismatched."""

    role: str
    origin: Path | None
    """The file; None if no file contains such a network and everything is new."""
    resolutions: tuple[int | None, int]
    """Resolution of the network in the file, and of the one to be trained."""
    arguments: Mapping[str, tuple[Any, Any]]
    """Constructor arguments that differ: (in the file, here)."""
    loaded: Mapping[str, int]
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    skipped: Mapping[str, int]
    new: Mapping[str, int]

    def numbers(self, kind: str) -> int:
        """Count the tensor elements of a kind; mismatched ones are counted in the network to be trained."""
        found = getattr(self, kind).values()
        return sum(math.prod(here) for _, here in found) if kind == "mismatched" else sum(found)

    def __str__(self) -> str:
        if self.origin is None:
            return f"{self.role}: new, because no checkpoint contains one"
        there, here = self.resolutions
        parts = []
        for kind in (kind for kind in KINDS if getattr(self, kind)):
            names = getattr(self, kind)
            modules = list(dict.fromkeys(".".join(name.split(".")[:2]) for name in names))
            more = [f"and {len(modules) - NUM_SHOWN} more"] if len(modules) > NUM_SHOWN else []
            listed = "" if kind == "loaded" else f" ({', '.join(modules[:NUM_SHOWN] + more)})"
            parts.append(f"{kind} {self.numbers(kind):,} numbers in {len(names)} tensors{listed}")
        parts += [f"{name} {a} -> {b}" for name, (a, b) in self.arguments.items()]
        return f"{self.role}, {there} -> {here} px, from {self.origin}: {'; '.join(parts)}"

    def content(self) -> dict[str, Any]:
        """Return the report as plain values for JSON."""
        entries = {kind: getattr(self, kind) for kind in KINDS}
        kinds = {kind: {"tensors": len(names), "numbers": self.numbers(kind), "names": names}
                 for kind, names in entries.items()}  # fmt: skip
        resolution = dict(zip(("there", "here"), self.resolutions, strict=True))
        origin = self.origin and str(self.origin)
        return {"checkpoint": origin, "resolution": resolution, "other_arguments": self.arguments, **kinds}

    def markdown(self) -> list[str]:
        """Return the lines of a section per kind, listing every name."""
        lines = []
        for kind in ("arguments", *KINDS):
            heading = "other arguments" if kind == "arguments" else kind
            entries = {name: f"{entry:,}" if isinstance(entry, int) else "{} there, {} here".format(*entry)
                       for name, entry in getattr(self, kind).items()}  # fmt: skip
            if entries:
                lines += [
                    "",
                    f"## {self.role}: {heading}",
                    "",
                    *(f"- {name}: {text}" for name, text in entries.items()),
                ]
        return lines


@dataclass(frozen=True)
class Report:
    """Report on all networks; `frozen` names the discriminator's tensors that stay as they were loaded."""

    networks: tuple[NetworkReport, ...]
    frozen: tuple[str, ...] = ()

    def __str__(self) -> str:
        frozen = [f"frozen: {len(self.frozen)} tensors of the discriminator"] if self.frozen else []
        return "\n".join(f"  {line}" for line in [*map(str, self.networks), *frozen])

    def record(self, folder: Path, tracker: Tracker) -> None:
        """Write transfer.json, transfer.md and the tracker's summary; a resumed run keeps its original ones."""
        for network in self.networks:
            if network.origin is not None:
                name = "transfer" if network.role == "generator" else f"transfer-{network.role}"
                tracker.use_artifact(network.origin, name=name, kind="model")
        if any((folder / "checkpoints").glob(f"*{SUFFIX}")):
            print(f"The run is resumed; see {folder / 'transfer.md'} for what it started from.")
            return
        print(f"The run starts from trained networks:\n{self}")
        content = {network.role: network.content() for network in self.networks}
        write_json(folder / "transfer.json", {**content, "frozen": list(self.frozen)})
        atomic_write(folder / "transfer.md", lambda file: file.write(self.markdown().encode()))
        entries = {}
        for network in self.networks:
            for kind, info in KINDS.items():
                protocol = {"checkpoint": str(network.origin), "tensors": len(getattr(network, kind))}
                entry = {"value": network.numbers(kind), "protocol": protocol, **asdict(info)}
                entries[f"train/transfer_{network.role}_{kind}"] = entry
        tracker.summary(entries)

    def markdown(self) -> str:
        """Return a table of the counts, followed by every name."""
        lines = ["# What the run started from", "", f"| network | {' | '.join(KINDS)} | checkpoint |", "|---" * 6 + "|"]
        for network in self.networks:
            cells = [f"{network.numbers(kind):,} ({len(getattr(network, kind))})" for kind in KINDS]
            lines.append(f"| {network.role} | {' | '.join(cells)} | {network.origin or 'none'} |")
        lines += ["", "Numbers (tensors).", *(f"{kind}: {info.meaning}" for kind, info in KINDS.items())]
        lines += [line for network in self.networks for line in network.markdown()]
        if self.frozen:
            lines += ["", "## Frozen", "", *(f"- {name}" for name in self.frozen)]
        return "\n".join(lines) + "\n"
