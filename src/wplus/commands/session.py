"""The context of every command: claims and locks its folder, and handles signals."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from wplus.core.claim import question
from wplus.core.sweep import is_pruned
from wplus.errors import Interrupted
from wplus.tracking.run_folder import RunFolder


@contextlib.contextmanager
def session(config: Mapping[str, Any], kind: str, *, has_folder: bool) -> Iterator[None]:
    """Hold the folder of this configuration (`run_dir`) exclusively during the block.

    With several processes, the first one holds it. Ctrl-C and SIGTERM raise `Interrupted`.
    """
    from wplus.core.runtime import float32_convolutions  # imports torch: not for commands that only print

    with contextlib.ExitStack() as stack:
        stack.enter_context(leaving_on_signals())
        stack.enter_context(float32_convolutions())
        if has_folder and is_first(config):
            stack.enter_context(RunFolder(config["run_dir"], kind=kind, asked=question(config)))
        yield


def is_first(config: Mapping[str, Any]) -> bool:
    """Whether this is the first of a command's processes, according to the environment."""
    trainer = config.get("trainer") or {"devices": os.environ.get("WORLD_SIZE", "1")}
    if {str(trainer.get(name, 1)) for name in ("devices", "num_nodes")} == {"1"}:
        return True
    ranks = [os.environ[name] for name in ("RANK", "SLURM_PROCID") if name in os.environ]
    return (ranks or [os.environ.get("NODE_RANK", "0") + os.environ.get("LOCAL_RANK", "0")])[0].strip("0") == ""


@contextlib.contextmanager
def leaving_on_signals() -> Iterator[None]:
    """Make SIGINT and SIGTERM raise `Interrupted` unless already handled or ignored; a second SIGTERM has no effect."""
    received: list[int] = []

    def leave(number: int, _: object) -> None:
        if number == signal.SIGINT or number not in received:
            received.append(number)
            raise Interrupted(number)

    ours = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                ours[number] = signal.signal(number, leave)
    try:
        yield
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def exiting_when_interrupted() -> Iterator[None]:
    """On Ctrl-C and termination signals, exit with one line and the exit status that shells expect."""
    try:
        yield
    except KeyboardInterrupt as error:
        if not is_pruned():  # the sweep reports these
            print("Interrupted: what is done is kept, the same command goes on from there.", file=sys.stderr)
        raise SystemExit(128 + getattr(error, "number", int(signal.SIGINT))) from None
