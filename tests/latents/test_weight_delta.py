"""Weight deltas: exact, small, and bound to their generator and latent."""

import pytest
import torch
from torch import nn

from tests.fakes import tiny_generator
from tests.latents.conftest import content
from wplus.checkpoint import fingerprint
from wplus.errors import UserError
from wplus.latents.latent import Latent
from wplus.latents.weight_delta import WeightDelta, changed, code_digest, load_delta, no_change
from wplus.models.stylegan2 import Generator

CODE = torch.arange(12.0)


def a_delta(generator: nn.Module) -> WeightDelta:
    """Random changes of all synthesis parameters."""
    rng = torch.Generator().manual_seed(0)
    parameters = {f"synthesis.{name}": parameter for name, parameter in generator.synthesis.named_parameters()}
    changes = {name: no_change(parameter, 2, rng) for name, parameter in parameters.items()}
    changes = {name: (torch.randn(parts[0].shape, generator=rng) * 0.1, *parts[1:]) for name, parts in changes.items()}
    return WeightDelta(changes, generator=fingerprint(generator), latent=code_digest(CODE), metadata={"image": "a"})


def dense(delta: WeightDelta, generator: nn.Module) -> dict[str, torch.Tensor]:
    """The change of every parameter in full, from the definition."""
    full = {
        name: parts[0] if len(parts) == 1 else torch.einsum("or,ri->oi", *parts)
        for name, parts in delta.changes.items()
    }
    return {name: change.reshape(generator.get_parameter(name).shape) for name, change in full.items()}


def test_applied_adds_the_full_change_and_leaves_the_original(stylegan):
    delta, before = a_delta(stylegan), {name: tensor.clone() for name, tensor in stylegan.state_dict().items()}
    tuned, changes = delta.applied(stylegan), dense(delta, stylegan)
    assert any(len(parts) == 2 for parts in delta.changes.values())
    for name, parameter in tuned.named_parameters():
        expected = before[name] + changes.get(name, torch.zeros_like(before[name]))
        torch.testing.assert_close(parameter, expected, atol=1e-6, rtol=1e-6)
        assert not parameter.requires_grad
        assert name.startswith("mapping") or not torch.equal(parameter, before[name])
    assert all(torch.equal(tensor, before[name]) for name, tensor in stylegan.state_dict().items())
    ws = torch.randn(2, stylegan.num_ws, stylegan.w_dim)
    assert not torch.allclose(tuned.synthesis(ws), stylegan.synthesis(ws), atol=1e-2)


def test_nothing_changes_at_the_start(stylegan):
    for parameter in stylegan.synthesis.parameters():
        parts = no_change(parameter, 2, torch.Generator().manual_seed(0))
        assert torch.equal(changed(parameter, parts), parameter)


def test_a_step_of_u_moves_weights_as_far_as_it_is_long():
    parameter = torch.zeros(64, 64, 3, 3)
    u, v = no_change(parameter, 8, torch.Generator().manual_seed(0))
    step = torch.randn(u.shape).sign()  # what Adam's first step looks like
    assert changed(parameter, (step, v)).square().mean().sqrt().item() == pytest.approx(1.0, abs=0.05)


@pytest.mark.parametrize(
    ("shape", "num_parts"), [((), 1), ((64,), 1), ((3, 64, 1, 1), 1), ((64, 64), 2), ((64, 64, 3, 3), 2)]
)
def test_low_rank_where_that_is_smaller(shape, num_parts):
    parts = no_change(torch.zeros(shape), 4, torch.Generator().manual_seed(0))
    assert len(parts) == num_parts
    assert sum(part.numel() for part in parts) <= max(1, torch.zeros(shape).numel())


def test_a_file_of_a_large_generator_is_a_few_megabytes():
    with torch.device("meta"):  # shapes only
        large = Generator(resolution=1024)
        rng = torch.Generator("cpu")
        changes = [no_change(each, 4, rng) for each in large.synthesis.parameters()]
    assert 4 * sum(part.numel() for parts in changes for part in parts) < 2e6


def test_files_say_everything(stylegan, tmp_path):
    delta = a_delta(stylegan)
    path = delta.save(tmp_path / "sub" / "a.safetensors")
    read = load_delta(path, fingerprint=fingerprint(stylegan))
    assert content(read) == content(delta)
    assert delta.save(tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_another_generator_is_refused(stylegan, tmp_path):
    delta, other = a_delta(stylegan), tiny_generator()
    other.synthesis.b4.const.data += 1
    with pytest.raises(UserError, match=f"must be {fingerprint(stylegan)}, got {fingerprint(other)}"):
        delta.applied(other)
    path = delta.save(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="changes the generator"):
        load_delta(path, fingerprint=fingerprint(other))
    assert load_delta(path, fingerprint=None).generator == fingerprint(stylegan)


def test_another_latent_is_refused(stylegan):
    delta = a_delta(stylegan)
    delta.check_latent(Latent(CODE, "w", delta.generator))
    with pytest.raises(UserError, match="the latent of this weight delta must be"):
        delta.check_latent(Latent(CODE + 1, "w", delta.generator))
