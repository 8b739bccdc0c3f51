"""Guards against malicious files, which may try to exhaust memory, overflow the stack, or write to the terminal.

Every refusal becomes one printable sentence. Memory allocated for a file is counted (`spend`), and the instructions of
its pickles are checked before any is executed (`check_opcodes`).
"""

import io
import pickletools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from wplus.errors import UserError

File = io.BufferedIOBase


class Refused(Exception):
    """Raised for content that is not allowed in a foreign file; the message names it."""


def printable(text: str, limit: int = 200) -> str:
    """At most `limit` characters without control characters."""
    return "".join(char if char.isprintable() else "?" for char in text[:limit])


@contextmanager
def refusals(path: str | Path) -> Iterator[None]:
    """Within the block, any error with a file becomes a UserError that names the file and the cause."""
    try:
        yield
    except Refused as refused:
        allowed = "from foreign files only tensors, numbers, strings and plain containers are read"
        raise UserError(f"'{path}' is refused: it holds {refused}, and {allowed}.") from refused
    except OSError as error:
        raise UserError(f"Cannot read '{path}': {error.strerror or error}.") from error
    except Exception as error:  # a damaged file can fail in any way
        reason = printable(" ".join(str(error).split())) or type(error).__name__
        raise UserError(f"Cannot read '{path}': the file is truncated, damaged or no checkpoint ({reason}).") from error


# --- memory -----------------------------------------------------------------------------------------------------------

MAX_GROWTH = 4  # bytes allocated for a file, in multiples of its size; a benign one needs 2
SMALL = 2**20  # bytes allowed for files of any size
ENTRY = 100  # bytes of an entry in a set, dict or tuple
_memory: ContextVar[list[int]] = ContextVar("memory")  # size of the file, bytes that may still be allocated for it


@contextmanager
def memory_limit(size: int) -> Iterator[None]:
    """Within the block, all allocations count towards one file of `size` bytes."""
    token = _memory.set([size, MAX_GROWTH * size + SMALL])
    try:
        yield
    finally:
        _memory.reset(token)


def spend(num_bytes: int) -> None:
    """Count bytes about to be allocated; raises Refused if they exceed what the file can plausibly contain."""
    memory = _memory.get()
    memory[1] -= num_bytes
    if memory[1] < 0:
        raise Refused(f"more than {MAX_GROWTH} times what a file of {memory[0]} bytes can say")


# --- instructions of pickles ------------------------------------------------------------------------------------------

PUTS, GETS = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")
MAX_INSTRUCTIONS = 500_000  # plus one per BYTES_EACH of the file: every object takes memory, even an empty one
BYTES_EACH = 50
MAX_DEPTH = 100  # of nested tuples, whose hash recurses on the C stack: 200,000 crash Python


def check_opcodes(file: File) -> None:
    """Raise Refused for instructions that would exhaust memory, overflow the stack, or bypass the list of names.

    Scans one pickle from the file's current position and restores it. Nothing is executed.
    """
    start, nesting = file.tell(), _Nesting()
    size = file.seek(0, io.SEEK_END)
    file.seek(start)
    instructions: Iterator[tuple[pickletools.OpcodeInfo, Any, int | None]] = pickletools.genops(file)  # type: ignore[arg-type]
    for num, (opcode, argument, _) in enumerate(instructions):
        if num >= MAX_INSTRUCTIONS + size // BYTES_EACH:
            raise Refused(f"more than {num} instructions in a file of {size} bytes")
        if opcode.name in PUTS and argument > num:  # that many slots are allocated at once
            raise Refused(f"a memo of {argument} entries after {num} instructions")
        if opcode.name.startswith("EXT"):  # cached extensions bypass find_class
            raise Refused(f"the extension code {argument}")
        nesting.follow(opcode, argument)
    file.seek(start)


class _Nesting:
    """Tracks the nesting depth of tuples for each value on the unpickler's stack and in its memo.

    A value made from others, such as the result of a call, is assumed to contain the deepest of them. A list that grows
    after it was memoised may contain a deeper one, but lists are not hashed.
    """

    def __init__(self) -> None:
        self._stack: list[int | None] = []  # None: a mark
        self._memo: dict[int, int] = {}

    def follow(self, opcode: pickletools.OpcodeInfo, argument: Any) -> None:
        """Apply the effect of an instruction on values to their depths."""
        name, depth = opcode.name, max(self._popped(opcode), default=0)
        if name in GETS:
            depth = self._memo.get(argument, 0)
        elif name.startswith("TUPLE"):
            depth += 1
        if depth > MAX_DEPTH:
            raise Refused(f"tuples within tuples, more than {MAX_DEPTH} deep")
        self._stack += [None if made is pickletools.markobject else depth for made in opcode.stack_after]
        if name in (*PUTS, "MEMOIZE"):
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = self._stack[-1] or 0

    def _popped(self, opcode: pickletools.OpcodeInfo) -> list[int]:
        taken, popped = list(opcode.stack_before), []
        if pickletools.markobject in taken:  # everything down to the last mark
            del taken[taken.index(pickletools.markobject) :]
            while (depth := self._stack.pop()) is not None:
                popped.append(depth)
        return popped + [self._stack.pop() or 0 for _ in taken]
