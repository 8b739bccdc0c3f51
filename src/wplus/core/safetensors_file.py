"""Safetensors file formats: a JSON entry in the header describes the tensors and names their generator.

Errors for files that are missing, truncated, foreign, newer, of another generator or incomplete are raised here for all
formats.
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
    """One file format, and the wording of its errors.

    noun     name of the contents, as in "holds no latent"
    entry    name of the JSON entry in the header
    version  version of the format that is written and read
    foreign  message for a file of another generator, with {path}, {maker} and {fingerprint} in it
    source   where such files come from, added to the message for a missing file; "" adds nothing
    """

    noun: str
    entry: str
    version: int
    foreign: str
    source: str = ""

    def write(self, path: str | Path, header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Path:
        """Write a file atomically; `header` is any JSON object, with a "generator" entry for `read`."""
        own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        content = to_bytes(own, metadata={self.entry: json.dumps({"version": self.version, **header})})
        return atomic_write(path, lambda file: file.write(content))

    def read(
        self, path: str | Path, assemble: Callable[[dict[str, Any], dict[str, Tensor]], Content], *,
        fingerprint: str | None,
    ) -> Content:  # fmt: skip
        """Apply `assemble` to header and tensors of a file for the generator with this fingerprint; None accepts any.

        UserError for invalid files, and for files that lack an entry needed by `assemble`.
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
        """The JSON entry in the header (None if there is none) and the tensors; UserError for another format."""
        try:
            with safe_open(path, framework="pt") as file:
                header = json.loads((file.metadata() or {}).get(self.entry, "null"))
                # Clone: safetensors returns views of the mapped file, which would change or break with it.
                return header, {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (no dict)
        except (SafetensorError, OSError, ValueError, RecursionError) as error:
            what = f"the {self.noun} file '{path}': it is truncated or of another format"
            raise UserError(f"Cannot read {what} ({error}).") from error
