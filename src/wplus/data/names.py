"""Names of files, whatever system, archive or encoding they come from."""

import contextlib
import os
import posixpath
import re
import unicodedata
from collections.abc import Collection, Sequence
from pathlib import PurePosixPath

# Of names that do not say theirs: UTF-8, then what Windows, DOS and Macs of many countries write into zips.
_ENCODINGS = (
    "utf-8", "gb18030", "big5", "cp932", "euc_jp", "cp949", "cp437", "cp850", "cp1252", "latin-1", "cp1250", "cp852",
    "cp1251", "cp866", "koi8-r", "cp1253", "cp1254", "cp1255", "cp1256", "cp1258", "cp874", "mac_roman",
)  # fmt: skip


def clean_name(name: str) -> str:
    """The name of a file of any system and encoding as one text: `/` between folders, accents composed, no controls.

    It stays inside of its folder: an absolute one becomes relative, and no `..` leads out.
    """
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are no UTF-8, which Python keeps as halves of surrogates
        name = os.fsencode(name).decode("latin-1")
    text = re.sub(r"[\x00-\x1f\x7f-\x9f]", "_", unicodedata.normalize("NFC", name.replace("\\", "/")))
    return posixpath.normpath("/" + re.sub(r"^[A-Za-z]:/", "", text)).lstrip("/")


def decoded_names(names: Sequence[bytes], known: Collection[str] = ()) -> list[str] | None:
    """Texts of names in one encoding that nobody tells; None where nothing decides which it is.

    What decides is that all become clean names that are `known`, those of a list of labels; else that all are UTF-8.
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
