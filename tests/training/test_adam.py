"""Adam's numbers under lazy regularisation, and that the fused optimizers are the plain ones."""

import pytest
import torch


def test_adam_is_corrected_for_lazy_regularisation(make_tiny):
    game = make_tiny(lr_generator=0.002, lr_discriminator=0.0025, pl_interval=4, r1_interval=16, beta2=0.99, beta1=0.5)
    generator, discriminator = (optimizer.param_groups[0] for optimizer in game.configure_optimizers())
    assert generator["lr"] == pytest.approx(0.0016)
    assert generator["betas"] == pytest.approx((0.5**0.8, 0.9919919))
    assert discriminator["lr"] == pytest.approx(0.00235294)
    assert discriminator["betas"] == pytest.approx((0.5 ** (16 / 17), 0.9905854))
    assert generator["eps"] == 1e-8


def test_without_regularisation_adam_is_as_given(make_tiny):
    game = make_tiny(pl_weight=0.0, gamma=0.0)
    for optimizer in game.configure_optimizers():
        group = optimizer.param_groups[0]
        assert (group["lr"], group["betas"]) == (0.002, (0.0, 0.99))


class PlainAdam(torch.optim.Adam):
    """PyTorch's loop over the parameters, which knows no skipping."""

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
