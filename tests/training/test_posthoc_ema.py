"""Post-hoc EMA of any length: against closed forms, integrals, and a direct average."""

import numpy as np
import pytest
import torch
from torch import nn

import wplus
from wplus.__main__ import main
from wplus.errors import UserError
from wplus.training.posthoc_ema import (
    PowerAverages,
    file_name,
    gamma_of,
    inner_products,
    power_decay,
    solve,
    stored_averages,
)
from wplus.training.snapshot import Exporter, ProbeResult

BATCH = 4


@pytest.fixture(autouse=True)
def _signals(signals_restored):
    """Restore the process's handlers after every run."""


def profile(times: np.ndarray, gamma: float, end: float) -> np.ndarray:
    return np.where(times <= end, (gamma + 1) * times**gamma / end ** (gamma + 1), 0.0)


@pytest.mark.parametrize("sigma", [0.02, 0.05, 0.1, 0.25])
def test_sigma_is_the_deviation_of_its_profile(sigma):
    times = (np.arange(200_000) + 0.5) / 200_000
    weights = profile(times, gamma_of(sigma), 1.0) / len(times)
    mean = (weights * times).sum()
    assert np.sqrt((weights * (times - mean) ** 2).sum()) == pytest.approx(sigma, rel=1e-3)


def test_published_exponents():
    assert gamma_of(0.05) == pytest.approx(16.97, abs=0.01)
    assert gamma_of(0.10) == pytest.approx(6.94, abs=0.01)
    with pytest.raises(UserError, match=r"sigma must be a number of at least 0\.001 and at most 0\.28, got 0\.5"):
        gamma_of(0.5)


@pytest.mark.parametrize("power", [0, 1, 3])
def test_the_average_of_a_known_trajectory_is_its_integral(power):
    """theta(t) = t^k has the average (gamma + 1) / (gamma + 1 + k) t^k; the first weights leave no trace."""
    network = nn.Linear(1, 1, bias=False)
    averages = PowerAverages(network, [0.05, 0.1])
    averages.averages[0].weight.data.fill_(1e6)
    num = 1500
    for step in range(1, num + 1):
        network.weight.data.fill_((step / num) ** power)
        averages.update(network, batch_size=BATCH, nimg=step * BATCH)
    for gamma, average in zip(averages.gammas, averages.averages, strict=True):
        assert average.weight.item() == pytest.approx((gamma + 1) / (gamma + 1 + power), rel=4e-3)


def test_inner_products_are_integrals():
    times = (np.arange(400_000) + 0.5) / 400_000 * 100
    for a, b in [((100.0, 16.97), (100.0, 6.94)), ((40.0, 6.94), (100.0, 16.97)), ((70.0, 0.5), (30.0, 3.0))]:
        integral = (profile(times, a[1], a[0]) * profile(times, b[1], b[0])).sum() * 100 / len(times)
        assert inner_products(*map(np.float64, (a[0], a[1], b[0], b[1]))) == pytest.approx(integral, rel=1e-3)


def test_a_stored_profile_is_its_own_solution_and_others_are_near():
    nimgs, sigmas = [n for n in range(1000, 21_000, 1000) for _ in range(2)], [0.05, 0.1] * 20
    factors, left = solve(nimgs, sigmas, nimg=20_000, sigma=0.1)
    assert factors[-1] == pytest.approx(1, abs=1e-5)
    assert left < 1e-5
    errors = {sigma: solve(nimgs, sigmas, nimg=20_000, sigma=sigma)[1] for sigma in (0.03, 0.075, 0.15, 0.2)}
    assert max(errors[0.075], errors[0.15], errors[0.2]) < 0.02
    assert errors[0.03] > errors[0.075]  # shorter than what was stored
    coarse = solve(nimgs[-4:], sigmas[-4:], nimg=20_000, sigma=0.2)[1]
    assert coarse > 5 * errors[0.2]


@pytest.mark.parametrize("sigma", [0.075, 0.15])
def test_least_squares_are_those_of_densely_sampled_profiles(sigma):
    nimgs, sigmas = [25, 25, 50, 50, 100, 100], [0.05, 0.1] * 3
    times = (np.arange(100_000) + 0.5) / 1000
    basis = np.stack([profile(times, gamma_of(s), n) for n, s in zip(nimgs, sigmas, strict=True)], axis=1)
    target = profile(times, gamma_of(sigma), 100.0)
    slow, residual, *_ = np.linalg.lstsq(basis, target, rcond=None)
    factors, left = solve(nimgs, sigmas, nimg=100, sigma=sigma)
    assert factors == pytest.approx(slow, abs=2e-3 * np.abs(slow).max())
    assert left == pytest.approx(float(np.sqrt(residual[0] / (target**2).sum())), rel=1e-2)


