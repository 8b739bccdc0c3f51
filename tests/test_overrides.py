"""Overrides as users type them: made readable, or refused with a remedy; old names map to new ones."""

import functools
import itertools
import os
import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from wplus import config
from wplus.commands.compose import Composer, choices_kept
from wplus.commands.overrides import RENAMED, readable
from wplus.commands.refusals import dotted_keys, renamed, sentence
from wplus.commands.shapes import shaped
from wplus.config import plain
from wplus.errors import UserError
from wplus.library.asking import configuration
from wplus.signatures import is_closed


@given(st.text(st.sampled_from("ab1 .-_/ü猫#&=()~'\"$@!;"), min_size=1, max_size=20).map(str.strip))
def test_every_name_of_a_file_arrives_as_it_is(name):
    (override,) = readable([f"data.path=/in/{name}"])
    assert OverridesParser.create().parse_override(override).value() == f"/in/{name}"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("input=2024", "input='2024'"),
        ("seed=2024", "seed=2024"),
        ("inputs=[a b.png,c (1).png,seed:1]", "inputs=[a b.png,'c (1).png',seed:1]"),
        ("+inverter.weights.ssim=1", "inverter.weights.ssim=1"),
        ("+hydra.foo=1", "+hydra.foo=1"),
        ("~augment", "~augment"),
        ("data.path=~/x", "data.path='~/x'"),
    ],
)
def test_overrides_are_made_readable(given, expected):
    assert readable([given]) == [expected]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["a=0", "seed", "=", "1"], "got 'seed'; write seed=1, without spaces."),
        (["seed", "=1"], "got 'seed'; write seed=1, without spaces."),
        (["seed=", "1"], "got '1'; write seed=1, without spaces."),
        (
            ["data.path=my", "images"],
            "got 'images'; if it belongs to the argument before it, write \"data.path=my images\".",
        ),
        (["my/images"], "got 'my/images'."),
    ],
)
def test_what_a_shell_takes_apart_is_typed_out_whole(given, words):
    with pytest.raises(UserError, match=f"An argument must be KEY=VALUE, {re.escape(words)}$"):
        readable(given)


def test_a_block_is_part_of_the_name_of_its_space():
    assert readable(["space=f/w+", "space.block=16", "seed=1"]) == ["space=f16/w+", "seed=1"]
    assert readable(["++space=f/w+", "space.block=16"]) == ["space=f16/w+"]
    assert readable(["space=s,f/w+", "space.block=8,16"], is_sweep=True) == ["space=s,f8/w+,f16/w+"]
    assert config.composed("invert", ["checkpoint=x", "input=x", *readable(["space=f16/w+"])])["space"] == "f16/w+"
    for overrides, message in (
        (["space=w", "space.block=16"], r"space\.block must go with space=f/w\+, got space\.block=16 alone"),
        (["space=f/w+", "space.block=half"], "space.block must be the resolution of a block, such as 16, got half"),
    ):
        with pytest.raises(UserError, match=message):
            readable(overrides)


def test_a_comma_in_the_name_of_a_file_that_exists_is_a_comma(tmp_path):
    (tmp_path / "a,b.png").touch()
    assert readable([f"input={tmp_path}/a,b.png"]) == [f"input='{tmp_path}/a,b.png'"]
    assert readable([f"input={tmp_path}/a,b.png"], is_sweep=True) == [f"input={tmp_path}/a,b.png"]
    assert readable(["seed=1,2"]) == ["seed=1,2"]


def test_the_name_of_a_file_is_not_empty():
    """An empty name would mean the working directory: an unset variable, as in input=$IMAGES."""
    for content in ({"input": ""}, {"data": {"path": ""}}, {"inputs": ["a", ""]}, {"run_dir": ""}):
        with pytest.raises(UserError, match="is empty: give the name of a file or folder"):
            plain(OmegaConf.create(content))
    assert plain(OmegaConf.create({"name": "", "path": {"lerp": ""}})) == {"name": "", "path": {"lerp": ""}}


