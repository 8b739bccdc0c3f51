"""From command line to plain values: building, refusing in one sentence, naming runs."""

import functools
import itertools
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import CompactHydraException
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from wplus import config
from wplus.commands.overrides import readable
from wplus.commands.refusals import dotted_keys, renamed, sentence, suggestions
from wplus.commands.shapes import shaped
from wplus.config import build, plain
from wplus.core.sweep import sweep
from wplus.errors import UserError


class Thing:
    """What the nodes below build."""

    def __init__(self, size: int, *, other: Any = None, fail: str = "") -> None:
        if fail == "user":
            raise UserError(f"Size {size} is not allowed; it must be 1.")
        if fail == "ours":
            raise TypeError("inside the constructor")
        self.size, self.other = size, other


THING = f"{__name__}.Thing"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Hydra finds a `_target_` by its module's name."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Thing.__module__])


# build


def test_build():
    thing = build({"_target_": THING, "size": 3}, other="x")
    assert (type(thing), thing.size, thing.other) == (Thing, 3, "x")
    assert build(OmegaConf.create({"_target_": THING, "size": 4})).size == 4


def test_arguments_arrive_as_they_are():
    """Tensors, networks and trees with `_target_` keys of their own pass untouched; values of the node are plain."""
    for value in (torch.ones(2), torch.nn.Linear(1, 1), {"_target_": "os.getcwd"}, OmegaConf.create({"a": 1})):
        assert build({"_target_": THING, "size": 1}, other=value).other is value
    thing = build(OmegaConf.create({"_target_": THING, "size": 1, "other": {"list": [1, 2]}}))
    assert type(thing.other) is dict
    assert type(thing.other["list"]) is list


def test_arguments_of_the_caller_win_over_the_nodes():
    assert build({"_target_": THING, "size": 1, "other": 2}, other=3).other == 3


def test_partials_wait_for_their_arguments():
    part = build({"_target_": THING, "_partial_": True, "size": 1}, other=2)
    assert isinstance(part, functools.partial)
    assert part(other=5).other == 5
    assert part().other == 2


def test_trees():
    tree = {"a": {"_target_": THING, "size": 1}, "b": [{"_target_": THING, "size": 2}], "c": {"d": None, "e": 7}}
    built = build(tree)
    assert (built["a"].size, built["b"][0].size, built["c"]) == (1, 2, {"d": None, "e": 7})
    assert build({}) == {}


def test_nodes_inside_a_node_are_built_too():
    assert build({"_target_": THING, "size": 1, "other": {"_target_": THING, "size": 2}}).other.size == 2


@pytest.mark.parametrize(
    "node",
    [
        {"_target_": THING, "size": 5, "fail": "user"},
        {"a": {"_target_": THING, "size": 5, "fail": "user"}},
        {"_target_": THING, "size": 1, "other": {"_target_": THING, "size": 5, "fail": "user"}},
    ],
    ids=["itself", "in a tree", "inside another"],
)
def test_a_user_error_comes_out_as_it_is(node):
    with pytest.raises(UserError, match=r"^Size 5 is not allowed; it must be 1\.$"):
        build(node)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"_target_": THING, "size": 1, "colour": 2}, "colour"),
        ({"_target_": THING}, "size"),
        ({"_target_": "wplus.nothing.Here"}, r"wplus\.nothing"),
        ({"_target_": "wplus.errors.Nothing"}, "Nothing"),
        ({"a": [{"_target_": THING, "size": 1, "colour": 2}]}, "colour"),
    ],
)
def test_wrong_targets_and_arguments_are_the_users(node, message):
    with pytest.raises(UserError, match=message) as caught:
        build(node)
    assert "\n" not in str(caught.value)


def test_a_mistake_inside_a_constructor_is_ours():
    with pytest.raises(TypeError, match="inside the constructor"):
        build({"_target_": THING, "size": 1, "fail": "ours"})


# plain


