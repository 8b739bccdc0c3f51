"""The latent spaces: known properties of each, conversions between them, and a user-defined one."""

from dataclasses import replace

import pytest
import torch

from wplus.checkpoint import Models
from wplus.errors import UserError
from wplus.interpolation.keyframes import keyframes_of
from wplus.inversion.optimize import optimize
from wplus.inversion.task import InversionTask
from wplus.latents import space as latent_space
from wplus.latents.latent import Latent, decode, lifted, load_latent, save_latent, synthesize, to_ws
from wplus.latents.space import LatentSpace, space_named, space_of, spaces, whitened
from wplus.latents.spaces.s import channel_names, style_stats
from wplus.models import autoencoder, dcgan, stylegan1, stylegan2
from wplus.models.progressive import set_lod

SIZE = {"resolution": 16, "z_dim": 8, "w_dim": 12, "num_mapping_layers": 2, "channel_base": 128, "channel_max": 8}
PIXELS = {"perceptual": 0.0}


def with_noise(net):
    net.mapping.w_avg.normal_()
    for layer in net.synthesis.noise_layers:
        layer.noise_strength.data.fill_(0.5)
    return net.eval().requires_grad_(False)


@pytest.fixture(params=[stylegan1, stylegan2], ids=["stylegan1", "stylegan2"])
def generator(request):
    return with_noise(request.param.Generator(**SIZE))


@pytest.fixture
def ws(generator):
    """A w+ of three images, with every layer from another z."""
    return to_ws(torch.randn(3, generator.num_ws, 8), "z+", generator)


