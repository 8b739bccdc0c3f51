"""A training step of an encoder: its loss against explicit formulas, what is updated and what is not, its variants."""

import copy

import pytest
import torch
import torch.nn.functional as F
from safetensors import safe_open

from wplus.core.images import to_float
from wplus.core.random import step_seed
from wplus.data import Batches
from wplus.models.encoders.e4e import LatentDiscriminator
from wplus.training.module import ema_decay
from wplus.training.replay import ReplayPool
from wplus.training.snapshot import Exporter, InversionView, alternating


def batch(make_images, c_dim: int = 0):
    images, labels = Batches(make_images(c_dim=c_dim), 4).at(0)
    return to_float(images), labels


def still(module):
    """Optimizers that change nothing, so that gradients can be read."""
    networks = [module.encoder] + ([module.adversary.discriminator] if module.adversary is not None else [])
    return [torch.optim.SGD(net.parameters(), lr=0.0, fused=True) for net in networks]


def state_of(module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def changed(module, before) -> set[str]:
    return {name for name, tensor in module.state_dict().items() if not torch.equal(tensor, before[name])}


# --- the loss ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nimg", [0, 8, 16, 24, 800])
def test_the_loss_is_the_published_sum(tiny_encoder, make_images, nimg):
    """Total of e4e's coach: image terms, adversarial mean over the participating codes, sum over the deltas."""
    module = tiny_encoder(loss_weights={"w_norm": 0.03, "l1": 0.5})
    module.images_seen = nimg
    reference = copy.deepcopy(module)
    real, labels = batch(make_images)
    module.update(real, labels, still(module))
    logged = module.means.collect()

    stage = min(nimg // 8, 3)
    encoder, discriminator = reference.encoder, reference.adversary.discriminator
    w = reference.encoder.latent_avg + encoder.offsets(real, stage)
    torch.manual_seed(step_seed(0, 0, nimg, "encoder/0"))
    image = reference.generator.synthesis(w, noise_mode="random")
    adversarial = torch.zeros(())
    for layer in range(stage + 1):
        adversarial = adversarial + F.softplus(-discriminator(w[:, layer])).mean() / (stage + 1)
    delta = torch.zeros(())
    for layer in range(1, stage + 1):
        delta = delta + (w[:, layer] - w[:, 0]).norm(dim=1).mean()
    norm = torch.stack([(row - encoder.latent_avg).norm() for row in w]).mean()
    l1, l2 = (image - real).abs().mean(), (image - real).square().mean()
    blurred = (F.avg_pool2d(image, 2) - F.avg_pool2d(real, 2)).square().mean()
    total = 0.5 * l1 + l2 + 0.8 * blurred + 0.1 * adversarial + 0.01 * delta + 0.03 * norm
    total.backward()
    expected = {"l1": l1, "l2": l2, "perceptual": blurred, "adversarial": adversarial, "delta": delta, "w_norm": norm}
    for name, value in {**expected, "loss": total}.items():
        assert logged[f"train/encoder/{name}"] == pytest.approx(value.item(), rel=1e-4, abs=1e-7), name
    for (name, found), wanted in zip(module.encoder.named_parameters(), encoder.parameters(), strict=True):
        if wanted.grad is None:
            assert found.grad is None, name
        else:
            torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-4, atol=1e-6, msg=name)


def test_heads_above_the_stage_do_not_move(tiny_encoder, play):
    module = tiny_encoder()
    optimizers, moved = module.configure_optimizers(), []
    for _ in range(8):
        before = state_of(module.encoder.heads)
        play(module, 1, optimizers)
        moved.append({int(name.split(".")[0]) for name in changed(module.encoder.heads, before)})
        assert int(module.encoder.stage) == int(module.average.stage) == max(moved[-1])
    assert moved == [set(range(1 + stage)) for stage in (0, 0, 1, 1, 2, 2, 3, 3)]


def test_large_images_are_compared_small(tiny_encoder, make_images):
    module = tiny_encoder(hparams={"loss_px": 4}, loss_weights={"perceptual": 0.0, "adversarial": 0.0, "delta": 0.0})
    real, labels = batch(make_images)
    reference = copy.deepcopy(module)
    module.update(real, labels, still(module))
    torch.manual_seed(step_seed(0, 0, 0, "encoder/0"))
    w = reference.encoder.latent_avg + reference.encoder.offsets(real, 0)
    image = reference.generator.synthesis(w, noise_mode="random")
    expected = (F.avg_pool2d(image, 2) - F.avg_pool2d(real, 2)).square().mean().item()
    assert module.means.collect()["train/encoder/l2"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("noise", ["random", "const"])
def test_noise_of_the_generator(tiny_encoder, make_images, noise):
    module = tiny_encoder(hparams={"noise": noise})
    real, labels = batch(make_images)
    losses = []
    for nimg in (0, 4):
        module.images_seen = nimg
        module.update(real, labels, still(module))
        losses.append(module.means.collect()["train/encoder/l2"])
    assert (losses[0] == losses[1]) == (noise == "const")


# --- what moves -------------------------------------------------------------------------------------------------------


def test_what_a_step_moves(tiny_encoder, play):
    module = tiny_encoder()
    frozen = state_of(module.generator)
    for network in (module.encoder, module.average, module.adversary.discriminator):
        before = state_of(network)
        play(module, 1)
        assert {name for name in changed(network, before) if name.endswith("weight")}
    assert changed(module.generator, frozen) == set()
    assert not any(
        p.requires_grad for net in (module.generator, module.adversary, module.average) for p in net.parameters()
    )
    assert all(p.grad is None for p in module.generator.parameters())
    assert not module.generator.training
    assert not module.average.training
    assert module.encoder.training


@pytest.mark.parametrize(("start", "expected"), [("mean", torch.linspace(-1, 1, 6)), ("zero", torch.zeros(6))])
def test_the_mean_latent_is_kept(tiny_encoder, play, start, expected):
    module = play(tiny_encoder(hparams={"start_from": start}), 2)
    assert torch.equal(module.encoder.latent_avg, expected.expand(4, 6))
    assert torch.equal(module.average.latent_avg, expected.expand(4, 6))


def test_the_average_follows(tiny_encoder, play):
    module = tiny_encoder(hparams={"ema_kimg": 0.01, "ema_rampup": 1.0})
    play(module, 3)
    before = copy.deepcopy(module.average)
    play(module, 1)
    decay = ema_decay(4, 12, half_life_kimg=0.01, rampup=1.0)
    for mean, old, new in zip(
        module.average.parameters(), before.parameters(), module.encoder.parameters(), strict=True
    ):
        torch.testing.assert_close(mean, decay * old + (1 - decay) * new.detach())
    plain = tiny_encoder(hparams={"ema_kimg": None})
    assert plain.average is None
    assert plain.exported["encoder"] is plain.encoder


@pytest.mark.parametrize("optimizer", ["ranger", "adamw"])
def test_a_bad_step_is_skipped_and_counted(tiny_encoder, make_images, optimizer):
    """The healthy discriminator does not hide that the encoder has diverged."""
    module = tiny_encoder(hparams={"optimizer": optimizer})
    optimizers = module.configure_optimizers()
    real, labels = batch(make_images)
    module.update(real, labels, optimizers)
    before = {name: p.detach().clone() for name, p in module.encoder.named_parameters()}
    module.losses["l2"].distance = lambda a, b, mask=None: (a[0] - b[0]).sum(dim=(1, 2, 3)) * float("nan")
    for count in (1, 2):
        module.update(real, labels, optimizers)
        assert module.skipped.tolist() == [count, count]
    assert all(torch.equal(p, before[name]) for name, p in module.encoder.named_parameters())
    assert module.state_summary()["progress/skipped_in_a_row"] == 2
    del module.losses["l2"].distance
    module.update(real, labels, optimizers)
    assert module.skipped.tolist() == [2, 0]
    assert any(not torch.equal(p, before[name]) for name, p in module.encoder.named_parameters())


# --- the discriminator of codes ---------------------------------------------------------------------------------------


def learned_from(module, make_images, stage_at: int, c_dim: int = 0):
    """What the discriminator gets in a step at `stage_at` images: (real, fake), before the pools."""
    shown, module.images_seen = [], stage_at
    real, labels = batch(make_images, c_dim)
    reference = copy.deepcopy(module)
    module.adversary.replay = lambda real, fake, seen: shown.append((real, fake)) or (real, fake)
    module.update(real, labels, still(module))
    ws = reference.encoder.latent_avg + reference.encoder.offsets(real, module.hp.progressive_stage(stage_at, 3))
    return shown[0], ws.detach(), labels


def test_codes_above_the_stage_are_never_shown(tiny_encoder):
    adversary = tiny_encoder().adversary
    ws = torch.arange(4.0)[None, :, None].expand(200, 4, 6)
    for stage in range(4):
        fake = adversary.choose(ws, stage)
        assert set(fake[:, 0].tolist()) == set(range(stage + 1))


def slow_pool(batches: list[torch.Tensor], size: int, seed: int) -> tuple[list[float], list[float]]:
    """(answers, pool) for scalar codes: stored while there is room, later exchanged in half of the cases."""
    pool, answers = [], []
    for number, batch in enumerate(batches):
        torch.manual_seed(seed + number)
        coins, places = torch.rand(len(batch)).tolist(), torch.randint(size, (len(batch),)).tolist()
        for value, coin, runtime in zip(batch.flatten().tolist(), coins, places, strict=True):
            if len(pool) < size:
                pool.append(value)
                answers.append(value)
            elif coin > 0.5:
                answers.append(pool[runtime])
                pool[runtime] = value
            else:
                answers.append(value)
    return answers, pool


def test_the_rule_of_the_pools():
    batches = list(torch.arange(60.0).view(-1, 1).split(4))
    pool, answers = ReplayPool(10, 1), []
    for number, batch in enumerate(batches):
        torch.manual_seed(3 + number)
        answers += pool.query(batch, seen=4 * number).flatten().tolist()
    expected, kept = slow_pool(batches, 10, seed=3)
    assert answers == expected
    assert pool.stored.flatten().tolist() == kept
    assert answers[:10] == list(range(10))
    exchanged = sum(answer != value for value, answer in zip(range(60), answers, strict=True))
    assert 15 <= exchanged <= 35


def test_a_lost_batch_does_not_stay_in_a_pool():
    """Latents that are not finite are returned, but are neither stored in a pool nor drawn from its gaps."""
    lost, pool = torch.full((4, 2), float("nan")), ReplayPool(6, 2)
    for seen, batch in enumerate((torch.ones(4, 2), lost, lost, lost, lost)):
        pool.query(batch, seen=4 * seen)
    assert pool.stored.nan_to_num().tolist() == [[1, 1]] * 4 + [[0, 0]] * 2
    for seen in range(5, 30):
        assert pool.query(torch.ones(4, 2), seen=4 * seen).isfinite().all()
    assert pool.stored.isfinite().all()


def test_codes_that_come_back_are_copies():
    """A pool that stored views would change with the next batch; one without room returns its input."""
    pool, codes = ReplayPool(4, 2), torch.zeros(4, 2)
    answers = pool.query(codes, seen=0)
    codes += 1
    assert pool.stored.sum() == answers.sum() == 0
    assert torch.equal(ReplayPool(0, 2).query(codes, seen=0), codes)


def test_the_pools_fill_with_the_clock(tiny_encoder, play):
    """Five places and four codes a step: full after the second; anything learned from later was seen before."""
    module = tiny_encoder()
    pools = (module.adversary.real_pool, module.adversary.fake_pool)
    optimizers, filled = module.configure_optimizers(), []
    for _ in range(2):
        play(module, 1, optimizers)
        filled.append([int((pool.stored != 0).any(dim=1).sum()) for pool in pools])
    assert filled == [[4, 4], [5, 5]]
    assert not torch.equal(pools[0].stored, pools[1].stored)


def test_historic_variants(tiny_encoder, make_images):
    """Without pools only the first code is ever shown; in the paper's runs, without the mean."""
    module = tiny_encoder(latent_discriminator={"pool_size": 0, "styles": "first", "fakes": "without_mean"})
    (_, fake), ws, _ = learned_from(module, make_images, 24)
    torch.testing.assert_close(fake, ws[:, 0] - module.encoder.latent_avg[0])


def test_real_codes_are_the_mappings(tiny_encoder, make_images):
    """For the classes of the images, truncated as configured."""
    module = tiny_encoder(c_dim=3, latent_discriminator={"psi": 0.7})
    (real, _), _, labels = learned_from(module, make_images, 0, c_dim=3)
    torch.manual_seed(step_seed(0, 0, 0, "latent_discriminator"))
    z = torch.randn(4, 6)
    expected = module.generator.mapping(z, labels, truncation_psi=0.7)[:, 0]
    torch.testing.assert_close(real, expected)


def test_its_loss_and_its_penalty(tiny_encoder):
    adversary = tiny_encoder(latent_discriminator={"r1": 3.0, "r1_interval": 5}).adversary
    net, (real, fake) = adversary.discriminator, torch.randn(2, 4, 6)
    expected = F.softplus(-net(real)).mean() + F.softplus(net(fake)).mean()
    torch.testing.assert_close(adversary.loss(real, fake), expected)
    codes = real.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(codes).sum(), codes)
    torch.testing.assert_close(adversary.penalty(real), 3.0 / 2 * 5 * gradient.square().sum(dim=1).mean())


def test_the_penalty_is_lazy(tiny_encoder, play):
    module = tiny_encoder(latent_discriminator={"r1_interval": 3})
    optimizers, found = module.configure_optimizers(), []
    for _ in range(5):
        play(module, 1, optimizers)
        found.append("train/latent_r1/grad_norm" in module.means.collect())
    assert found == [True, False, False, True, False]


def test_size_of_the_published_discriminator():
    assert sum(p.numel() for p in LatentDiscriminator(w_dim=512).parameters()) == 788_481
    net = LatentDiscriminator(w_dim=6)
    assert net(torch.randn(5, 6)).shape == (5, 1)
    assert type(net)(**net.arguments).state_dict().keys() == net.state_dict().keys()


# --- an encoder that looks at its own result --------------------------------------------------------------------------


def test_num_passes_add_up_and_step_once(tiny_encoder, make_images):
    """ReStyle: N passes, each from the last result without backpropagation through it, one step on all gradients."""
    module = tiny_encoder(
        iterative=True, progressive=None, hparams={"num_passes": 3, "noise": "const"}, loss_weights={"adversarial": 0.0}
    )
    real, labels = batch(make_images)
    reference = copy.deepcopy(module)
    module.update(real, labels, still(module))

    encoder = reference.encoder
    ws = encoder.latent_avg.expand(4, 4, 6)
    image = reference.generator.synthesis(encoder.latent_avg[None]).expand(4, -1, -1, -1)
    for _ in range(3):
        ws = ws.detach() + encoder.offsets(torch.cat([real, image.detach()], dim=1), 3)
        image = reference.generator.synthesis(ws)
        blurred = (F.avg_pool2d(image, 2) - F.avg_pool2d(real, 2)).square().mean()
        delta = (ws[:, 1:] - ws[:, :1]).norm(dim=2).mean(dim=0).sum()
        ((image - real).square().mean() + 0.8 * blurred + 0.01 * delta).backward()
    for found, wanted in zip(module.encoder.parameters(), encoder.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-4, atol=1e-6)
    assert int(module.encoder.norm.num_batches_tracked) == 3


def test_inference_refines_as_often(tiny_encoder, make_images):
    module = tiny_encoder(iterative=True, hparams={"num_passes": 2})
    real, _ = batch(make_images)
    encoder = copy.deepcopy(module.average).eval()
    ws = encoder.latent_avg.expand(4, -1, -1)
    image = module.generator.synthesis(ws)
    for _ in range(2):
        ws = ws + encoder.offsets(torch.cat([real, image], dim=1))
        image = module.generator.synthesis(ws)
    torch.testing.assert_close(module.reconstruct(real), image)


# --- what a run leaves behind -----------------------------------------------------------------------------------------


def test_what_is_exported(tiny_encoder, make_images, play, recorder, tmp_path):
    module = play(tiny_encoder(), 3)
    held_out = make_images(11)
    Exporter(tmp_path, recorder, InversionView(held_out, num_samples=9), data={"num_images": 11}, seed=5)(module)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        names = set(file.keys())
    for role, network in {"generator": module.generator, "encoder": module.average}.items():
        assert {f"{role}.{name}" for name in network.state_dict()} <= names
    assert recorder.images == ["samples/inversions: kimg-000000.012.png"]
    ((kimg, row),) = recorder.rows
    assert kimg == 0.012
    assert row.keys() == {"val/l1", "val/l2", "val/blurred"}
    real = to_float(held_out.images[:9])
    expected = (module.reconstruct(real) - real).square().mean().item()
    assert row["val/l2"] == pytest.approx(expected, rel=1e-5)
    metadata = recorder.artifacts[0]["metadata"]
    assert metadata["encoder"]["generator"] == module.fingerprint
    assert metadata["encoder"]["stage"] == 1
    assert metadata["encoder"]["hparams"]["loss_weights"]["perceptual"] == 0.8
    assert (metadata["nimg"], metadata["seed"]) == (12, 5)


def test_looking_does_not_disturb(tiny_encoder, make_images, play, tmp_path):
    """No modes, statistics, pools or randomness change: a run is the same with and without probes."""
    for ema_kimg in (0.01, None):
        plain, watched = (tiny_encoder(hparams={"ema_kimg": ema_kimg}) for _ in range(2))
        play(plain, 4)
        view, optimizers = InversionView(make_images(7), num_samples=7), watched.configure_optimizers()
        for _ in range(4):
            play(watched, 1, optimizers)
            view.look(watched, tmp_path)
            assert watched.encoder.training
        for name, tensor in plain.state_dict().items():
            assert torch.equal(tensor, watched.state_dict()[name]), name


def test_rows_take_turns():
    first, second = torch.zeros(10, 1, 2, 2), torch.full((10, 1, 2, 2), 0.5)
    values = alternating(first, second)[:, 0, 0, 0].tolist()
    assert values == [0.0] * 8 + [0.5] * 8 + [0.0] * 2 + [1.0] * 6 + [0.5] * 2 + [1.0] * 6


def test_the_generator_is_not_in_every_checkpoint(tiny_encoder):
    module = tiny_encoder()
    names = module.state_dict().keys()
    assert not [name for name in names if name.startswith(("generator", "losses"))]
    assert {name.split(".")[0] for name in names} == {"nimg", "skipped", "encoder", "average", "adversary"}
    with pytest.raises(RuntimeError, match=r"encoder\.conv\.weight"):
        module.load_state_dict(
            {name: value for name, value in module.state_dict().items() if "conv.weight" not in name}
        )