def test_plain():
    cfg = OmegaConf.create({"a": 1, "b": {"c": "${a}", "d": [1, {"e": None}]}})
    found = plain(cfg)
    assert found == {"a": 1, "b": {"c": 1, "d": [1, {"e": None}]}}
    assert {type(found), type(found["b"]), type(found["b"]["d"])} == {dict, list}


@pytest.mark.parametrize("value", [-1, 1.5, True, None, "a", 2**63])
def test_a_seed_is_a_whole_number_wherever_it_stands(value):
    with pytest.raises(UserError, match=rf"^seed={value} is not allowed; .* whole number from 0 to 2\^63 - 1\.$"):
        plain(OmegaConf.create({"seed": value}))
    with pytest.raises(UserError, match=rf"^data\.inner\.seed={value} is not"):
        plain(OmegaConf.create({"seed": 0, "data": {"inner": {"seed": value}}}))
    assert plain(OmegaConf.create({"seed": 2**40, "x": [{"seeds": -1}]}))["seed"] == 2**40


def test_plain_names_every_missing_key():
    with pytest.raises(UserError, match=r"no value yet: a\.b, c; give them"):
        plain(OmegaConf.create({"a": {"b": "???"}, "c": "???", "d": 1}))


@pytest.mark.parametrize("value", ["${nowhere}", "${oc.env:WPLUS_NO_SUCH_VARIABLE}", "${no_resolver:1}"])
def test_plain_names_what_cannot_be_resolved(value):
    with pytest.raises(UserError, match=r"^The value of 'a\.b' cannot be resolved: .*\.$"):
        plain(OmegaConf.create({"a": {"b": value}}))


# Names of runs


def name_of(*overrides: str, primary: str = "train") -> str:
    return str(config.composed(primary, list(overrides))["run_dir"])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (["seed=1", "mirror=x"], ["mirror=x", "seed=1"]),
        (["seed=0"], []),
        (["training.hparams.gamma=0.50"], ["training.hparams.gamma=0.5"]),
        (["training.hparams.gamma=1"], ["training.hparams.gamma=1.0"]),
        (["data=folder", "data.path=a"], ["data=folder", "data.path=a/"]),
        (["trainer.threads=2", "device=cpu", "tracking=local", "tags=[a]", "group=g", "data.cache_dir=x"], []),
        (["schedule.kimg=9", "probes=[]"], []),
    ],
)
def test_the_same_question_finds_the_same_folder(first, second):
    assert name_of(*first) == name_of(*second)
    assert re.fullmatch(r"runs/train-[0-9a-f]{12}", name_of(*first))


def test_another_question_gets_another_folder():
    single = ("seed=1", "data.seed=1", "training.hparams.gamma=1", "mirror=x", "trainer.precision=float32")
    experiments = [[f"experiment={name}", "name=train"] for name in ("cats32", "cats64")]
    changes = [[], *([each] for each in single), *experiments]
    assert len({name_of(*overrides) for overrides in changes}) == len(changes)
    assert name_of("run_dir=/elsewhere", "seed=3") == "/elsewhere"


def test_in_a_sweep_all_that_differs_counts():
    with sweep(Path("runs/sweeps/x"), ["schedule.kimg", "probes"]):
        swept = {name_of(*overrides) for overrides in ([], ["schedule.kimg=9"], ["probes=[]"], ["probes=[logits]"])}
        assert name_of("schedule.kimg=9.0", "seed=0") == name_of("schedule.kimg=9")
    assert len({*swept, name_of()}) == 5


