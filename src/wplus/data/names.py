"""File names from any system, archive or encoding."""

import contextlib
import os
import posixpath
import re
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

# Tried for names without a declared encoding: UTF-8, then the code pages of Windows, DOS and Macs found in zips.
_ENCODINGS = (
    "utf-8", "gb18030", "big5", "cp932", "euc_jp", "cp949", "cp437", "cp850", "cp1252", "latin-1", "cp1250", "cp852",
    "cp1251", "cp866", "koi8-r", "cp1253", "cp1254", "cp1255", "cp1256", "cp1258", "cp874", "mac_roman",
)  # fmt: skip


def clean_name(name: str) -> str:
    """Normalize a file name of any system and encoding: `/` between folders, composed accents, no control characters.

    The result stays inside its folder: absolute names become relative, and `..` cannot lead out.
    """
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8, which Python keeps as lone surrogates
        name = os.fsencode(name).decode("latin-1")
    text = re.sub(r"[\x00-\x1f\x7f-\x9f]", "_", unicodedata.normalize("NFC", name.replace("\\", "/")))
    return posixpath.normpath("/" + re.sub(r"^[A-Za-z]:/", "", text)).lstrip("/")


def decoded_names(names: Sequence[bytes], known: Collection[str] = ()) -> list[str] | None:
    """Decode names that share one undeclared encoding; None if the encoding cannot be determined.

    An encoding is accepted if all decoded names are `known` (those of a list of labels), or if all names are UTF-8.
    """
    texts: dict[str, list[str]] = {}
    for encoding in _ENCODINGS:
        with contextlib.suppress(UnicodeDecodeError):
            texts[encoding] = [clean_name(name.decode(encoding)) for name in names]
    fitting = {tuple(found) for found in texts.values() if set(found) <= set(known)}
    return [*fitting.pop()] if len(fitting) == 1 else None if fitting else texts.get("utf-8")


def without_extension(name: str) -> str:
    """`sub/a.png` -> `sub/a`."""
    return PurePosixPath(name).with_suffix("").as_posix()
