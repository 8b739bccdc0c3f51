"""Batched L-BFGS against closed forms, SciPy's, and itself one problem at a time."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, rosen, rosen_der

from wplus.inversion.lbfgs import Curvature, Point, QuasiNewton, minimise


class Rosenbrock:
    """N Rosenbrock functions that count their calls."""

    def __init__(self) -> None:
        self.calls, self.lowest = 0, []

    def __call__(self, x):
        self.calls += 1
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            value = (100 * (x[:, 1:] - x[:, :-1] ** 2) ** 2 + (1 - x[:, :-1]) ** 2).sum(dim=1)
            (gradient,) = torch.autograd.grad(value.sum(), x)
        self.lowest.append(value.detach())
        return value.detach(), gradient


STARTS = torch.tensor([[-1.2, 1, -0.5, 0.8, 0.3], [2.0, -1, 0, 0.5, 1.5], [0.1, 0.2, 0.3, 0.4, 0.5]])


def test_finds_minima_about_as_fast_as_scipy():
    function = Rosenbrock()
    found = minimise(function, STARTS.double(), max_evaluations=300)
    torch.testing.assert_close(found, torch.ones(3, 5, dtype=torch.float64), atol=1e-5, rtol=0)
    options = {"gtol": 1e-7, "ftol": 0}
    theirs = [minimize(rosen, x, jac=rosen_der, method="L-BFGS-B", options=options) for x in STARTS.numpy()]
    assert function.calls < 1.5 * max(result.nfev for result in theirs) + 16


def test_never_returns_a_worse_point_and_keeps_to_its_evaluations():
    function = Rosenbrock()
    found = minimise(function, STARTS, max_evaluations=20)
    assert function.calls == 20
    torch.testing.assert_close(Rosenbrock()(found)[0], torch.stack(function.lowest).amin(dim=0))


def test_quadratics_of_very_different_scale_share_a_batch():
    scale = torch.tensor([[1e-3], [1.0], [1e4]]).double()

    def quadratics(x):
        return (scale * (x - 3) ** 2 / 2).sum(dim=1), scale * (x - 3)

    found = minimise(quadratics, torch.zeros(3, 4, dtype=torch.float64), max_evaluations=60, tolerance=1e-9)
    torch.testing.assert_close(found, torch.full((3, 4), 3.0, dtype=torch.float64), atol=1e-5, rtol=0)


def test_a_start_at_the_minimum_stays_and_ends_early():
    calls = []

    def bowl(x):
        calls.append(len(x))
        return x.square().sum(dim=1), 2 * x

    assert torch.equal(minimise(bowl, torch.zeros(2, 3), max_evaluations=1000), torch.zeros(2, 3))
    assert len(calls) < 20


def test_infinite_values_are_walked_around():
    def barrier(x):  # not defined beyond 1, minimum at 0.5
        value = torch.where(x[:, 0] < 1, (x[:, 0] - 0.5) ** 2, torch.inf)
        return value, 2 * (x - 0.5)

    found = minimise(barrier, torch.tensor([[-30.0]]), max_evaluations=60, first_step=100.0)
    assert found.item() == pytest.approx(0.5, abs=1e-4)


def test_two_loop_recursion_is_the_updated_inverse_hessian():
    """Against the dense update H <- (I - rho s y^T) H (I - rho y s^T) + rho s s^T from s y / y y of the newest pair."""
    rng = torch.Generator().manual_seed(0)
    matrix = torch.randn(4, 4, generator=rng).double()
    hessian = matrix @ matrix.T + torch.eye(4)
    curvature = Curvature(torch.zeros(1, 4, dtype=torch.float64), memory=3)
    steps = torch.randn(5, 4, generator=rng).double()  # the first two are forgotten
    for step in steps:
        curvature.add(torch.tensor([True]), step[None], (hessian @ step)[None])
    newest = hessian @ steps[-1]
    inverse = torch.eye(4).double() * (steps[-1] @ newest) / (newest @ newest)
    for s, y in zip(steps[2:], steps[2:] @ hessian, strict=True):
        rho, identity = 1 / (s @ y), torch.eye(4).double()
        left = identity - rho * torch.outer(s, y)
        inverse = left @ inverse @ left.T + rho * torch.outer(s, s)
    gradient = torch.randn(1, 4, generator=rng).double()
    np.testing.assert_allclose(curvature.descend(gradient)[0].numpy(), -(inverse @ gradient[0]).numpy(), atol=1e-10)
    assert curvature.count.tolist() == [3]


def test_a_step_after_which_it_is_as_steep_is_not_taken():
    """Low enough does not suffice (strong Wolfe): a longer step from the same point follows a short one downhill."""

    def bowl(x):
        return (x - 100).square().sum(dim=1), 2 * (x - 100)

    start = Point(torch.zeros(1, 1), *bowl(torch.zeros(1, 1)))
    search = QuasiNewton(start, memory=3, first_step=0.01, max_tries=10, tolerance=1e-7)
    first = search.ask()
    search.tell(Point(first, *bowl(first)))
    assert torch.equal(search.here.x, start.x)
    assert search.ask() > first