@pytest.mark.parametrize("sigma", [0.075, 0.15])
def test_any_length_is_that_of_a_direct_average(sigma):
    """Of a random walk of 64 weights over 2000 steps, with a snapshot every 100."""
    torch.manual_seed(0)
    network = nn.Linear(8, 8, bias=False)
    averages, direct = PowerAverages(network, [0.05, 0.1]), PowerAverages(network, [sigma])
    kept, nimgs = [], []
    for step in range(1, 2001):
        network.weight.data += 0.1 * torch.randn(8, 8) + 0.01
        for each in (averages, direct):
            each.update(network, batch_size=BATCH, nimg=step * BATCH)
        if step % 100 == 0:
            kept += [average.weight.data.double().clone() for average in averages.averages]
            nimgs += [step * BATCH] * 2
    factors, left = solve(nimgs, [0.05, 0.1] * 20, nimg=8000, sigma=sigma)
    found = sum(factor * weights for factor, weights in zip(factors.tolist(), kept, strict=True))
    truth = direct.averages[0].weight.data
    assert left < 0.01
    assert float((found - truth).norm() / truth.norm()) < 0.002
    assert float((kept[-1] - truth).norm() / truth.norm()) > 0.02  # another length is another network


class Nothing:
    def look(self, module, folder):
        return ProbeResult()


def test_a_run_stores_averages_and_the_command_combines_them(make_tiny, train, recorder, tmp_path, capsys):
    run, made = tmp_path / "run", tmp_path / "ema"
    export = Exporter(run, recorder, Nothing(), data={"fingerprint": "x"}, seed=0)
    module = make_tiny(posthoc_ema=[0.05, 0.1])
    module.discriminator.saw = module.generator.saw = ("effnet_lite0",)
    train(run, 24, module, export=export)
    stored = stored_averages(run)
    assert [(each.nimg, each.sigma) for each in stored] == [(n, s) for n in (8, 16, 24) for s in (0.05, 0.1)]
    assert main(["ema", f"folder={run}", "sigma=[0.1,0.2]", f"run_dir={made}", "tracking=local"]) == 0
    assert "profile_error_sigma0.2" in capsys.readouterr().out
    found = wplus.load(made / "sigma-0.1.safetensors")
    for ours, theirs in zip(found.generator.parameters(), module.stored_averages[0.1].parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)
    w = found.generator.mapping(torch.randn(4000, found.generator.z_dim))[:, 0]
    assert torch.allclose(found.generator.mapping.w_avg, w.mean(dim=0), atol=0.1 * float(w.std()))
    assert found.metadata["ema"]["sigma"] == 0.1
    assert found.metadata["hparams"]["batch_size"] == 4
    assert [each.nimg for each in stored_averages(run, until=16_000)] == [8, 8, 16, 16, 24, 24]


def test_averages_go_on_where_a_run_goes_on(make_tiny, train, tmp_path):
    straight = train(tmp_path / "straight", 16, make_tiny(posthoc_ema=[0.1]))
    train(tmp_path / "parts", 8, make_tiny(posthoc_ema=[0.1]))
    resumed = train(tmp_path / "parts", 16, make_tiny(posthoc_ema=[0.1]))
    pairs = zip(straight.stored_averages[0.1].parameters(), resumed.stored_averages[0.1].parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    with pytest.raises(UserError, match="posthoc_ema was"):
        train(tmp_path / "parts", 40, make_tiny())


def test_the_first_step_is_all_there_is():
    assert power_decay(6.94, 4, 4) == 0
    assert power_decay(6.94, 4, 8) == pytest.approx(0.5**7.94)


def test_where_nothing_is_stored_the_option_is_named(tmp_path):
    with pytest.raises(UserError, match=r"training\.posthoc_ema=\[0\.05,0\.1\] keeps them"):
        stored_averages(tmp_path)
    (tmp_path / "ema").mkdir()
    (tmp_path / "ema" / file_name(0.05, 8000)).touch()
    with pytest.raises(UserError, match="the first is of 8 kimg"):
        stored_averages(tmp_path, until=4000)
