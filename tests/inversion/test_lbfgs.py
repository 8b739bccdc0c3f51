"""Batched L-BFGS against closed forms, SciPy's, and itself one problem at a time."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, rosen, rosen_der

from wplus.inversion.lbfgs import Curvature, minimise


class Rosenbrock:
    """N Rosenbrock functions, counting calls."""

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


def test_a_batch_gives_what_single_runs_give():
    together = minimise(Rosenbrock(), STARTS, max_evaluations=60)
    alone = [minimise(Rosenbrock(), STARTS[i : i + 1], max_evaluations=60) for i in range(3)]
    assert torch.equal(together, torch.cat(alone))


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


def test_two_loop_recursion_is_the_inverse_hessian_on_its_memory():
    rng = torch.Generator().manual_seed(0)
    matrix = torch.randn(4, 4, generator=rng).double()
    hessian = matrix @ matrix.T + torch.eye(4)
    curvature, x = Curvature(torch.zeros(1, 4, dtype=torch.float64), memory=6), torch.eye(4, dtype=torch.float64)
    for step in x:  # BFGS satisfies the secant equation of its newest pair exactly
        curvature.add(torch.tensor([True]), step[None], (hessian @ step)[None])
    newest = hessian @ x[3]
    np.testing.assert_allclose(curvature.descend(newest[None])[0].numpy(), -x[3].numpy(), atol=1e-10)
    assert curvature.count.tolist() == [4]


def test_what_is_given_up_stays_where_it_is():
    given_up, seen = torch.tensor([False, True, False]), []
    function = Rosenbrock()

    def evaluate(x):
        seen.append(x)
        return function(x)

    found = minimise(evaluate, STARTS, max_evaluations=20, given_up=lambda: given_up)
    assert all(torch.equal(x[1], STARTS[1]) for x in seen)
    assert torch.equal(found[1], STARTS[1])
    assert not torch.equal(found[0], STARTS[0])
