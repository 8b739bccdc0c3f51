"""From the command line to plain values: building, refusing in one sentence, naming runs."""

import functools
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf

from wplus import config
from wplus.commands import record
from wplus.commands.refusals import renamed, suggestions
from wplus.config import build, plain
from wplus.core.sweep import sweep
from wplus.errors import UserError


class Thing:
    """The class built by the nodes below."""

    def __init__(self, size: int, *, other: Any = None, fail: str = "") -> None:
        if fail == "user":
            raise UserError(f"Size {size} is not allowed; it must be 1.")
        if fail == "ours":
            raise TypeError("inside the constructor")
        self.size, self.other = size, other


THING = f"{__name__}.Thing"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Let Hydra find a `_target_` by its module's name."""
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Thing.__module__])


# build


def test_build():
    thing = build({"_target_": THING, "size": 3}, other="x")
    assert (type(thing), thing.size, thing.other) == (Thing, 3, "x")
    assert build(OmegaConf.create({"_target_": THING, "size": 4})).size == 4


def test_arguments_arrive_as_they_are():
    """Tensors, networks and trees with their own `_target_` keys stay unchanged; values of the node are plain."""
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
    with pytest.raises(UserError, match=r"^The value of 'a\.b' cannot be resolved: .*[^.]\.$"):
        plain(OmegaConf.create({"a": {"b": value}}))


# What trains a model


def test_a_model_says_what_trains_it(tmp_path, monkeypatch):
    """Unless another training is chosen; an experiment that chooses the model also chooses its training."""
    folder = tmp_path / "configs"
    shutil.copytree(config.CONFIG_FOLDER, folder)
    (folder / "model" / "new.yaml").write_text("training: new\n")
    (folder / "training" / "new.yaml").write_text("lr: 0.5\n")
    (folder / "experiment" / "new.yaml").write_text("# @package _global_\ndefaults:\n  - override /model: new\n")
    monkeypatch.setattr(config, "CONFIG_FOLDER", folder)
    for chosen in ("model=new", "experiment=new"):
        assert config.composed("train", [chosen])["training"] == {"lr": 0.5}
    assert "lr_generator" in config.composed("train", ["model=new", "training=dcgan"])["training"]["hparams"]
    assert [config.training_of(name) for name in ("new", "stylegan2", None)] == ["new", "auto", "auto"]


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
    """They may differ only in bookkeeping, and leave no key that says which was chosen."""

    def name_in_sweep(*overrides: str) -> str:
        given = SimpleNamespace(overrides=SimpleNamespace(task=overrides))
        monkeypatch.setattr(config, "HydraConfig", SimpleNamespace(initialized=lambda: True, get=lambda: given))
        return config.run_name("train", _root_=OmegaConf.create({"schedule": {"kimg": 1}, "trainer": {}}))

    with sweep(Path("runs/sweeps/x"), ["debug", "seed"]):
        names = {name_in_sweep(f"debug={each}", "seed=1") for each in ("quick", "overfit", "null")}
    assert len(names) == 3
    assert len({name_in_sweep(f"debug={each}") for each in ("quick", "overfit")}) == 1


def test_the_record_of_a_job_says_what_varies_and_belongs_to_the_sweep(tmp_path, monkeypatch):
    """An unreachable tracking server costs its timeout once per sweep: all jobs share the sweep's folder."""
    cfg = {"run_dir": "runs/train-1", "group": None, "name": "train", "tags": []}
    with sweep(tmp_path / "s", ["seed"]):
        monkeypatch.setenv("WPLUS_SWEEP_LABEL", "dcgan s1")
        fields = record.record_fields(cfg)
        assert (fields["name"], fields["group"], fields["sweep_dir"]) == ("dcgan s1", "s", tmp_path / "s")
        assert record.record_fields({**cfg, "group": "mine"})["group"] == "mine"
    monkeypatch.delenv("WPLUS_SWEEP_LABEL")
    fields = record.record_fields(cfg)
    assert (fields["name"], fields["group"], fields["sweep_dir"]) == ("train-1", "train", None)


def test_command_line_can_be_pasted(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train.py", "seed=1", "inputs=[a b,c]"])
    assert record.command_line() == "python train.py seed=1 'inputs=[a b,c]'"


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
        "There is no key 'sed'; did you mean seed or data.seed? Known are anchor, augment, cache_dir, ",
    ),
    ("anchor.foo=1", "There is no key 'anchor.foo'. Nothing can be given there."),
    ("+foo=1", "There is no key 'foo'. Known are "),
    ("+schedule.foo=1", "There is no key 'schedule.foo'. Known there are keep_checkpoints, kimg, "),
    ("lr=0.002", "did you mean training.hparams.lr_generator or training.hparams.lr_discriminator or "),
    ("gamma=1", "did you mean training.hparams.gamma? "),
    ("training.hparams.gama=1", "did you mean training.hparams.gamma? Known there are adam_eps, batch_size, "),
    ("model=vgg", "model must be one of autoencoder, autoencoder_contractive, "),
    ("experiment=nothing", "experiment must be one of ada_cifar, "),
    ("debug=nothing", "debug must be one of overfit, quick, quick_autoencoder, quick_encoder, got 'nothing'."),
    ("image_loss=[nothing]", "image_loss must be one of discriminator, "),
    ("probes=[nothing]", "probes must be one of code_map, diversity, "),
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
    ("probes=[1]", "A choice must be one of the options that --help lists, got a number (int)."),
    ("probes=[null]", "A choice must be one of the options that --help lists, got null."),
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
    (
        "data.path=x",
        "There is no key 'data.path'; it goes with data=folder or data=pairs or data=unpaired or data=zip. Known ",
    ),
    ("SCHEDULE.Kimg=1", "There is no key 'SCHEDULE.Kimg'; did you mean schedule.kimg?"),
    ("data=folder", "These keys have no value yet: data.path; give them on the command line as key=value."),
    ("schedule=3", "schedule holds keys of its own, as in schedule.kimg=..., got 3."),
    ("training.hparams=3", "training.hparams holds keys of its own, got 3."),
    ("run_dir=null", "run_dir must not be null: leave it out for its default."),
    ("schedule=null", "schedule must not be null: leave it out for its default."),
    ("run_dir=", "run_dir is empty: give the name of a file or folder, or leave it out."),
    ("~schedule.kimg", "'~schedule.kimg' removes what the command needs; leave it out."),
    ("~data", "'~data' removes what the command needs; leave it out."),
    ("name=${nowhere}", "cannot be resolved: Interpolation key 'nowhere' not found."),
]
OTHERS = {"fine": ["seed=7"], "ours": ["seed=2"], "sweep": ["-m", "seed=1,3"]}


@pytest.fixture(scope="module")
def attempts(tmp_path_factory) -> dict[str, dict[str, Any]]:
    """Run a small command with each of the overrides above, all in one process."""
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
