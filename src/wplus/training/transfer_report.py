"""What a run that starts from trained networks took over from them, tensor by tensor: printed, kept, tracked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wplus.core.files import atomic_write, write_json
from wplus.training.checkpoints import SUFFIX

KINDS = ("loaded", "mismatched", "skipped", "new")
MEANING = {
    "loaded": "Numbers that the network started from as they were in the checkpoint.",
    "mismatched": "Numbers that the checkpoint has in another shape: they started as those of an untrained network.",
    "skipped": "Numbers of the checkpoint that the network has no place for.",
    "new": "Numbers that the checkpoint lacks: they started as those of an untrained network.",
}
SHOWN = 4  # modules that a printed line names


@dataclass(frozen=True, kw_only=True)
class NetworkReport:
    """Of one network; by name, loaded, skipped and new hold counts of numbers, mismatched the shape there and here."""

    role: str
    origin: Path | None
    """The file; None where none holds such a network, and all is new."""
    resolutions: tuple[int | None, int | None]
    """Of the network in the file, and of that to be trained."""
    loaded: Mapping[str, int]
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    skipped: Mapping[str, int]
    new: Mapping[str, int]
    arguments: Mapping[str, tuple[Any, Any]]
    """Constructor arguments that differ: there, here."""

    def numbers(self, kind: str) -> int:
        """How many numbers there are of a kind; of mismatched ones, in the network to be trained."""
        if kind != "mismatched":
            return sum(getattr(self, kind).values())
        return sum(_numel(here) for _, here in self.mismatched.values())

    def __str__(self) -> str:
        if self.origin is None:
            return f"{self.role}: new, for no checkpoint holds one"
        there, here = self.resolutions
        kinds = [f"{kind} {self.numbers(kind):,} numbers in {len(getattr(self, kind))} tensors{self._where(kind)}"
                 for kind in KINDS if getattr(self, kind)]  # fmt: skip
        differing = [f"{name} {there} -> {here}" for name, (there, here) in self.arguments.items()]
        return f"{self.role}, {there} -> {here} px, from {self.origin}: {'; '.join([*kinds, *differing])}"

    def _where(self, kind: str) -> str:
        """The modules of tensors that did not come along, the first few of them."""
        modules = list(dict.fromkeys(_module(name) for name in getattr(self, kind)))
        more = f", and {len(modules) - SHOWN} more" if len(modules) > SHOWN else ""
        return "" if kind == "loaded" else f" ({', '.join(modules[:SHOWN])}{more})"

    def content(self) -> dict[str, Any]:
        """For JSON."""
        counts = {kind: {"tensors": len(getattr(self, kind)), "numbers": self.numbers(kind),
                         "names": getattr(self, kind)} for kind in KINDS}  # fmt: skip
        there, here = self.resolutions
        return {"checkpoint": self.origin and str(self.origin), "resolution": {"there": there, "here": here},
                "other_arguments": self.arguments, **counts}  # fmt: skip


@dataclass(frozen=True)
class Report:
    """Of every network of a game; `frozen` are the tensors of the discriminator that stay as they were loaded."""

    networks: tuple[NetworkReport, ...]
    frozen: tuple[str, ...] = ()

    def __str__(self) -> str:
        frozen = [f"frozen: {len(self.frozen)} tensors of the discriminator"] if self.frozen else []
        return "\n".join(f"  {line}" for line in [*map(str, self.networks), *frozen])

    def record(self, folder: Path, tracker: Any) -> None:
        """transfer.json, transfer.md and the tracker's summary; a run that is continued keeps those of its start."""
        for network in self.networks:
            if network.origin is not None:
                name = "transfer" if network.role == "generator" else f"transfer-{network.role}"
                tracker.use_artifact(network.origin, name=name, kind="model")
        if any((folder / "checkpoints").glob(f"*{SUFFIX}")):
            print(f"The run goes on; what it started from is told by {folder / 'transfer.md'}.")
            return
        print(f"It starts from trained networks:\n{self}")
        write_json(folder / "transfer.json", self.content())
        atomic_write(folder / "transfer.md", lambda file: file.write(self.markdown().encode()))
        tracker.summary(self._summary())

    def content(self) -> dict[str, Any]:
        """For JSON: network -> kind -> tensors, numbers, names."""
        return {**{network.role: network.content() for network in self.networks}, "frozen": list(self.frozen)}

    def markdown(self) -> str:
        """A table of the counts, then every name."""
        rows = [
            f"| {network.role} | {' | '.join(_cell(network, kind) for kind in KINDS)} | {network.origin or 'none'} |"
            for network in self.networks
        ]
        lines = [
            "# What the run started from",
            "",
            "| network | loaded | mismatched | skipped | new | checkpoint |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
            "Numbers (tensors). Loaded: as in the checkpoint. Mismatched: of another shape there, started untrained.",
            "Skipped: no place here. New: not in the checkpoint, started untrained.",
        ]
        for network in self.networks:
            lines += _named(network)
        if self.frozen:
            lines += ["", "## Frozen", "", *(f"- {name}" for name in self.frozen)]
        return "\n".join(lines) + "\n"

    def _summary(self) -> dict[str, Any]:
        return {
            f"transfer/{network.role}_{kind}": {
                "value": network.numbers(kind),
                "protocol": {"checkpoint": str(network.origin), "tensors": len(getattr(network, kind))},
                "meaning": MEANING[kind],
            }
            for network in self.networks
            for kind in KINDS
        }


def _cell(network: NetworkReport, kind: str) -> str:
    return f"{network.numbers(kind):,} ({len(getattr(network, kind))})"


def _named(network: NetworkReport) -> list[str]:
    lines = []
    if network.arguments:
        lines += ["", f"## {network.role}: other arguments", ""]
        lines += [f"- {name}: {there} there, {here} here" for name, (there, here) in network.arguments.items()]
    for kind in KINDS:
        if getattr(network, kind):
            lines += ["", f"## {network.role}: {kind}", ""]
            lines += [f"- {name}: {_told(entry)}" for name, entry in getattr(network, kind).items()]
    return lines


def _told(entry: Any) -> str:
    return f"{entry:,}" if isinstance(entry, int) else f"{entry[0]} there, {entry[1]} here"


def _module(name: str) -> str:
    """The first two parts of a tensor's name, of which the last is a number or the tensor's own."""
    return ".".join(name.split(".")[:2])


def _numel(shape: tuple[int, ...]) -> int:
    count = 1
    for size in shape:
        count *= size
    return count
