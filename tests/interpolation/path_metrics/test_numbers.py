"""Every number of every path metric has a meaning, and invalid options are refused."""

import dataclasses

import pytest
import torch

from tests.fakes import trajectory_of
from wplus.config import CONFIG_FOLDER, build, composed
from wplus.errors import UserError
from wplus.interpolation.path_metrics.cost import Cost
from wplus.interpolation.path_metrics.discriminator_score import DiscriminatorScore
from wplus.interpolation.path_metrics.ppl import pair_ppl
from wplus.interpolation.path_metrics.shape import curvature, symmetry
from wplus.interpolation.trajectory import measure
from wplus.latents.w_stats import Whitened
from wplus.models.stylegan2 import Discriminator


def test_every_number_has_a_sentence_of_its_own(tools):
    names = sorted(file.stem for file in (CONFIG_FOLDER / "path_metrics").glob("*.yaml"))
    chosen = ["checkpoint=none", "inputs=[a,b]", f"path_metrics=[{','.join(names)}]"]
    metrics = build(composed("interpolate", chosen)["path_metrics"])
    discriminator = Discriminator(resolution=8, channel_base=64, channel_max=8, mbstd_group_size=1).eval()
    tools = dataclasses.replace(tools, discriminator=DiscriminatorScore(discriminator, torch.empty(0, 3, 8, 8)),
                                whitened=Whitened(torch.zeros(4), torch.eye(4)))  # fmt: skip

    def noisy(t):
        a, b, c = torch.randn(3, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
        t = t.view(-1, 1, 1, 1).float()
        return a * (1 - t) + b * t + c * t * (1 - t)

    found = trajectory_of(noisy, back=lambda t: noisy(1 - t), ws=torch.randn(33, 2, 4), cost=Cost(1.0, 2.0),
                          targets=torch.randn(2, 3, 8, 8).clamp(-1, 1))  # fmt: skip
    scores = measure(found, metrics, tools)
    assert {number.metric for number in scores} == set(names)
    assert len({number.name for number in scores}) == len(scores) == 29
    meanings = {number.meaning for number in scores if not number.name.startswith("prior_layer")}
    assert len(meanings) == 27
    assert all(meaning.endswith(".") for meaning in meanings)
    directions = {number.label or number.name: number.direction for number in scores}
    higher = {"endpoint_psnr_db", "step_smoothness", "third_person", "distinctness", "logit_mean", "logit_min"}
    neither = {"chord", "crossover", "prior_mean", "prior_max", "prior_layer_0", "prior_layer_1"}
    assert {name for name, direction in directions.items() if direction == "higher"} == higher
    assert {name for name, direction in directions.items() if direction == "neither"} == neither


@pytest.mark.parametrize(
    ("metric", "name", "value"),
    [(pair_ppl, "num_samples", 0), (pair_ppl, "epsilon", 0), (curvature, "num_pieces", 1), (symmetry, "num_frames", 1),
     (symmetry, "share", 2)],
)  # fmt: skip
def test_options_without_sense_are_refused(line, scores, metric, name, value):
    with pytest.raises(UserError, match=f"{name} must .*got {value}"):
        scores(metric, line, **{name: value})
