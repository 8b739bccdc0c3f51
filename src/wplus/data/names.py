"""Names of files, whatever system, archive or encoding they come from."""

import os
import re
import unicodedata
from pathlib import PurePosixPath


def clean_name(name: str) -> str:
    """The name of a file of any system and encoding as one text: `/` between folders, accents composed, no controls.

    It stays inside of its folder: an absolute one becomes relative, and `..` is left out.
    """
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8, which Python keeps as halves of surrogates
        name = os.fsencode(name).decode("latin-1")
    text = re.sub(r"[\x00-\x1f\x7f-\x9f]", "_", unicodedata.normalize("NFC", name.replace("\\", "/")))
    return "/".join(part for part in text.split("/") if part not in ("", ".", ".."))


def without_extension(name: str) -> str:
    """`sub/a.png` -> `sub/a`."""
    return PurePosixPath(name).with_suffix("").as_posix()
