"""Names of the keys that W&B alone has: what a sweep varies, and the best value of a curve."""

from wplus.core.metric_result import Direction

CURVES = ("train/", "val/", "probe/")  # areas whose numbers have a value at many moments of a run


def swept_key(key: str) -> str:
    """Of the configuration, for a key that a sweep varies: `swept/inverter/num_steps`.

    Without dots, for W&B pins a key as a whole and finds its value in a panel part by part.
    """
    return f"swept/{key.replace('.', '/')}"


def extreme_key(name: str, direction: Direction) -> str:
    """Of the summary, for the best value of a curve: `val/fd_effnet_lite0_min`, `val/recall_effnet_lite0_max`."""
    return f"{name}_{'min' if direction == 'lower' else 'max'}"


def is_curve(name: str) -> bool:
    """Whether a number has a value at many moments of a run."""
    return name.startswith(CURVES)