def test_presets_that_a_sweep_compares_have_folders_of_their_own(monkeypatch):
    """They may differ in nothing but bookkeeping, and leave no key that says which was chosen."""

    def name_in_sweep(*overrides: str) -> str:
        given = SimpleNamespace(overrides=SimpleNamespace(task=overrides))
        monkeypatch.setattr(config, "HydraConfig", SimpleNamespace(initialized=lambda: True, get=lambda: given))
        return config.run_name("train", _root_=OmegaConf.create({"schedule": {"kimg": 1}, "trainer": {}}))

    with sweep(Path("runs/sweeps/x"), ["debug", "seed"]):
        names = {name_in_sweep(f"debug={each}", "seed=1") for each in ("quick", "overfit", "null")}
    assert len(names) == 3
    assert len({name_in_sweep(f"debug={each}") for each in ("quick", "overfit")}) == 1


def test_the_record_of_a_job_says_what_varies_and_belongs_to_the_sweep(tmp_path, monkeypatch):
    """And an unreachable tracking server costs its timeout once a sweep: its folder is that of all jobs."""
    cfg = {"run_dir": "runs/train-1", "group": None, "name": "train", "tags": []}
    with sweep(tmp_path / "s", ["seed"]):
        monkeypatch.setenv("WPLUS_SWEEP_LABEL", "dcgan s1")
        fields = config.record_fields(cfg)
        assert (fields["name"], fields["group"], fields["sweep_dir"]) == ("dcgan s1", "s", tmp_path / "s")
        assert config.record_fields({**cfg, "group": "mine"})["group"] == "mine"
    monkeypatch.delenv("WPLUS_SWEEP_LABEL")
    fields = config.record_fields(cfg)
    assert (fields["name"], fields["group"], fields["sweep_dir"]) == ("train-1", "train", None)


def test_command_line_can_be_pasted(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "seed=1", "inputs=[a b,c]"])
    assert config.command_line() == "python train.py seed=1 'inputs=[a b,c]'"


# Overrides


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
    """An empty one would be the working directory: a variable that is not set, as in input=$IMAGES."""
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
    """Alone and in a list, to where the command sees it; what is not there stays a reference to a key."""
    monkeypatch.chdir(tmp_path)
    for name in names:
        Path(name).touch()
        (override,) = readable([form.format(name)])
        value = OverridesParser.create().parse_override(override).value()
        found = plain(OmegaConf.create({"key": getattr(value, "text", value), "b": 1}))["key"]
        assert found == (name if form.endswith("{}") else [name, "b"])
    assert readable(["input=${b}"]) == ["input=${b}"]


def test_one_thing_is_a_list_of_it_where_several_may_be():
    """Never read letter by letter: keys of commands, and parameters of what a group names."""
    overrides = ["checkpoint=a", "finder=svm", "finder.attributes=fur", "finder.layers=fine", "strengths=2", "tags=t"]
    cfg = shaped(config.composed("directions", overrides), "directions")
    assert (cfg["strengths"], cfg["tags"]) == ([2], ["t"])
    assert (cfg["finder"]["attributes"], cfg["finder"]["layers"]) == (["fur"], "fine")
    numbers = config.composed("directions", ["checkpoint=a", "finder=svm", "finder.attributes=3", "finder.layers=2"])
    assert (numbers["finder"]["attributes"], numbers["finder"]["layers"]) == (["3"], [2])  # words, numbers
    assert shaped(config.composed("directions", ["checkpoint=a"]), "directions")["finder"]["layers"] == "all"


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


@pytest.mark.parametrize(("old", "new"), config.RENAMED.items())
def test_old_names_are_refused_with_the_new_ones(old, new):
    """A choice in any command; a key where the new one stands and the old one does not."""
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


# Entry points