ODD_NAMES = ["a${b}.png", "${oc.env:HOME}", "a\\${b}.png", "{x}.png", "}.png", "two\nlines.png", "-dash.png", "[a].png",
             "'q'.png", 'a"b.png', "a\\b.png", "#1.png", "~x.png", "!!str.png", "%d", "*", "+a"]  # fmt: skip
ODD_ALONE = [" lead.png", "trail ", "{a:b}.png", "[a,b].png", "a,b", "1e5", "true"]


@pytest.mark.parametrize(
    ("form", "names"), [("input={}", ODD_NAMES + ODD_ALONE), ("inputs=[{},b]", [*ODD_NAMES, "1e5", "true"])]
)
def test_the_name_of_a_file_that_is_there_arrives_whatever_it_means(tmp_path, monkeypatch, form, names):
    """Alone and in a list, wherever the command finds it; a missing file stays a reference to a key."""
    monkeypatch.chdir(tmp_path)
    for name in names:
        Path(name).touch()
        (override,) = readable([form.format(name)])
        value = OverridesParser.create().parse_override(override).value()
        found = plain(OmegaConf.create({"key": getattr(value, "text", value), "b": 1}))["key"]
        assert found == (name if form.endswith("{}") else [name, "b"])
    assert readable(["input=${b}"]) == ["input=${b}"]


def test_one_thing_is_a_list_of_it_where_several_may_be():
    """Never read character by character: keys of commands, and parameters of what a group names."""
    overrides = ["checkpoint=a", "finder=svm", "finder.attributes=fur", "finder.layers=fine", "strengths=2", "tags=t"]
    cfg = shaped(config.composed("directions", overrides), "directions")
    assert (cfg["strengths"], cfg["tags"]) == ([2], ["t"])
    assert (cfg["finder"]["attributes"], cfg["finder"]["layers"]) == (["fur"], "fine")
    numbers = config.composed("directions", ["checkpoint=a", "finder=svm", "finder.attributes=3", "finder.layers=2"])
    assert (numbers["finder"]["attributes"], numbers["finder"]["layers"]) == (["3"], [2])  # words, numbers
    assert shaped(config.composed("directions", ["checkpoint=a"]), "directions")["finder"]["layers"] == "all"


@pytest.mark.parametrize(("latents", "found"), [("runs/w", "runs/w"), ("{w: runs/w}", {"w": "runs/w"})])
def test_a_section_stays_one_unless_a_single_value_is_allowed_too(latents, found):
    """Latents of the metric are a folder or folders by space; its paths can only be a mapping."""
    overrides = ["checkpoint=a", "metrics=[interpolation]", f"metrics.interpolation.latents={latents}"]
    cfg = shaped(config.composed("evaluate", overrides), "evaluate")
    assert cfg["metrics"]["interpolation"]["latents"] == found
    cfg["metrics"]["interpolation"]["paths"] = "lerp"
    with pytest.raises(UserError, match="metrics.interpolation.paths holds keys of its own, got 'lerp'"):
        shaped(cfg, "evaluate")


def test_a_preset_for_another_class_is_refused_before_anything_starts():
    """Also by the plan of a sweep, which composes every job; a function with further keywords takes what it wants."""
    with pytest.raises(UserError, match=r"^model\.generator\.w_dim is not an option of r3gan\.Generator; it has z_dim, "
                                        r"channel_base, channel_max\.$"):  # fmt: skip
        Composer().asked("train", ["experiment=cats32", "model=r3gan", "run_dir=x"])
    assert not is_closed("tests.test_overrides.takes_anything")
    assert is_closed("wplus.models.r3gan.Generator")
    assert is_closed("wplus.models.dcgan.Generator")


def takes_anything(size: int = 1, **others: int) -> None:
    """A target of a plug-in."""


