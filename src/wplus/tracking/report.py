"""From the folder of a run, or of a whole demo, to one self-contained report.html that a newcomer can read.

The folder holds the parts train/, invert/<space or inverter>/, interpolate/ and evaluate/, and perhaps compare/, each
written by a tracker: result.json, records.jsonl, and the pictures and videos they name. invert/grid.png and
invert/convergence.png, where they are, compare the inversions. What is missing is said to be missing. An optional
about.json (`title`, `text`: a list of paragraphs, `command`) tells what the report cannot see, such as where a model
came from.
"""

import base64
import json
import mimetypes
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
from PIL import Image

from wplus.core.files import atomic_write
from wplus.errors import UserError
from wplus.tracking.charts import Point, line_chart
from wplus.tracking.local import MESSAGE, read_records, read_result
from wplus.tracking.report_tables import comparison_rows, last, method_table, number_rows, plain_text
from wplus.tracking.tracker import DERIVED, KIMG

SPACES = ("z", "w", "w+")
MAX_INLINE_MB = 32
WIDE_ASPECT = 2.5
INVERT = "invert/"  # before the name of a space or inverter
NOT_DERIVED = ("given", "as published")  # reasons of settings that no preset chose

# Curves of a training that share a chart of their own title; others are grouped by the name before the last slash.
_CHARTS = {
    "Losses": r"^train/[^/]+/loss$",
    "The discriminator's opinion (mean logit; the two drift apart when it wins)": r"^train/logits/(real|fake)$",
    "Speed (thousand images per second)": r"^progress/kimg_per_s$",
    "Share of logits above zero, minus the share below": r"^train/logits/.*_sign$",
    "Gradient norms": r"/grad_norm$",
    "Penalties": r"^train/.*/penalty$",
    "Held-out images, and metrics": r"^val/",
}
_MAIN_CHARTS = 3  # shown open; the others fold away
_MAIN_SAMPLES = ("real", "fixed_latents", "inversions")  # likewise, at the beginning and at the end of a run


@dataclass(frozen=True)
class Part:
    """One step of the way, as it was found on disk."""

    folder: Path
    result: dict[str, Any]
    rows: list[dict[str, Any]]

    @property
    def values(self) -> dict[str, dict[str, Any]]:
        """Name -> entry, as `MetricResult.entry()`."""
        return self.result.get("values", {})


@dataclass(frozen=True)
class Figure:
    """A picture or video as the page shows it."""

    kind: str
    """image, video, or absent: what should be there cannot be shown."""
    source: str
    """The content as a data URI; empty when absent."""
    caption: str
    is_wide: bool = False
    """Wide ones take a row of their own."""


def write_report(folder: str | Path, output: str | Path | None = None) -> Path:
    """Write the report of `folder` to `output` (default: `folder`/report.html) and return its path."""
    root = Path(folder)
    if not root.is_dir():
        raise UserError(f"There is no folder '{root}' to report on; give one that a run or the demo has written.")
    templates = jinja2.FileSystemLoader(Path(__file__).parent)
    environment = jinja2.Environment(loader=templates, autoescape=True, undefined=jinja2.StrictUndefined)
    html = environment.get_template("report.html").render(context(root))
    return atomic_write(output or root / "report.html", lambda file: file.write(html.encode()))


def context(root: Path) -> dict[str, Any]:
    """Everything that the template shows."""
    own = _part(root)
    present = _of_a_demo(root) if own is None else {_section(own): own}
    train, compared, video, measured = map(present.get, ("train", "compare", "interpolate", "evaluate"))
    inversions = {name.removeprefix(INVERT): part for name, part in present.items() if name.startswith(INVERT)}
    return {
        "alone": own is not None,
        "about": _about(root),
        "folder": root.resolve().name,
        "written": time.strftime("%Y-%m-%d %H:%M"),
        "steps": [_step(name, part) for name, part in present.items()],
        "other_model": _other_model(train, [part for part in present.values() if part is not train]),
        "train": train and training(train),
        "inversion": inversions and inversion(inversions, root / "invert", whole=own is None),
        "interpolation": video and by_methods(video),
        "comparison": compared and by_methods(compared),
        "evaluation": measured and by_methods(measured),
        "environment": environment(present.values()),
    }


# Sections


