"""Kill every command at random moments, tear its files, fill its disk, start it twice: what is lost?

    python experiments/benchmarks/faults.py --minutes 10 [--kills 100] [--only train invert ...] [--seed 0]
        [--output runs/faults]

Each command first runs twice undisturbed. It is then started again and again, and ended by SIGKILL, SIGTERM or SIGINT
after a random time, until it finishes; the result is compared bit by bit with the undisturbed one. Between attempts,
occasionally, one of its files is torn or a second process is started in the same folder. The last fault is a full disk
(a small tmpfs; as root only). A fault is survived if the command resumes, or refuses in one sentence that names the
file. Exits with status 1 if anything was lost, duplicated or wrong.

Commands run in forks of this process, which has imported everything that the first of them imported, so an attempt
costs only its computation.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from fault_cases import CASES

from wplus.__main__ import main as wplus_main
from wplus.core.files import write_json
from wplus.tracking.local import read_result
from wplus.tracking.run_folder import read_json

ROOT = Path(__file__).resolve().parents[2]
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
EXIT = {signal.SIGTERM: 143, signal.SIGINT: 130}
LIMIT_S = 300


@dataclass
class Tally:
    """Counts of what happened to a command."""

    faults: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    finished: int = 0
    equal: int = 0

    @property
    def kills(self) -> int:
        """Number of kills by any signal."""
        return sum(self.faults[one.name] for one in SIGNALS)


class Campaign:
    """One command under attack, in folders of its own below `output`."""

    def __init__(self, name: str, output: Path, rng: random.Random) -> None:
        self.name, self.case, self.output, self.rng = name, CASES[name], output / name, rng
        self.tally = Tally()
        self.damaged: tuple[Path, bytes] | None = None
        self.output.mkdir(parents=True, exist_ok=True)

    def prepare(self) -> None:
        """Run undisturbed: the first run shows what to import, the second how long the command takes after that."""
        shutil.rmtree(self.output, ignore_errors=True)
        self.output.mkdir(parents=True)
        names = self.output / "imported.txt"
        self.undisturbed("reference", names)
        for name in names.read_text().split():
            with contextlib.suppress(Exception):  # submodules that only their package can import
                importlib.import_module(name)
        self.expected = self.found(self.output / "reference")
        began = time.monotonic()
        self.undisturbed("again")
        self.seconds = time.monotonic() - began
        self.compare(self.output / "again")
        self.tally.finished, self.tally.equal = 0, 0  # of attacked runs only

    def undisturbed(self, name: str, imported: Path | None = None) -> None:
        """Run the command; it has to succeed."""
        if self.start(self.output / name, imported=imported).wait(LIMIT_S) != 0:
            raise SystemExit(f"{self.name} does not work undisturbed: {self.log.read_text()[-2000:]}")

    def attack(self, until: float, kills: int) -> None:
        """Attack runs until the time is over or this many were killed; the last one is run to its end."""
        number = 0
        while time.monotonic() < until and self.tally.kills < kills:
            folder = self.output / f"attacked-{number}"
            self.damaged = None
            self.attempts(folder, until)
            self.compare(folder)
            shutil.rmtree(folder)
            number += 1

    def attempts(self, folder: Path, until: float) -> None:
        """Start the command until it finishes, ending each attempt by a signal; a resumed run has less to do, so most
        signals come early.
        """  # fmt: skip
        for attempt in range(1000):
            process = self.start(folder)
            is_late = attempt > 40 or time.monotonic() > until + self.seconds
            chosen = None if is_late else self.rng.choice(SIGNALS)
            if self.rng.random() < 0.1 and len(self.case.folders) == 1:  # a sweep's jobs may be shared by processes
                self.second_process(folder, process)
            status = process.wait(0.04 * 20 ** self.rng.random() * self.seconds if chosen else LIMIT_S)
            was_sent = status is None and chosen is not None
            if was_sent and chosen:
                os.kill(process.pid, chosen)
                self.tally.faults[chosen.name] += 1
                status = process.wait(LIMIT_S)
            if status == 1 and self.put_right():
                continue
            if was_sent and chosen:
                self.check_status(folder, chosen, status)
            elif status not in (0, 143):  # the latter of a signal that a second process has drawn here
                self.blame(f"ended with {status}: {self.last_words()}")
            if status == 0:
                return
            if self.damaged is None and self.rng.random() < 0.15:
                self.tear_a_file(folder)
        self.blame("never came to its end")

    def check_status(self, folder: Path, sent: signal.Signals, status: int | None) -> None:
        """Check that the exit status and the record are truthful."""
        if status is None:
            self.blame(f"does not end after {sent.name}")
        elif status not in (0, EXIT.get(sent, -sent), -sent):
            self.blame(f"{sent.name} gives status {status}: {self.last_words()}")
        for job in self.jobs(folder):
            recorded = read_result(job).get("status")
            allowed = {0: ("finished",), -signal.SIGKILL: ("killed", "interrupted", "finished", None)}
            if recorded not in allowed.get(status or 0, ("interrupted", "finished", "killed", None)):
                self.blame(f"the record says {recorded} after {sent.name} and status {status}")

    def second_process(self, folder: Path, first: Fork) -> None:
        """Check that a second process for the same folder is refused in one sentence while the first one holds it."""
        for _ in range(1000):
            if read_json(folder / ".lock").get("pid") == first.pid:
                break
            time.sleep(0.02)
        else:
            return
        before = self.log
        other = self.start(folder, "second.log")
        status = other.wait(LIMIT_S)
        self.tally.faults["second process"] += 1
        words = self.log.read_text()
        is_alone = first.wait(0) is not None  # the first has ended, so the folder may have been free
        is_refused = status != 0 and "is in use by process" in words
        if "Traceback" in words or not (is_refused or (is_alone and status == 0)):
            self.blame(f"a second process ended with {status}: {self.last_words()}")
        self.log = before

    def tear_a_file(self, folder: Path) -> None:
        """Truncate a file, empty it or flip a bit; the command must resume or name the file."""
        files = [path for path in folder.rglob("*") if path.is_file() and path.name not in (".lock", "console.log")]
        if not files:
            return
        path = self.rng.choice(sorted(files))
        self.damaged = path, path.read_bytes()
        path.write_bytes(torn(self.damaged[1], self.rng))
        self.tally.faults[f"torn {path.suffix or path.name}"] += 1

    def put_right(self) -> bool:
        """Whether the command has refused a torn file by name; if so, repair the file."""
        words = self.log.read_text()
        if self.damaged is None or "Traceback" in words or self.damaged[0].name not in words:
            return False
        self.damaged[0].write_bytes(self.damaged[1])
        self.damaged = None
        return True

    def compare(self, folder: Path) -> None:
        """Check that the finished run equals the undisturbed one bit by bit."""
        self.tally.finished += 1
        found = self.found(folder)
        different = [key for key in {**self.expected, **found} if self.expected.get(key) != found.get(key)]
        if different:
            self.blame(f"{len(different)} of {len(self.expected)} differ: {sorted(map(str, different))[:4]}")
        else:
            self.tally.equal += 1

    def full_disk(self) -> None:
        """Check that the command reports a disk that is too small, and reaches the same result with more room."""
        with small_disk(1) as disk:
            if disk is None:
                return
            folder = disk / "run"
            self.tally.faults["full disk"] += 1
            status = self.start(folder).wait(LIMIT_S)
            words = self.log.read_text()
            if "Traceback" in words or (status != 0 and "No space left" not in words):
                self.blame(f"on a full disk ended with {status}: {self.last_words()}")
            subprocess.run(["mount", "-o", "remount,size=2G", str(disk)], check=True)
            status = self.start(folder).wait(LIMIT_S)
            if status != 0:
                self.blame(f"with room again ended with {status}: {self.last_words()}")
            else:
                self.compare(folder)

    def start(self, folder: Path, log: str = "log.txt", imported: Path | None = None) -> Fork:
        """Start the command in its own process."""
        self.log = self.output / log
        where = f"run_dir={folder}/${{seed}}" if len(self.case.folders) > 1 else f"run_dir={folder}"
        return Fork([*self.case.arguments, where], self.log, imported)

    def jobs(self, folder: Path) -> list[Path]:
        """Folders of a command; a sweep has several."""
        return [folder / name for name in self.case.folders]

    def found(self, folder: Path) -> dict[str, Any]:
        """What must be equal, for all jobs."""
        return {f"{job.name}/{key}" if len(self.case.folders) > 1 else key: value
                for job in self.jobs(folder) for key, value in self.case.results(job).items()}  # fmt: skip

    def last_words(self) -> str:
        """The end of the command's output."""
        lines = [line for line in self.log.read_text().splitlines() if line.strip()]
        return " | ".join(lines[-3:])[-400:]

    def blame(self, sentence: str) -> None:
        """Record and print a failure."""
        self.tally.wrong.append(sentence)
        print(f"  WRONG  {self.name}: {sentence}", flush=True)