COMMAND = """
import contextlib, io, json, os, sys
from wplus.commands.entry import entry_point
from wplus.errors import UserError

@entry_point
def train(cfg):
    "What the command does."
    assert type(cfg) is dict and "hydra" not in cfg
    if cfg["seed"] == 1:
        raise UserError("Seed 1 is not allowed; take another.")
    if cfg["seed"] == 2:
        raise ZeroDivisionError("ours")
    print("seed", cfg["seed"])

def attempt(*arguments):
    "What the process would print, and what would become its exit status."
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = train(arguments)
        except SystemExit as end:
            code = end.code
        except ZeroDivisionError as error:
            code = repr(error)
    return {"code": code, "out": out.getvalue(), "err": err.getvalue(), "files": sorted(os.listdir())}

if __name__ == "__main__":
    json.dump([attempt(*arguments) for arguments in json.loads(sys.argv[1])], sys.__stdout__)
"""
MISTAKES = [
    ("seed=1", "Seed 1 is not allowed; take another."),
    (
        "sed=1",
        "There is no key 'sed'; did you mean seed or data.seed? Known are augment, cache_dir, checkpoint, ",
    ),
    ("+foo=1", "There is no key 'foo'. Known are "),
    ("+schedule.foo=1", "There is no key 'schedule.foo'. Known there are keep_checkpoints, kimg, "),
    ("lr=0.002", "did you mean training.hparams.lr_generator or training.hparams.lr_discriminator or "),
    ("gamma=1", "did you mean training.hparams.gamma? "),
    ("training.hparams.gama=1", "did you mean training.hparams.gamma? Known there are adam_eps, batch_size, "),
    ("model=vgg", "model must be one of dcgan, mlp_gan, progan, r3gan, stylegan1, stylegan2, got 'vgg'."),
    ("experiment=nothing", "experiment must be one of ada_cifar, "),
    ("debug=nothing", "debug must be one of overfit, quick, quick_encoder, got 'nothing'."),
    ("image_loss=[nothing]", "image_loss must be one of discriminator, "),
    ("probes=[nothing]", "probes must be one of diversity, "),
    ("watch=[logits]", "'watch=[logits]' is now 'probes=[logits]'."),
    ("generator=a.safetensors", "'generator=a.safetensors' is now 'checkpoint=a.safetensors'."),
    ("hydra/sweeper=optuna", "'hydra/sweeper=optuna' is now 'search.trials'."),
    ("hydra/launcher=joblib", "'hydra/launcher=joblib' is now 'slots=cpu:N'."),
    ("hydra.launcher.n_jobs=2", "'hydra.launcher.n_jobs=2' is now 'slots=cpu:N'."),
    ("hydra.launcher.partition=gpu", "'hydra.launcher.partition=gpu' is now 'slurm'."),
    ("my/images", "An argument must be KEY=VALUE, got 'my/images'."),
    ("seed=1,2", "'seed=1,2' has several values: write seed=[1,2] for a list, "),
    ("loss=null", "A choice must be one of the options that --help lists, got null."),
    ("loss=1", "A choice must be one of the options that --help lists, got a number (int)."),
    ("seed=[1", "'seed=[1' cannot be read: write seed=[1] for a list, or \"seed='[1'\" for a text."),
    ("tags=[a,,b (c)]", "write \"tags=[a,'b (c)']\" for a list, or \"tags='[a,,b (c)]'\" for a text."),
    ("tags={a", "'tags={a' cannot be read: write tags=[a] for a list, or \"tags='{a'\" for a text."),
    ("mirror=choice(none,x)", "'mirror=choice(none,x)' has several values: add -m to run each of them."),
    ("name=${", "or 'name='\"'\"'\\${'\"'\"'' for the text."),
    ("na me=1", "A key must be letters, digits, _ and dots, as in seed=1 or data.path=x, got 'na me=1'."),
    ("ключ=1", "got 'ключ=1'."),
    ("@seed=1", "got '@seed=1'."),
    ("=1", "got '=1'."),
    ("a..b=1", "got 'a..b=1'."),
    ("~", "got '~'."),
    ("~~seed", "got '~~seed'."),
    ("--seed", "There is no flag '--seed': keys are given without dashes, as in seed=VALUE."),
    ("data=~/my images", "got '~/my images'; images of your own are data=folder \"data.path=~/my images\"."),
    ("data=my.ZIP", "got 'my.ZIP'; images of your own are data=zip data.path=my.ZIP."),
    ("data.path=x", "There is no key 'data.path'; it goes with data=folder or data=zip. Known there are "),
    ("SCHEDULE.Kimg=1", "There is no key 'SCHEDULE.Kimg'; did you mean schedule.kimg?"),
    ("data=folder", "These keys have no value yet: data.path; give them on the command line as key=value."),
    ("schedule=3", "schedule holds keys of its own, as in schedule.kimg=..., got 3."),
    ("training.hparams=3", "training.hparams holds keys of its own, got 3."),
    ("run_dir=null", "run_dir must not be null, which says nothing here: leave it out for its default."),
    ("schedule=null", "schedule must not be null, which says nothing here: leave it out for its default."),
    ("run_dir=", "run_dir is empty: give the name of a file or folder, or leave it out."),
    ("~schedule.kimg", "'~schedule.kimg' takes away what the command needs; leave it out."),
    ("~data", "'~data' takes away what the command needs; leave it out."),
    ("name=${nowhere}", "cannot be resolved: Interpolation key 'nowhere' not found."),
]
OTHERS = {"fine": ["seed=7"], "ours": ["seed=2"], "sweep": ["-m", "seed=1,3"]}


