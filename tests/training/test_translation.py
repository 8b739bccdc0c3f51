"""Steps of pix2pix and CycleGAN against explicit formulas, crops, the scheduled rate, refusals."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F

import wplus
from tests.fakes import penalties, random_images
from tests.training.trained import CPU, LEAST_SQUARES, LOSS, equal, model, snapshot
from tests.training.two_ranks import tiny_translation
from wplus.core.images import to_float
from wplus.data import Batches
from wplus.data.domains import TwoDomains
from wplus.errors import UserError
from wplus.losses.adversarial import relativistic_generator
from wplus.models.translation.patch import PatchDiscriminator
from wplus.models.translation.resnet import ResNet
from wplus.models.translation.unet import UNet
from wplus.training.build import gan_training
from wplus.training.build_translation import cyclegan_training, pix2pix_training
from wplus.training.snapshot import Exporter
from wplus.training.translation import jittered
from wplus.training.translation_hparams import CycleGANHparams, Pix2PixHparams
from wplus.training.translation_view import TranslationView

SGD = partial(torch.optim.SGD, lr=0.0, fused=True)


def batch(nimg: int = 0) -> torch.Tensor:
    return to_float(Batches(random_images(channels=6), 4).at(nimg)[0])


def gradients(*networks):
    return [parameter.grad for network in networks for parameter in network.parameters() if parameter.grad is not None]


def stepped(module, images):
    """Gradients after one update by optimizers that change nothing."""
    groups = [[p for group in each.param_groups for p in group["params"]] for each in module.configure_optimizers()]
    module.hp = copy.copy(module.hp)
    object.__setattr__(module.hp, "lr", 0.0)
    module.update(images, torch.empty(4, 0), [SGD(group) for group in groups])
    return module


def test_a_step_of_pix2pix():
    """Equation 4: logistic, D's halved and before G's, and 100 L1."""
    module, images = tiny_translation("pix2pix"), batch()
    a, b = images[:, :3], images[:, 3:]
    stepped(module, images)
    found = [gradient.clone() for gradient in gradients(module.generator)]
    judge, translator = module.discriminator, module.generator
    translator.zero_grad()
    fake = translator(a)
    logits = judge(torch.cat([a, fake], dim=1))
    (-torch.log(torch.sigmoid(logits)).mean() + 100 * (fake - b).abs().mean()).backward()
    for one, other in zip(found, gradients(translator), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    judge.zero_grad()
    real = torch.sigmoid(judge(torch.cat([a, b], dim=1)))
    made = torch.sigmoid(judge(torch.cat([a, fake.detach()], dim=1)))
    (-0.5 * (torch.log(real).mean() + torch.log(1 - made).mean())).backward()
    expected = gradients(judge)
    again = tiny_translation("pix2pix")
    stepped(again, images)
    for one, other in zip(gradients(again.discriminator), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("identity", [0.5, 0.0])
def test_a_step_of_cyclegan(identity):
    """Equation 3 with least squares, identity at half of lambda; the pool is empty, and returns its input."""
    module, images = tiny_translation("cyclegan", identity_weight=identity), batch()
    a, b = images[:, :3], images[:, 3:]
    stepped(module, images)
    forward, backward, judge_b, judge_a = (getattr(module, role) for role in (
        "generator", "generator_backward", "discriminator", "discriminator_backward"))  # fmt: skip
    found = [gradient.clone() for gradient in gradients(forward, backward)]
    of_judges = [gradient.clone() for gradient in gradients(judge_b, judge_a)]
    for network in (forward, backward, judge_a, judge_b):
        network.zero_grad()
    fake_b, fake_a = forward(a), backward(b)
    loss = (judge_b(fake_b) - 1).square().mean() + (judge_a(fake_a) - 1).square().mean()
    loss = loss + 10 * ((backward(fake_b) - a).abs().mean() + (forward(fake_a) - b).abs().mean())
    loss = loss + 10 * identity * ((forward(b) - b).abs().mean() + (backward(a) - a).abs().mean())
    loss.backward()
    for one, other in zip(found, gradients(forward, backward), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    judge_a.zero_grad()
    judge_b.zero_grad()
    for judge, real, fake in ((judge_b, b, fake_b), (judge_a, a, fake_a)):
        (0.5 * ((judge(real) - 1).square().mean() + judge(fake.detach()).square().mean())).backward()
    for one, other in zip(of_judges, gradients(judge_b, judge_a), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)
    assert torch.equal(module.pool_b.stored[:4], fake_b.detach())


@pytest.mark.parametrize("kind", ["pix2pix", "cyclegan"])
def test_the_gradient_of_a_batch_is_the_mean_of_its_images(kind):
    """Instance norm keeps images independent, also in discriminators."""
    images = batch()
    whole = stepped(tiny_translation(kind), images)
    parts = [stepped(tiny_translation(kind), image[None]) for image in images]
    for index, gradient in enumerate(gradients(*whole.exported.values())):
        mean = torch.stack([gradients(*part.exported.values())[index] for part in parts]).mean(dim=0)
        torch.testing.assert_close(gradient, mean, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("kind", ["pix2pix", "cyclegan"])
def test_all_networks_learn_and_are_in_the_file(play, tmp_path, kind):
    """Both directions of CycleGAN; and the image in training equals that of the written file."""
    module = tiny_translation(kind)
    before = snapshot(*module.exported.values())
    play(module, 3)
    assert not any(torch.equal(a, b) for a, b in zip(before, snapshot(*module.exported.values()), strict=True))
    file = wplus.save(tmp_path / "m.safetensors", **module.exported, metadata=module.describe())
    models = wplus.load(file)
    assert set(models.networks) == set(module.exported)
    images = batch()[:, :3]
    trained = module.generator(images, "train")
    assert torch.equal(models.generator(images, mode="inference"), trained)
    assert torch.equal(module.translate(images), trained)
    if kind == "cyclegan":
        assert torch.equal(models.generator_backward(images), module.translate(images, "backward"))
        assert not torch.equal(models.generator_backward(images), trained)
    else:
        with pytest.raises(UserError, match="has no generator_backward"):
            models.need("generator_backward")


def test_a_discriminator_of_outputs_alone():
    module = tiny_translation("pix2pix", discriminated="output")
    assert module.discriminator.in_channels == 3
    stepped(module, batch())


def test_domains_of_other_channels():
    """From grey to colour, and back."""
    module = tiny_translation("cyclegan", channels=(1, 3), identity_weight=0.0)
    stepped(module, batch()[:, :4])
    assert module.translate(torch.zeros(2, 3, 8, 8), "backward").shape == (2, 1, 8, 8)
    with pytest.raises(UserError, match=r"identity_weight=0\.5 is refused: domain a has 1 channel\(s\) and b 3"):
        tiny_translation("cyclegan", channels=(1, 3))


def test_the_rate_follows_the_clock(play):
    """Constant, then linear to 0, where it stays."""
    hparams = Pix2PixHparams(constant_kimg=1, decay_kimg=2, lr=0.3)
    assert [hparams.rate(nimg) for nimg in (0, 1000, 2000, 2500, 3000, 9000)] == pytest.approx(
        [0.3, 0.3, 0.15, 0.075, 0, 0]
    )
    assert Pix2PixHparams(constant_kimg=1, decay_kimg=0).rate(1001) == 0
    module = tiny_translation("pix2pix", constant_kimg=0.004, decay_kimg=0.008, lr=0.3)
    optimizers = module.configure_optimizers()
    for expected in (0.3, 0.3, 0.15, 0.0):
        play(module, 1, optimizers)
        assert [group["lr"] for each in optimizers for group in each.param_groups] == pytest.approx([expected] * 2)
    assert module.state_summary()["progress/learning_rate"] == 0
    still = snapshot(module.generator, module.discriminator)
    play(module, 1, optimizers)
    assert equal(still, snapshot(module.generator, module.discriminator))


def test_jitter_is_a_crop_of_the_enlarged_image():
    """Compared with resizing and cropping; channels of a pair move together, images separately."""
    images = torch.randn(1, 2, 16, 16).repeat(64, 3, 1, 1)
    torch.manual_seed(0)
    found = jittered(images, 1.25)
    assert torch.equal(found[:, :2], found[:, 4:])
    large = F.interpolate(images[:1], size=20, mode="bilinear", align_corners=False)
    crops = torch.stack([large[0, :, y : y + 16, x : x + 16] for y in range(5) for x in range(5)])
    torch.manual_seed(0)
    places = torch.rand(64, 2)
    assert found.std(dim=0).mean() > 0.1
    # Where a place happens to be near whole pixels the two agree.
    nearest = (places * 4).round()
    near = ((places * 4 - nearest).abs().amax(dim=1) < 0.06).nonzero().flatten()
    assert len(near) > 0
    for index in near.tolist():
        x, y = nearest[index].int().tolist()
        assert (found[index] - crops[5 * y + x]).abs().mean() < 0.08
    assert torch.equal(jittered(images, 1.0), images)


# --- built of choices -----------------------------------------------------------------------------------------------


def prepare(kind: str = "pix2pix", *, paired: bool = True, channels: tuple[int, int] = (3, 3), **changes):
    """A training as the command prepares it."""

    def data(split):
        a, b = (random_images(6 if split == "train" else 3, resolution=32, channels=each) for each in channels)
        return TwoDomains.pairs(a, b) if paired else TwoDomains.unpaired(a, b)

    def parts():
        generator = partial(UNet, num_downs=None, width=4) if kind == "pix2pix" else partial(
            ResNet, num_blocks=None, num_downs=None, width=4)  # fmt: skip
        judge = partial(PatchDiscriminator, num_layers=None, width=4)
        return {"generator": generator, "discriminator": judge, "loss": LOSS if kind == "pix2pix" else LEAST_SQUARES}

    hparams = (Pix2PixHparams if kind == "pix2pix" else CycleGANHparams)(**changes.pop("hparams", {}))
    choices = {"data": data, "model": parts, "loss": None, "runtime": CPU, "seed": 0, "num_samples": 3,
               "checkpoint": None, "encoder": None}  # fmt: skip
    training = pix2pix_training if kind == "pix2pix" else cyclegan_training
    return training(hparams=hparams, **{**choices, **changes})


def test_sizes_follow_from_the_data():
    made = prepare()
    assert len(made.module.generator.downs) == 5
    assert made.resolved["constant_kimg"] == (0.6, "100 epochs of 6 images, as published")
    assert made.module.hp.decay_kimg == 0.6
    other = prepare("cyclegan", paired=False, hparams={"decay_kimg": 2.0})
    assert (other.resolved["num_blocks"][0], other.resolved["num_downs"][0]) == (6, 1)
    assert other.resolved["decay_kimg"] == (2.0, "given")
    images, _ = other.batches(other.data, 2, seed=0).at(0)
    assert images.shape == (2, 6, 32, 32)


def test_a_run_leaves_pictures_and_numbers(recorder, tmp_path):
    for kind in ("pix2pix", "cyclegan"):
        training = prepare(kind)
        Exporter(tmp_path / kind, recorder, training.view, data={}, seed=0)(training.module)
        assert (tmp_path / kind / "samples" / "kimg-000000.000.png").is_file()
    assert "val/l1" in recorder.values
    assert recorder.values["val/l1_backward"]["protocol"]["direction"] == "backward"
    names = {name for _, row in recorder.rows for name in row}
    assert {"probe/translation/nyquist_forward", "probe/translation/cycle_jpeg_backward"} <= names


REFUSED = [
    ({"paired": False}, "^pix2pix learns from pairs"),
    ({"data": lambda split: random_images()}, "^pix2pix needs images of two domains"),
    ({"model": None}, "^The training of pix2pix needs a choice of model"),
    ({"model": model}, "^training=pix2pix is refused with this model"),
    ({"encoder": dict}, "^encoder has no effect on the training of pix2pix"),
    ({"checkpoint": "x"}, "^checkpoint has no effect on the training of pix2pix"),
    ({"loss": lambda: {**LOSS, "generator_loss": relativistic_generator}}, "^This loss is refused with pix2pix"),
    ({"loss": lambda: {**LOSS, "penalties": penalties("gradient_penalty")}}, "^This loss is refused with pix2pix"),
    ({"num_samples": 0}, "num_samples must be"),
    ({"hparams": {"batch_size": 0}}, r"training\.hparams\.batch_size must be a whole number of at least 1"),
    ({"hparams": {"jitter": 0.5}}, r"training\.hparams\.jitter must be a number of at least 1"),
    ({"hparams": {"discriminated": "a"}}, r"training\.hparams\.discriminated must be one of pair, output, got 'a'"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_what_makes_no_sense_is_refused(changes, message):
    with pytest.raises(UserError, match=message) as error:
        prepare(**changes)
    assert "\n" not in str(error.value)


def test_a_generators_training_refuses_a_translator():
    parts = {"generator": partial(UNet), "discriminator": partial(PatchDiscriminator), "training": "pix2pix"}
    choices = {"preset": None, "loss": None, "runtime": CPU, "seed": 0, "num_samples": 4}
    with pytest.raises(UserError, match="no discriminator to train a generator of latents against: training=pix2pix"):
        gan_training(
            data=lambda split: random_images(), model=lambda: parts, hparams={}, micro_batch_size=None, **choices
        )


def test_a_bottleneck_of_one_pixel_with_batch_norm_is_refused():
    """At batch 1 the divisor would not be a standard deviation."""
    judge = partial(PatchDiscriminator, num_layers=None, width=4)
    parts = {"discriminator": judge, "loss": LOSS, "generator": partial(ResNet, num_blocks=0, num_downs=5, width=1,
             norm="batch")}  # fmt: skip
    with pytest.raises(UserError, match="Batch norm needs more than one number a channel"):
        prepare(model=lambda: parts)
    assert prepare(model=lambda: parts, hparams={"batch_size": 2}).module.batch_size == 2


# --- what a snapshot says -------------------------------------------------------------------------------------------


class Wrong:
    """A translator with a known fault, in both directions."""

    images_seen, nimg, device = 1000, 1000, torch.device("cpu")

    def __init__(self, forward, backward) -> None:
        self.ways = {"forward": forward, "backward": backward}

    def translator(self, direction):
        return self.ways[direction]

    def translate(self, images, direction="forward"):
        return self.ways[direction](images)


def hidden(images):
    """A grey picture with the image in its last bits, which the way back reads."""
    return (images / 200) + 0.2


CHECKER = (-1.0) ** (torch.arange(16)[:, None] + torch.arange(16)[None])
SAID = [
    (lambda x: x, "does nothing"),
    (lambda x: -x, "colours are inverted"),
    (lambda x: (x + 0.4 * CHECKER).clamp(-1, 1), "checkerboard"),
    (hidden, "hide information for the way back"),
]


@pytest.mark.parametrize(("forward", "words"), SAID)
def test_known_faults_are_said(tmp_path, forward, words):
    """On smooth images that should become slightly brighter and redder."""
    a = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.7
    a = F.interpolate(a, size=16, mode="bilinear")
    b = (a + torch.tensor([0.3, 0.1, 0.0])[:, None, None]).clamp(-1, 1)
    pixels = [((each + 1) * 127.5).to(torch.uint8) for each in (a, b)]
    names = [str(index) for index in range(6)]
    data = TwoDomains.pairs(*(wplus.data.ImageSet(each, None, names) for each in pixels))
    good = TranslationView(data, num_samples=6).look(
        Wrong(lambda x: (x + torch.tensor([0.3, 0.1, 0.0])[:, None, None]).clamp(-1, 1),
              lambda x: x - torch.tensor([0.3, 0.1, 0.0])[:, None, None]), tmp_path)  # fmt: skip
    assert good.messages == []
    backward = (lambda x: (x - 0.2) * 200) if forward is hidden else lambda x: x
    seen = TranslationView(data, num_samples=6).look(Wrong(forward, backward), tmp_path)
    said = [message.text for message in seen.messages if message.text.startswith("Forward")]
    assert any(words in text for text in said), said