@pytest.mark.parametrize("value", ["moco", "dog"])
def test_a_choice_within_a_choice_is_no_value(value):
    """The identity descriptor is chosen like everything else; none of the choices is a value."""
    metrics, key = ["checkpoint=a", "metrics=[interpolation]"], "metrics.interpolation.identity"
    with choices_kept():
        chosen = Composer().config("evaluate", [*metrics, f"identity@{key}=moco", f"{key}.path=my.pth"])
        wanted = {"_target_": "wplus.losses.identity.MoCoIdentity", "path": "my.pth", "compat": "published"}
        assert shaped(chosen, "evaluate")["metrics"]["interpolation"]["identity"] == wanted
        options = {f"identity@{key}": "moco", f"{key}.path": "my.pth"}
        asked = configuration("evaluate", {"checkpoint": "a", "metrics": ["interpolation"]}, options, section="metrics")
        assert asked["metrics"]["interpolation"]["identity"] == wanted
        left_out = Composer().config("evaluate", [*metrics, f"{key}=null"])
        assert shaped(left_out, "evaluate")["metrics"]["interpolation"]["identity"] is None
        wrong = Composer().config("evaluate", [*metrics, f"{key}={value}"])
        with pytest.raises(
            UserError, match=f"{key}={value} is not a choice: write identity@{key}=NAME, one of arcface, "
        ):
            shaped(wrong, "evaluate")


def test_home_folders(monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    cfg = OmegaConf.create({"a": "~/x", "b": ["~", {"c": "x~y"}], "d": "~/.cache"})
    assert plain(cfg) == {"a": "/home/me/x", "b": ["/home/me", {"c": "x~y"}], "d": "/home/me/.cache"}
    assert plain(OmegaConf.create({"a": "~root/x", "b": "~x.png", "c": "~5"}))["a"] == os.path.expanduser("~root/x")
    with pytest.raises(UserError, match=r"begins with the home folder of a user 'no\.body', and there is none"):
        plain(OmegaConf.create({"a": ["~no.body/x"]}))


CONTEXTS = {  # of which the keys are taken
    ("train", "experiment=e4e_cats"), ("train", "loss=wgan_gp"), ("interpolate", "path=geodesic"),
    ("evaluate", "metrics=[interpolation]"), ("invert", "inverter=optimize"),
}  # fmt: skip


@functools.cache
def context(primary: str, override: str) -> tuple[DictConfig, list[str]]:
    with initialize_config_dir(str(config.CONFIG_FOLDER), version_base="1.3"):
        cfg = compose(primary, [override])
    return cfg, list(dotted_keys(cfg))


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_old_names_are_refused_with_the_new_ones(old, new):
    """A choice in any command; a key if the new one exists and the old one does not."""
    if "=" in old:
        with pytest.raises(UserError, match=re.escape(f"'{old}' is now '{new}'")):
            readable([old])
        group = new.partition("=")[0]
        takers = [name for name in PRIMARIES if f"- {group}" in (config.CONFIG_FOLDER / f"{name}.yaml").read_text()]
        assert any(composes(primary, new.split()) for primary in takers or PRIMARIES), new
        return
    found = [(cfg, key) for cfg, keys in itertools.starmap(context, CONTEXTS) for key in keys
             if f".{key}".endswith(f".{new}")]  # fmt: skip
    assert found, new
    assert any(renamed(f"{key.removesuffix(new)}{old}", cfg) == key for cfg, key in found)


def test_a_renamed_key_on_the_command_line():
    with pytest.raises(CompactHydraException) as error:
        config.composed("invert", ["model=a.safetensors"])
    found = sentence(error.value, "invert", ["model=a.safetensors"])
    assert found == "'model=a.safetensors' is now 'checkpoint=a.safetensors'."


PRIMARIES = sorted(path.stem for path in config.CONFIG_FOLDER.glob("*.yaml") if path.stem != "common")


def composes(primary: str, overrides: list[str]) -> bool:
    try:
        with initialize_config_dir(str(config.CONFIG_FOLDER), version_base="1.3"):
            compose(primary, overrides)
    except (CompactHydraException, ValueError):
        return False
    return True
