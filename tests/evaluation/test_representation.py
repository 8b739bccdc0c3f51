"""Probes of codes, against scikit-learn's and planted truths."""

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsClassifier

from tests.evaluation.coded import LINEAR, coded_context, frozen, grey_images
from tests.fakes import measured
from wplus.checkpoint import Models
from wplus.data import ImageSet
from wplus.errors import UserError
from wplus.evaluation.coding import codes, shown
from wplus.evaluation.representation import linear_probe, nearest, representation, votes
from wplus.models.autoencoder import CodeEncoder, Decoder


def clouds(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 3, num)
    return rng.normal(size=(num, 4)) + 3 * np.eye(4)[values], np.array(list("abc"))[values]


def test_neighbours_vote_as_in_scikit_learn():
    (a, known), (b, true) = clouds(200, 0), clouds(100, 1)
    model = KNeighborsClassifier(1).fit(a, known)
    assert (votes(known[nearest(a, b, 1)]) == model.predict(b)).all()
    model = KNeighborsClassifier(5).fit(a, known)
    assert (votes(known[nearest(a, b, 5)]) == model.predict(b)).mean() > 0.97  # ties are decided otherwise
    distances, rows = model.kneighbors(b)
    assert np.array_equal(nearest(a, b, 5), rows)
    assert votes(np.array([list("abbac"), list("cabcb"), list("ddddd")])).tolist() == ["a", "c", "d"]
    with pytest.raises(UserError, match="num_neighbours must be at most the 200 training images, got 201"):
        nearest(a, b, 201)
    assert (linear_probe(a, known, b, 1.0, 200) == true).mean() > 0.9


def test_a_scale_of_numbers_does_not_matter_to_the_probe():
    (a, known), (b, _) = clouds(200, 0), clouds(100, 1)
    scale = np.array([1e-3, 1.0, 1e3, 0.0])
    expected = linear_probe(a * (scale > 0), known, b * (scale > 0), 1.0, 500)
    assert (linear_probe(a * scale + 5, known, b * scale + 5, 1.0, 500) == expected).mean() > 0.98


def test_a_label_is_no_part_of_the_code():
    """The class that a conditional encoder names stands beside the code in w, where a probe would read it off."""
    size = {"resolution": 16, "img_channels": 1, "c_dim": 3, "code_dim": 4, **LINEAR}
    encoder = CodeEncoder(w_dim=7, c_dim=3, input_size=16, img_channels=1, **LINEAR)
    images = grey_images(42, labels=True)
    context = coded_context(Models(generator=frozen(Decoder(**size)), encoder=frozen(encoder)), held_out=images)
    found = codes(context, shown(context, images, None, what="held-out"))
    assert found.shape == (42, 4)


def test_codes_know_what_the_image_shows():
    """The brightness of the upper half says the body; labels serve where nothing else is known."""
    found = measured(coded_context(), representation, num_neighbours=3)
    assert set(found) == {"linear_probe_body", "knn_body"}
    assert found["linear_probe_body"].value > 0.7
    assert found["linear_probe_body"].protocol["share_of_largest"] == pytest.approx(1 / 3)
    sets = {}
    for name, num, seed in (("real", 60, 0), ("held_out", 42, 1)):
        images = grey_images(num, seed=seed, labels=True)
        sets[name] = ImageSet(images.images, images.labels, images.names)
    labelled = measured(coded_context(**sets), representation, num_neighbours=3)
    assert labelled["linear_probe_label"].value == found["linear_probe_body"].value
    shuffled = ImageSet(sets["real"].images, sets["real"].labels[np.random.default_rng(0).permutation(60)],
                        sets["real"].names)  # fmt: skip
    assert measured(coded_context(real=shuffled, held_out=sets["held_out"]), representation)["knn_label"].value < 0.6
