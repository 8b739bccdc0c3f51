"""Maps and traversals of codes that are known."""

import numpy as np
import torch

from tests.probes.conftest import Pixels, make_images, make_module, nothing_held_out
from tests.probes.test_reconstructions import moment
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
    alike, apart = (drawn(places, np.array(values), "digit", is_plane=True) for values in ([0, 0], [0, 9]))
    colours = [{tuple(pixel) for pixel in picture.flatten(1).T.tolist()} for picture in (alike, apart)]
    blue, cyan = (31, 119, 180), (23, 190, 207)
    assert blue in colours[0] & colours[1]
    assert cyan in colours[1] - colours[0]


@torch.no_grad()
def test_a_row_moves_one_number_through_the_mean(tmp_path):
    context = moment(tmp_path)
    found = traversals(context, num_rows=2, num_steps=3)
    assert found.pictures[0].key == "samples/traversals"
    (middle,) = traversals(context, num_rows=1, num_steps=3, reach=0.0).pictures
    columns = middle.image.float().mean(dim=(0, 1))
    assert code_map(context, num_images=10).pictures[0].key == "samples/code_map"
    assert columns.std() > 0


def test_without_codes_or_images_there_is_nothing(tmp_path):
    data = ProbeData(make_images(), lambda: make_images(), seed=0, extractor=Pixels)
    for context in (ProbeContext(make_module(), data, tmp_path), moment(tmp_path, nothing_held_out)):
        assert code_map(context).pictures == traversals(context).pictures == ()
