"""Maps and traversals of known codes."""

import numpy as np
import torch
from matplotlib.axes import Axes

from tests.probes.conftest import Pixels, make_images, make_module, nothing_held_out
from tests.probes.test_reconstructions import moment
from wplus.core.images import to_float
from wplus.probes import ProbeContext, ProbeData
from wplus.probes.codes import code_map, drawn, in_plane, traversals


def test_the_plane_is_that_of_the_principal_components():
    rng = np.random.default_rng(0)
    turned, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    flat = rng.normal(size=(400, 2)) * [5.0, 2.0]
    flat -= flat.mean(axis=0)
    flat = flat @ np.linalg.svd(flat, full_matrices=False)[2].T
    found = in_plane(np.pad(flat, ((0, 0), (0, 4))) @ turned + 7)
    np.testing.assert_allclose(np.abs(found), np.abs(flat), atol=1e-9)
    np.testing.assert_array_equal(in_plane(flat), flat)
    np.testing.assert_array_equal(in_plane(flat[:, :1]), np.pad(flat[:, :1], ((0, 0), (0, 1))))


def test_dots_have_the_colours_of_their_values():
    places = np.array([[0.0, 0.0], [10.0, 10.0]])
    alike, apart = (drawn(places, np.array(values), "digit", is_plane=True) for values in (["3", "3"], ["3", "9"]))
    colours = [{tuple(pixel) for pixel in picture.flatten(1).T.tolist()} for picture in (alike, apart)]
    blue, orange = (31, 119, 180), (255, 127, 14)
    assert blue in colours[0] & colours[1]
    assert orange in colours[1] - colours[0]


def test_the_legend_has_the_values_themselves(monkeypatch):
    """Not their indices among those that occur: of 3, 7 and 9 the first is not 0."""
    said: list[str] = []
    scatter = Axes.scatter
    monkeypatch.setattr(Axes, "scatter", lambda self, *places, label, **how: (
        said.append(label), scatter(self, *places, label=label, **how))[1])  # fmt: skip
    drawn(np.zeros((4, 2)), np.array(["7", "3", "9", "3"]), "digit", is_plane=True)
    assert said == ["3", "7", "9"]


@torch.no_grad()
def test_a_row_moves_one_number_through_the_mean(tmp_path, monkeypatch):
    """The numbers that vary most, while the others stay at their mean."""
    rows: list[list[torch.Tensor]] = []
    blank = torch.zeros(3, 8, 8, dtype=torch.uint8)
    monkeypatch.setattr("wplus.probes.codes.labelled_grid", lambda grid, **names: (rows.extend(grid), blank)[1])
    context = moment(tmp_path)
    (picture,) = traversals(context, num_rows=2, num_steps=3, reach=2.0).pictures
    assert picture.key == "samples/traversals"
    module = context.module
    codes = module.averaged_encoder.posterior(to_float(make_images(40).images)).mean
    for row, number in zip(rows, codes.std(dim=0).argsort(descending=True)[:2], strict=True):
        code = codes.mean(dim=0).repeat(3, 1)
        code[:, number] += torch.tensor([-2.0, 0.0, 2.0]) * codes[:, number].std()
        expected = module.averaged_decoder.synthesis(code[:, None])
        torch.testing.assert_close(torch.stack(row), expected, atol=1e-5, rtol=1e-4)


def test_a_map_says_what_its_axes_are(tmp_path, monkeypatch):
    names: list[dict[str, str]] = []
    monkeypatch.setattr(Axes, "set", lambda self, **given: names.append(given))
    assert code_map(moment(tmp_path), num_images=10).pictures[0].key == "samples/code_map"
    drawn(np.zeros((3, 2)), np.full(3, ""), "", is_plane=True)
    assert names == [{"xlabel": "principal component 1", "ylabel": "principal component 2"},
                     {"xlabel": "number 0 of the code", "ylabel": "number 1 of the code"}]  # fmt: skip


def test_without_codes_or_images_there_is_nothing(tmp_path):
    data = ProbeData(make_images(), lambda: make_images(), seed=0, extractor=Pixels)
    for context in (ProbeContext(make_module(), data, tmp_path), moment(tmp_path, nothing_held_out)):
        assert code_map(context).pictures == traversals(context).pictures == ()
