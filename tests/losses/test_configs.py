"""The group image_loss: every file is a named term, and builds."""

import pytest
from omegaconf import OmegaConf

import wplus
from tests.fakes import tiny_generator
from wplus.config import CONFIG_FOLDER, build, plain
from wplus.errors import UserError
from wplus.losses.discriminator import DiscriminatorFeatures
from wplus.losses.image_pair import ImageDistance
from wplus.models.stylegan2 import Discriminator

FILES = {path.stem: path for path in (CONFIG_FOLDER / "image_loss").glob("*.yaml")}


def terms(name: str, **keys: object) -> dict[str, ImageDistance]:
    """The terms in a file, without the keys of a command."""
    config = plain(OmegaConf.create({**keys, "image_loss": OmegaConf.load(FILES[name])}))
    return build(config["image_loss"])


@pytest.mark.parametrize("name", ["ms_ssim", "ssim", "shape", "style", "identity_effnet_lite0"])
def test_terms_that_need_no_file(name):
    ((key, distance),) = terms(name).items()
    assert key == name.removesuffix("_effnet_lite0")
    assert isinstance(distance, ImageDistance)


@pytest.mark.parametrize("name", ["stlpips_alex", "stlpips_vgg"])
@pytest.mark.parametrize("group", ["perceptual", "image_loss"])
def test_both_groups_build_stlpips_by_its_name(stlpips_package, name, group):
    stlpips_package(name.removeprefix("stlpips_"))
    built = build(plain(OmegaConf.load(CONFIG_FOLDER / group / f"{name}.yaml")))
    assert (built if group == "perceptual" else built[name]).name == name


@pytest.mark.parametrize("group", ["identity", "perceptual"])
def test_what_is_chosen_alone_and_as_a_term_is_the_same(group):
    alone = {path.stem: plain(OmegaConf.load(path)) for path in (CONFIG_FOLDER / group).glob("*.yaml")}
    stem = "identity_{}" if group == "identity" else "{}"
    names = {name: stem.format(name) for name in alone if stem.format(name) in FILES}
    assert len(names) >= len(alone) - 1 > 0  # the default of perceptual= is a term anyway
    assert {name: list(plain(OmegaConf.load(FILES[term])).values()) for name, term in names.items()} == {
        name: [alone[name]] for name in names
    }


def test_the_discriminator_comes_from_the_generators_checkpoint(tmp_path):
    networks = {"generator": tiny_generator(), "discriminator": Discriminator(resolution=8, channel_base=64)}
    path = str(wplus.save(tmp_path / "model.safetensors", **networks))
    assert isinstance(terms("discriminator", checkpoint=path)["features"], DiscriminatorFeatures)
    path = str(wplus.save(tmp_path / "generator.safetensors", generator=networks["generator"]))
    with pytest.raises(UserError, match="has no discriminator"):
        terms("discriminator", checkpoint=path)
    with pytest.raises(UserError, match="discriminator comes from a checkpoint"):
        terms("discriminator")