class Fork:
    """`wplus ...` in a fork of this process, with its output in one file and the names of its imports in another."""

    status: int | None = None  # set when it has ended

    def __init__(self, arguments: Sequence[str], log: Path, imported: Path | None = None) -> None:
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            status = _child(arguments, log)
            if imported is not None:
                imported.write_text("\n".join(sys.modules))
            os._exit(status)

    def wait(self, seconds: float) -> int | None:
        """Return the exit status, negative for a signal; None while it runs."""
        deadline = time.monotonic() + seconds
        while self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
            elif time.monotonic() >= deadline:
                break
            else:
                time.sleep(0.01)
        return self.status


def _child(arguments: Sequence[str], log: Path) -> int:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.setsid()
    sys.stdout, sys.stderr = (open(number, "w", buffering=1, closefd=False) for number in (1, 2))  # noqa: SIM115
    try:
        return int(wplus_main(arguments) or 0)
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def torn(content: bytes, rng: random.Random) -> bytes:
    """Return the content truncated, emptied, or with one bit flipped."""
    how = rng.choice(("cut", "empty", "flip"))
    if how == "empty" or not content:
        return b""
    place = rng.randrange(len(content))
    if how == "cut":
        return content[:place]
    return content[:place] + bytes([content[place] ^ 1 << rng.randrange(8)]) + content[place + 1 :]


