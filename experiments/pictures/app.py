"""Take the README's pictures of the app in a headless Chromium: python -m experiments.pictures.app

Writes app_edit.png (a sample with a hat added by a slider) and app_draw.png (a drawn outline and its cat) beside this
file.
"""

import argparse
import math
import time
from pathlib import Path

from PIL import Image

from experiments.browser import Browser, browser
from experiments.pictures.pages import COLOURS
from wplus.app.acts import Acts, directions_of
from wplus.app.server import running
from wplus.library import load

FOLDER = Path(__file__).parent
WAIT = 300  # seconds
# Strokes of a cat's outline, in shares of the canvas, like the outlines that the translator was trained on.
HEAD = [(0.62 + 0.27 * math.cos(each), 0.42 + 0.2 * math.sin(each)) for each in [step * 0.42 for step in range(16)]]
EARS = [[(0.4, 0.32), (0.42, 0.12), (0.54, 0.23)], [(0.72, 0.24), (0.84, 0.12), (0.86, 0.34)]]
EYES = [[(0.58, 0.42), (0.63, 0.46), (0.58, 0.5), (0.56, 0.45)], [(0.76, 0.42), (0.8, 0.46), (0.76, 0.5), (0.74, 0.45)]]
BODY = [[(0.5, 0.62), (0.44, 0.95)], [(0.74, 0.62), (0.8, 0.95)]]
TAIL = [[(0.42, 0.85), (0.2, 0.75), (0.12, 0.5), (0.14, 0.25), (0.24, 0.22), (0.24, 0.5), (0.34, 0.66)]]


def main() -> None:
    """Open the app and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of the pictures (default: %(default)s)")
    options = parser.parse_args()
    model = load("cats32_e4e")
    acts = Acts(model, load("cats32_outline"), directions_of(model, None))
    with running(acts, host="127.0.0.1") as address, browser() as tab:
        tab.show(1180, 720)
        tab.go(address)
        tab.wait("document.querySelector('#samples-go') !== null", WAIT)
        print(edited(tab, options.output / "app_edit.png"))
        print(drawn(tab, options.output / "app_draw.png"))


def edited(tab: Browser, path: Path) -> Path:
    """Take a picture of the sliders, one of them moved."""
    tab.click("#tab-edit-button")
    slider = "#edit-5 input[type=range]"  # of the first channel
    tab.settle(slider)
    x, y = tab.middle(slider)
    place = (x + 0.3 * tab.run(f"document.querySelector('{slider}').offsetWidth"), y)
    tab.mouse("mousePressed", place)
    tab.mouse("mouseReleased", place)
    tab.wait("document.querySelector('#edit-shown-0 img') !== null", WAIT)
    return taken(tab, path, "#edit-shown-0")


def drawn(tab: Browser, path: Path) -> Path:
    """Take a picture of the canvas with an outline and its translation."""
    tab.click("#tab-draw-button")
    tab.wait("document.querySelector('#sketch-canvas button[title=Brush]') !== null", WAIT)
    tab.settle("#sketch-canvas canvas")
    tab.click("#sketch-canvas button[title=Brush]")
    time.sleep(1)
    (x, y), side = tab.middle("#sketch-canvas canvas"), 256 * 1.3
    for stroke in ([*HEAD, HEAD[0]], *EARS, *EYES, *BODY, *TAIL):
        points = [(x + (a - 0.5) * side, y + (b - 0.5) * side) for a, b in stroke]
        tab.mouse("mouseMoved", points[0])
        tab.mouse("mousePressed", points[0])
        for point in points[1:]:
            tab.mouse("mouseMoved", point)
        tab.mouse("mouseReleased", points[-1])
    tab.wait("!document.querySelector('#sketch-canvas button[title=Undo]').disabled", WAIT)
    tab.click("#sketch-go")
    tab.wait("document.querySelector('#sketch-shown-1 img') !== null", WAIT)
    return taken(tab, path, "#sketch-shown-1")


def taken(tab: Browser, path: Path, last: str) -> Path:
    """Take a picture of the page from its top to an element."""
    time.sleep(1)
    tab.run("window.scrollTo(0, 0)")
    height = tab.run(f"document.querySelector('{last}').getBoundingClientRect().bottom + scrollY") + 10
    tab.picture(path, height=math.ceil(height))
    with Image.open(path) as image:
        image.convert("RGB").quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE).save(path, optimize=True)
    return path


if __name__ == "__main__":
    main()
