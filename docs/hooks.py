"""Pages of the site that nobody writes: commands from their `--help`, the API from docstrings, the studies.

`make docs` builds the site; a test builds it, too, and checks every link.
"""

import contextlib
import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wplus.__main__ import main, verbs
from wplus.commands.help import detail, options_of
from wplus.config import CONFIG_FOLDER

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
# Pages that are files elsewhere in the repository, by that file.
ELSEWHERE = {
    "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "experiments/LOG.md": "studies/log.md",
    "experiments/models/README.md": "studies/models.md", "experiments/sketches/README.md": "studies/sketches.md",
    "experiments/studies/README.md": "studies/index.md",
}  # fmt: skip
API = {
    "library": ["wplus.library.model.load", "wplus.library.model.Model",
                *(f"wplus.library.pictures.{name}" for name in ("Pictures", "Inversions", "Edits", "Translations",
                                                                "FoundDirections")),
                "wplus.library.mixing.Mixtures", "wplus.library.results.Interpolation",
                "wplus.library.results.Measurements", "wplus.library.sources.AnyImage",
                "wplus.library.sources.AnyImages", "wplus.library.sources.AnyLatents",
                "wplus.library.sources.AnyDirections"],
    "checkpoints": ["wplus.checkpoint.Models", "wplus.checkpoint.load", "wplus.checkpoint.save"],
    "latents": ["wplus.latents.latent.Latent", "wplus.latents.latent.synthesize", "wplus.latents.space.LatentSpace"],
    "inversion": ["wplus.inversion.task.InversionTask", "wplus.inversion.result.Inversion",
                  "wplus.losses.image_pair.ImageDistance"],
    "interpolation": ["wplus.interpolation.run.Filming", "wplus.interpolation.keyframes.Keyframes",
                      "wplus.interpolation.path.Curve"],
    "editing": ["wplus.editing.directions.Directions", "wplus.editing.directions.Direction",
                "wplus.editing.directions.edit_latent"],
    "measuring": ["wplus.core.metric_result.MetricResult", "wplus.core.metric_result.MetricInfo",
                  "wplus.evaluation.context.EvalContext", "wplus.evaluation.torch_metrics"],
    "networks": ["wplus.models.generator.GeneratorNetwork", "wplus.models.discriminator.DiscriminatorNetwork",
                 "wplus.models.encoders.base.Encoder"],
}  # fmt: skip
NOTEBOOKS = ROOT / "experiments" / "notebooks"
SHOWN = ("app_draw", "app_edit", "inversion", "page_light", "strip")  # of experiments/pictures, on pages of docs/
WIDE = "---\nhide: [toc]\n---\n"  # no contents beside what commands print
HOW = ("app", "images", "encoder", "slurm", "page", "loss", "metric", "space")
LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")


def elsewhere() -> dict[str, str]:
    """The page of every file that is one, studies included."""
    studies = sorted((ROOT / "experiments" / "studies").glob("*/README.md"))
    return ELSEWHERE | {path.relative_to(ROOT).as_posix(): f"studies/{path.parent.name}.md" for path in studies} | {
        f"docs/{path.relative_to(DOCS).as_posix()}": path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")
    }  # fmt: skip


def made_pages() -> tuple[dict[str, str], dict[str, Path]]:
    """Page -> Markdown of all that is made, and picture -> file."""
    pages: dict[str, str] = {}
    pictures = {f"pictures/{name}.png": ROOT / "experiments" / "pictures" / f"{name}.png" for name in SHOWN}
    for source, page in elsewhere().items():
        if not source.startswith("docs/"):
            pages[page] = _moved((ROOT / source).read_text(), source, page, pictures)
    pages |= {f"notebooks/{path.stem}.md": _notebook(path) for path in sorted(NOTEBOOKS.glob("*.ipynb"))}
    summaries = {verb: summary for verb, (_, summary) in verbs().items()}
    pages |= {f"commands/{verb}.md": f"{WIDE}# wplus {verb}\n\n{summary}\n\n```text\n{help_of(verb)}\n```\n"
              for verb, summary in summaries.items()}  # fmt: skip
    rows = "\n".join(f"| [`{verb}`]({verb}.md) | {summary} |" for verb, summary in summaries.items())
    pages["commands/index.md"] = f"# Commands\n\n`wplus VERB --help` prints these pages.\n\n| | |\n|---|---|\n{rows}\n"
    pages |= {f"choices/{group}.md": _choices(group) for group in groups()}
    rows = "\n".join(f"| [`{group}=`]({group}.md) | {', '.join(options_of(group))} |" for group in groups())
    pages["choices/index.md"] = (
        "# Choices\n\nWhat stands behind a choice is one file in `configs/`; `wplus VERB --help CHOICE=OPTION` prints "
        f"its options.\n\n| | |\n|---|---|\n{rows}\n"
    )
    for name, objects in API.items():
        pages[f"api/{name}.md"] = f"# {name.capitalize()}\n\n" + "".join(f"::: {each}\n\n" for each in objects)
    return pages, pictures


