"""Read and write checkpoints of other projects without executing anything a file contains."""

from pathlib import Path
from typing import Any

from wplus.adapters import e4e, junyanz, nvlabs, rosinality
from wplus.adapters.guards import printable
from wplus.adapters.restricted import read_restricted
from wplus.errors import UserError
from wplus.models.network import Network

__all__ = ["read_foreign"]

SAW = "wplus_saw"  # key in files written by wplus: nets used to train the networks (`wplus.models.network.Network.saw`)
LAYOUTS = (nvlabs, e4e, rosinality, junyanz)  # in order of precedence: e4e's files also look like rosinality's


def read_foreign(path: str | Path) -> tuple[dict[str, Network], dict[str, Any]]:
    """Networks of another project's checkpoint by role (generator, discriminator, encoder), and metadata for JSON.

    Files are recognised by content, not by name: an NVlabs pickle, or a torch file in the layout of NVlabs, rosinality,
    e4e, pSp, ReStyle, pix2pix or CycleGAN. Raises UserError with the reason for anything else.
    """
    content = read_restricted(path)
    try:
        layout = next((layout for layout in LAYOUTS if layout.recognises(content)), None)
        if layout is None:
            known = "NVlabs' (G_ema), rosinality's (g_ema), e4e's or pSp's (state_dict with encoder and decoder)"
            raise UserError(
                f"'{path}' holds {_summary(content)}; supported are {known}, pix2pix' and CycleGAN's checkpoints."
            )
        networks, metadata = layout.read(content, f"'{path}'")
        for network in networks.values():
            network.saw = _saw(content)
        return networks, {"source": Path(path).name, **metadata}
    except UserError as error:  # size checks do not know the file: add its name
        where = "" if str(path) in str(error) else f"Cannot read '{path}': "
        raise UserError(printable(f"{where}{error}", 1000)) from error
    except Exception as error:  # malformed content can fail in any way
        reason = printable(" ".join(str(error).split())) or type(error).__name__
        raise UserError(f"Cannot read '{path}': its content does not match the names in it ({reason}).") from error


def _saw(content: object) -> tuple[str, ...]:
    names = content.get(SAW, []) if isinstance(content, dict) else []
    return tuple(printable(name, 100) for name in names if isinstance(name, str)) if isinstance(names, list) else ()


def _summary(content: object) -> str:
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    names = [repr(str(name)[:40]) for name in list(content)[:5]]
    return f"a dict of {', '.join(names) or 'nothing'}{', ...' if len(content) > 5 else ''}"
