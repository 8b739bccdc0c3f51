"""The project's architecture rules, each proved to detect violations: imports, builders, forbidden reads."""

import ast
import functools
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

LINT = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the import contract of `folder`/pyproject.toml on `folder`/src."""
    environment = {**os.environ, "PYTHONPATH": str(folder / "src"), "COLUMNS": "200"}
    command = [sys.executable, "-c", LINT]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@functools.cache
def python_files(repository: Path) -> list[tuple[str, ast.Module]]:
    """Relative path and syntax tree of every module of the package, the entry points and the experiments."""
    paths = [*repository.glob("*.py"), *repository.glob("src/**/*.py"), *repository.glob("experiments/**/*.py")]
    return [(path.relative_to(repository).as_posix(), ast.parse(path.read_text())) for path in paths]


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    """Dotted names of all calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def imports(tree: ast.Module) -> set[str]:
    """Top-level packages that a module imports, including inside functions."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def test_imports_point_one_way(repository):
    done = lint(repository)
    assert done.returncode == 0, done.stdout + done.stderr


WRONG_WAY = [  # module, statement, the first words of the contract that it breaks
    ("losses/pixel.py", "import wplus.training", "One way through the house"),
    ("models/ops.py", "def late():\n    import wplus.losses", "One way through the house"),
    ("inversion/__init__.py", "import wplus.training", "One way through the house"),
    ("interpolation/__init__.py", "import wplus.evaluation", "One way through the house"),
    ("evaluation/__init__.py", "import wplus.training", "What measures a model knows nothing of its training"),
    ("core/files.py", "import wplus.models", "One way through the house"),
    ("losses/pixel.py", "import wplus.tracking", "Tracking is a leaf"),
    ("training/__init__.py", "def late():\n    import wandb", "Only tracking knows W&B"),
    ("tracking/local.py", "import wplus.models", "One way through the house"),
]


@pytest.fixture(scope="module")
def complaints(repository, tmp_path_factory) -> dict[str, str]:
    """Complaints of the contract, by its parts, about a copy of the package with all of these imports."""
    folder = tmp_path_factory.mktemp("wrong")
    shutil.copytree(repository / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(repository / "pyproject.toml", folder)
    for module, statement, _ in WRONG_WAY:
        path = folder / "src" / "wplus" / module
        path.write_text(f"{path.read_text()}\n\n{statement}\n")
    done = lint(folder)
    assert done.returncode == 1
    parts = re.split(r"^(.+)\n-+\n", done.stdout.partition("Broken contracts")[2], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize(("module", "statement", "contract"), WRONG_WAY)
def test_an_import_the_wrong_way_breaks_the_contract(complaints, module, statement, contract):
    importer = f"wplus.{module.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}"
    (said,) = [text for name, text in complaints.items() if name.startswith(contract)]
    assert f"{importer} -> {statement.split()[-1]} (l." in said


def test_every_package_is_in_the_contract(repository):
    contract = (repository / "pyproject.toml").read_text()
    packages = [path.parent.name for path in (repository / "src" / "wplus").glob("*/__init__.py")]
    assert [name for name in packages if f"wplus.{name} " not in contract and f'wplus.{name}"' not in contract] == []


def test_few_files_know_wandb(repository):
    known = {"wandb", "wandb_workspaces"}
    assert {path for path, tree in python_files(repository) if known & set(imports(tree))} == {
        f"src/wplus/tracking/{name}.py" for name in ("wandb_dashboard", "wandb_start", "weights_and_biases")
    }


def test_only_build_instantiates(repository):
    found = {path for path, tree in python_files(repository) for name, _ in calls(tree) if "instantiate" in name}
    assert found == {"src/wplus/config.py"}


def test_nothing_is_unpickled(repository):
    loads = ("pickle.load", "pickle.loads", "Unpickler", "torch.load", "np.load", "joblib.load", "dill.load")
    found = [
        (path, ast.unparse(call))
        for path, tree in python_files(repository)
        for name, call in calls(tree)
        if name.endswith(loads) and not safe(name, call)
    ]
    # The restricted reader alone looks into foreign pickles: it rebuilds tensors and plain containers only.
    assert [item for item in found if item[0] != "src/wplus/adapters/restricted.py"] == []


def test_the_restricted_reader_alone_is_an_unpickler(repository):
    """A subclass would be a way around the calls above."""
    bases = [
        (path, ast.unparse(base))
        for path, tree in python_files(repository)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for base in node.bases
    ]
    assert {path for path, base in bases if "Unpickler" in base} == {"src/wplus/adapters/restricted.py"}


def safe(name: str, call: ast.Call) -> bool:
    """Whether torch.load has an explicit weights_only=True, and np.load no allow_pickle, which is its default."""
    keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
    if name.endswith("torch.load"):
        return keywords.get("weights_only") == "True"
    return name.endswith("np.load") and keywords.get("allow_pickle", "False") == "False"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("torch.load(p, weights_only=True)", True),
        ("torch.load(p)", False),
        ("torch.load(p, weights_only=False)", False),
        ("torch.load(p, weights_only=flag)", False),
        ("np.load(p)", True),
        ("np.load(p, allow_pickle=True)", False),
        ("pickle.load(f)", False),
    ],
)
def test_the_check_for_unpickling_bites(code, expected):
    ((name, call),) = calls(ast.parse(code))
    assert safe(name, call) is expected


def test_no_config_object_below_the_entry_points(repository):
    users = {path for path, tree in python_files(repository) if imports(tree) & {"hydra", "omegaconf"}}
    assert [path for path in users if path != "src/wplus/config.py" and "/wplus/commands/" not in path] == []


# The rooms


def modules(repository: Path) -> list[Path]:
    return sorted((repository / "src" / "wplus").rglob("*.py"))


def test_a_name_of_a_module_says_where_it_is(repository):
    counts = Counter(path.stem for path in modules(repository) if path.stem != "__init__")
    assert [name for name, count in counts.items() if count > 2] == []


def test_few_modules_stand_beside_the_packages(repository):
    assert len(list((repository / "src" / "wplus").glob("*.py"))) <= 6


def test_no_small_module_has_one_user_alone(repository):
    """Both are read together, so they belong in one file."""
    names = {path: ".".join(path.relative_to(repository / "src").with_suffix("").parts) for path in modules(repository)}
    users: dict[str, set[Path]] = {name: set() for name in names.values()}
    for path in names:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                for name in {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)} & users.keys():
                    users[name].add(path)
    small = [path for path in names if len(path.read_text().splitlines()) < 25 and path.stem != "__init__"]
    assert [names[path] for path in small if len(users[names[path]] - {path}) == 1] == []


def test_a_module_says_what_it_does(repository):
    """The first line describes the content, without questions."""
    docs = {path: ast.get_docstring(ast.parse(path.read_text())) or "" for path in modules(repository)}
    assert [str(path) for path, doc in docs.items() if not doc or re.match(r"(What|Where|How|Why)\b", doc)] == []


def test_no_file_is_longer_than_a_sitting(repository):
    assert [str(path) for path in modules(repository) if len(path.read_text().splitlines()) > 420] == []


def sentences(tree: ast.Module) -> Iterator[str]:
    """Source of the messages that users get about their mistakes, as far as it is written where they are raised."""
    for name, call in calls(tree):
        if name.endswith("UserError") and call.args and isinstance(call.args[0], ast.Constant | ast.JoinedStr):
            yield ast.unparse(call.args[0])


def is_whole(sentence: str) -> bool:
    """Whether it ends with a full stop, perhaps within a bracket, or with a sentence from another source."""
    return re.search(r"(\.\)?|\{[^{}]*(error|advice)[^{}]*\})['\"]+$", sentence) is not None


def test_what_people_are_told_is_a_sentence(repository):
    found = [each for _, tree in python_files(repository) for each in sentences(tree)]
    assert len(found) > 500
    assert [each for each in found if not is_whole(each)] == []


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("raise UserError('It is none.')", True),
        ("raise UserError(f'It is {none}.')", True),
        ("raise errors.UserError(f'It is {none}')", False),
        ("raise UserError('It ' 'is none')", False),
        ("raise UserError(f'{name}: {error}')", True),
    ],
)
def test_a_sentence_without_an_end_is_seen(code, expected):
    assert [is_whole(each) for each in sentences(ast.parse(code))] == [expected]


def lengths(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Functions and their numbers of lines of statements, nested ones included, without signature and docstring."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            statements = node.body[ast.get_docstring(node) is not None :]
            yield node.name, statements[-1].end_lineno - statements[0].lineno + 1 if statements else 0


def test_no_function_is_longer_than_a_screen(repository):
    found = [(path, *each) for path, tree in python_files(repository) for each in lengths(tree) if each[1] > 40]
    assert found == []


@pytest.mark.parametrize(
    ("body", "expected"),
    [('"""A\n    B."""', 0), ("pass", 1), ('"""A."""\n    def g():\n        a = 1\n        b = 2\n    return a', 4)],
)
def test_a_function_is_as_long_as_its_statements(body, expected):
    assert next(lengths(ast.parse(f"def f(\n    a,\n):\n    {body}"))) == ("f", expected)


def test_mypy_has_nothing_to_say(repository):
    done = subprocess.run([sys.executable, "-m", "mypy"], cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
