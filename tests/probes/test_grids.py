"""Images in their positions with text beside them, from generators with known images."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.probes.conftest import FAMILIES, make_images, numbers
from wplus.core.images import to_uint8
from wplus.errors import UserError
from wplus.probes import grids
from wplus.probes.grids import (
    GAP,
    LINE,
    MARGIN,
    grey_deviation,
    labelled_grid,
    mix_thirds,
    noise_map,
    style_mixing,
    truncation,
)


def flat(value: int, px: int = 64, channels: int = 3) -> torch.Tensor:
    return torch.full((channels, px, px), value, dtype=torch.uint8)


@pytest.fixture
def drawn(monkeypatch):
    """Record what would have been drawn, instead of drawing."""
    calls = []
    monkeypatch.setattr(grids, "labelled_grid", lambda rows, **text: calls.append((rows, text)))
    return calls


def test_images_stand_in_rows_and_columns():
    picture = labelled_grid([[flat(0), flat(50)], [None, flat(100)]])
    assert picture.shape == (3, 2 * MARGIN + 2 * 64 + GAP, 2 * MARGIN + 2 * 64 + GAP)
    assert picture.dtype == torch.uint8
    first, second = slice(MARGIN, MARGIN + 64), slice(MARGIN + 64 + GAP, MARGIN + 2 * 64 + GAP)
    places = [(first, first), (first, second), (second, first), (second, second)]
    assert [picture[:, y, x].unique().tolist() for y, x in places] == [[0], [50], [255], [100]]


def test_small_images_are_enlarged_and_huge_ones_reduced():
    assert labelled_grid([[flat(0, 8)]]).shape[1] == 64 + 2 * MARGIN
    assert labelled_grid([[flat(0, 512)]]).shape[1] == 256 + 2 * MARGIN
    assert (labelled_grid([[flat(7, 8, 1)]])[:, MARGIN, MARGIN] == 7).all()  # grey


def test_text_and_breaks_take_room_and_are_drawn():
    rows = [[flat(255)]] * 2
    height, width = labelled_grid(rows).shape[1:]
    assert (labelled_grid(rows) == 255).all()
    picture = labelled_grid(rows, captions=[["under"]] * 2, left=["beside\nit", ""], top=["over"], breaks=[1])
    assert picture.shape[1] == height + LINE + 2 * LINE + MARGIN
    assert picture.shape[2] > width
    for part in (picture[:, : LINE + MARGIN], picture[:, :, : MARGIN + 20], picture[:, -LINE - MARGIN :]):
        assert (part < 255).any()
    assert labelled_grid(rows, captions=[[""], ["under"]]).shape[1] == height + LINE


# --- style mixing -----------------------------------------------------------------------------------------------------


class Stripes(nn.Module):
    """Styles of one number; the image has a stripe for each of three layers, 21 or 22 rows high."""

    num_ws = num_active_ws = 3
    z_dim, c_dim = 1, 0

    def mapping(self, z, c):
        return z.unsqueeze(1).repeat(1, 3, 1)

    def synthesis(self, ws):
        stripes = ws[:, :, 0].repeat_interleave(torch.tensor([22, 21, 21]), dim=1)
        return stripes[:, None, :, None].expand(-1, 3, -1, 64)


def standing_in(generator: nn.Module, **more: object) -> SimpleNamespace:
    return SimpleNamespace(ema=generator, device=torch.device("cpu"), **{"images_seen": 0, **more})


def test_each_row_takes_its_third_from_above(context, drawn):
    here = context(module=standing_in(Stripes(), images_seen=5120))
    here.latents = lambda num: (torch.arange(float(num))[:, None], None)  # rows are the first ones, columns the last
    (picture,) = style_mixing(here, num_columns=2, rows_per_third=1).pictures
    ((((corner, *above), *rows), _),) = drawn
    assert corner is None
    stripes = [[[int(image[0, height, 0]) for height in (10, 32, 54)] for image in row] for row in (above, *rows)]
    assert stripes[0] == [[3, 3, 3], [4, 4, 4]]
    for third, (left, *mixed) in enumerate(stripes[1:]):
        assert left == [third] * 3
        assert mixed == [[b if place == third else third for place in range(3)] for b in (3, 4)]
    assert (picture.name, picture.key) == ("kimg-000005.120-style_mixing", "samples/style_mixing")


def test_layers_that_are_not_in_use_stay():
    taken = mix_thirds(torch.zeros(3, 8, 2), torch.ones(1, 8, 2), 4)[:, 0, :, 0]
    assert taken.tolist() == [[1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, 0]]


def test_while_a_network_grows_the_thirds_are_those_of_the_layers_in_use(context, drawn):
    """At 8 of 16 px the fine third is the last of four layers, not two layers that draw nothing yet."""
    here = context("stylegan1")
    assert (here.generator.num_active_ws, here.generator.num_ws) == (4, 6)
    style_mixing(here, num_columns=1, rows_per_third=1)
    ((rows, _),) = drawn
    for source, mixed in rows[1:]:
        assert not torch.allclose(source, mixed, atol=1e-3)


# --- truncation -------------------------------------------------------------------------------------------------------


def test_the_mean_is_in_the_middle_and_the_latent_at_the_right(context):
    here = context(data=make_images(resolution=64))
    (picture,) = truncation(here, num_latents=2, num_steps=3).pictures
    z, _ = here.latents(2)
    for column, psi in enumerate((-1, 0, 1)):
        for row, image in enumerate(to_uint8(here.generator(z, truncation_psi=psi))):
            top, left = MARGIN + LINE + row * (64 + GAP), MARGIN + column * (64 + GAP)
            assert (picture.image[:, top : top + 64, left : left + 64] == image).all()
    middle = picture.image[:, :, MARGIN + 64 + GAP : MARGIN + 2 * 64 + GAP]
    assert (middle[:, MARGIN + LINE :][:, :64] == middle[:, MARGIN + LINE + 64 + GAP :][:, :64]).all()


@pytest.mark.parametrize("steps", [2, 1, 8])
def test_the_mean_must_be_among_the_steps(context, steps):
    with pytest.raises(UserError, match=rf"^num_steps must be odd and at least 3, .*, got {steps}[.]$"):
        truncation(context(), num_steps=steps)


# --- noise ------------------------------------------------------------------------------------------------------------

STRENGTH = torch.tensor([[0.0, 0.01], [0.02, 0.04]]).repeat_interleave(8, 0).repeat_interleave(8, 1)  # (16, 16)
EXPECTED = (STRENGTH * 2 / 3 * 127.5).double()


class Noisy(nn.Module):
    """w plus noise of a known strength, in the first two of three channels."""

    num_ws, z_dim, c_dim = 1, 1, 0
    noise_shapes = [(16, 16)]

    @property
    def synthesis(self):
        return self

    def mapping(self, z, c):
        return 0.1 * z[:, None]

    def __call__(self, ws, noise=None):
        images = ws[:, :, :, None].expand(-1, 3, 16, 16)
        if noise is None:
            return images
        return images + torch.tensor([1.0, 1.0, 0.0])[:, None, None] * STRENGTH * noise[0]


def test_the_deviation_is_that_of_the_grey_value():
    found = grey_deviation(Noisy(), torch.zeros(1, 1), [torch.randn(4000, 1, 16, 16)])
    torch.testing.assert_close(found, EXPECTED, rtol=0.06, atol=0)
    three = torch.tensor([-1.0, 0.0, 1.0]).view(3, 1, 1, 1).expand(3, 1, 16, 16)  # squares of differences, over two
    torch.testing.assert_close(grey_deviation(Noisy(), torch.zeros(1, 1), [three]), EXPECTED, rtol=1e-4, atol=1e-4)


def test_what_lies_beyond_white_does_not_move():
    assert not grey_deviation(Noisy(), torch.full((1, 1), 5.0), [torch.randn(5, 1, 16, 16)]).any()


def test_the_noise_map_and_its_number(context, drawn, monkeypatch):
    result = noise_map(context(module=standing_in(Noisy())), num_latents=2, num_draws=400)
    assert numbers(result) == {"probe/noise_std": pytest.approx(float(EXPECTED.mean()), rel=0.03)}
    assert result.pictures[0].key == "samples/noise"
    ((_, maps), text) = drawn.pop()
    assert max(int(each.max()) for each in maps) == 255  # the largest deviation is white
    assert [each[0, 0, 0].item() for each in maps] == [0, 0]
    assert text["captions"][1][0].startswith("mean 1.")
    monkeypatch.setattr(grids, "grey_deviation", lambda *_: torch.zeros(16, 16, dtype=torch.float64))
    noise_map(context(module=standing_in(Noisy())), num_latents=1, num_draws=2)
    assert not drawn[0][0][1][0].any()  # without deviation it is black


@pytest.mark.parametrize("family", FAMILIES)
def test_networks_that_have_nothing_to_show_are_left_out(context, family):
    here, mapped = context(family), family in ("stylegan1", "stylegan2")
    assert bool(style_mixing(here).pictures) == mapped
    assert bool(truncation(here).pictures) == (family != "progan")
    result = noise_map(here, num_draws=3)
    assert bool(result.pictures) == bool(result.values) == mapped
