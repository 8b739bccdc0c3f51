"""Output files of a comparison: the table in three formats, the rows, and plots over t."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd

from wplus.core.files import atomic_write, write_json
from wplus.core.markdown import Headings, heading, markdown_means, markdown_tests
from wplus.core.stats import Mean
from wplus.core.tables import write_csv
from wplus.evaluation.interpolation.pairs import STRATA
from wplus.evaluation.interpolation.realism import BINS, bin_name
from wplus.evaluation.interpolation.summary import Passing, Summary
from wplus.evaluation.interpolation.trajectories import CROSS_DISSOLVE
from wplus.evaluation.measure import with_caveat
from wplus.interpolation.trajectory import PathNumber

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Each = TypeVar("Each")


def write(folder: Path, summary: Summary, protocol: Mapping[str, Any]) -> None:
    """Write table.json (everything), table.csv (means by stratum), rows.csv (all pairs), table.md and along.png."""
    write_json(folder / "table.json", {"protocol": dict(protocol), **summary.as_dict()})
    write_csv(folder / "table.csv", _mean_frame(summary))
    rows = {method: pd.DataFrame.from_dict(dict(each), orient="index") for method, each in summary.rows.items()}
    write_csv(folder / "rows.csv", pd.concat(rows, names=["method", "pair"]))
    text = markdown(summary, saw=protocol.get("saw", ()))
    atomic_write(folder / "table.md", lambda file: file.write(text.encode()))
    plot(folder / "along.png", summary)


def _mean_frame(summary: Summary) -> pd.DataFrame:
    parts = {"all": summary.means, **summary.strata, "endpoints pass": summary.where_passing}
    lines = [
        (method, part, name, mean.value, *(mean.interval or (None, None)), each.unit, each.direction, each.meaning)
        for part, means in parts.items()
        for method, found in means.items()
        for name, mean in found.items()
        for each in [summary.numbers[name]]
    ]
    columns = ["method", "pairs", "metric", "value", "low", "high", "unit", "direction", "meaning"]
    return pd.DataFrame(lines, columns=columns).set_index("method")


def markdown(summary: Summary, *, saw: Sequence[str] = ()) -> str:
    """Format the main numbers, a table per path metric with paired differences from the baseline, and the main numbers
    for subsets of the pairs, after a note on nets used to train the generator (`saw`)."""
    main = _columns(summary.shown("short"))
    taught = "The generator's discriminator saw {}: these nets also trained the generator whose images they measure.\n"
    parts = [taught.format(", ".join(saw))] if saw else []
    parts += [] if summary.passing is None else [_of_the_endpoints(summary, summary.passing)]
    parts += ["### The main numbers", markdown_means(_marked(summary, summary.means), main)] if main else []
    numbers = summary.shown("short", "table")
    for metric in dict.fromkeys(number.metric for number in numbers):
        parts += _of_metric(summary, [number for number in numbers if number.metric == metric])
    if summary.where_passing:
        parts += ["### Pairs whose endpoints pass", markdown_means(summary.where_passing, main)]
    parts += [_by_stratum(summary, main)] if main else []
    return "\n".join(parts)


def _of_metric(summary: Summary, numbers: Sequence[PathNumber]) -> list[str]:
    columns = _columns(numbers)
    tests = markdown_tests(_marked(summary, summary.paired), summary.baseline, columns)
    trimmed = ", ".join(number.name for number in numbers if number.trimmed)
    why = "Means leave out the pairs below the 1st and above the 99th percentile, differences take all pairs"
    return [
        f"### {numbers[0].metric}",
        markdown_means(_marked(summary, summary.means), columns),
        *([tests] if tests else []),
        *([f"{why}: {trimmed}.\n"] if tests and trimmed else []),
        *(f"- `{number.name}`: {number.meaning}" for number in numbers),
        "",
    ]


def _columns(numbers: Sequence[PathNumber]) -> Headings:
    return {number.name: (heading(number.name, number), number.format) for number in numbers}


def _of_the_endpoints(summary: Summary, passing: Passing) -> str:
    """Describe the criterion for endpoints, the methods that fail it, and on how many pairs all others pass."""
    num = len(next(iter(summary.rows.values())))
    rule = f"Endpoints pass that miss their image by at most {passing.limit:g} of the distance between the two images."
    failed = [f"On most pairs they fail with {', '.join(passing.failing)}: how smooth such paths are says nothing "
              "about paths between these images."] if passing.failing else []  # fmt: skip
    others = "all other methods" if passing.failing else "all methods"
    further = "whose own numbers are below" if summary.where_passing else "too few for numbers of their own"
    some = [f"With {others} they pass on {len(passing.pairs)} of {num} pairs, {further}."] if passing.pairs else []
    return " ".join([rule, *failed, *some]) + "\n"


def _marked(summary: Summary, methods: Mapping[str, Each]) -> dict[str, Each]:
    """Append a caveat to the names of methods whose endpoints fail."""
    return {with_caveat(name, summary.caveat(name)): each for name, each in methods.items()}


def _by_stratum(summary: Summary, columns: Headings) -> str:
    """Format the main numbers of near, mid and far pairs, without intervals, which are in table.csv."""
    means = {
        f"{method}, {stratum}": {name: Mean(mean.value, None) for name, mean in summary.strata[stratum][method].items()}
        for method in summary.means
        for stratum in STRATA
        if summary.strata[stratum][method]
    }
    return "### By distance of the endpoints\n\n" + markdown_means(means, columns)


_PANELS = {
    "prior": "distance from the prior",
    "logit": "discriminator logit",
    "step": "perceptual step",
    "similarity": "similarity to a (solid), to b (dashed)",
}


def plot(path: Path, summary: Summary) -> None:
    """Plot means over pairs along t as a PNG, one line per method; curves without a predefined panel get their own."""
    from matplotlib.figure import Figure  # slow to import, needed here only

    known = {name.removesuffix("_a").removesuffix("_b"): None for each in summary.along.values() for name in each}
    panels = ["kd", *(name for name in _PANELS if name in known), *(name for name in known if name not in _PANELS)]
    num_rows = -(-len(panels) // 2)
    figure = Figure(figsize=(12, 3.6 * num_rows + 1), layout="constrained")
    axes = figure.subplots(num_rows, 2, squeeze=False).flatten()
    styles = {method: {"color": f"C{index % 10}", "linewidth": 1.4 if index < 10 else 0.8}
              for index, method in enumerate(summary.means)}  # fmt: skip
    styles[CROSS_DISSOLVE] = {"color": "black", "linewidth": 1, "linestyle": ":"}
    for axis, panel in zip(axes, panels, strict=False):
        draw = _draw_kernel if panel == "kd" else _draw_curves
        draw(axis, summary, panel, styles)
        axis.set(xlabel="t", xlim=(0, 1))
    for axis in axes[len(panels) :]:
        axis.remove()
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=8, frameon=False)
    atomic_write(path, lambda file: figure.savefig(file, format="png", dpi=110))


def _draw_curves(axis: "Axes", summary: Summary, panel: str, styles: Mapping[str, dict[str, Any]]) -> None:
    for method, curves in summary.along.items():
        for name in (panel, f"{panel}_a", f"{panel}_b"):
            style = styles[method] | ({"linestyle": "--"} if name.endswith("_b") and method != CROSS_DISSOLVE else {})
            if name in curves:
                axis.plot(summary.t, curves[name], **style)
    axis.set(ylabel=_PANELS.get(panel, panel), yscale="log" if panel == "prior" else "linear")


def _draw_kernel(axis: "Axes", summary: Summary, panel: str, styles: Mapping[str, dict[str, Any]]) -> None:
    places = {"ends": (0.0, 1.0), "middle": (0.5,)} | {bin_name(*b): (sum(b) / 2,) for b in BINS}
    for method, means in summary.means.items():
        points = sorted((t, means[name].value) for place, ts in places.items() for t in ts
                        for name in means if name.startswith("kd_") and name.endswith(f"_{place}"))  # fmt: skip
        axis.plot([t for t, _ in points], [value for _, value in points], label=method, marker=".", **styles[method])
    axis.set(ylabel="kernel distance from real images")
