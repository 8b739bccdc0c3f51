"""Properties of every metric in configs/metrics."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.evaluation.coded import coded_context
from tests.evaluation.registry import coded_metrics, every_metric
from tests.processes import pair
from wplus.evaluation.measure import measured

FRECHET = {"fd_pixels": "lower", "fd_pixels_infinity": "lower", "fd_pixels_real_halves": "neither"}
KERNEL = {"kd_pixels": "lower", "kd_pixels_std": "neither"}
SCORE = {"class_score_pixels_3splits": "higher", "class_score_pixels_3splits_std": "neither"}
BALLS = {"precision_pixels": "higher", "recall_pixels": "higher"}
EXPECTED = {
    "mirrored": {"fd_pixels_mirror": "lower", "fd_pixels_mirror_real_halves": "neither"},
    "class_score": SCORE, "is50k": SCORE, "fd": FRECHET, "fid50k_full": FRECHET, "kd": KERNEL, "kid50k_full": KERNEL,
    "pr": BALLS, "pr50k3_full": BALLS, "dc": {"density_pixels": "higher", "coverage_pixels": "higher"},
    "ppl2_wend": {"ppl_wend_squares": "lower"},
    **{f"ls_{space}": {f"ls_{space}_odd": "lower"} for space in "zw"},
    **{f"dci_{space}": {f"{name}_{space}_bodies": "higher" for name in (
        "dci_disentanglement", "dci_completeness", "dci_informativeness", "mig")} for space in "zws"},
    **{name: {f"{name}_squares": "lower"} for name in (
        f"ppl_{space}{where}" for space in ("z", "w", "wplus", "pn", "pnplus") for where in ("end", "full"))},
}  # fmt: skip


CODES = {
    "reconstruction": {"reconstruction_psnr": "higher", "reconstruction_similarity_ms_ssim": "higher",
                       "reconstruction_squares": "lower"},
    "elbo": {"elbo": "higher", "rate": "neither", "distortion": "lower", "bits_per_dim": "lower",
             "iwae_3": "higher", "active_units": "higher"},
    "denoising": {"reconstruction_psnr_noise0.3": "higher", "reconstruction_similarity_ms_ssim_noise0.3": "higher",
                  "reconstruction_squares_noise0.3": "lower"},
    "representation": {"linear_probe_body": "higher", "knn_body": "higher"},
    "anomaly": {f"anomaly_{score}_{what}": "higher" for score in ("pixels", "squares", "nelbo")
                for what in ("auroc", "detected")},
    "dci_code": {f"{name}_code_true": "higher" for name in (
        "dci_disentanglement", "dci_completeness", "dci_informativeness", "mig")},
}  # fmt: skip


def results(context, metrics):
    """Metric -> its results, by name."""
    return {name: {result.name: result for result in found}
            for name, found in zip(metrics, measured(context, metrics), strict=True)}  # fmt: skip


def check(found, others, expected):
    """Both are equal, and as they are expected to be."""
    assert {metric: {name: each.direction for name, each in by_name.items()} for metric, by_name in found.items()} == (
        expected
    )
    for metric, by_name in found.items():
        for name, result in by_name.items():
            assert result.meaning.endswith(".")
            assert others[metric][name].value == pytest.approx(result.value, rel=1e-6), name
            assert (others[metric][name].interval or ()) == pytest.approx(result.interval or (), rel=1e-6), name
            assert result.interval is None or result.interval[0] <= result.value <= result.interval[1]
            assert json.loads(json.dumps(result.protocol))["seconds"] >= 0


def test_numbers_explain_themselves_and_neither_order_nor_batch_size_change_them(context):
    found = results(context, every_metric())
    shuffled = replace(context.real, images=context.real.images[torch.randperm(40)])
    others = results(replace(context, real=shuffled, batch_size=7), every_metric())
    seeded = results(replace(context, seed=1), every_metric())
    check(found, others, EXPECTED)
    for metric, by_name in found.items():
        assert any(seeded[metric][name].value != result.value for name, result in by_name.items()), metric


def test_so_do_numbers_of_codes():
    context = coded_context()
    shuffled = {name: getattr(context, name).subset(torch.randperm(len(getattr(context, name))))
                for name in ("real", "held_out")}  # fmt: skip
    others = results(replace(context, batch_size=17, **shuffled), coded_metrics())
    check(results(context, coded_metrics()), others, CODES)


def test_numbers_of_nets_that_taught_the_generator_are_marked(context):
    context.models.generator.saw = ("pixels", "squares")
    metrics = {name: every_metric()[name] for name in ("fd", "pr", "class_score", "ppl_wend", "ls_z")}
    names = {result.name for found in measured(context, metrics) for result in found}
    unmarked = {name for name in names if not name.endswith("_seen")}
    # Real images alone are judged by any net, and a classifier that no discriminator looked through is independent.
    assert unmarked == {"fd_pixels_real_halves", "ls_z_odd"}
    assert {"fd_pixels_seen", "recall_pixels_seen", "ppl_wend_squares_seen"} <= names


def test_two_processes_measure_what_one_does(tmp_path):
    script = Path(__file__).with_name("two_measuring.py")
    assert sorted(pair(script, tmp_path, timeout=200)) == ["process 0 speaks", "same", "same"]
    assert list(tmp_path.glob("features-*.npz"))
