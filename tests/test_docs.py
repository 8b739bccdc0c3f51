"""The site: every link resolves, the examples on its pages run, and mkdocs builds it without warnings."""

import importlib.util
import os
import re
import shlex
from pathlib import Path

import pytest

from tests.fakes import noise
from tests.report.fake_runs import invert_spec, write_sweep
from wplus.__main__ import main, verbs
from wplus.commands.demo import judge

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```', re.MULTILINE | re.DOTALL)
# Appended to a page's commands, by verb: the same way, in seconds.
SMALL = {
    "invert": ["num_images=1", "inverter.num_steps=2"],
    "interpolate": ["num_frames=3", "path_metrics=[]"],
    "directions": ["finder.num_samples=50", "finder.num_directions=1"],
    "edit": ["strengths=[1]"],
    "evaluate": ["metrics.fd.num_generated=8", "metrics.fd.num_groups=0", "metrics.fd.floor=none"],
    "train": ["probes=[]", "num_samples=4", "schedule.minutes=null", "schedule.kimg=0.008",
              "training.hparams.batch_size=4"],
    "estimate": ["probes=[]", "num_samples=4", "training.hparams.batch_size=4", "--seconds", "4"],
    "translate": ["num_images=1"],
}  # fmt: skip
TINY = ["model.generator.channel_base=256", "model.generator.channel_max=16"]
# Where a page needs something else.
ELSE = {
    ("start.md", "train"): TINY, ("how/images.md", "train"): TINY, ("how/images.md", "estimate"): TINY,
    ("how/encoder.md", "train"): ["encoder.width=16"], ("how/metric.md", "evaluate"): None,
    ("how/slurm.md", "train"): ["--dry"],
}  # fmt: skip
PROGRAMS = {"doctor", "prepare", "report", "sweep", "convert", "estimate", "app", "completion", "demo"}
# What serves until it is interrupted, and what takes minutes by nature: other tests start them.
LONG = {"app", "demo"}


def commands(page: str) -> list[list[str]]:
    """The words of every wplus command that a page shows."""
    shells = [text for language, _, text in BLOCK.findall((DOCS / page).read_text()) if language == "bash"]
    lines = [line.replace("python -m wplus", "wplus") for text in shells for line in text.splitlines()]
    return [words[1:] for words in (shlex.split(line, comments=True) for line in lines) if words[:1] == ["wplus"]]


PAGES = sorted(page for path in DOCS.rglob("*.md") if commands(page := path.relative_to(DOCS).as_posix()))


@pytest.fixture(scope="module")
def hooks():
    spec = importlib.util.spec_from_file_location("hooks", DOCS / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(hooks) -> tuple[dict[str, str], set[str]]:
    """Text of every page, and the other files."""
    pages, pictures = hooks.made_pages()
    written = {path.relative_to(DOCS).as_posix(): path.read_text() for path in DOCS.rglob("*.md")}
    assert not written.keys() & pages.keys()
    return {**written, **pages}, set(pictures)


def test_every_link_leads_to_a_page_or_a_picture(site):
    pages, pictures = site
    broken = []
    for page, text in pages.items():
        if page.startswith(("commands/", "choices/")) and "index" not in page:
            continue  # what a command prints
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            goal = os.path.normpath(Path(page).parent / target.partition("#")[0])
            if "://" not in target and not target.startswith("#") and goal not in {*pages, *pictures}:
                broken.append((page, target))
    assert broken == []


def test_every_page_has_its_place(site, hooks):
    def flat(node):
        items = node.values() if isinstance(node, dict) else node if isinstance(node, list) else [node]
        return [page for item in items for page in (flat(item) if isinstance(item, dict | list) else [item])]

    pages, pictures = site
    assert sorted(flat(hooks.nav())) == sorted(pages)
    assert {f"commands/{verb}.md" for verb in verbs()} <= pages.keys()
    assert {"studies/inversion.md", "choices/inverter.md", "api/library.md", "design.md"} <= pages.keys()
    assert all(name.startswith("pictures/") for name in pictures)
    assert "num_frames = 60" in pages["commands/interpolate.md"]
    assert "inverter.num_steps = 180" in pages["choices/inverter.md"]
    assert "--layout" in pages["commands/convert.md"]


def test_the_reference_names_what_is_there(hooks):
    for names in hooks.API.values():
        for name in names:
            parts = name.split(".")
            place = next(n for n in range(len(parts), 0, -1)
                         if (ROOT / "src" / Path(*parts[:n])).with_suffix(".py").is_file())  # fmt: skip
            module = importlib.import_module(".".join(parts[:place]))
            for part in parts[place:]:
                module = getattr(module, part)
            assert module.__doc__ or name.startswith("wplus.library.sources")


def smoke(page: str, words: list[str]) -> list[str]:
    """A command from a page at its smoke size."""
    verb, is_small = words[0], "data.path=my/images" in words or "data.path=my.zip" in words
    extra = [*(SMALL.get(verb, []) if ELSE.get((page, verb), []) is not None else []), *(ELSE.get((page, verb)) or [])]
    if verb == "invert" and "inverter=encoder" in words:
        extra.remove("inverter.num_steps=2")
    if verb not in PROGRAMS:
        extra += ["tracking=local"]
        extra += [] if is_small or verb not in ("invert", "evaluate", "train") else ["data.num_images=60"]
    if judge() == "effnet_lite0":  # without the package of weights
        words = [word for word in words if not word.startswith("extractor=")]
    given = {extra_word.partition("=")[0] for extra_word in extra if "=" in extra_word}
    return [*(word for word in words if word.partition("=")[0] not in given), *extra]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_runs(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my" / "images").mkdir(parents=True)
    for seed in range(12):
        noise(32, 32, seed=seed).save(tmp_path / "my" / "images" / f"{seed}.png")
    for _, name, text in BLOCK.findall((DOCS / page).read_text()):
        if name:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
    for words in commands(page):
        sweep = tmp_path / "runs" / "sweeps" / "gamma"
        if page in ("how/slurm.md", "how/page.md") and words[0] in ("sweep", "report") and not sweep.exists():
            write_sweep(sweep, invert_spec(weights=(0.1,)))  # what others have run
        if words[0] not in LONG:
            assert not main(smoke(page, words)), words


def test_what_the_page_about_python_shows_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for language, _, text in BLOCK.findall((DOCS / "python.md").read_text()):
        if language == "python":
            exec(compile(text, "python.md", "exec"), names)
    assert {path.name for path in tmp_path.iterdir()} == {"cats", "way.gif"}


def test_mkdocs_builds_the_site_without_a_warning(tmp_path, monkeypatch):
    """`make docs` installs mkdocs; elsewhere the tests above must suffice."""
    pytest.importorskip("mkdocs")
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    monkeypatch.chdir(ROOT)
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(tmp_path / "site")))
    page = (tmp_path / "site" / "api" / "library.html").read_text()
    assert "Find directions" in (tmp_path / "site" / "commands" / "directions.html").read_text()
    assert 'id="wplus.library.model.Model.invert"' in page
    assert page.count("language-pycon") > 5  # examples are code, not prose
    assert "<blockquote>" not in page
    assert "fonts.googleapis" not in page
    assert "unpkg.com" not in page
