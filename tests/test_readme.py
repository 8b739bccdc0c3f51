"""The README is correct: its tree exists, its commands compose, its targets and extras are there."""

import re
import shlex
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from wplus.__main__ import verbs
from wplus.commands.overrides import readable
from wplus.commands.sweep_run import SweepKeys
from wplus.config import CONFIG_FOLDER

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
TREE = next(block for language, block in BLOCKS if not language and "src/wplus/" in block)
# README's, and those of the site's pages; pages with a --config-dir of their own are run by test_docs.
PAGES = [README, *(page.read_text() for page in sorted((ROOT / "docs").rglob("*.md")))]
SHELL = [
    line.replace("python -m wplus", "wplus")
    for page in PAGES
    for block in re.findall(r"^```bash\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    for line in re.sub(r"\\\n\s*", "", block).splitlines()
    if "--config-dir" not in line
]
# The first lines of a config say how it is used.
HEADERS = [
    line.lstrip("# ").strip()
    for path in sorted((ROOT / "configs").glob("**/*.yaml"))
    for line in re.sub(r"\\\n#\s*", "", path.read_text()).splitlines()
    if re.match(r"#\s+(python|wplus) ", line)
]
COMMANDS = [line for line in [*SHELL, *HEADERS] if line.startswith(("python ", "wplus "))]


def single(override: Override) -> str:
    """A sweep's first value; everything else as written."""
    if not override.is_sweep_override():
        return str(override.input_line)
    if override.is_interval_sweep():
        return f"{override.get_key_element()}={override.value().start}"
    return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"


def tree_paths() -> list[str]:
    """Paths named in the tree, relative to the root."""
    found, parents = [], {-1: ""}
    for line in TREE.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = [name for name in re.split(r"\s{2,}", line.strip()) if re.fullmatch(r"[\w./]+", name)]
        found += [parents[depth - 1] + name for name in names]
        parents[depth] = parents[depth - 1] + names[0]
    return found


@pytest.mark.parametrize("command", dict.fromkeys(COMMANDS))
def test_every_command_composes(command):
    program, *words = [word for word in shlex.split(command, comments=True) if word not in ("-m", "--dry")]
    if program == "python":  # train.py and its like
        assert (ROOT / words[0]).is_file()
    verb = words[0].removesuffix(".py")
    assert verb in verbs()
    if not (CONFIG_FOLDER / f"{verb}.yaml").is_file():  # reads its arguments itself
        return
    flags = [word for word in words[1:] if word.startswith("--")]
    assert set(flags) <= {"--cfg", "--help"}
    _, words = SweepKeys.of(words)
    read = readable([word for word in words[1:] if "=" in word], is_sweep=True)
    overrides = OverridesParser.create().parse_overrides(read)
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        compose(verb, [single(override) for override in overrides], return_hydra_config=True)


def test_there_are_commands_for_every_verb():
    shown = {shlex.split(command)[1].removesuffix(".py") for command in COMMANDS}
    assert {verb for verb in verbs() if verb not in shown and f"wplus {verb} " not in README} == set()


def test_the_tree_exists():
    assert len(tree_paths()) > 15
    assert [path for path in tree_paths() if not (ROOT / path).exists()] == []


def test_the_tree_is_complete():
    """Every folder at the root and in the package has its line, and so do the commands."""
    named = {path.rstrip("/") for path in tree_paths()}
    tracked = {"configs", "experiments", "src/wplus", "tests", ".ci"}
    packages = {f"src/wplus/{path.parent.name}" for path in ROOT.glob("src/wplus/*/__init__.py")}
    assert (tracked | packages | {path.name for path in ROOT.glob("*.py")}) - named == set()


def test_the_experiments_that_the_tree_names_exist():
    (line,) = [line for line in TREE.splitlines() if line.startswith("experiments/")]
    for name in re.findall(r"[\w]+\.py|[\w]+/", line.partition("/")[2]):
        assert (ROOT / "experiments" / name).exists(), name


def test_make_targets_exist():
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = README + (ROOT / "CONTRIBUTING.md").read_text()
    assert set(re.findall(r"(?:^ {4}|`)make (\w+)", texts, re.MULTILINE)) <= targets


def test_extras_exist():
    section = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    extras = set(re.findall(r"^(\w+) = \[", section.partition("\n[tool.")[0], re.MULTILINE))
    assert set(re.findall(r"pip install -e '\.\[(\w+)\]'", README)) <= extras
    assert {"app", "sweep", "dashboards", "fidelity", "export", "docs", "dev"} == extras


def test_the_library_example_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "README.md", "exec"), names)
    assert names["images"].shape == (4, 3, 32, 32)
    assert {path.name for path in tmp_path.iterdir()} == {"cats", "way.gif"}


def test_links_to_files_exist():
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", README) if "://" not in target]
    assert [target for target in targets if not (ROOT / target).exists()] == []
