"""Take the README's pictures of a page in a headless Chromium: python -m experiments.pictures.pages REPORT.html

Writes page_light.png (the table and the first figures), page_pictures.png (the grid of pictures) and page_phone.png
(390 px wide, dark) beside this file.
"""

import argparse
import time
from pathlib import Path

from PIL import Image

from experiments.browser import Browser, browser

FOLDER = Path(__file__).parent
COLOURS = 256  # in a picture's palette


def main() -> None:
    """Open the page and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path, help="page of `wplus sweep report`")
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder of the pictures (default: %(default)s)")
    options = parser.parse_args()
    with browser() as tab:
        tab.open(options.page, width=1280)
        print(taken(tab, options.output / "page_light.png", ".block", height=1500, above=20))
        print(taken(tab, options.output / "page_pictures.png", ".grid", height=760, above=60))
        tab.open(options.page, width=390, height=800, dark=True)
        print(taken(tab, options.output / "page_phone.png", "h1", height=1300, above=10))


def taken(tab: Browser, path: Path, selector: str, *, height: int, above: int) -> Path:
    """Take a picture of the page from `above` pixels before an element on, after all its figures are drawn."""
    top = tab.run(f"document.querySelector('{selector}').getBoundingClientRect().top + scrollY") - above
    for place in range(int(top), int(top) + height, 400):
        tab.run(f"window.scrollTo(0, {place})")
        time.sleep(0.3)
    top = tab.run(f"document.querySelector('{selector}').getBoundingClientRect().top + scrollY") - above
    tab.picture(path, top=max(0, top), height=height)
    with Image.open(path) as image:
        image.convert("RGB").quantize(COLOURS, method=Image.Quantize.MAXCOVERAGE).save(path, optimize=True)
    return path


if __name__ == "__main__":
    main()
