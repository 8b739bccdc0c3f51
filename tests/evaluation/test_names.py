from __future__ import annotations

import pytest

from wplus.evaluation.names import distribution_name, frechet_name

GENERATED = {"num_generated": 50_000, "truncation_psi": 1.0, "truncation_cutoff": None, "noise_mode": "const"}
REAL = {"num_real": 70_000, "all_real": True, "mirror": "none"}


def test_the_famous_protocol_has_the_famous_name() -> None:
    assert frechet_name("inception", REAL, GENERATED) == "fid50k_full"


@pytest.mark.parametrize(
    ("real", "generated", "name"),
    [
        ({}, {"num_generated": 10_000}, "fid_10000"),
        ({}, {"truncation_psi": 0.7}, "fid_50000_psi0.7"),
        ({}, {"truncation_psi": 0.7, "truncation_cutoff": 8}, "fid_50000_psi0.7_cutoff8"),
        ({}, {"truncation_cutoff": 8}, "fid50k_full"),  # without truncation it changes nothing
        ({}, {"noise_mode": "none"}, "fid_50000_none_noise"),
        ({}, {"weights": "moving average"}, "fid50k_full"),
        ({}, {"weights": "live"}, "fid_50000_live"),
        ({}, {"weights": "G"}, "fid_50000_live"),  # of NVlabs' files, beside G_ema
        ({"split": "all"}, {}, "fid50k_full"),
        ({"split": "train"}, {}, "fid_50000_train"),
        ({"split": "held_out", "num_real": 5000, "all_real": False}, {}, "fid_50000_held_out_5000_real"),
        ({"num_real": 5000, "all_real": False}, {}, "fid_50000_5000_real"),
        ({"mirror": "x"}, {}, "fid_50000_mirror"),
        ({}, {"num_generated": 9, "samples": "abc"}, "fid_9_samples"),
    ],
)
def test_what_differs_is_said(real: dict, generated: dict, name: str) -> None:
    assert frechet_name("inception", REAL | real, GENERATED | generated) == name


def test_a_stand_in_never_has_a_famous_name() -> None:
    assert frechet_name("effnet_lite0", REAL, GENERATED) == "fd_effnet_lite0"


@pytest.mark.parametrize(
    ("real", "generated", "name"),
    [
        ({}, {"truncation_psi": 0.5}, "fd_effnet_lite0_psi0.5"),
        ({}, {"truncation_psi": 0.5, "truncation_cutoff": 2}, "fd_effnet_lite0_psi0.5_cutoff2"),
        ({}, {"noise_mode": "random"}, "fd_effnet_lite0_random_noise"),
        ({}, {"weights": "live"}, "fd_effnet_lite0_live"),
        ({"split": "train"}, {}, "fd_effnet_lite0"),
        ({"mirror": "x"}, {"truncation_psi": 0.5}, "fd_effnet_lite0_psi0.5_mirror"),
        ({"num_real": 5000, "all_real": False}, {"num_generated": 9}, "fd_effnet_lite0"),
        ({}, {"num_generated": 9, "samples": "abc"}, "fd_effnet_lite0"),
    ],
)
def test_a_stand_in_says_how_images_were_made_not_how_many(real: dict, generated: dict, name: str) -> None:
    assert frechet_name("effnet_lite0", REAL | real, GENERATED | generated) == name


def test_metrics_that_look_at_generated_images_alone() -> None:
    family = {"family": "is", "stand_in": "class_score", "famous": "is50k"}
    assert distribution_name(extractor="inception", generated=GENERATED, **family) == "is50k"
    assert distribution_name(extractor="net", generated=GENERATED, **family) == "class_score_net"
    cut = GENERATED | {"truncation_psi": 0.5}
    assert distribution_name(extractor="net", generated=cut, **family) == "class_score_net_psi0.5"


def test_another_famous_extractor() -> None:
    family = {"family": "p", "stand_in": "p", "famous": "pr50k3_full_precision", "famous_extractor": "vgg16"}
    shared = {"generated": GENERATED, "real": REAL, **family}
    assert distribution_name(extractor="vgg16", **shared) == "pr50k3_full_precision"
    assert distribution_name(extractor="inception", **shared) == "p_inception"
    assert distribution_name(extractor="vgg16", **shared | {"famous_extractor": None}) == "p_vgg16"
