"""Mutation testing: inject one fault at a time into the source and check whether the tests notice.

    python experiments/mutations/run.py [--part training ...] [--only TEXT] [--jobs 2] [--timeout 600] [--trust]

Each experiments/mutations/<part>.yaml is a list of faults:

    - file: src/wplus/losses/adversarial.py
      find: "softplus(-logits)"       # occurs exactly once in the file
      replace: "softplus(logits)"
      tests: tests/losses/test_adversarial.py -k nonsaturating   # arguments of pytest; one of these tests must fail
      equivalent: ...                 # instead of tests, if no test can detect it: the reason

The checkout is never changed: the tests run in copies of it. The named tests first run without a fault, and must pass;
--trust skips this, for example after the suite has passed. A server that has imported torch and similar libraries forks
a process for each run of tests, so a fault costs its tests but not the imports.
Exits with status 1 if a fault survives or an entry does not fit the source.
"""

import argparse
import contextlib
import functools
import multiprocessing
import os
import shlex
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import Queue
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "experiments" / "mutations"
LIBRARIES = ("torch", "torchvision", "pytorch_lightning", "torchmetrics", "scipy.stats", "pandas", "hydra", "wandb",
             "matplotlib.figure", "rich.progress", "PIL.Image", "pytest", "hypothesis")  # fmt: skip
FAILED = (1, 2, 3)  # pytest's exit statuses for tests that fail, cannot be collected, or crash; 4 and 5: no such test


@dataclass(frozen=True)
class Mutation:
    """One fault: the text `find` of `file` becomes `replace`; one of `tests` (arguments of pytest) must notice it."""

    part: str
    file: str
    find: str
    replace: str
    tests: str = ""
    equivalent: str = ""

    def __str__(self) -> str:
        return f"{self.part}: {self.file}: {_line(self.find)} -> {_line(self.replace) or '(nothing)'}"

    def problem(self, root: Path = ROOT) -> str | None:
        """Reason why this entry cannot be applied, or None."""
        path = root / self.file
        if not path.is_file():
            return "there is no such file"
        count = path.read_text().count(self.find)
        if count != 1:
            return f"the text to find occurs {count} times, must be once"
        if self.find == self.replace:
            return "find and replace are equal"
        return None if self.equivalent or self.tests else "tests or equivalent must be given"

    def source(self, root: Path = ROOT) -> str:
        """The file's text with the fault in it."""
        return (root / self.file).read_text().replace(self.find, self.replace)


def read_mutations(parts: Sequence[str] = (), folder: Path = FOLDER) -> list[Mutation]:
    """Read the entries of the named parts, or of all."""
    files = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    unknown = [part for part in parts if part not in files]
    if unknown:
        raise SystemExit(f"--part must be one of {', '.join(files)}, got {unknown[0]!r}")
    return [Mutation(part, **entry) for part in parts or files for entry in yaml.safe_load(files[part].read_text())]


