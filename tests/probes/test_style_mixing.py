"""Which layers come from whom, on a generator that paints its styles."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.probes.conftest import FAMILIES
from wplus.probes import style_mixing as module
from wplus.probes.drawing import GAP, LINE, MARGIN
from wplus.probes.style_mixing import mixtures, style_mixing


class Painter(nn.Module):
    """Styles of one number; the picture has a stripe of it for each of three layers, 21 or 22 rows high."""

    num_ws, z_dim, c_dim = 3, 1, 0

    def mapping(self, z, c):
        return z.unsqueeze(1).repeat(1, 3, 1)

    def synthesis(self, ws):
        stripes = ws[:, :, 0].repeat_interleave(torch.tensor([22, 21, 21]), dim=1)
        return stripes[:, None, :, None].expand(-1, 3, -1, 64)


def test_each_row_takes_its_third_from_above(scene):
    game = SimpleNamespace(ema=Painter(), device=torch.device("cpu"), images_seen=5120)
    here = scene(game=game)
    here.latents = lambda num: (torch.linspace(-1, 1, num)[:, None], None)  # rows are the first ones, columns the last
    (picture,) = style_mixing(here, num_columns=2, rows_per_third=1).pictures
    image, columns = picture.image, picture.image.shape[2] - 2 * (64 + GAP) - MARGIN + GAP
    tops = [MARGIN + 64 + LINE + GAP + MARGIN + n * (64 + GAP + MARGIN) for n in range(3)]
    lefts = [columns - 64 - GAP, columns, columns + 64 + GAP]
    tone = {number: round(127.5 * value + 128 - 0.5) for number, value in enumerate(torch.linspace(-1, 1, 5).tolist())}

    def stripes(top: int, left: int) -> list[int]:
        return [int(image[0, top + row, left + 32]) for row in (10, 32, 54)]

    for row in range(3):
        assert stripes(tops[row], lefts[0]) == pytest.approx([tone[row]] * 3, abs=1)
        for column in range(2):
            expected = [tone[3 + column] if third == row else tone[row] for third in range(3)]
            assert stripes(tops[row], lefts[1 + column]) == pytest.approx(expected, abs=1)
    assert (picture.name, picture.key) == ("kimg-000005.120-style_mixing", "samples/style_mixing")


def test_layers_that_are_not_in_use_stay(scene):
    a, b = torch.zeros(3, 8, 2), torch.ones(1, 8, 2)
    taken = mixtures(a, b, 4)[:, 0, :, 0]
    assert taken.tolist() == [[1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, 0]]


def test_while_a_network_grows_the_thirds_are_those_of_the_layers_in_use(scene, monkeypatch):
    """At 8 of 16 px: the fine third is the last of four layers, not two that paint nothing yet."""
    drawn = []
    monkeypatch.setattr(module, "matrix", lambda rows, **words: drawn.append(rows))
    here = scene("stylegan1")
    assert (here.generator.num_active_ws, here.generator.num_ws) == (4, 6)
    style_mixing(here, num_columns=1, rows_per_third=1)
    for (source, _), (mixed, _) in drawn[0][1:]:
        assert not torch.allclose(source, mixed, atol=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_networks_with_one_style_have_nothing_to_mix(scene, family):
    assert bool(style_mixing(scene(family)).pictures) == (family in ("stylegan1", "stylegan2"))
