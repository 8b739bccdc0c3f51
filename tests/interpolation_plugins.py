"""A path, a retiming and a path metric as a user would write them, outside of the package."""

from wplus.interpolation.path import Curve
from wplus.interpolation.paths import lerp
from wplus.interpolation.trajectory import PathNumber

MEANING = "Brightness of the frame half way; a plugin's own."
HALF_WAY = PathNumber(
    name="brightness_half_way",
    meaning=MEANING,
    unit="levels",
    direction="higher",
    format=".2f",
    shown="short",
    worst=True,
)
SECRET = PathNumber(name="brightness_secret", meaning="The same, for files alone.", shown="file")


def halting(keyframes, context):
    """The straight line with a pause half way."""
    curve = lerp(keyframes, context)
    return Curve(lambda t: curve.codes(t + (t - t.floor()) * 0))


def brightness(trajectory, tools):
    """Two numbers, one of them only for files, and a curve."""
    trajectory.along["brightness"] = trajectory.images.mean(dim=(1, 2, 3))
    value = float(trajectory.images[trajectory.middle].mean())
    yield HALF_WAY, value
    yield SECRET, value
