"""Labels of any form, from the data into the checkpoint, and from a user to a generator."""

import pytest
import torch

from tests.fakes import random_images, tiny_generator
from wplus.checkpoint import fingerprint, load, save
from wplus.errors import UserError
from wplus.evaluation.context import EvalContext
from wplus.latents.labels import labels_in_turn, read_label, sample_of
from wplus.latents.w_stats import Whitened, map_samples, sample_w

ONE_HOT = torch.eye(3)[[0, 0, 0, 2]]
MULTI_HOT = torch.tensor([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]])
VECTORS = torch.randn(40, 3, generator=torch.Generator().manual_seed(1)) * 4 + 3
FORMS = {"one-hot": ONE_HOT, "multi-hot": MULTI_HOT, "vectors": VECTORS, "unknown": None}


def conditional(labels: torch.Tensor | None):
    net = tiny_generator(c_dim=3)
    net.data_labels = sample_of(labels)
    return net


@pytest.mark.parametrize(("form", "labels"), FORMS.items())
def test_the_prior_draws_from_the_data(form, labels, tmp_path):
    save(tmp_path / "m.safetensors", generator=conditional(labels))
    net = load(tmp_path / "m.safetensors").generator
    assert fingerprint(net) == fingerprint(tiny_generator(c_dim=3))
    rows = torch.eye(3) if labels is None else labels
    z = torch.randn(2000, 8, generator=torch.Generator().manual_seed(0))
    expected = torch.stack([net.mapping(z, row.expand(2000, -1))[:, 0] for row in rows]).mean(dim=(0, 1))
    spread = (sample_w(net, 4000, seed=5) - expected).mean(dim=0).norm() / map_samples(net, z, None).std(dim=0).norm()
    assert spread < 0.1
    assert Whitened.of(net, num_samples=500).mean.isfinite().all()
    turns = labels_in_turn(net, 2 * len(rows))
    assert torch.equal(turns[: len(rows)], turns[len(rows) :])
    assert sorted(turns[: len(rows)].tolist()) == sorted(rows.tolist())
    grid = labels_in_turn(net, 3, each_class=True)
    assert torch.equal(grid, torch.eye(3)) == (form in ("one-hot", "unknown"))


@pytest.mark.parametrize(("form", "labels"), FORMS.items())
@pytest.mark.parametrize(
    ("label", "row"),
    [(None, None), (2, [0, 0, 1]), ([3, 3, 3], [3, 3, 3]), ((0.5, -1, 1e30), [0.5, -1, 1e30])]
    + [(wrong, ...) for wrong in (3, -1, 1.5, True, "cat", [], [1, 2], [1, 2, 3, 4], [1, 2, float("nan")], [1, 2, "x"],
                                  [1, 2, True], [1, 2, 10**400], {"a": 1}, [[1, 2, 3]])],
)  # fmt: skip
def test_what_label_takes(form, labels, label, row):
    net = conditional(labels)
    if row is ... or (form == "vectors" and label == 2):
        allowed = "a list of 3 numbers" if form == "vectors" else "a class number from 0 to 2 or a list of 3 numbers"
        with pytest.raises(UserError, match=f"^label must be {allowed}, got .{{1,81}}[.]$"):
            read_label(label, net)
    else:
        found = read_label(label, net)
        assert (found is None and row is None) or torch.equal(found, torch.tensor(row, dtype=torch.float32))


def test_a_generator_without_labels_takes_none():
    net = tiny_generator()
    assert (labels_in_turn(net, 4), read_label(None, net), sample_of(None)) == (None, None, None)
    for label in (0, [], [1.0]):
        with pytest.raises(UserError, match="label must be null for a generator without classes"):
            read_label(label, net)


def test_what_is_kept_is_a_fair_sample_and_always_the_same():
    labels = torch.eye(4)[(torch.arange(20_000) >= 15_000).long()]
    kept = sample_of(labels)
    assert torch.equal(kept, sample_of(labels))
    assert kept.shape == (1024, 4)
    assert kept[:, 1].mean() == pytest.approx(0.25, abs=0.04)
    assert kept[:100, 1].mean() == pytest.approx(0.25, abs=0.15)


@pytest.mark.parametrize(
    "labels", [torch.zeros(2, 4), torch.zeros(0, 3), torch.zeros(3), torch.full((1, 3), torch.nan)]
)
def test_labels_of_a_file_that_do_not_fit_are_refused(labels, tmp_path):
    net = tiny_generator(c_dim=3)
    net.data_labels = labels
    with pytest.raises(UserError, match="labels in .* do not fit its generator"):
        load(save(tmp_path / "m.safetensors", generator=net))


def test_metrics_draw_from_the_real_images_or_else_from_the_checkpoint(tmp_path):
    net = conditional(VECTORS)
    models = load(save(tmp_path / "m.safetensors", generator=net))
    for real, rows in ((None, VECTORS), (random_images(6), VECTORS), (random_images(6, c_dim=3), torch.eye(3))):
        context = EvalContext(models=models, real=real, seed=0)
        drawn = context.labels(range(20)).tolist()
        assert all(row in rows.tolist() for row in drawn)
        assert ("checkpoint" in context.label_protocol["labels"]) == (rows is VECTORS)
