"""Discrete geodesics: paths between keyframes that change the image as little as possible."""

import functools
import math
from dataclasses import replace

import torch
from torch import Tensor

from wplus.errors import UserError, check_number
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.path import Curve, LatentPath, PathContext, piecewise, through
from wplus.interpolation.paths import lerp
from wplus.interpolation.render import decoded, synthesize
from wplus.interpolation.retime import arc_length
from wplus.latents.space import space_of

EVEN_LERP = functools.partial(arc_length, path=lerp)


def geodesic(
    keyframes: Keyframes,
    context: PathContext,
    *,
    init: LatentPath = EVEN_LERP,
    num_points: int = 12,  # between two keyframes
    num_steps: int = 100,
    learning_rate: float = 0.03,  # relative to the rms distance between the keyframes
    prior: float = 0.0,  # weight of the points' distance from the latent distribution
) -> Curve:
    """Minimise the energy of the images along `init`, keeping its keyframes fixed.

    For points x_0 ... x_M of a transition, with keyframes x_0 and x_M, the energy is M sum_k d(x_k, x_{k+1}). As the
    perceptual distance d is the squared length of a feature difference, this is the discrete energy whose minimum is a
    geodesic of the metric that image features induce on codes (Shao et al. 2017, arXiv:1711.08014, algorithm 1;
    Arvanitidis et al. 2018, arXiv:1710.11379). A minimum-energy path also has even steps.

    Adam optimises the points of all transitions, with a cosine decay of `learning_rate` to 0. Displacements are
    parametrised by sine waves, the one with j half periods scaled by 1 / j: the energy is j times as stiff in it, so
    all waves converge at the same rate, whereas independent points would follow their neighbours slowly. `prior`
    weights the mean distance of the points from the latent distribution (`wplus.latents.w_stats.Whitened`; 1 for its
    own samples).

    Each transition keeps the points with the lowest loss (energy + prior) found. The path is straight between points.
    The batch size only affects how many transitions of a chain are optimised together.
    """
    check_number("num_points", num_points, lowest=1, whole=True)
    check_number("num_steps", num_steps, lowest=1, whole=True)
    check_number("prior", prior, lowest=0)
    if not learning_rate > 0:
        raise UserError(f"learning_rate must be above 0, got {learning_rate}.")
    curve, num = init(keyframes, context), len(keyframes) - 1
    t = torch.arange(num)[:, None] + torch.linspace(0, 1, num_points + 2, dtype=torch.float64)
    times = curve.time_map(t.flatten()).view_as(t)
    nodes = curve.codes(t.flatten()).unflatten(0, t.shape)
    together = max(1, context.batch_size // num_points)  # transitions per batch
    for rows in torch.arange(num).split(together):
        nodes[rows] = _Search(keyframes, context, nodes[rows], times[rows], prior).run(num_steps, learning_rate)
    return replace(through(keyframes, lambda t: piecewise(nodes, t)), time_map=lambda t: piecewise(times, t))


class _Search:
    """Optimises R transitions at once: nodes (R, M+1, *shape) with fixed ends, at times (R, M+1)."""

    def __init__(self, keyframes: Keyframes, context: PathContext, nodes: Tensor, times: Tensor, prior: float) -> None:
        self.keyframes, self.context, self.nodes, self.prior = keyframes, context, nodes, prior
        with torch.no_grad():
            self.first, self.last = (self._features(nodes[:, [end]], times[:, [end]]) for end in (0, -1))
        self.times = times[:, 1:-1]

    def run(self, num_steps: int, learning_rate: float) -> Tensor:
        """Return the nodes with the lowest loss."""
        inside, ones = self.nodes[:, 1:-1], (1,) * (self.nodes.ndim - 1)
        places = torch.arange(1, inside.shape[1] + 1)
        # (points, waves): sines with j half periods between the ends, of amplitude 1 / j.
        waves = (torch.sin(math.pi * places[:, None] * places / (len(places) + 1)) / places).to(inside)
        scale = (self.nodes[:, -1] - self.nodes[:, 0]).flatten(1).square().mean(dim=1).sqrt().view(-1, *ones)
        height = torch.zeros_like(inside, requires_grad=True)
        optimizer = torch.optim.Adam([height], lr=learning_rate, betas=(0.9, 0.99))
        best, least = inside, torch.full((len(inside),), math.inf, device=inside.device)
        for step in self.context.progress(range(num_steps + 1), "Finding the geodesic (steps)"):
            moved = inside + scale * torch.einsum("mj,rj...->rm...", waves, height)
            loss = self.loss(moved)
            better = (loss < least).detach()
            least = torch.where(better, loss, least).detach()
            best = torch.where(better.view(-1, *ones), moved, best).detach()
            optimizer.param_groups[0]["lr"] = learning_rate * 0.5 * (1 + math.cos(math.pi * step / (num_steps + 1)))
            (height.grad,) = torch.autograd.grad(loss.sum(), [height])
            optimizer.step()
        return torch.cat([self.nodes[:, :1], best, self.nodes[:, -1:]], dim=1)

    def loss(self, inside: Tensor) -> Tensor:
        """Loss (R,) of points (R, M-1, *shape): M sum_k d(x_k, x_{k+1}) plus the prior term."""
        num = inside.shape[1]
        maps = self._features(inside, self.times)
        chain = [torch.cat(parts, dim=1) for parts in zip(self.first, maps, self.last, strict=True)]
        before, after = [x[:, :-1].flatten(0, 1) for x in chain], [x[:, 1:].flatten(0, 1) for x in chain]
        energy = (num + 1) * self.context.perceptual.distance(before, after).view(-1, num + 1).sum(dim=1)
        if self.prior == 0:
            return energy
        return energy + self.prior * self._prior(inside.flatten(0, 1)).view(inside.shape[:2]).mean(dim=1)

    def _prior(self, codes: Tensor) -> Tensor:
        """Distances (R M,) of codes (R M, *shape) from the latent distribution."""
        ws = decoded(self.context.generator, self.keyframes, codes, self.times.flatten())
        if isinstance(ws, Tensor):
            return self.context.whitened.distance(ws)
        return space_of(self.keyframes.space, self.context.generator).prior_distance(codes, self.context.generator)

    def _features(self, codes: Tensor, times: Tensor) -> list[Tensor]:
        """Perceptual features, tensors (R, M, ...), of codes (R, M, *shape) at times (R, M)."""
        images = synthesize(self.context.generator, self.keyframes, codes.flatten(0, 1), times.flatten())
        return [layer.unflatten(0, times.shape) for layer in self.context.perceptual.features(images)]
