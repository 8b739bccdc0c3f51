import pytest

from tests.fakes import measured
from wplus.evaluation import names
from wplus.evaluation.frechet import fd
from wplus.evaluation.inception_score import inception_score
from wplus.evaluation.kernel import kd
from wplus.evaluation.manifold import pr
from wplus.evaluation.names import distribution_name

GENERATED = {"num_generated": 50_000, "truncation_psi": 1.0, "truncation_cutoff": None, "noise_mode": "const"}
REAL = {"num_real": 70_000, "all_real": True, "mirror": "none"}


def frechet_name(extractor, changes):
    return distribution_name("fid", "fd", {"extractor": extractor} | GENERATED | REAL | changes, famous="fid50k_full")


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "fid50k_full"),
        ({"num_generated": 10_000}, "fid_10000"),
        ({"truncation_psi": 0.7}, "fid_50000_psi0.7"),
        ({"truncation_psi": 0.7, "truncation_cutoff": 8}, "fid_50000_psi0.7_cutoff8"),
        ({"truncation_cutoff": 8}, "fid50k_full"),  # without truncation it changes nothing
        ({"noise_mode": "none"}, "fid_50000_none_noise"),
        ({"weights": "moving average"}, "fid50k_full"),
        ({"weights": "live"}, "fid_50000_live"),
        ({"weights": "G"}, "fid_50000_live"),  # of NVlabs' files, beside G_ema
        ({"split": "all"}, "fid50k_full"),
        ({"split": "train"}, "fid_50000_train"),
        ({"split": "held_out", "num_real": 5000, "all_real": False}, "fid_50000_held_out_5000_real"),
        ({"num_real": 5000, "all_real": False}, "fid_50000_5000_real"),
        ({"mirror": "x"}, "fid_50000_mirror"),
        ({"num_generated": 9, "samples": "abc"}, "fid_9_samples"),
        ({"num_generated": 50_000, "samples": "abc"}, "fid_50000_samples"),
    ],
)
def test_a_famous_name_stands_for_its_protocol_and_any_other_says_what_differs(changes, name):
    assert frechet_name("inception", changes) == name


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({}, "fd_effnet_lite0"),
        ({"truncation_psi": 0.5}, "fd_effnet_lite0_psi0.5"),
        ({"noise_mode": "random", "weights": "live"}, "fd_effnet_lite0_random_noise_live"),
        ({"mirror": "x", "truncation_psi": 0.5}, "fd_effnet_lite0_psi0.5_mirror"),
        (
            {"split": "train", "num_real": 5000, "all_real": False, "num_generated": 9, "samples": "abc"},
            "fd_effnet_lite0",
        ),
    ],
)
def test_a_stand_in_says_how_images_were_made_not_how_many(changes, name):
    assert frechet_name("effnet_lite0", changes) == name


FAMOUS = [
    (fd, "inception", {}, {"fid50k_full"}),
    (kd, "inception", {}, {"kid50k_full"}),
    (kd, "inception", {"num_subsets": 50}, {"kid_50000_50x1000"}),
    (inception_score, "inception", {}, {"is50k"}),
    (inception_score, "inception", {"num_splits": 5}, {"is_50000_5splits"}),
    (pr, "vgg16", {}, {"pr50k3_full_precision", "pr50k3_full_recall"}),
    (pr, "vgg16", {"k": 5}, {"precision_vgg16_50000_k5", "recall_vgg16_50000_k5"}),
    (pr, "inception", {}, {"precision_inception", "recall_inception"}),
    (fd, "vgg16", {}, {"fd_vgg16"}),
]


@pytest.mark.parametrize(("metric", "net", "options", "expected"), FAMOUS)
def test_metrics_of_the_famous_protocol(monkeypatch, context, extractor, metric, net, options, expected):
    """As if it were one of 30 images."""
    monkeypatch.setattr(names, "FAMOUS_NUM", 30)
    extractor.name, extractor.logits = net, lambda features: features
    found = measured(context, metric, extractor=extractor, num_generated=30, **options)
    assert {name for name in found if not name.endswith(("_std", "_real_halves"))} == expected
