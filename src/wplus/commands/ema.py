"""Post-hoc weight averages (EMA) of any length, after training."""

from pathlib import Path
from typing import Any

from wplus.commands.entry import entry_point


@entry_point
def ema(cfg: dict[str, Any]) -> float:
    """Average a run's weights over any EMA length, post hoc. Returns the largest error of a profile, for sweeps."""
    from wplus.commands.common import listed, tracking
    from wplus.core.files import ensure_folder
    from wplus.training.posthoc_ema import averaged, stored_averages

    until = None if cfg["kimg"] is None else round(cfg["kimg"] * 1000)
    stored = stored_averages(Path(cfg["folder"]), until=until)
    folder, found = ensure_folder(cfg["run_dir"]), []
    with tracking(cfg, "ema") as tracker:
        for sigma in listed(cfg["sigma"]):
            path, result = averaged(stored, sigma=sigma, folder=folder)
            tracker.results([result])
            tracker.artifact(path, name=f"{folder.name}-{path.stem}", kind="model", metadata=result.protocol)
            print(f"{path}: {result}")
            found.append(result.value)
    return max(found)
