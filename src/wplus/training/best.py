"""The best snapshot of a training by one recorded number: kept as model-best.safetensors.

The best of several snapshots is optimistic, for chance had a part in the choice: measure that file afresh, on other
latents and images, before its number is told to anybody.
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
    """Hears what is logged, and says after each snapshot whether it is the best so far.

    Args:
        folder: of the run; what `FILE` there says is gone on from, where it was chosen by the same number.
        objective: a recorded number of which lower, or higher, values are better; None: the first of `val/`.

    Attributes:
        value, kimg: of the best snapshot so far; None before the first.
        num_snapshots: that the number was known of.
    """

    def __init__(self, folder: Path, objective: str | None = None) -> None:
        self.folder, self.objective = folder, objective
        self.value: float | None = None
        self.kimg: float | None = None
        self.num_snapshots = 0
        self._infos: dict[str, MetricInfo] = {}
        self._latest: dict[str, float] = {}

    def describe(self, info: Mapping[str, MetricInfo]) -> None:
        """Learn which values are better."""
        self._infos.update(info)

    def log(self, values: Mapping[str, float], *, kimg: float | None = None) -> None:
        """Keep what every number was the last time."""
        self._latest.update(values)

    def rewind(self, kimg: float | None) -> None:
        """Go on from the file and the record; from nothing where the run begins anew.

        A file from after `kimg` stands: a run that is continued comes to that moment again.
        """
        if kimg is None or not (self.folder / FILE).is_file():
            return
        header, _ = FORMAT.open(self.folder / FILE)
        chosen = header["metadata"]["best"]
        if self.objective in (None, chosen["objective"]):
            self.objective, self.value, self.kimg = (chosen[key] for key in ("objective", "value", "kimg"))
            self.num_snapshots = sum(self.name in row for row in read_records(self.folder))

    def is_reached(self, kimg: float) -> bool:
        """Whether the snapshot at `kimg`, whose numbers have been logged, is the best so far.

        UserError where the objective is no number that is recorded, or none of which some values are better.
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
            # Rather one that is measured by a net which has not taught the generator.
            self.objective = next(iter(sorted(found, key=lambda name: name.endswith(SUFFIX))), None)
        elif self.objective not in known:
            why = "which is neither better low nor high" if self.objective in self._infos else "which is not recorded"
            raise UserError(f"objective={self.objective}, {why}: it must be one of {', '.join(sorted(known))}.")

    @property
    def name(self) -> str:
        """What the best value is recorded as: train/best_fd_effnet_lite0."""
        return f"train/best_{str(self.objective).partition('/')[2].replace('/', '_')}"

    @property
    def _info(self) -> MetricInfo:
        return self._infos[str(self.objective)]

    @property
    def metadata(self) -> dict[str, Any]:
        """What the file says of its choice."""
        return {"objective": self.objective, "value": self.value, "kimg": self.kimg}

    @property
    def result(self) -> MetricResult:
        """The best value, and in its protocol when it was, of how many, and what that means."""
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
        """For the terminal: `fd_effnet_lite0 88.2, best 85.03 at 10.24 kimg`; empty without a number."""
        now = self._latest.get(str(self.objective))
        if now is None:
            return ""
        best = "" if self.value is None else f", best {self.value:.4g} at {self.kimg:g} kimg"
        return f"{str(self.objective).partition('/')[2]} {now:.4g}{best}"


class Headline(Sink):
    """The last losses, the objective and the speed, in the few words that stand beside a progress bar."""

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
