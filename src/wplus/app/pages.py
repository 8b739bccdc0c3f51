"""The page, with a tab for each action. All of a user's data is kept in the state of their session."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from wplus.app.acts import OUTLINE, PAINT, RANGES, Acts
from wplus.app.limits import Limits
from wplus.editing.directions import StyleDirection
from wplus.errors import UserError

CANVAS = 256  # px
CSS = """
.shown img, .shown video {max-width: 100%; image-rendering: pixelated}
.shown table {font-size: 0.9em}
"""
INKS = ("#000000", "#f0a030", "#808080", "#d03030", "#ffffff")
_ABOUT = (
    "# wplus\n`{model!r}`. Requests are served one after another, each may take {seconds:g} s. Nothing is fetched from "
    "the network, and what you upload is seen by nobody else and deleted after {minutes:g} minutes."
)
_EDITING = (
    "Sliders move the image in standard deviations: along directions in w, and along single StyleSpace channels, "
    "which are named by attribute, layer and number."
)
_PROGRESS = gr.Progress()


def pages(acts: Acts, limits: Limits) -> gr.Blocks:
    """Build the whole page, without serving it."""
    with gr.Blocks(title="wplus", analytics_enabled=False, delete_cache=(60, round(60 * limits.minutes))) as page:
        gr.Markdown(_ABOUT.format(model=acts.model, seconds=limits.seconds, minutes=limits.minutes))
        own = gr.State(None, time_to_live=60 * limits.minutes)
        tabs = _Tabs(acts, limits, own)
        for title, tab in (("Samples", tabs.samples), ("Style mixing", tabs.mixing), ("Your image", tabs.image),
                           ("Edit", tabs.edit), ("Draw", tabs.sketch), ("Translate", tabs.translation)):  # fmt: skip
            with gr.Tab(title, elem_id=f"tab-{title.lower().replace(' ', '-')}"):
                tab()
    return page


class _Tabs:
    """One method per tab; `own` is the user's inverted image."""

    def __init__(self, acts: Acts, limits: Limits, own: gr.State) -> None:
        self.acts, self.limits, self.own = acts, limits, own
        self.size = f"up to {acts.megabytes:g} MB"

    def samples(self) -> None:
        with gr.Row():
            seed = _seed(0, "seed of the first")
            num = gr.Slider(1, 16, 8, step=1, label="how many")
            psi = _psi()
        self._button("samples", "Draw samples", self.acts.draw, [seed, num, psi])

    def mixing(self) -> None:
        gr.Markdown("Every image on the left with some layers of every image at the top.")
        with gr.Row():
            rows = gr.Textbox("1, 2, 3", label="seeds on the left", elem_id="mixing-rows")
            columns = gr.Textbox("4, 5, 6, 7", label="seeds at the top")
            layers = gr.Radio(["coarse", "middle", "fine"], value="coarse", label="layers from the top")
            psi = _psi()
        self._button("mixing", "Mix", self.acts.mix, [rows, columns, layers, psi])

    def image(self) -> None:
        gr.Markdown("Invert an image of yours, and interpolate to another. Images that are not square are cropped.")
        with gr.Row():
            file = gr.File(label=f"your image, {self.size}", elem_id="image-file", height=150)
            space = gr.Radio(["w", "w+"], value="w+", label="space", info="w+ is more faithful, w edits better")
            method = gr.Radio(self.acts.methods, value=self.acts.methods[0], label="method")
            steps = gr.Slider(1, 500, 50, step=1, label="steps")
        self._button("image", "Invert", self.acts.invert, [file, space, method, steps], keeps=True)
        with gr.Row():
            goal = gr.File(label=f"another image, {self.size}; or none", elem_id="walk-file", height=150)
            seed = _seed(1, "seed of the sample, without another image")
            path = gr.Radio(["lerp", "slerp"], value="slerp", label="path")
            frames = gr.Slider(2, 120, 30, step=1, label="frames")
        self._button("walk", "Walk there", self.acts.walk, [self.own, goal, seed, path, frames])

    def edit(self) -> None:
        gr.Markdown(_EDITING)
        with gr.Row():
            is_own = gr.Radio([("a sample", False), ("my image", True)], value=False, label="edit", elem_id="edit-own")
            inputs = [self.own, is_own, _seed(1, "seed of the sample"), _psi()]
        sliders = []
        with gr.Row():
            for number, direction in enumerate(self.acts.directions):
                most, step = RANGES[isinstance(direction, StyleDirection)]
                shown: dict[str, Any] = {"label": direction.name, "min_width": 220, "elem_id": f"edit-{number}"}
                sliders.append(gr.Slider(-most, most, 0, step=step, **shown))
        releases = [slider.release for slider in sliders]
        self._button("edit", "Edit", self.acts.edit, [*inputs, *sliders], also=releases)

    def sketch(self) -> None:
        gr.Markdown("Turns a drawing into an image of this generator, which is then your image in the other tabs.")
        ways = [("an outline, which is translated", OUTLINE)] if self.acts.translator is not None else []
        ways.append(("paint, matched where there is some", PAINT))
        how = gr.Radio(ways, value=ways[0][1], label="the drawing is", elem_id="sketch-how")
        drawing = gr.Sketchpad(
            type="pil", image_mode="RGBA", canvas_size=(CANVAS, CANVAS), fixed_canvas=True, layers=False, transforms=(),
            brush=gr.Brush(default_size=4, colors=list(INKS), default_color=INKS[0]), buttons=[], show_label=False,
            placeholder="Take the brush on the left.", elem_id="sketch-canvas", height=CANVAS + 160,
        )  # fmt: skip

        def act(value: dict[str, Any] | None, how: str) -> tuple[Any, Any]:
            return self.acts.sketch(None if value is None else value["composite"], how)

        self._button("sketch", "Make a picture", act, [drawing, how], num_shown=2, keeps=True)

    def translation(self) -> None:
        if self.acts.translator is None:
            gr.Markdown("There is no translator: start the app with --translator FILE.")
            return
        gr.Markdown(f"`{self.acts.translator!r}` translates images from one domain to another.")
        file = gr.File(label=f"your image, {self.size}; none: examples", elem_id="translate-file", height=150)
        self._button("translate", "Translate", self.acts.translate, [file])

    def _button(
        self, name: str, title: str, act: Callable[..., Any], inputs: Sequence[Any], *, num_shown: int = 1,
        keeps: bool = False, also: Sequence[Callable[..., Any]] = (),
    ) -> None:  # fmt: skip
        """A button with its action's results below it, and other triggers; the last result is kept for this user."""
        button = gr.Button(title, variant="primary", elem_id=f"{name}-go")
        shown = [gr.HTML(elem_id=f"{name}-shown-{number}", elem_classes=["shown"]) for number in range(num_shown)]
        options: dict[str, Any] = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
        for start in (button.click, *also):
            start(self._answering(act, keeps), list(inputs), [*shown, *([self.own] if keeps else [])], **options)

    def _answering(self, act: Callable[..., Any], keeps: bool) -> Callable[..., Any]:
        """Run an action under the limits; results are rendered as HTML, and a UserError as a sentence on the page."""

        def answered(progress: Any = _PROGRESS, *values: Any) -> Any:
            try:
                with self.limits.kept(lambda share, what: progress(share, desc=what)):
                    found = act(*values)
                    results = found if isinstance(found, tuple) else (found,)
                    shown = [each._repr_html_() for each in results]
            except UserError as error:
                raise gr.Error(str(error), print_exception=False, duration=None) from error
            answers = [*shown, *([results[-1]] if keeps else [])]
            return answers if len(answers) > 1 else answers[0]

        return answered


def _seed(value: int, label: str) -> gr.Number:
    return gr.Number(value, label=label, precision=0, minimum=0, maximum=10**9)


def _psi() -> gr.Slider:
    return gr.Slider(-1, 1.5, 0.7, step=0.05, label="truncation psi")
