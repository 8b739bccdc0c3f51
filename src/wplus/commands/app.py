"""The command that serves the browser app."""

from __future__ import annotations

import argparse
import importlib.util
import threading
from collections.abc import Sequence

from wplus.commands.entry import program
from wplus.errors import OneLineParser, UserError, check_number

NO_TRANSLATOR = "none"


@program
def app(arguments: Sequence[str]) -> int:
    """Serve a web page to sample, mix styles, invert, interpolate, edit, draw, translate (extra `app`)."""
    given = _parser().parse_args(arguments)
    try:
        if importlib.util.find_spec("gradio") is None:
            raise UserError("The app needs gradio: pip install '.[app]'.")
        _run(given)
    except UserError as error:
        raise SystemExit(str(error)) from None
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="wplus app", description="Serves a page on this machine until it is interrupted.")
    parser.add_argument(
        "--model", default="cats32_e4e", help="generator, with an encoder or without (default: %(default)s)"
    )
    parser.add_argument("--translator", default="cats32_outline", help="for drawings, or none (default: %(default)s)")
    parser.add_argument("--directions", help="a file of `wplus directions` for the sliders; default: found at start")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in (default: %(default)s)")
    parser.add_argument("--port", type=int, help="default: the first free port from 7860 on")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, ... (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=120.0, help="time limit of a request (default: %(default)g)")
    parser.add_argument("--megabytes", type=float, default=10.0, help="size limit of an upload (default: %(default)g)")
    parser.add_argument("--open", action="store_true", help="open it in the browser of this machine")
    return parser


def _run(given: argparse.Namespace) -> None:
    from wplus.app.acts import Acts, directions_of
    from wplus.app.limits import Limits
    from wplus.library import load

    for name in ("seconds", "megabytes"):
        check_number(f"--{name}", getattr(given, name), lowest=0.1)
    limits = Limits(seconds=given.seconds)
    model = load(given.model, given.device, needs=["generator"])
    translator = None if given.translator == NO_TRANSLATOR else load(given.translator, given.device)
    acts = Acts(model, translator, directions_of(model, given.directions), given.megabytes)
    from wplus.app.server import running  # imports gradio, after everything that can be checked without it

    with running(acts, host=given.host, port=given.port, limits=limits, is_opened=given.open) as address:
        print(f"The app is at {address} until Ctrl-C.", flush=True)
        threading.Event().wait()
