"""Write the report of a run's or the demo's folder: python experiments/report.py folder=runs/demo."""

from __future__ import annotations

from typing import Any

from wplus.config import entry_point


@entry_point("report")
def main(cfg: dict[str, Any]) -> None:
    """Print the path of the written page."""
    from wplus.tracking.report import write_report

    print(write_report(cfg["folder"], cfg["output"]))


if __name__ == "__main__":
    main()
