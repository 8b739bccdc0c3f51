"""The help of the commands, from the comments of their configs and from signatures."""

import re
import subprocess
import sys

import pytest
import yaml

from wplus.__main__ import main, verbs
from wplus.commands.help import choices, entries, help_text, options_of
from wplus.config import CONFIG_FOLDER

PRIMARIES = sorted(path.stem for path in CONFIG_FOLDER.glob("*.yaml") if path.stem != "common")


@pytest.mark.parametrize("verb", PRIMARIES)
def test_help_names_every_key_and_every_choice_and_nothing_else(verb):
    config = yaml.safe_load((CONFIG_FOLDER / f"{verb}.yaml").read_text())
    shown = help_text(verb)
    keys = {key for key in config if key not in ("defaults", "hydra")}
    assert keys == {entry.key.partition(".")[0] for entry in entries(CONFIG_FOLDER / f"{verb}.yaml")}
    assert [key for key in keys if f"  {key}" not in shown] == []
    groups = {key for entry in config["defaults"] if isinstance(entry, dict) for key in entry if " " not in key}
    assert groups == {entry.key for entry in choices(CONFIG_FOLDER / f"{verb}.yaml")}
    for group in {path.name for path in CONFIG_FOLDER.iterdir() if path.is_dir()} - {"hydra"}:
        assert (f"\n  {group} = " in shown) == (group in groups | keys), group


def test_comments_stand_beside_their_keys():
    shown = help_text("train")
    assert re.search(r"transfer.freeze_discriminator = 0 +number of the discriminator.s first layers to freeze", shown)
    assert "model = stylegan2" in shown
    assert "cyclegan | dcgan | mlp_gan" in shown


def test_help_of_a_choice_shows_its_options_with_their_defaults():
    shown = help_text("train", ["augment=ada"])
    assert "augment.target = 0.6" in shown
    assert "above it p rises" in shown
    known = "cat_domains, cat_pairs, cats, digits, folder, pairs, unpaired, zip"
    assert f"data must be one of {known}, got 'dogs'." in help_text("train", ["data=dogs"])


def test_help_of_a_choice_has_what_it_extends_and_to_each_option_its_own_comment():
    shown = help_text("train", ["model=vae"])
    assert re.search(r"model.generator.prior = normal +distribution for sampling: normal", shown)
    assert re.search(r"model.generator.code_dim = 32 +dimension of the code", shown)
    assert re.search(r"model.encoder.bottom = \S+ +size of the smallest feature map in px\n", shown)
    assert re.search(
        r"metrics.pr.k = 3 +radius of the balls: distance to the k-th neighbour\n",
        help_text("evaluate", ["metrics=pr"]),
    )


def test_help_of_a_choice_has_the_choices_within_it_as_they_are_given():
    shown = help_text("evaluate", ["metrics=interpolation"])
    at = "identity@metrics.interpolation.identity = effnet_lite0"
    assert re.search(rf"\n  {at}\n +arcface \| effnet_lite0 \| mobilenet_v2 \| moco. identity descriptor", shown)
    assert "inverter@metrics.interpolation.inverter = quick" in shown


def test_every_choice_has_a_help():
    """Also choices with numbers by resolution, whose keys are not words."""
    groups = [path.name for path in CONFIG_FOLDER.iterdir() if path.is_dir()]
    shown = {
        f"{group}={name}": help_text("train", [f"{group}={name}"]) for group in groups for name in options_of(group)
    }
    assert [choice for choice, text in shown.items() if not text.startswith(choice)] == []
    assert [choice for choice, text in shown.items() if "fmt:" in text] == []
    assert "model.preset.batch_size.8 = 256" in shown["model=progan"]


def test_every_command_is_a_verb():
    assert list(verbs()) == [
        "app", "classifier", "compare", "completion", "consistency", "convert", "demo", "directions", "doctor",
        "draw_pairs", "edit", "ema", "estimate", "evaluate", "interpolate", "invert", "prepare", "report", "sweep",
        "train", "translate",
    ]  # fmt: skip


def test_the_overview_lists_the_verbs(capsys):
    assert main([]) == main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {verb} " in shown for verb in verbs())
    assert all(summary for _, summary in verbs().values())
    with pytest.raises(SystemExit, match="must be one of app, .* got 'fly'"):
        main(["fly"])


@pytest.mark.parametrize("arguments", [[], ["train", "--help"]])
def test_help_works_from_any_folder(arguments, tmp_path):
    done = subprocess.run([sys.executable, "-m", "wplus", *arguments], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