class Checkout:
    """A copy of the project in a temporary folder, whose files are mutated and restored one at a time."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = time.time()
        shutil.copytree(ROOT, folder, copy_function=_link, ignore=_ignored, symlinks=True)

    def write(self, file: str, text: str) -> None:
        """Replace a file; each version gets a later time, or Python would reuse the bytecode of another."""
        path = self.folder / file
        path.unlink()
        path.write_text(text)
        self.clock += 2
        os.utime(path, (self.clock, self.clock))

    def test(self, arguments: Sequence[str], timeout: float) -> tuple[int | None, str]:
        """Exit status of pytest, None if it takes too long; and the end of its output."""
        output = self.folder.with_name(f"{self.folder.name}.txt")
        process = _server().Process(target=_run_pytest, args=(str(self.folder), [*arguments], str(output)))
        process.start()
        process.join(timeout)
        with contextlib.suppress(ProcessLookupError):  # with all processes that the tests have started
            os.killpg(process.pid or 0, signal.SIGKILL)
        is_late = process.exitcode is None
        process.join()
        return (None, "too long") if is_late else (process.exitcode, "\n".join(output.read_text().splitlines()[-15:]))


@functools.cache
def _server() -> Any:
    """Server that forks processes: it has imported the libraries and nothing of the project."""
    os.environ |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"}
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([*LIBRARIES])
    return context


def _run_pytest(folder: str, arguments: list[str], output: str) -> None:
    """Run pytest on the copy in `folder`, in its own process and process group."""
    os.setsid()
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1), os.dup2(file, 2)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = f"{folder}/src"
    sys.path[:0] = [f"{folder}/src", folder]
    import pytest

    quiet = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # about plugins that the server has imported
    status = pytest.main(["-qx", "-p", "no:cacheprovider", "--tb=line", f"--rootdir={folder}", *quiet, *arguments])
    sys.stdout.flush()
    os._exit(int(status))


def try_mutation(mutation: Mutation, checkout: Checkout, timeout: float) -> tuple[str, str]:
    """Return (verdict, detail); verdicts are caught, survived, equivalent and broken (a faulty entry)."""
    problem = mutation.problem()
    if problem is not None:
        return "broken", problem
    if mutation.equivalent:
        return "equivalent", mutation.equivalent
    checkout.write(mutation.file, mutation.source())
    try:
        status, output = checkout.test(shlex.split(mutation.tests), timeout)
    finally:
        checkout.write(mutation.file, (ROOT / mutation.file).read_text())
    if status is None or status in FAILED:
        return "caught", ""
    return ("survived", mutation.tests) if status == 0 else ("broken", output)


def try_all(
    mutations: Sequence[Mutation], *, jobs: int, timeout: float, trust: bool = False
) -> Iterator[tuple[Mutation, str, str]]:
    """Yield every mutation with its verdict, in order."""
    with tempfile.TemporaryDirectory(prefix="mutations-") as temporary, ThreadPoolExecutor(jobs) as pool:
        free: Queue[Checkout] = Queue()
        for number in range(jobs):
            free.put(Checkout(Path(temporary) / str(number)))
        if not trust:
            _require_passing_tests(mutations, free.queue[0])

        def attempt(mutation: Mutation) -> tuple[Mutation, str, str]:
            checkout = free.get()
            try:
                return mutation, *try_mutation(mutation, checkout, timeout)
            finally:
                free.put(checkout)

        try:
            yield from pool.map(attempt, mutations)
        except BaseException:  # Ctrl-C: start no further mutations
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a line for each mutation and the count of each verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", nargs="+", default=[], help="names of YAML files in this folder; default: all")
    parser.add_argument("--only", default="", help="only entries whose file or text contains this")
    parser.add_argument("--jobs", type=int, default=1, help="tests at a time (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=600, help="seconds allowed for the tests of a fault")
    parser.add_argument("--trust", action="store_true", help="do not run the tests without a fault first")
    options = parser.parse_args(arguments)
    chosen = [entry for entry in read_mutations(options.part) if options.only in f"{entry.file} {entry.find}"]
    counts: Counter[str] = Counter()
    settings = {"jobs": options.jobs, "timeout": options.timeout, "trust": options.trust}
    for mutation, verdict, detail in try_all(chosen, **settings):
        counts[verdict] += 1
        print(f"{verdict:>10}  {mutation}" + (f"\n            {detail}" if detail else ""), flush=True)
    tried = counts["caught"] + counts["survived"]
    print(f"{dict(counts)}; {counts['caught'] / max(tried, 1):.1%} of those that can be noticed are caught")
    return 1 if counts["survived"] or counts["broken"] else 0


def _require_passing_tests(mutations: Sequence[Mutation], checkout: Checkout) -> None:
    """Check that the tests pass without a fault: a test that always fails would count as one that notices."""
    for arguments in sorted({entry.tests for entry in mutations if entry.tests and not entry.problem()}):
        status, output = checkout.test(shlex.split(arguments), 3600)
        if status != 0:
            raise SystemExit(f"Without any fault these tests do not pass: {arguments}\n{output}")


def _link(source: str, target: str) -> None:
    """Hard-link a file if the file system allows it, as models and pictures are never written."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _ignored(folder: str, names: list[str]) -> set[str]:
    hidden = {name for name in names if name.startswith(".") and name != ".ci"}
    return hidden | ({"runs", "build", "dist", "wandb"} & set(names) if Path(folder) == ROOT else set())


def _line(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    sys.exit(main())
