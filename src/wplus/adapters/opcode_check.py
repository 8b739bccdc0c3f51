"""What the instructions of a pickle would do to the process that runs them, found without running any."""

from __future__ import annotations

import io
import pickletools
from typing import Any, BinaryIO

from wplus.adapters.refusal import Refused

PUTS, GETS = ("PUT", "BINPUT", "LONG_BINPUT"), ("GET", "BINGET", "LONG_BINGET")
MAX_INSTRUCTIONS = 500_000  # beside one per BYTES_EACH of the file: every object takes memory, even an empty one
BYTES_EACH = 50
MAX_DEPTH = 100  # of tuples within tuples, whose hash is computed on C's stack: 200,000 crash Python


def require_harmless(file: BinaryIO | io.BytesIO) -> None:
    """Refused for what would fill the memory, overflow the stack, or get round the reader's list of names.

    Looks at one pickle, from the file's position on, and goes back there.
    """
    start, nesting = file.tell(), _Nesting()
    size = file.seek(0, io.SEEK_END)
    file.seek(start)
    for num, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if num >= MAX_INSTRUCTIONS + size // BYTES_EACH:
            raise Refused(f"more than {num} instructions in a file of {size} bytes")
        if opcode.name in PUTS and argument > num:  # as many places are made at once
            raise Refused(f"a memo of {argument} entries after {num} instructions")
        if opcode.name.startswith("EXT"):  # what this process has once fetched by a number, no reader is asked for
            raise Refused(f"the extension code {argument}")
        nesting.follow(opcode, argument)
    file.seek(start)


class _Nesting:
    """How many tuples there are, one within another, in each value on the unpickler's stack and in its memo.

    Whatever is made of other values, by a call say, is taken to hold the deepest of them. A list that grows after it
    went into the memo may hold a deeper one, but has no hash.
    """

    def __init__(self) -> None:
        self._stack: list[int | None] = []  # None: a mark
        self._memo: dict[int, int] = {}

    def follow(self, opcode: Any, argument: Any) -> None:
        """Do to the depths what an instruction does to the values."""
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

    def _popped(self, opcode: Any) -> list[int]:
        taken, popped = opcode.stack_before, []
        if pickletools.markobject in taken:  # all down to the last mark
            while (depth := self._stack.pop()) is not None:
                popped.append(depth)
        num_below = taken.index(pickletools.markobject) if pickletools.markobject in taken else len(taken)
        return popped + [self._stack.pop() or 0 for _ in range(num_below)]