@pytest.fixture(scope="module")
def attempts(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """A small command with each of the overrides above, all in one process."""
    folder = tmp_path_factory.mktemp("command")
    script = folder / "command.py"
    script.write_text(COMMAND)
    (folder / "here").mkdir()
    cases = {**{override: [override] for override, _ in MISTAKES}, **OTHERS}
    command = [sys.executable, str(script), json.dumps(list(cases.values()))]
    done = subprocess.run(command, cwd=folder / "here", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(zip(cases, json.loads(done.stdout), strict=True))


def test_a_command_runs(attempts):
    assert attempts["fine"] == {"code": None, "out": "seed 7\n", "err": "", "files": []}


@pytest.mark.parametrize(("override", "sentence"), MISTAKES)
def test_a_mistake_is_one_sentence(attempts, override, sentence):
    """Python prints the text of a SystemExit on standard error and exits with status 1."""
    found = attempts[override]
    assert sentence in found["code"]
    assert "\n" not in found["code"]
    assert (found["out"], found["err"], found["files"]) == ("", "", [])


def test_the_likeliest_keys_are_suggested_first():
    known = ["x.step", "y.num_steps", "z.lr", "z.lr_end"]
    assert suggestions("steps", known) == ["y.num_steps", "x.step"]
    assert suggestions("a.lr", known) == ["z.lr"]
    assert suggestions("m.num_gen", [*known, "m.num_generated"]) == ["m.num_generated"]


def test_a_key_that_is_there_has_no_new_name():
    assert renamed("model", OmegaConf.create({"checkpoint": None})) == "checkpoint"
    assert renamed("model.width", OmegaConf.create({"model": {"z_dim": 8}})) is None


def test_our_own_mistakes_are_not_hidden(attempts):
    assert attempts["ours"]["code"] == "ZeroDivisionError('ours')"


def test_a_sweep_goes_on_after_a_refused_job(attempts):
    found = attempts["sweep"]
    assert "seed 3" in found["out"].splitlines()
    assert found["code"] == 1
    assert found["err"] == "Seed 1 is not allowed; take another.\n"
    assert "train-000 s1: failed after 0 s: Seed 1 is not allowed; take another. (runs/sweeps/" in found["out"]


def test_the_real_command_line_and_the_documented_way_to_a_full_trace(repository, tmp_path):
    command = [sys.executable, str(repository / "train.py"), "sed=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    full = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "HYDRA_FULL_ERROR": "1"}
    )
    assert full.returncode == 1
    assert "Traceback" in full.stderr
    assert list(tmp_path.iterdir()) == []


def test_configs_lie_where_the_package_looks(repository):
    assert Path(config.CONFIG_FOLDER) == repository / "configs"
