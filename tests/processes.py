"""Real processes that start quickly: forked from a server that has imported torch and similar, but not this package."""

import atexit
import contextlib
import functools
import multiprocessing
import multiprocessing.connection
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Mapping
from multiprocessing.context import ForkServerContext
from pathlib import Path

LIBRARIES = [
    "torch",
    "pytorch_lightning",
    "scipy.stats",
    "hydra",
    "wandb",
    "pandas",
    "matplotlib.figure",
    "rich.progress",
]


@functools.cache
def _server() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(LIBRARIES)
    return context


class Python:
    """Like `subprocess.Popen(["python", *arguments])` in its own process group; its output is one text.

    The arguments begin with a script, with -m and a module, or with -c and a program.

    Not `forked` it is a Python from scratch, for what relies on how one ends: the processes of a sweep's slots.
    """

    def __init__(
        self, *arguments: object, cwd: Path | None = None, env: Mapping[str, str] | None = None, forked: bool = True
    ) -> None:
        handle, name = tempfile.mkstemp()  # no open file: whoever collects one that nobody closed is warned
        os.close(handle)
        self._output = Path(name)
        weakref.finalize(self, self._output.unlink, missing_ok=True)
        given = [*map(str, arguments)], str(cwd or Path.cwd()), dict(env or os.environ), name, forked
        # This file by its path: another package may be called tests where pytest does not look after the name.
        self._process = _server().Process(target=runpy.run_path, args=(__file__, {"GIVEN": given}, "__child__"))
        self._process.start()
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        """None while it runs; negative for the signal that ended it."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.send_signal(signal.SIGKILL)

    def printed(self) -> str:
        """Its output so far."""
        return self._output.read_text()

    def output(self, timeout: float) -> str:
        """Its whole output, once it has ended."""
        self._process.join(timeout)
        if self.returncode is None:
            self.kill()
            raise subprocess.TimeoutExpired("python", timeout, self._output.read_bytes())
        return self._output.read_text()


def pair(script: Path, *arguments: object, timeout: float) -> list[str]:
    """Output lines of two processes joined by torch.distributed, as torchrun starts them; both must succeed."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    both = [Python(script, *arguments, env={**os.environ, **meeting, "RANK": str(rank)}) for rank in range(2)]
    try:
        printed = [process.output(timeout) for process in both]
        assert [process.returncode for process in both] == [0, 0], "\n".join(printed)
    finally:
        for process in both:
            process.kill()
    return "".join(printed).splitlines()


def _be_python(arguments: list[str], cwd: str, env: dict[str, str], output: str, forked: bool) -> None:
    os.setsid()
    threading.Thread(target=_end_with_the_tests, daemon=True).start()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    file = os.open(output, os.O_WRONLY | os.O_APPEND)
    os.dup2(file, 1), os.dup2(file, 2)
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    if not forked:
        os.execv(sys.executable, [sys.executable, *arguments])
    if "wandb" in sys.modules:  # its folder of files on their way is removed by whichever process ends first
        sys.modules["wandb.sdk.data_types._private"].MEDIA_TMP.name = tempfile.mkdtemp("wandb-media")
    try:
        if arguments[0] == "-m":
            sys.argv = arguments[1:]
            runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        elif arguments[0] == "-c":
            sys.argv = ["-c", *arguments[2:]]
            exec(compile(arguments[1], "<string>", "exec"), {"__name__": "__main__"})
        else:
            sys.argv = arguments
            sys.path.insert(0, str(Path(arguments[0]).parent))
            runpy.run_path(arguments[0], run_name="__main__")
    finally:
        sys.stdout.flush()
        atexit._run_exitfuncs()  # which multiprocessing leaves out


def _end_with_the_tests() -> None:
    """If the tests are killed, nothing else would end this group."""
    tests = multiprocessing.parent_process()
    assert tests is not None
    multiprocessing.connection.wait([tests.sentinel])
    os.killpg(0, signal.SIGKILL)


if __name__ == "__child__":
    _be_python(*GIVEN)  # noqa: F821