def help_of(verb: str) -> str:
    """What `wplus VERB --help` prints."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([verb, "--help"])
    return printed.getvalue().rstrip()


def groups() -> list[str]:
    """The kinds of choices."""
    return sorted(path.name for path in CONFIG_FOLDER.iterdir() if path.is_dir() and options_of(path.name))


def _choices(group: str) -> str:
    blocks = [f"## {name}\n\n```text\n{detail(group, name)}\n```\n" for name in options_of(group)]
    links = ", ".join(f"[{name}](#{name.lower()})" for name in options_of(group))
    return "\n".join([f"{WIDE}# {group}=\n\n{links}\n", *blocks])


def _notebook(path: Path) -> str:
    """Words and code of a notebook; what it shows it shows where it runs."""
    cells = json.loads(path.read_text())["cells"]
    texts = [(cell["cell_type"], "".join(cell["source"])) for cell in cells]
    blocks = [text if kind == "markdown" else f"```python\n{text}\n```" for kind, text in texts]
    title, *rest = blocks
    return "\n\n".join([title, f"This page is `{path.relative_to(ROOT).as_posix()}`, to be run there.", *rest]) + "\n"


def _moved(text: str, source: str, page: str, pictures: dict[str, Path]) -> str:
    """A file's text where its links lead from the page to pages and pictures; what is none is named by its path."""
    known = elsewhere()

    def moved(found: re.Match[str]) -> str:
        label, target = found.groups()
        if "://" in target or target.startswith("#"):
            return found[0]
        place = os.path.normpath(Path(source).parent / target.partition("#")[0])
        goal = known.get(place)
        if goal is None and place.endswith(".png"):
            goal = f"pictures/{place.removeprefix('experiments/').replace('/', '-')}"
            pictures[goal] = ROOT / place
        if goal is None:
            return f"{label} (`{place}`)"
        return f"[{label}]({os.path.relpath(goal, Path(page).parent)})"

    return LINK.sub(moved, text)


def nav() -> list[Any]:
    """The order of all pages."""
    studies = [page for source, page in sorted(elsewhere().items()) if page.startswith("studies/")]
    return [
        {"Start": ["index.md", {"Five-minute start": "start.md"}, {"In Python": "python.md"},
                   {"Notebooks": [f"notebooks/{path.stem}.md" for path in sorted(NOTEBOOKS.glob("*.ipynb"))]}]},
        {"How to": [f"how/{name}.md" for name in HOW]},
        {"Commands": ["commands/index.md", *(f"commands/{verb}.md" for verb in verbs())]},
        {"Choices": ["choices/index.md", *(f"choices/{group}.md" for group in groups())]},
        {"API": [f"api/{name}.md" for name in API]},
        {"Studies": studies},
        {"Project": [{"Design": "design.md"}, {"Contributing": "contributing.md"}, {"Changelog": "changelog.md"}]},
    ]  # fmt: skip


def on_config(config: Any) -> Any:
    """Of mkdocs: the order of pages."""
    config["nav"] = nav()
    return config


def on_files(files: Any, config: Any) -> Any:
    """Of mkdocs: the pages that are made, and the pictures that they show."""
    from mkdocs.structure.files import File

    pages, pictures = made_pages()
    contents: Mapping[str, str | bytes] = {**pages, **{name: path.read_bytes() for name, path in pictures.items()}}
    for name, content in contents.items():
        files.append(File.generated(config, name, content=content))
    return files
