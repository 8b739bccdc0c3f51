"""Serving the app: on this machine unless told, one request at a time, with limits, and nothing from the network."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio

from wplus.app.acts import Acts
from wplus.app.limits import Limits
from wplus.app.pages import CSS, pages
from wplus.errors import UserError


@contextmanager
def running(
    acts: Acts, *, host: str, port: int | None = None, limits: Limits | None = None, is_opened: bool = False
) -> Iterator[str]:
    """Serve in the block, at the address that is yielded; uploads lie in a temporary folder that goes with it.

    Requests wait in a queue, from which one at a time is served.
    """
    limits = limits or Limits()
    with tempfile.TemporaryDirectory(prefix="wplus-app-") as folder, _surroundings(folder):
        page = pages(acts, limits)
        page.queue(max_size=limits.waiting, default_concurrency_limit=1, api_open=False)
        try:
            _, address, _ = page.launch(
                server_name=host, server_port=port, inbrowser=is_opened, share=False, quiet=True, show_error=False,
                prevent_thread_lock=True, max_file_size=round(acts.megabytes * 2**20), footer_links=[], css=CSS,
                run_history=False, enable_monitoring=False, ssr_mode=False, theme=_theme(),
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"The app cannot listen on {host}: {' '.join(str(error).split())[:200]}") from error
        try:
            yield address
        finally:
            page.close(verbose=False)


@contextmanager
def _surroundings(folder: str) -> Iterator[None]:
    """Where gradio writes, and that it tells nobody."""
    wanted = {"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}
    before = {name: os.environ.get(name) for name in wanted}
    os.environ |= wanted
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.__setitem__(name, value)


def _theme() -> Any:
    """Fonts of the system: named as fonts of their own they would be fetched."""
    plain, fixed = (["system-ui", "sans-serif"], ["ui-monospace", "monospace"])
    return gradio.themes.Default(font=plain, font_mono=fixed)
