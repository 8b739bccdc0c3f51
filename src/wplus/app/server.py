"""Serves the app: by default on this machine only, one request at a time, with limits, and without network access."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import gradio

from wplus.app.acts import Acts
from wplus.app.limits import Limits
from wplus.app.pages import CSS, pages
from wplus.core.surroundings import environment
from wplus.errors import UserError


@contextmanager
def running(
    acts: Acts, *, host: str, port: int | None = None, limits: Limits | None = None, is_opened: bool = False
) -> Iterator[str]:
    """Serve the app during the block; yields its address. Uploads are kept in a temporary folder, deleted at the end.

    Requests are queued and served one at a time.
    """
    limits = limits or Limits()
    with (
        tempfile.TemporaryDirectory(prefix="wplus-app-") as folder,
        environment({"GRADIO_TEMP_DIR": folder, "GRADIO_ANALYTICS_ENABLED": "False"}),
    ):
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


def _theme() -> Any:
    """A theme with system fonts; others would be downloaded."""
    plain, fixed = (["system-ui", "sans-serif"], ["ui-monospace", "monospace"])
    return gradio.themes.Default(font=plain, font_mono=fixed)
