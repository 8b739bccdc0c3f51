"""What an encoder is made of, filled in from its generator; what does not fit is one sentence."""

import functools
from pathlib import Path

import pytest
import torch

import wplus
from wplus.core.runtime import Runtime
from wplus.errors import UserError
from wplus.models.encoders.e4e import GradualStyleEncoder, WEncoder
from wplus.models.encoders.small import SmallEncoder
from wplus.models.stylegan2 import Discriminator, Generator
from wplus.training.build_encoder import encoder_training

SIZE = {"resolution": 32, "channel_base": 128, "channel_max": 8}
SECTIONS = {
    "hparams": {"batch_size": 4},
    "loss_weights": {"l1": 0.0, "l2": 1.0, "adversarial": 0.1},
    "progressive": {"start_kimg": 1},
    "latent_discriminator": {},
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    generator = Generator(z_dim=6, w_dim=6, num_mapping_layers=1, **SIZE)
    generator.mapping.w_avg.copy_(torch.arange(6.0))
    return wplus.save(tmp_path / "model.safetensors", generator=generator)


@pytest.fixture
def prepare(model, make_images):
    """prepare(any argument of encoder_training): the rest as a command would give it."""

    def training(**changes):
        def data(*, split: str, resolution: int):
            return make_images(20 if split == "train" else 5, resolution=resolution)

        choices = {
            **SECTIONS, "data": data, "checkpoint": str(model), "encoder": choose(SmallEncoder, width=16),
            "perceptual": None, "image_loss": None, "model": None, "loss": None,
            "runtime": Runtime(device=torch.device("cpu")), "seed": 0, "num_samples": 4,
        }  # fmt: skip
        return encoder_training(**{**choices, **changes})

    return training


def choose(target, **keywords):
    """As `build` does it: a function that gives a partial."""
    return lambda: functools.partial(target, **keywords)


def test_the_encoder_fits_its_generator(prepare, model):
    training = prepare(encoder=choose(SmallEncoder, width=16, input_size=None))
    encoder = training.module.encoder
    assert (encoder.num_ws, encoder.w_dim, encoder.img_channels, encoder.input_size) == (8, 6, 3, 32)
    assert torch.equal(encoder.latent_avg, torch.arange(6.0).expand(8, 6))
    assert training.module.fingerprint == wplus.load(model).fingerprint
    assert training.data.resolution == 32
    assert len(training.data) == 20
    assert len(training.view.images) == 4
    assert training.module.run_fingerprint["data"] == training.data.fingerprint
    assert training.resolved["last_delta_kimg"][0] == 7
    assert training.resolved["encoder_parameters"][0] == sum(p.numel() for p in encoder.parameters())


def test_the_same_seed_gives_the_same_start(prepare):
    first, again, other = (prepare(seed=seed).module.state_dict() for seed in (1, 1, 2))
    torch.randn(3)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": None}, r"^An encoder's training needs a choice of encoder, such as encoder=small\.$"),
        ({"checkpoint": None}, r"^An encoder is trained for a generator: give .* checkpoint=model\.safetensors\.$"),
        ({"checkpoint": "nowhere.safetensors"}, "'nowhere.safetensors' does not exist"),
        ({"model": dict}, r"^model has no effect on an encoder's training, .*debug=quick_encoder"),
        ({"loss": dict}, r"^loss has no effect on an encoder's training"),
        ({"loss_weights": {"l1": 0, "l2": 1, "lpips": 0.8}}, r"loss_weights\.lpips=0\.8 has no loss; there are l1, "),
        ({"loss_weights": {"l1": 0, "l2": 1, "perceptual": 0.8}}, r"loss_weights\.perceptual=0\.8 has no loss"),
        ({"loss_weights": {"l1": 0}}, r"^The loss 'l2' has no weight: give \+training\.loss_weights\.l2="),
        ({"hparams": {"batch_size": 4, "num_passes": 5}}, r"num_passes=5 needs an encoder that sees its last result"),
        ({"encoder": choose(GradualStyleEncoder, input_size=32)}, r"^GradualStyleEncoder has no .*progressive=null"),
        ({"encoder": choose(SmallEncoder, width=7)}, "width must be .*, got 7"),
        ({"num_samples": 0}, "num_samples must be .*, got 0"),
    ],
)  # fmt: skip
def test_what_does_not_fit(prepare, changes, message):
    with pytest.raises(UserError, match=message) as error:
        prepare(**changes)
    assert "\n" not in str(error.value)


def test_a_checkpoint_without_a_generator(prepare, tmp_path):
    path = wplus.save(tmp_path / "d.safetensors", discriminator=Discriminator(**SIZE))
    with pytest.raises(UserError, match=r"d\.safetensors' has no generator"):
        prepare(checkpoint=str(path))


def test_images_of_another_kind(prepare, make_images, tmp_path):
    with pytest.raises(UserError, match=r"^The images have 1 channel\(s\), the generator makes 3"):
        prepare(data=lambda split, resolution: grey(make_images(5, resolution=resolution)))
    conditional = Generator(z_dim=6, w_dim=6, c_dim=3, num_mapping_layers=1, **SIZE)
    path = wplus.save(tmp_path / "conditional.safetensors", generator=conditional)
    with pytest.raises(UserError, match=r"^The generator is conditional on 3 classes and the images have 0; choose"):
        prepare(checkpoint=str(path))


def grey(images):
    return type(images)(images.images[:, :1], None, images.names)


def test_every_encoder_can_be_trained(prepare, make_images):
    """One step of each kind, at the size that its generator has."""
    for encoder, changes in [
        (choose(SmallEncoder, width=16), {}),
        (choose(SmallEncoder, width=16, is_iterative=True), {"hparams": {"batch_size": 4, "num_passes": 2}}),
        (choose(WEncoder, input_size=32), {"progressive": {"start_kimg": None}}),
    ]:
        game = prepare(encoder=encoder, **changes).module
        images, labels = make_images(20, resolution=32).batch(torch.arange(4))
        game.run_step(images, labels, game.configure_optimizers())
        assert int(game.skipped[0]) == 0
        assert game.means.collect()["train/encoder/grad_norm"] > 0
