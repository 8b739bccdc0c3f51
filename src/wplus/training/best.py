"""Keeps the best snapshot of a training, according to one recorded metric, as model-best.safetensors.

The best of several snapshots is an optimistic estimate, since chance plays a part in the selection. Evaluate that file
again, on other latents and images, before reporting its metrics.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wplus.checkpoint import FILE as FORMAT
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.errors import UserError
from wplus.pretrained.seen import SUFFIX
from wplus.tracking import Sink
from wplus.tracking.local import read_records

FILE = "model-best.safetensors"
VALIDATION = "val/"
_SHORT = {"generator": "G", "discriminator": "D", "latent_discriminator": "D"}
_SUPERLATIVE = {"lower": "lowest", "higher": "highest"}


class Best(Sink):
    """A sink that decides after each snapshot whether it is the best so far.

    Args:
        folder: the run's folder; an existing `FILE` there is taken as the best so far if its objective is the same.
        objective: a recorded metric for which lower or higher values are better; None: the first one in `val/`.

    Attributes:
        value, kimg: of the best snapshot so far; None before the first.
        num_snapshots: number of snapshots with a value of the objective.
    """

    def __init__(self, folder: Path, objective: str | None = None) -> None:
        self.folder, self.objective = folder, objective
        self.value: float | None = None
        self.kimg: float | None = None
        self.num_snapshots = 0
        self._infos: dict[str, MetricInfo] = {}
        self._latest: dict[str, float] = {}

    def describe(self, info: Mapping[str, MetricInfo]) -> None:
        """Record for each metric whether lower or higher values are better."""
        self._infos.update(info)

    def log(self, values: Mapping[str, float], *, kimg: float | None = None) -> None:
        """Keep the latest value of every metric."""
        self._latest.update(values)

    def rewind(self, kimg: float | None) -> None:
        """Restore the state from the file and the record, unless the run starts from scratch.

        A file from a later time than `kimg` is kept: the resumed run will reach that snapshot again.
        """
        if kimg is None or not (self.folder / FILE).is_file():
            return
        header, _ = FORMAT.open(self.folder / FILE)
        chosen = header["metadata"]["best"]
        if self.objective in (None, chosen["objective"]):
            self.objective, self.value, self.kimg = (chosen[key] for key in ("objective", "value", "kimg"))
            self.num_snapshots = sum(self.name in row for row in read_records(self.folder))

    def is_reached(self, kimg: float) -> bool:
        """Return whether the snapshot at `kimg`, whose metrics have been logged, is the best so far.

        Raises UserError if the objective is not recorded, or is a metric without a better direction.
        """
        self._check()
        value = math.nan if self.objective is None else self._latest.get(self.objective, math.nan)
        if not math.isfinite(value):
            return False
        self.num_snapshots += 1
        sign = -1 if self._info.direction == "lower" else 1
        is_best = self.value is None or sign * value > sign * self.value
        if is_best:
            self.value, self.kimg = value, kimg
        return is_best

    def _check(self) -> None:
        known = [name for name, info in self._infos.items() if info.direction != "neither"]
        if self.objective is None:
            found = [name for name in self._latest if name.startswith(VALIDATION) and name in known]
            # Prefer a metric whose feature network was not used to train the generator.
            self.objective = next(iter(sorted(found, key=lambda name: name.endswith(SUFFIX))), None)
        elif self.objective not in known:
            why = (
                "for which neither low nor high is better" if self.objective in self._infos else "which is not recorded"
            )
            raise UserError(f"objective={self.objective}, {why}: it must be one of {', '.join(sorted(known))}.")

    @property
    def name(self) -> str:
        """The name under which the best value is recorded, e.g. train/best_fd_effnet_lite0."""
        return f"train/best_{str(self.objective).partition('/')[2].replace('/', '_')}"

    @property
    def _info(self) -> MetricInfo:
        return self._infos[str(self.objective)]

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata for the file on how it was selected."""
        return {"objective": self.objective, "value": self.value, "kimg": self.kimg}

    @property
    def result(self) -> MetricResult:
        """The best value; its protocol records the time, the number of snapshots and the selection bias."""
        assert self.value is not None
        extreme = _SUPERLATIVE[self._info.direction]
        about = f"the {extreme} of {self.num_snapshots} snapshots by this very number, which is optimistic"
        info = MetricInfo(
            meaning=f"The {extreme} {self.objective} of the snapshots, of {FILE}; the best of several is optimistic.",
            unit=self._info.unit, direction=self._info.direction,
        )  # fmt: skip
        protocol = {**self.metadata, "num_snapshots": self.num_snapshots, "file": FILE, "chosen": about}
        return MetricResult.of(info, self.name, self.value, protocol=protocol)

    def __str__(self) -> str:
        """Text for the terminal, `fd_effnet_lite0 88.2, best 85.03 at 10.24 kimg`; empty without a value."""
        now = self._latest.get(str(self.objective))
        if now is None:
            return ""
        best = "" if self.value is None else f", best {self.value:.4g} at {self.kimg:g} kimg"
        return f"{str(self.objective).partition('/')[2]} {now:.4g}{best}"


class Headline(Sink):
    """A sink that formats the latest losses, the objective and the speed for a progress bar."""

    def __init__(self, best: Best) -> None:
        self.best = best
        self._losses: dict[str, float] = {}
        self._speed = ""

    def log(self, values: Mapping[str, float], *, kimg: float | None = None) -> None:
        """Keep the losses and the speed."""
        for name, value in values.items():
            area, _, rest = name.partition("/")
            network, _, kind = rest.partition("/")
            if (area, kind) == ("train", "loss"):
                self._losses[_SHORT.get(network, network)] = value
        if (seconds := values.get("progress/sec_per_kimg")) is not None:
            self._speed = f"{seconds:.3g} s/kimg"

    def __str__(self) -> str:
        losses = " ".join(f"{name} {value:.3g}" for name, value in self._losses.items())
        return ", ".join(filter(None, [losses and f"loss {losses}", str(self.best), self._speed]))