@pytest.mark.parametrize("space", ["w+", "pn+", "s", "f/w+", "f8/w+", "f16/w+"])
def test_a_w_plus_draws_the_same_image_in_every_space_that_holds_it(generator, ws, space):
    """Without the colours that blocks below a map add, as in StyleGAN2."""
    if space.startswith("f") and isinstance(generator, stylegan2.Generator):
        for block in generator.synthesis.blocks[: 2 if space == "f16/w+" else 1]:
            block.torgb.weight.zero_()
            block.torgb.bias.zero_()
    codes = space_of(space, generator).from_ws(ws, generator)
    assert codes.shape[1:] == space_of(space, generator).shape(generator)
    images = generator.synthesis(decode(codes, space, generator))
    torch.testing.assert_close(images, generator.synthesis(ws), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("space", ["pn", "pn+"])
def test_whitening_is_taken_back_and_makes_the_prior_normal(generator, space):
    w = generator.mapping(torch.randn(3000, 8))
    codes = space_of(space, generator).from_ws(w, generator)
    torch.testing.assert_close(space_of(space, generator).to_ws(codes, generator), w, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(codes.flatten(0, -2).std(dim=0).mean(), torch.tensor(1.0), atol=0.1, rtol=0)
    expected = whitened(generator).distance(w)
    torch.testing.assert_close(space_of(space, generator).prior_distance(codes, generator), expected)


def test_styles_are_affine_in_w_plus_and_normal_for_the_generators_samples(generator, ws):
    """Closed forms: s of a mean of w+ is the mean of their s; samples have the mean 0 and the deviation 1."""
    space = space_of("s", generator)
    middle = space.from_ws(ws[:2].mean(dim=0, keepdim=True), generator)
    torch.testing.assert_close(middle, space.from_ws(ws[:2], generator).mean(dim=0, keepdim=True), atol=1e-5, rtol=1e-4)
    samples = space.from_ws(generator.mapping(torch.randn(4000, 8)), generator)
    normalized = style_stats(generator).normalized(samples)
    torch.testing.assert_close(normalized.mean(dim=0), torch.zeros(normalized.shape[1]), atol=0.12, rtol=0)
    assert 0.9 < float(space.prior_distance(samples, generator).mean()) < 1.1
    assert len(channel_names(generator)) == len(set(channel_names(generator))) == samples.shape[1]
    known = style_stats(generator)
    torch.testing.assert_close(known.distance(space.from_ws(_own_samples(generator), generator)), torch.zeros(5),
                               atol=1e-5, rtol=0)  # fmt: skip
    opposite = known.mean - known.std * known.normalized(samples[:50])
    assert known.distance(opposite).mean() > known.distance(samples[:50]).mean()


def _own_samples(generator):
    from wplus.core.random import rng

    return generator.mapping(torch.randn(10_000, 8, generator=rng(123, "styles"))[:5])


def test_channels_are_called_after_their_layers():
    """An edit of a colour channel adds its weight times the incoming map: proportional, and equal for R, G and B."""
    generator = with_noise(stylegan2.Generator(**SIZE))
    names = channel_names(generator)
    assert (names[0], names[8], names[-1]) == ("b4.conv1.0", "b4.torgb.0", "b16.torgb.7")
    s = space_of("s", generator).from_ws(torch.randn(2, generator.num_ws, 12), generator)
    once, twice = s.clone(), s.clone()
    once[:, names.index("b16.torgb.3")] += 1
    twice[:, names.index("b16.torgb.3")] += 2
    images = [generator.synthesis(decode(each, "s", generator)) for each in (s, once, twice)]
    torch.testing.assert_close(images[2] - images[0], 2 * (images[1] - images[0]), atol=1e-5, rtol=1e-3)
    colour = generator.synthesis.b16.torgb.weight[:, 3, 0, 0]
    moved = images[1] - images[0]
    torch.testing.assert_close(moved[:, 1] * colour[0], moved[:, 0] * colour[1], atol=1e-5, rtol=1e-3)
    assert moved.abs().max() > 1e-3


@pytest.mark.parametrize(("lod", "blocks"), [(0.0, [8, 16]), (0.5, [8, 16]), (1.0, [8]), (1.5, [8])])
def test_a_growing_network_has_the_blocks_that_are_in_use(lod, blocks):
    generator = with_noise(stylegan1.Generator(**SIZE))
    set_lod(generator, lod)
    for block in (8, 16):
        if block not in blocks:
            with pytest.raises(UserError, match=f"space.block must be one of 8, got {block}"):
                space_of(f"f{block}/w+", generator)
            continue
        space, ws = space_of(f"f{block}/w+", generator), generator.mapping(torch.randn(2, 8))
        images = generator.synthesis(decode(space.from_ws(ws, generator), f"f{block}/w+", generator))
        assert images.shape == (2, 3, 16, 16)
    assert str(space_of("f/w+", generator)) == "f8/w+"


def test_a_map_replaces_what_lies_below(generator, ws):
    """Below it w+ changes neither image nor distance from the prior, above it both; and the map has an effect."""
    space = space_of("f8/w+", generator)
    codes = space.from_ws(ws, generator)
    size, num_below = space.parts(generator)[0], 2 if isinstance(generator, stylegan1.Generator) else 1
    mixed, below, above = codes.clone(), codes.clone(), codes.clone()
    mixed[0, :size] = codes[1, :size]
    below[:, size : size + num_below * 12] += 1.0
    above[:, size + num_below * 12 : size + (num_below + 1) * 12] += 1.0  # the first layer that draws
    own, *others = (generator.synthesis(decode(each, "f8/w+", generator)) for each in (codes, below, above, mixed))
    assert torch.equal(own, others[0])
    assert not torch.allclose(own, others[1], atol=1e-2)
    assert not torch.allclose(own[0], others[2][0], atol=1e-2)
    far = [space.prior_distance(each, generator) for each in (codes, below, above)]
    assert torch.equal(far[0], far[1])
    assert not torch.allclose(far[0], far[2], rtol=1e-2)


@pytest.mark.parametrize("space", ["f8/w+", "f16/w+"])
def test_an_edit_moves_a_map_as_it_moves_the_generators_own(generator, ws, space):
    """F' = F + G(w + e) - G(w): for the generator's own map this is the map of w + e, and e = 0 changes nothing."""
    found, shift = space_of(space, generator), 0.3 * torch.randn(generator.num_ws, 12)
    codes = found.from_ws(ws, generator)
    expected = found.from_ws(ws + shift, generator)
    torch.testing.assert_close(found.edited(codes, shift, generator), expected, atol=1e-4, rtol=1e-3)
    assert torch.equal(found.edited(other := codes + torch.rand_like(codes), torch.zeros_like(shift), generator), other)
    other = codes.clone()
    other[:, :5] += 1.0
    moved = found.edited(other, shift, generator) - found.edited(codes, shift, generator)
    torch.testing.assert_close(moved, other - codes, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("given", "held"),
    [("z", ["z", "z+", "w", "w+", "pn", "pn+", "code", "s"]), ("z+", ["z+", "w+", "pn+", "s"]),
     ("w", ["w", "w+", "pn", "pn+", "code", "s"]), ("code", ["w", "w+", "pn", "pn+", "code", "s"]),
     ("pn+", ["w+", "pn+", "s"]), ("s", ["s"]),
     ("f/w+", ["f/w+"])],
)  # fmt: skip
def test_what_goes_where_without_loss(given, held):
    assert [name for name in spaces() if space_named(name).holds(space_named(given))] == held


def test_latents_of_several_spaces_meet_in_the_first_that_holds_all():
    generator = with_noise(stylegan2.Generator(**SIZE))
    models = Models(generator=generator)
    latents = {name: _latent(name, models) for name in ("z", "w", "w+", "pn", "s", "f8/w+")}

    def space(*names: str) -> str:
        return keyframes_of([latents[name] for name in names], generator, names=names).space

    assert [space("pn", "pn"), space("pn", "w"), space("w", "w+"), space("s", "w"), space("s", "z", "w+")] == [
        "pn", "w", "w+", "s", "s",
    ]  # fmt: skip
    assert space("f8/w+", "f8/w+") == "f8/w+"
    with pytest.raises(UserError, match=r"Latents of f8/w\+ and s have no space in common"):
        space("s", "f8/w+")
    cut = [replace(latents["pn"], truncation_psi=0.5, truncation_cutoff=2)] * 2
    assert keyframes_of(cut, generator, names=("a", "b")).space == "w+"
    with pytest.raises(UserError, match="space must be w.*truncation cutoff, got pn"):
        lifted(replace(latents["w"], truncation_psi=0.5, truncation_cutoff=2), "pn", generator)
    truncated = Latent(torch.randn(8), "z", models.fingerprint, truncation_psi=0.5)
    expected = space_of("s", generator).from_ws(generator.mapping(truncated.code[None], truncation_psi=0.5), generator)
    assert torch.equal(lifted(truncated, "s", generator), expected[0])


def decoder_of_codes() -> autoencoder.Decoder:
    return autoencoder.Decoder(resolution=16, code_dim=8, prior="normal", channel_base=64, channel_max=8)


def test_code_is_the_w_of_a_decoder_and_of_no_other_generator():
    generator = decoder_of_codes().eval().requires_grad_(False)
    w, codes = generator.mapping(torch.randn(4, 8)), torch.randn(4, 8)
    assert torch.equal(space_of("code", generator).from_ws(w, generator), w[:, 0])
    assert torch.equal(to_ws(codes, "code", generator), to_ws(codes, "w", generator))
    torch.testing.assert_close(space_of("code", generator).prior_distance(codes, generator), codes.square().mean(dim=1))
    for other in (dcgan.Generator(resolution=16, z_dim=8), stylegan2.Generator(**SIZE)):
        with pytest.raises(UserError, match="^space=code needs an autoencoder's decoder, got the generator of .*gan"):
            space_of("code", other)


def _latent(space: str, models: Models) -> Latent:
    found = space_of(space, models.generator)
    vectors = torch.randn(1, 8) if found.is_before_mapping else models.generator.mapping(torch.randn(1, 8))[:, 0]
    return Latent(found.from_vectors(vectors, models.generator)[0], str(found), models.fingerprint)


def test_a_saved_latent_draws_its_image_in_every_space(tmp_path):
    styled, decoder = Models(generator=with_noise(stylegan2.Generator(**SIZE))), Models(generator=decoder_of_codes())
    for name in spaces():
        models = decoder if name == "code" else styled
        latent = _latent(name, models)
        file = save_latent(tmp_path / "a.safetensors", latent)
        loaded = load_latent(file, fingerprint=models.fingerprint)
        assert loaded.space == latent.space
        assert torch.equal(synthesize([loaded], models.generator), synthesize([latent], models.generator))


@pytest.mark.parametrize(
    ("space", "message"),
    [("f32/w+", "space.block must be one of 8, 16, got 32"), ("f/w", "space must be one of z, .*got 'f/w'"),
     ("f16/w", "got 'f16/w'"), (3, "got 3"), ("f0/w+", "space.block must be one of 8, 16, got 0")],
)  # fmt: skip
def test_spaces_that_a_generator_does_not_have(space, message):
    with pytest.raises(UserError, match=message):
        space_of(space, stylegan2.Generator(**SIZE))


def test_a_generator_without_styles_has_neither_s_nor_maps():
    generator = dcgan.Generator(resolution=16, z_dim=8)
    for name in ("s", "f/w+"):
        with pytest.raises(
            UserError, match=f"^space={name}.* needs a generator whose layers have styles, .* got dcgan"
        ):
            space_of(name, generator)


@pytest.mark.parametrize("space", ["s", "f16/w+"])
def test_nothing_leads_back_to_w_plus(space):
    models = Models(generator=stylegan2.Generator(**SIZE).requires_grad_(False))
    with pytest.raises(UserError, match=r"cannot be mapped to w\+.*choose one of z, z\+, w, w\+, pn, pn\+"):
        to_ws(_latent(space, models).code[None], space, models.generator)


def test_statistics_follow_the_weights():
    generator = stylegan2.Generator(**SIZE)
    before, kept = style_stats(generator), style_stats(generator)
    assert before is kept
    with torch.no_grad():
        generator.synthesis.b4.conv1.affine.weight.mul_(2)
    assert not torch.allclose(style_stats(generator).std, before.std)


def test_a_space_from_outside_is_found_by_its_name(monkeypatch):
    """One class, anywhere: it can be inverted into, saved, drawn, and is named in errors."""
    monkeypatch.setattr(latent_space, "_classes", dict(latent_space._classes))

    class Halved(LatentSpace):
        """Half of w in all layers."""

        name = "half"

        def shape(self, generator):
            return (generator.w_dim,)

        def to_ws(self, codes, generator, labels=None):
            return 2 * codes[:, None].expand(-1, generator.num_ws, -1)

        def from_ws(self, ws, generator):
            return ws[:, 0] / 2

    generator = with_noise(stylegan2.Generator(**SIZE))
    found = optimize(InversionTask(generator, torch.rand(1, 3, 16, 16), "half"), num_steps=2, loss_weights=PIXELS)
    latent = Latent(found.latents[0], "half", "x")
    torch.testing.assert_close(synthesize([latent], generator), found.images)
    assert lifted(Latent(torch.ones(12), "w", "x"), "half", generator).unique().tolist() == [0.5]

    class Other(Halved):
        """Takes no name from its base class."""

    assert type(space_named("half")) is Halved
    with pytest.raises(UserError, match=r"f/w\+, half, got 'third'"):
        space_named("third")
