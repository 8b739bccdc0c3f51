"""Names of keys used only in W&B: a sweep's varying keys, and the best values of curves."""

from wplus.core.metric_result import Direction

CURVES = ("train/", "val/", "probe/")  # prefixes of metrics that are logged repeatedly during a run


def swept_key(key: str) -> str:
    """The configuration key for a key that a sweep varies: `swept/inverter/num_steps`.

    It has no dots, since W&B pins whole keys but resolves dotted keys in panels as nested ones.
    """
    return f"swept/{key.replace('.', '/')}"


def extreme_key(name: str, direction: Direction) -> str:
    """The summary key for the best value of a curve: `val/fd_effnet_lite0_min`, `val/recall_effnet_lite0_max`."""
    return f"{name}_{'min' if direction == 'lower' else 'max'}"


def is_curve(name: str) -> bool:
    """Whether a metric is logged repeatedly during a run."""
    return name.startswith(CURVES)
