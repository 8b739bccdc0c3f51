"""Draw the example sketches: `python experiments/sketches/draw.py`. RGBA, 256 px; transparent areas are left open."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

FOLDER = Path(__file__).with_name("cats")
SIZE, SCALE = 256, 4  # px, and the supersampling factor for smooth edges
Colour = tuple[int, ...]  # red, green, blue, and alpha where it is not 255

WHITE, BLACK, GREY, DARK = (250, 250, 250), (20, 20, 20), (120, 118, 120), (70, 68, 70)
ORANGE, RUST, YELLOW, RED, BROWN, GREEN = (
    (240, 140, 50), (170, 80, 20), (250, 205, 80), (240, 90, 80), (120, 80, 60), (165, 215, 160)
)  # fmt: skip


class Sketch:
    """A transparent canvas and a brush; positions are pixels of the finished sketch, `mirror` swaps left and right."""

    def __init__(self, *, mirror: bool = False) -> None:
        self.image = Image.new("RGBA", (SIZE * SCALE, SIZE * SCALE), (0, 0, 0, 0))
        self._draw, self._mirror = ImageDraw.Draw(self.image), mirror

    def blob(self, centre: tuple[float, float], radii: tuple[float, float], colour: Colour) -> None:
        """Draw a filled ellipse."""
        (x, y), (rx, ry) = centre, radii
        self._draw.ellipse([*self._place(x, y, -rx, -ry), *self._place(x, y, rx, ry)], fill=colour)

    def patch(self, corners: list[tuple[float, float]], colour: Colour) -> None:
        """Draw a filled polygon."""
        self._draw.polygon([self._place(*corner) for corner in corners], fill=colour)

    def stroke(self, points: list[tuple[float, float]], width: float, colour: Colour) -> None:
        """Draw a line with round ends."""
        self._draw.line(
            [self._place(*point) for point in points], fill=colour, width=round(width * SCALE), joint="curve"
        )
        for x, y in (points[0], points[-1]):
            self.blob((x, y), (width / 2, width / 2), colour)

    def _place(self, x: float, y: float, dx: float = 0.0, dy: float = 0.0) -> tuple[float, float]:
        return ((SIZE - x if self._mirror else x) + dx) * SCALE, (y + dy) * SCALE

    def finished(self) -> Image.Image:
        """Return the sketch at its final size; colours are averaged with alpha, so transparent ones do not show."""
        return self.image.resize((SIZE, SIZE), Image.Resampling.BOX)


def body(sketch: Sketch, colour: Colour) -> None:
    """Draw tail, body and head with two ears."""
    sketch.stroke([(48, 45), (38, 90), (40, 150), (62, 205), (100, 240)], 24, colour)
    sketch.patch([(118, 165), (195, 165), (205, 256), (85, 256)], colour)
    sketch.blob((150, 112), (88, 70), colour)
    for left, top, right in (((80, 80), (88, 22), (132, 55)), ((172, 55), (222, 25), (224, 84))):
        sketch.patch([left, top, right], colour)


def eyes(sketch: Sketch) -> None:
    """Draw large white eyes that look to the right."""
    for x, y in ((148, 112), (206, 104)):
        sketch.blob((x, y), (21, 23), WHITE)
        sketch.blob((x + 6, y + 2), (6, 9), BLACK)


def mouth(sketch: Sketch) -> None:
    """Draw a nose and a smile."""
    sketch.blob((190, 138), (6, 4), BLACK)
    sketch.stroke([(165, 155), (185, 162), (208, 152)], 5, BLACK)


def grey() -> Sketch:
    """A grey blob with ears, eyes and whiskers."""
    sketch = Sketch()
    body(sketch, GREY)
    for start, end in (
        ((90, 130), (62, 122)),
        ((90, 142), (62, 148)),
        ((222, 132), (244, 126)),
        ((222, 142), (244, 148)),
    ):
        sketch.stroke([start, end], 3, DARK)
    eyes(sketch)
    mouth(sketch)
    return sketch


def orange_striped() -> Sketch:
    """Orange with stripes on forehead, tail and body."""
    sketch = Sketch()
    body(sketch, ORANGE)
    for x in (130, 152, 174):
        sketch.stroke([(x, 45), (x + 4, 78)], 9, RUST)
    for y in (80, 110, 140, 170):
        sketch.stroke([(32, y), (50, y + 4)], 9, RUST)
    for y in (195, 220):
        sketch.stroke([(110, y), (140, y + 6)], 9, RUST)
    eyes(sketch)
    mouth(sketch)
    return sketch


def only_eyes() -> Sketch:
    """Two eyes; everything else is left open."""
    sketch = Sketch()
    eyes(sketch)
    return sketch


def red_outline() -> Sketch:
    """Ears and the outline of the face in one thick line."""
    sketch = Sketch()
    face = [(66, 120), (76, 80), (86, 24), (130, 50), (175, 50), (222, 26), (228, 84), (236, 118), (222, 152),
            (190, 176), (150, 182), (106, 174), (76, 152), (66, 120)]  # fmt: skip
    sketch.stroke(face, 22, RED)
    eyes(sketch)
    return sketch


def faint_yellow() -> Sketch:
    """Broad strokes of thin paint: the colour is only a hint, the eyes are definite."""
    sketch = Sketch(mirror=True)
    body(sketch, (*YELLOW, 110))
    eyes(sketch)
    return sketch


def brown_on_green() -> Sketch:
    """A cat that looks to the left, including the background."""
    sketch = Sketch(mirror=True)
    sketch.patch([(0, 0), (SIZE, 0), (SIZE, SIZE), (0, SIZE)], GREEN)
    body(sketch, BROWN)
    eyes(sketch)
    mouth(sketch)
    return sketch


SKETCHES: list[Callable[[], Sketch]] = [grey, orange_striped, only_eyes, red_outline, faint_yellow, brown_on_green]


def main() -> None:
    """Write every sketch into the folder `cats`."""
    FOLDER.mkdir(exist_ok=True)
    for draw in SKETCHES:
        draw().finished().save(FOLDER / f"{draw.__name__}.png")


if __name__ == "__main__":
    main()
