"""Paths that need no search. A path is a function `path(points, scene) -> Curve`, exact at every key point.

A new path is one function here (or anywhere) and one file in configs/path/.
"""

from __future__ import annotations

from wplus import geometry
from wplus.interpolation.curve import Curve, Scene, chain
from wplus.interpolation.keypoints import KeyPoints


def lerp(points: KeyPoints, scene: Scene) -> Curve:
    """The straight line from each key point to the next."""
    return chain(points, geometry.lerp)


def slerp(points: KeyPoints, scene: Scene) -> Curve:
    """The great circle about the origin, length interpolated linearly; over the last dimension.

    In z that is the natural path: the prior's mass lies on a sphere about the origin, and the mapping network sees
    directions only. In w and w+ the origin means nothing to the generator; there it is a curve like another (w+ turns
    each layer's code on its own). Parallel and antipodal codes: see `wplus.geometry.slerp`.
    """
    return chain(points, geometry.slerp)
