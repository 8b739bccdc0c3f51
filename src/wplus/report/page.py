"""Write the page: collect its content, embed pictures and script, and render the template."""

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from wplus.core.files import atomic_write
from wplus.errors import UserError
from wplus.report.blocks import method_block, part_block, part_findings
from wplus.report.curves import curve_charts
from wplus.report.grids import grids
from wplus.report.media import Media
from wplus.report.notes import common_settings, derived_settings, digits, duration, environment, meanings, run_notes
from wplus.report.runs import Part, Subject, read_subject
from wplus.report.words import dressed
from wplus.sweeps.answer import Asked

SCRIPTS = ("numbers.js", "charts.js", "document.js", "blocks.js", "pictures.js", "start.js")
_OPEN_CURVES = 4  # the others are collapsed
_MAX_METHOD_RUNS = 8  # number of a part's runs whose methods are shown


def write_report(
    folders: Sequence[str | Path] | str | Path, output: str | Path | None = None, asked: Asked | None = None
) -> Path:
    """Write a report about runs, sweeps, or folders that contain runs, and return its path.

    Args:
        folders: one or several; UserError if there is no run.
        output: the file; None: report.html in the folder, or here for several.
        asked: which metrics to test, and against what; None: as set by the sweeps. UserError for unknown names.
    """
    given = [folders] if isinstance(folders, str | Path) else list(folders)
    target = output or (Path(given[0]) / "report.html" if len(given) == 1 else Path("report.html"))
    html = rendered(context(given, asked))
    return atomic_write(target, lambda file: file.write(html.encode("utf-8", "replace")))


def context(folders: Sequence[str | Path], asked: Asked | None = None) -> dict[str, Any]:
    """The template's variables."""
    subject = read_subject(folders)
    media, about = Media(), _about(folders)
    chosen = _asked_of(subject, asked or Asked())
    parts = [_part(part, f"part{index}", media, about, chosen[part.name]) for index, part in enumerate(subject.parts)]
    media.embed()
    blocks = [block for part in parts for block in (part["block"], *part["methods"])]
    content = {
        "blocks": {block["name"]: block["data"] for block in blocks},
        "curves": {part["id"]: part["curves"] for part in parts if part["curves"]},
    }
    return {
        "title": about["title"] or _title(subject, folders),
        "about": about,
        "folders": ", ".join(str(folder) for folder in folders),
        "written": time.strftime("%Y-%m-%d %H:%M"),
        "counts": _counts(subject),
        "commands": list(filter(None, [about["command"], *subject.commands])),
        "lost": subject.lost,
        "parts": parts,
        "media": media,
        "environment": environment(subject.runs),
        "content": content,
    }


def rendered(values: dict[str, Any]) -> str:
    """Render the page as HTML. All user input is escaped, both in the markup and in the script's data."""
    loader = jinja2.PackageLoader("wplus.report", "")
    templates = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    templates.filters["digits"] = digits
    own = {
        "style": Markup(_own("style.css")),
        "scripts": Markup("\n".join(map(_own, SCRIPTS)).replace('"use strict";', "")),
    }
    content = Markup(_script_json(values["content"]))
    return templates.get_template("page.html").render(
        **{**values, "content": content}, **own, plotly=Markup(get_plotlyjs())
    )


def _own(name: str) -> str:
    return files("wplus.report").joinpath(name).read_text(encoding="utf-8")


def _script_json(content: object) -> str:
    """JSON that is safe inside a script element; non-finite values become null."""
    text = json.dumps(_finite(content), allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value


def _asked_of(subject: Subject, asked: Asked) -> dict[str, Asked]:
    """Part -> the question to answer: for the parts that answer a sweep, or for the only part."""
    answering = [part.name for part in subject.parts if part.sweeps] or [part.name for part in subject.parts]
    if asked != Asked() and len(answering) > 1 and not any(part.sweeps for part in subject.parts):
        told = " and ".join(answering)
        raise UserError(f"--sort, --baseline, --margin and --across are for one command; these are runs of {told}.")
    return {part.name: asked if part.name in answering else Asked() for part in subject.parts}


def _part(part: Part, name: str, media: Media, about: dict[str, Any], asked: Asked) -> dict[str, Any]:
    block = part_block(part, f"{name}-table", asked)
    charts = curve_charts(part)
    has_seeds = any(
        len({run.label for run in part.runs if run.group == group}) > 1 for group in {r.group for r in part.runs}
    )
    return {
        "id": name,
        "heading": part.name.replace("_", " ").capitalize(),
        "words": about["parts"].get(part.name, ""),
        "is_alone": len(block["rows"]) == 1,
        "messages": run_notes(part),
        "block": dressed(block, part),
        "findings": part_findings(part, asked),
        "methods": [dressed(each, part) for each in _methods(part, name)],
        "curves": {"charts": charts, "is_alone": len(part.runs) == 1, "has_seeds": has_seeds} if charts else None,
        "num_open": _OPEN_CURVES,
        "grids": grids(part, media),
        "meanings": meanings(part, block),
        "derived": derived_settings(part),
        "common": common_settings(part),
        "runs": [
            {
                "label": run.label,
                "status": run.member.status,
                "seconds": duration(run.member.seconds),
                "inputs": run.inputs,
                "command": run.result.get("command", ""),
            }
            for run in part.runs
        ],
    }


def _methods(part: Part, name: str) -> Iterable[dict[str, Any]]:
    shown = [run for run in part.runs if run.result.get("methods")][:_MAX_METHOD_RUNS]
    for number, run in enumerate(shown):
        for index, key in enumerate(run.result["methods"]):
            block = method_block(run, key, f"{name}-methods{number}-{index}")
            yield {**block, "heading": f"{run.label}: {block['heading']}"} if len(shown) > 1 else block


def _about(folders: Sequence[str | Path]) -> dict[str, Any]:
    """Read a folder's about.json, with information that the runs lack: `title`, `text` (paragraphs), `command`, and
    descriptions of parts by command (`parts`)."""
    found: dict[str, Any] = {"title": "", "text": [], "command": "", "parts": {}}
    for path in (Path(folder) / "about.json" for folder in folders):
        try:
            found |= json.loads(path.read_text()) if path.is_file() else {}
        except ValueError as error:
            raise UserError(f"'{path}' is not valid JSON: {error}.") from error
    return found


def _title(subject: Subject, folders: Sequence[str | Path]) -> str:
    questions = [sweep.spec.question for sweep in subject.sweeps.values() if sweep.spec.question]
    return " ".join(questions) or ", ".join(Path(folder).resolve().name for folder in folders)


def _counts(subject: Subject) -> list[tuple[str, int]]:
    """Counts of the sweeps' jobs and of standalone runs, by state."""
    of_jobs = [job for states in subject.states.values() for job in states.values()]
    folders = {Path(job.run_dir).resolve() for job in of_jobs if job.run_dir}
    alone = [run.member.status for run in subject.runs if run.folder.resolve() not in folders]
    return list(Counter([*(job.state for job in of_jobs), *alone]).items())