def training(part: Part) -> dict[str, Any]:
    """Real images, the first and the last samples, what else was seen and said, the curves, what the preset chose."""
    charts = curves(part)
    samples = _logged(part, prefix="samples/")
    main = {key: shown for key, shown in samples.items() if last(key) in _MAIN_SAMPLES}
    settings = [_setting(name, entry) for name, entry in part.values.items() if name.startswith(DERIVED)]
    return {
        "samples": [
            _figure(part.folder, *each) for shown in main.values() for each in dict.fromkeys((shown[0], shown[-1]))
        ],
        "more_samples": [_figure(part.folder, *shown[-1]) for key, shown in samples.items() if key not in main],
        "messages": _messages(part.rows),
        "charts": charts[:_MAIN_CHARTS],
        "more_charts": charts[_MAIN_CHARTS:],
        "derived": [row for row in settings if row["why"] not in NOT_DERIVED],
        "given": [row for row in settings if row["why"] in NOT_DERIVED],
        "values": number_rows({name: entry for name, entry in part.values.items() if not name.startswith(DERIVED)}),
        "kimg": max((float(row[KIMG]) for row in part.rows if KIMG in row), default=0.0),
    }


def curves(part: Part) -> list[dict[str, Any]]:
    """Charts over kimg of every scalar that was logged, with what the record says it means; `_CHARTS` come first."""
    series: dict[str, list[Point]] = {}
    for row in part.rows:
        for name, value in row.items():
            if KIMG in row and name not in (KIMG, "time") and not isinstance(value, Mapping):
                series.setdefault(name, []).append((float(row[KIMG]), float(value)))
    charts: dict[str, dict[str, list[Point]]] = {title: {} for title in _CHARTS}
    for name, points in series.items():
        titles = (title for title, pattern in _CHARTS.items() if re.search(pattern, name))
        charts.setdefault(next(titles, name.rpartition("/")[0] or name), {})[name] = points
    info = part.result.get("info", {})
    drawn = [
        {
            "title": title,
            "svg": line_chart({name.removeprefix("train/"): points for name, points in lines.items()}, x_label="kimg"),
            "meanings": [(last(name), info[name]["meaning"]) for name in lines if name in info],
        }
        for title, lines in charts.items()
        if lines
    ]
    return [chart for chart in drawn if chart["svg"]]


def inversion(parts: Mapping[str, Part], folder: Path, *, whole: bool) -> dict[str, Any]:
    """A table of every number against the spaces, the pictures that compare them, and those of each space.

    Of the `whole` way the spaces that are missing are named.
    """
    values = {space: {last(name): entry for name, entry in part.values.items()} for space, part in parts.items()}
    compared = {"grid.png": f"target, then {', '.join(parts)}", "convergence.png": "the search, step by step"}
    return {
        "methods": list(parts),
        "missing": [space for space in SPACES if space not in parts] if whole and parts.keys() & set(SPACES) else [],
        "rows": comparison_rows(values),
        "compared": [_figure(folder, file, text) for file, text in compared.items() if (folder / file).exists()],
        "figures": {space: figures(part) for space, part in parts.items()},
    }


def by_methods(part: Part) -> dict[str, Any]:
    """Numbers that stand alone, and a section for each comparison of methods, with the pictures that belong to it."""
    files, groups = part.result.get("files", {}), part.result.get("methods", {})
    return {
        "values": number_rows(part.values),
        "figures": figures(part, without=[f"{key}_" for key in groups]),
        "methods": [
            {**method_table(part.folder, key, methods, files), "figures": figures(part, only=f"{key}_")}
            for key, methods in groups.items()
        ],
    }


def environment(parts: Iterable[Part]) -> dict[str, dict[str, str]]:
    """Machine, code and versions; where the parts differ, all that occurred."""
    merged: dict[str, dict[str, str]] = {}
    for part in parts:
        for section in ("device", "git", "versions"):
            for name, value in part.result.get(section, {}).items():
                known = merged.setdefault(section, {}).get(name)
                merged[section][name] = str(value) if known in (None, str(value)) else f"{known}; {value}"
    return merged


# What lies in the folder


