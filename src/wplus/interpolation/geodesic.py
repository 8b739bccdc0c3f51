"""The way between key points that changes the picture least: a discrete geodesic."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from wplus.errors import UserError
from wplus.interpolation.curve import Curve, Path, PathContext, segments, through
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.paths import lerp
from wplus.interpolation.render import pictures, styles


def geodesic(
    points: Keyframes,
    scene: PathContext,
    *,
    start: Path = lerp,
    num_points: int = 12,
    steps: int = 100,
    learning_rate: float = 0.03,
    prior: float = 0.0,
) -> Curve:
    """`start`, moved between its key points until the energy of its pictures is least.

    With points x_0 ... x_M of a transition, x_0 and x_M the key points, the energy is M sum_k d(x_k, x_{k+1}): d, the
    perceptual distance, is the squared length of a difference of features, so that this is the discrete energy whose
    minimum is a geodesic of the metric that features of pictures induce on codes (Shao et al. 2017, arXiv:1711.08014,
    algorithm 1; Arvanitidis et al. 2018, arXiv:1710.11379). A least-energy path has even steps, too.

    Adam moves the `num_points` points of all transitions, `learning_rate` in units of the rms distance per number
    between the key points, falling to 0 along a cosine. It moves them by waves, of which the wave with j half periods
    counts 1 / j: the energy resists it j times as much, so that all find their place at the same pace, where points
    moved one by one would follow their neighbours slowly. `prior` weighs the mean distance of the points from the
    latent distribution (`wplus.latents.w_stats.Whitened`; 1 for its own samples).

    Every transition ends with the points of the least loss (energy + prior) that it met, so never above that of its
    start. Between points the path is straight. The same input gives the same path, on a CPU bit for bit; the batch size
    says nothing but how many transitions of a chain are searched together.
    """
    _check(num_points, steps, learning_rate, prior)
    curve, num = start(points, scene), len(points) - 1
    t = torch.arange(num)[:, None] + torch.linspace(0, 1, num_points + 2, dtype=torch.float64)
    clock = curve.clock(t.flatten()).view_as(t)
    nodes = curve.codes(t.flatten()).unflatten(0, t.shape)
    together = max(1, scene.batch_size // num_points)  # transitions whose points make one batch
    for rows in torch.arange(num).split(together):
        nodes[rows] = _Search(points, scene, nodes[rows], clock[rows], prior).run(steps, learning_rate)
    return replace(through(points, lambda t: _straight(nodes, t)), clock=lambda t: _straight(clock, t))


class _Search:
    """Some transitions at once: nodes (R, M+1, *shape) whose ends stay, at clock (R, M+1)."""

    def __init__(self, points: Keyframes, scene: PathContext, nodes: Tensor, clock: Tensor, prior: float) -> None:
        self.points, self.scene, self.nodes, self.clock, self.prior = points, scene, nodes, clock, prior
        with torch.no_grad():
            self.first, self.last = (self._features(nodes[:, [end]], clock[:, [end]]) for end in (0, -1))
        self.inside = clock[:, 1:-1]

    def run(self, steps: int, learning_rate: float) -> Tensor:
        """The nodes of the least loss."""
        inside, waves = self.nodes[:, 1:-1], _waves(self.nodes.shape[1] - 2).to(self.nodes)
        scale = (self.nodes[:, -1] - self.nodes[:, 0]).flatten(1).square().mean(dim=1).sqrt()
        scale = scale.view(-1, *[1] * (self.nodes.ndim - 1))
        height = torch.zeros_like(inside, requires_grad=True)
        optimizer = torch.optim.Adam([height], lr=learning_rate, betas=(0.9, 0.99))
        best, least = inside, torch.full((len(inside),), math.inf, device=inside.device)
        for step in self.scene.progress(range(steps + 1), "Finding the geodesic (steps)"):
            moved = inside + scale * torch.einsum("mj,rj...->rm...", waves, height)
            loss = self.loss(moved)
            better = (loss < least).detach()
            least = torch.where(better, loss, least).detach()
            best = torch.where(better.view(-1, *[1] * (inside.ndim - 1)), moved, best).detach()
            optimizer.param_groups[0]["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / (steps + 1)))
            (height.grad,) = torch.autograd.grad(loss.sum(), [height])
            optimizer.step()
        return torch.cat([self.nodes[:, :1], best, self.nodes[:, -1:]], dim=1)

    def loss(self, inside: Tensor) -> Tensor:
        """Energies plus prior (R,) of points (R, M-1, *shape)."""
        num = inside.shape[1]
        maps = self._features(inside, self.inside)
        chain = [torch.cat(parts, dim=1) for parts in zip(self.first, maps, self.last, strict=True)]
        before, after = [x[:, :-1].flatten(0, 1) for x in chain], [x[:, 1:].flatten(0, 1) for x in chain]
        energy = (num + 1) * self.scene.perceptual.distance(before, after).view(-1, num + 1).sum(dim=1)
        return energy if self.prior == 0 else energy + self.prior * self._prior(inside)

    def _prior(self, inside: Tensor) -> Tensor:
        ws = styles(self.scene.generator, self.points, inside.flatten(0, 1), self.inside.flatten())
        return self.scene.whitened.distance(ws).view(inside.shape[:2]).mean(dim=1)

    def _features(self, codes: Tensor, clock: Tensor) -> list[Tensor]:
        """Of codes (R, M, *shape) at clock (R, M): tensors (R, M, ...)."""
        images = pictures(self.scene.generator, self.points, codes.flatten(0, 1), clock.flatten())
        return [layer.unflatten(0, clock.shape) for layer in self.scene.perceptual.features(images)]


def _waves(num: int) -> Tensor:
    """Sines (num points, num waves): the wave with j half periods between the ends, of the height 1 / j."""
    places, waves = torch.arange(1, num + 1)[:, None], torch.arange(1, num + 1)
    return torch.sin(math.pi * places * waves / (num + 1)) / waves


def _straight(nodes: Tensor, t: Tensor) -> Tensor:
    """Positions t (T,) in [0, K-1] along nodes (K-1, M+1, *shape), evenly spaced in time: (T, *shape)."""
    row = segments(t, len(nodes) + 1)
    place = (t - row) * (nodes.shape[1] - 1)
    left = place.floor().long().clamp(0, nodes.shape[1] - 2)
    share = (place - left).to(nodes).view(-1, *[1] * (nodes.ndim - 2))
    row, left = row.to(nodes.device), left.to(nodes.device)
    return torch.lerp(nodes[row, left], nodes[row, left + 1], share)


def _check(num_points: int, steps: int, learning_rate: float, prior: float) -> None:
    for name, value in (("num_points", num_points), ("steps", steps)):
        if value < 1:
            raise UserError(f"{name}={value} is not allowed: it must be 1 or more.")
    if learning_rate <= 0:
        raise UserError(f"learning_rate={learning_rate} is not allowed: it must be above 0.")
    if prior < 0:
        raise UserError(f"prior={prior} is not allowed: it must be 0 or more.")
