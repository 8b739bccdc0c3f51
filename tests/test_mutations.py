"""The list of mutations fits the source, and the runner distinguishes detected from undetected faults."""

import shlex
from pathlib import Path

import pytest

from experiments.mutations import run
from experiments.mutations.run import Mutation, read_mutations, try_mutation

ROOT = Path(__file__).resolve().parents[1]
MUTATIONS = read_mutations()


def test_every_mutation_fits_the_source():
    assert [f"{entry}: {entry.problem()}" for entry in MUTATIONS if entry.problem()] == []


def test_every_named_test_exists():
    paths = {word.partition("::")[0] for entry in MUTATIONS for word in shlex.split(entry.tests) if "tests/" in word}
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []


def test_what_does_not_fit_is_named(tmp_path):
    (tmp_path / "a.py").write_text("x = 1\ny = 1\n")
    problems = [Mutation("p", file, find, replace, tests).problem(tmp_path) for file, find, replace, tests in [
        ("b.py", "x", "z", "t"), ("a.py", "z", "x", "t"), ("a.py", "1", "2", "t"), ("a.py", "x", "x", "t"),
        ("a.py", "x", "z", ""), ("a.py", "x", "z", "t"),
    ]]  # fmt: skip
    words = ["no such file", "occurs 0 times", "occurs 2 times", "are equal", "must be given", None]
    assert [problem if word is None else word in problem for problem, word in zip(problems, words, strict=True)] == [
        *[True] * 5, None
    ]  # fmt: skip
    with pytest.raises(SystemExit, match="must be one of .*commands.*, got 'nothing'"):
        read_mutations(["nothing"])


class FakeCheckout:
    """Remembers what is written; its tests detect a file that says 2."""

    def __init__(self, status: int | None) -> None:
        self.status, self.written = status, []

    def write(self, file: str, text: str) -> None:
        self.written.append(text)

    def test(self, arguments: list[str], timeout: float) -> tuple[int | None, str]:
        return self.status, "output"


@pytest.mark.parametrize(
    ("status", "verdict"), [(1, "caught"), (2, "caught"), (None, "caught"), (0, "survived"), (4, "broken")]
)
def test_verdicts_and_the_source_is_put_back(tmp_path, monkeypatch, status, verdict):
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(Mutation.problem, "__defaults__", (tmp_path,))
    monkeypatch.setattr(Mutation.source, "__defaults__", (tmp_path,))
    (tmp_path / "a.py").write_text("x = 1\n")
    checkout = FakeCheckout(status)
    assert try_mutation(Mutation("p", "a.py", "1", "2", "t"), checkout, 1)[0] == verdict
    assert checkout.written == ["x = 2\n", "x = 1\n"]
    assert try_mutation(Mutation("p", "a.py", "1", "2", equivalent="because"), checkout, 1) == ("equivalent", "because")


def test_a_copy_takes_no_more_than_the_project(tmp_path, monkeypatch):
    """Mutated files are new ones: the checkout's files, to which the rest of the copy is linked, stay unchanged."""
    monkeypatch.setattr(run, "LIBRARIES", ("torch", "pytest"))
    checkout = run.Checkout(tmp_path / "copy")
    assert not (checkout.folder / ".git").exists()
    before = (ROOT / "train.py").read_text()
    checkout.write("train.py", "print('broken')")
    assert (ROOT / "train.py").read_text() == before
    test = checkout.folder / "tests" / "test_here.py"
    test.write_text(
        f"import wplus\n\n\ndef test_here():\n    assert wplus.__file__.startswith({str(checkout.folder)!r})\n"
    )
    assert checkout.test(["tests/test_here.py"], 120)[0] == 0
    assert checkout.test(["tests/test_here.py", "-k", "nothing"], 120)[0] == 5
