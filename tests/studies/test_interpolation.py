"""The study of paths: its commands compose, and build what they name."""

import pytest
from hydra import compose, initialize_config_dir

from experiments.studies.interpolation import study
from wplus.__main__ import verbs
from wplus.config import CONFIG_FOLDER, plain
from wplus.latents.space import spaces


@pytest.mark.parametrize("ends", study.ENDS)
@pytest.mark.parametrize("num_pairs", [None, 10])
def test_every_command_composes(ends, num_pairs, tmp_path):
    script, *overrides = study.command(tmp_path, ends=ends, num_pairs=num_pairs)
    assert script in verbs()
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        config = plain(compose("evaluate", overrides))["metrics"]["interpolation"]
    for method in config["methods"]:
        space, _, path = method.partition("_")
        assert space in spaces()
        assert path.removesuffix("+arc_length") in config["paths"]
    assert config["baseline"] in config["methods"]
    assert config["path_metrics"]["symmetry"]["share"] == 0.1
    assert config["pairs"] == (str(study.PAIRS) if num_pairs is None else "draw")
    assert list(config["retime"]) == ["none", "arc_length"]
    assert config["paths"]["geodesic"]["num_steps"] == 50


def test_the_encoder_finds_codes_of_w_plus_alone():
    assert all(name.startswith("w+_") for name in study.methods("encoder"))
    assert {name.partition("_")[0] for name in study.methods("quick")} == {"z", "w", "w+"}
