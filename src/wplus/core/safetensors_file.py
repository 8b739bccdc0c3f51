"""Safetensors files of a kind: one JSON entry in the header says what the tensors mean and whose they are.

What a file can be instead, missing, truncated, foreign, newer, of another generator or incomplete, is told here for
all kinds.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor

from wplus.core.files import atomic_write
from wplus.errors import UserError

Content = TypeVar("Content")


@dataclass(frozen=True)
class SafetensorsFormat:
    """One kind of file, and the words in which its errors speak of it.

    noun     what a file holds, as in "holds no latent"
    entry    name of the JSON entry in the header
    version  of the format: the one that is written and read
    foreign  says that a file belongs to another generator, with {path}, {maker} and {fingerprint} in it
    source   where such files come from, said when one is missing; "" says nothing
    """

    noun: str
    entry: str
    version: int
    foreign: str
    source: str = ""

    def write(self, path: str | Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
        """Write a file, whole or not at all; `header` is anything JSON can hold, with a "generator" for `read`."""
        own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        content = to_bytes(own, metadata={self.entry: json.dumps({"version": self.version, **header})})
        return atomic_write(path, lambda file: file.write(content))

    def read(
        self, path: str | Path, assemble: Callable[[dict[str, Any], dict[str, Tensor]], Content], *,
        fingerprint: str | None,
    ) -> Content:  # fmt: skip
        """What `assemble` makes of header and tensors, for the generator with this fingerprint; None reads it for any.

        UserError for what the file can be instead, and where it lacks what `assemble` looks for.
        """
        if not Path(path).is_file():
            raise UserError(f"The {self.noun} file '{path}' does not exist{self.source and '; ' + self.source}.")
        header, tensors = self.open(path)
        if not isinstance(header, dict):
            reason = f"its header has no '{self.entry}' entry"
            raise UserError(f"'{path}' is a safetensors file but holds no {self.noun}: {reason}.")
        version, maker = header.get("version"), header.get("generator")
        if version != self.version:
            raise UserError(f"'{path}' has {self.noun} format {version}; this wplus reads {self.version}.")
        if fingerprint is not None and maker != fingerprint:
            raise UserError(f"{self.foreign.format(path=path, maker=maker, fingerprint=fingerprint)}: load that one.")
        try:
            return assemble(header, tensors)
        except UserError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            lack = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise UserError(f"The {self.noun} file '{path}' is incomplete: {lack}.") from error

    def open(self, path: str | Path) -> tuple[Any, dict[str, Tensor]]:
        """The JSON entry in the header, None where there is none, and the tensors; UserError for another format."""
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get(self.entry, "null"))
                # Clones: what safetensors gives is the file itself, mapped, and would change or break with it.
                return header, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no dict)
        except (SafetensorError, OSError, ValueError, RecursionError) as error:
            what = f"the {self.noun} file '{path}': it is truncated or of another format"
            raise UserError(f"Cannot read {what} ({error}).") from error
