"""Adam's settings under lazy regularisation; Ranger against the formulas of its three papers, one number at a time."""

import copy
import math

import pytest
import torch

from wplus.training.optim import Ranger, centralised, step_size

SHAPES = [(3, 2, 3, 3), (4, 5), (6,), ()]


def parameters(seed: int = 0) -> list[torch.Tensor]:
    source = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=source).requires_grad_() for shape in SHAPES]


def set_gradients(params: list[torch.Tensor], step: int) -> None:
    source = torch.Generator().manual_seed(100 + step)
    for p in params:
        p.grad = torch.randn(p.shape, generator=source) * (1 + step % 3)


def slow_ranger(
    params: list[torch.Tensor], steps: int, *, lr: float, beta1=0.95, beta2=0.999, eps=1e-5, decay=0.0, k=6, alpha=0.5
) -> list[torch.Tensor]:
    """RAdam's algorithm 2 and Lookahead's algorithm 1 in double precision."""
    x = [p.detach().double() for p in params]
    slow = [value.clone() for value in x]
    m, v = ([torch.zeros_like(value) for value in x] for _ in range(2))
    for t in range(1, steps + 1):
        set_gradients(params, t)
        for i, p in enumerate(params):
            g = p.grad.double()
            if g.ndim > 1:
                g = g - torch.stack([row.mean() for row in g]).view(-1, *[1] * (g.ndim - 1))
            m[i] = beta1 * m[i] + (1 - beta1) * g
            v[i] = beta2 * v[i] + (1 - beta2) * g**2
            rho_inf = 2 / (1 - beta2) - 1
            rho = rho_inf - 2 * t * beta2**t / (1 - beta2**t)
            x[i] = x[i] * (1 - lr * decay)
            m_hat = m[i] / (1 - beta1**t)
            if rho > 5:
                r = math.sqrt((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho))
                # eps stands beside the root of the second moment before its bias is taken out, as in pSp's code.
                x[i] = x[i] - lr * r * m_hat * math.sqrt(1 - beta2**t) / (v[i].sqrt() + eps)
            else:
                x[i] = x[i] - lr * m_hat
            if t % k == 0:
                slow[i] = slow[i] + alpha * (x[i] - slow[i])
                x[i] = slow[i].clone()
    return x


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("steps", [1, 4, 6, 25])
def test_it_is_the_published_algorithm(steps, decay):
    params = parameters()
    expected = slow_ranger(parameters(), steps, lr=0.03, decay=decay)
    optimizer = Ranger(params, lr=0.03, weight_decay=decay)
    for step in range(1, steps + 1):
        set_gradients(params, step)
        optimizer.step()
    for p, value in zip(params, expected, strict=True):
        torch.testing.assert_close(p.detach().double(), value, rtol=1e-5, atol=1e-6)


def test_the_second_moment_is_trusted_from_the_sixth_step():
    assert [step_size(step, 0.95, 0.999)[1] for step in (1, 5, 6, 100)] == [False, False, True, True]
    assert step_size(100000, 0.95, 0.999)[0] == pytest.approx(1, rel=1e-3)


def test_centralised_gradients_have_no_mean():
    for shape in SHAPES[:2]:
        assert centralised(torch.randn(shape) + 3).flatten(1).mean(dim=1).abs().max() < 1e-6
    vector = torch.randn(6)
    assert torch.equal(centralised(vector.clone()), vector)


@pytest.mark.parametrize("bad_step", [1, 6, 9])  # before the second moment is trusted, at a move of the slow weights
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_bad_step_changes_nothing(bad_step, value):
    params = parameters()
    optimizer = Ranger(params, lr=0.03, weight_decay=0.1)
    for step in range(1, bad_step):
        set_gradients(params, step)
        optimizer.step()
    before = copy.deepcopy((params, [dict(optimizer.state[p]) for p in params]))
    set_gradients(params, bad_step)
    params[0].grad[0] = value
    optimizer.found_inf = torch.ones(())
    optimizer.step()
    for p, old, old_state in zip(params, *before, strict=True):
        assert torch.equal(p, old)
        for name in ("exp_avg", "exp_avg_sq", "slow") if old_state else ():
            assert torch.equal(optimizer.state[p][name], old_state[name]), name
    optimizer.found_inf = torch.zeros(())
    set_gradients(params, bad_step + 1)
    optimizer.step()
    assert all(p.isfinite().all() and not torch.equal(p, old) for p, old in zip(params, before[0], strict=True))


def test_one_that_joins_later_begins_at_its_own_first_step():
    early, late, alone = (parameters()[1] for _ in range(3))
    together, single = Ranger([early, late], lr=0.03), Ranger([alone], lr=0.03)
    for step in range(1, 21):
        set_gradients([early], step)
        if step > 10:
            set_gradients([late], step)
            set_gradients([alone], step)
            single.step()
        together.step()
    assert torch.equal(late, alone)
    assert not torch.equal(late, early)


# --- Adam -----------------------------------------------------------------------------------------------------------


def test_adam_is_corrected_for_lazy_regularisation(make_tiny):
    lazy = make_tiny(lr_generator=0.002, lr_discriminator=0.0025, pl_interval=4, r1_interval=16, beta2=0.99, beta1=0.5)
    generator, discriminator = (optimizer.param_groups[0] for optimizer in lazy.configure_optimizers())
    assert generator["lr"] == pytest.approx(0.0016)
    assert generator["betas"] == pytest.approx((0.5**0.8, 0.9919919))
    assert discriminator["lr"] == pytest.approx(0.00235294)
    assert discriminator["betas"] == pytest.approx((0.5 ** (16 / 17), 0.9905854))
    assert generator["eps"] == 1e-8
    for optimizer in make_tiny(pl_weight=0.0, gamma=0.0).configure_optimizers():
        assert (optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["betas"]) == (0.002, (0.0, 0.99))


class PlainAdam(torch.optim.Adam):
    """PyTorch's loop over the parameters, which never skips."""

    def step(self, closure=None) -> None:
        self.found_inf = self.grad_scale = None
        super().step(closure)


def test_the_fused_optimizers_do_what_the_plain_ones_do(make_tiny, play):
    fused, plain = make_tiny(), make_tiny()
    play(fused, 2)
    groups = [optimizer.param_groups[0] for optimizer in plain.configure_optimizers()]
    play(plain, 2, [PlainAdam(g["params"], lr=g["lr"], betas=g["betas"], foreach=False) for g in groups])
    for a, b in zip(fused.state_dict().values(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