def inversion_names(folder: Path) -> list[str]:
    """The folders of inversions in `folder`: those called like a space first, then others (inverters, say) by name."""
    names = sorted(path.name for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    return sorted(names, key=lambda name: SPACES.index(name) if name in SPACES else len(SPACES))


def _of_a_demo(root: Path) -> dict[str, Part]:
    """Step -> what it left, of a folder that holds a folder for every step."""
    inversions = [f"{INVERT}{name}" for name in inversion_names(root / "invert")]
    names = ["train", *inversions, "compare", "interpolate", "evaluate"]
    return {name: part for name in names if (part := _part(root / name))}


def _section(run: Part) -> str:
    """Where the page shows a run that stands for itself; what has no section of its own is a measurement."""
    kind = run.result.get("job_type")
    if kind == "invert":
        return f"{INVERT}{run.result.get('config', {}).get('space', 'images')}"
    return kind if kind in ("train", "compare", "interpolate") else "evaluate"


def _part(folder: Path) -> Part | None:
    result = read_result(folder)
    return Part(folder, result, list(read_records(folder))) if result else None


def _about(root: Path) -> dict[str, Any]:
    path = root / "about.json"
    try:
        given = json.loads(path.read_text()) if path.exists() else {}
        return {"title": "", "text": [], "command": "", **given}
    except ValueError as error:
        raise UserError(f"'{path}' is not valid JSON: {error}.") from error


def _step(name: str, part: Part) -> dict[str, Any]:
    inputs = part.result.get("inputs", {})
    return {
        "name": name,
        "status": ": ".join(filter(None, [part.result.get("status", "unknown"), part.result.get("error")])),
        "seconds": _duration(float(part.result.get("seconds", 0))),
        "command": part.result.get("command", ""),
        "inputs": [
            f"{each.get('kind', '')} {Path(each.get('file', '')).name or name}" for name, each in inputs.items()
        ],
    }


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s" if minutes else f"{seconds:.1f} s"


def _other_model(train: Part | None, later: Iterable[Part]) -> str:
    """The model that later steps used when it is not the one that was trained here; told apart by content."""
    if train is None:
        return ""
    made = {entry.get("sha256") for entry in train.result.get("artifacts", {}).values()}
    used = [entry for part in later for entry in part.result.get("inputs", {}).values() if entry.get("kind") == "model"]
    return next((str(entry.get("file", "")) for entry in used if entry.get("sha256") not in made), "")


def _messages(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """What was said of the run, in order: when, the sentence, how serious it is."""
    said = [(row[MESSAGE], row.get(KIMG)) for row in rows if isinstance(row.get(MESSAGE), Mapping)]
    return [{"at": "" if kimg is None else f"{float(kimg):g} kimg", **message} for message, kimg in said]


def _setting(name: str, entry: Mapping[str, Any]) -> dict[str, str]:
    protocol = entry.get("protocol") or {}
    why = protocol.get("why", "") if isinstance(protocol, Mapping) else str(protocol)
    return {"name": name.removeprefix(DERIVED), "value": plain_text(entry.get("value")), "why": why}


# Pictures


def figures(part: Part, *, only: str = "", without: Sequence[str] = ()) -> list[Figure]:
    """Every picture and video of a part, in the order they were first logged, with their last caption.

    `only` and `without` are beginnings of the names they were logged by.
    """
    captions = {entry["file"]: entry.get("caption") for row in part.rows for entry in row.values() if _is_file(entry)}
    return [
        _figure(part.folder, file, captions.get(file) or _short(key))
        for key, files in part.result.get("files", {}).items()
        if key.startswith(only) and not key.startswith(tuple(without))
        for file in files
        if not file.endswith(".json")
    ]


def _logged(part: Part, *, prefix: str) -> dict[str, list[tuple[str, str]]]:
    """File and caption of the pictures under every key with `prefix`, in order; kimg is the default caption."""
    logged: dict[str, list[tuple[str, str]]] = {}
    for row in part.rows:
        for key, entry in row.items():
            if key.startswith(prefix) and _is_file(entry):
                caption = entry.get("caption") or f"{_short(key)}, {float(row.get(KIMG, 0)):g} kimg"
                logged.setdefault(key, []).append((entry["file"], caption))
    return logged


def _is_file(entry: Any) -> bool:
    return isinstance(entry, Mapping) and "file" in entry


def _figure(folder: Path, file: str, caption: str) -> Figure:
    """The file's content in the page itself; a file that is gone or huge is named instead."""
    path, form = folder / file, mimetypes.guess_type(file)[0] or ""
    kind = form.partition("/")[0]
    if not path.is_file() or kind not in ("image", "video"):
        return Figure("absent", "", f"{caption}: {file} cannot be shown, it is missing or no picture")
    if path.stat().st_size > MAX_INLINE_MB * 2**20:
        return Figure("absent", "", f"{caption}: {file} has more than {MAX_INLINE_MB} MiB, open it from the folder")
    source = f"data:{form};base64,{base64.b64encode(path.read_bytes()).decode()}"
    return Figure(kind, source, caption, kind == "image" and _aspect(path) > WIDE_ASPECT)


def _aspect(path: Path) -> float:
    try:
        with Image.open(path) as image:
            return image.width / image.height
    except OSError:
        return 1.0


def _short(name: str) -> str:
    return last(name).replace("_", " ")