@contextlib.contextmanager
def small_disk(megabytes: int) -> Iterator[Path | None]:
    """Mount a separate file system; None without permission."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}M", "tmpfs", folder],
                                 capture_output=True)  # fmt: skip
        try:
            yield Path(folder) if mounted.returncode == 0 else None
        finally:
            if mounted.returncode == 0:
                subprocess.run(["umount", "--lazy", folder], check=False)


def table(tallies: Mapping[str, Tally]) -> str:
    """Format a line per command: faults by kind, finished runs, and how many of them equal the undisturbed one."""
    lines = ["| command | kills | other faults | finished | bit-equal | wrong |", "|---" * 6 + "|"]
    for name, tally in tallies.items():
        kills = {one.name: tally.faults[one.name] for one in SIGNALS}
        others = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.faults.items()) if kind not in kills)
        shown = f"{tally.kills} ({', '.join(f'{count} {kind}' for kind, count in kills.items())})"
        lines.append(f"| {name} | {shown} | {others} | {tally.finished} | {tally.equal} | {len(tally.wrong)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the campaign; print a table, and write it with every fault that was not survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="for all commands together (default: %(default)g)")
    parser.add_argument("--kills", type=int, default=1000, help="enough of each command (default: %(default)d)")
    parser.add_argument("--only", nargs="+", choices=list(CASES), default=list(CASES), help="these commands")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=Path("runs/faults"))
    options = parser.parse_args(arguments)
    os.chdir(ROOT)
    torch.set_num_threads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # for what a fork starts; a fork of a process with threads would hang
    output, tallies = options.output.resolve(), {}
    for name in options.only:
        campaign = Campaign(name, output, random.Random(f"{options.seed} {name}"))
        began = time.monotonic()
        campaign.prepare()
        campaign.attack(began + 60 * options.minutes / len(options.only), options.kills)
        campaign.full_disk()
        tallies[name] = campaign.tally
        print(f"{name}: {dict(campaign.tally.faults)}, {campaign.tally.equal} of {campaign.tally.finished} equal",
              flush=True)  # fmt: skip
    text = table(tallies)
    write_json(output / "faults.json", {name: vars(tally) for name, tally in tallies.items()})
    print(f"\n{text}")
    return 1 if any(tally.wrong for tally in tallies.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
