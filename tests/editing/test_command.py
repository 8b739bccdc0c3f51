"""`wplus directions`, `edit` and `consistency` as a user runs them, from another folder."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import wplus
from tests.keys import strange_keys
from wplus.__main__ import main
from wplus.checkpoint import Models
from wplus.core.images import save_png
from wplus.editing.directions import Directions, StyleDirection, load_directions, save_directions
from wplus.editing.finders import pca
from wplus.errors import UserError
from wplus.inversion.compare import compare
from wplus.latents.latent import Latent, load_latent, save_latent
from wplus.pretrained import attribute_classifier

Started = Callable[..., tuple[str, str]]


@pytest.fixture
def run(here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Started:
    """Run a command in the folder with the model, in this process; returns what it printed, and how it refused."""

    def started(verb: str, *overrides: str) -> tuple[str, str]:
        monkeypatch.chdir(here)
        refusal = ""
        try:
            main([verb, "tracking=local", "checkpoint=model.safetensors", *overrides])
        except SystemExit as stopped:
            refusal = str(stopped.code)
        assert refusal or not any(map(strange_keys, {path.parent for path in here.glob("*/result.json")}))
        return capsys.readouterr().out, refusal

    return started


@pytest.fixture
def here(models: Models, tmp_path: Path) -> Path:
    wplus.save(tmp_path / "model.safetensors", generator=models.generator)
    return tmp_path


def values(folder: Path) -> dict[str, dict]:
    return json.loads((folder / "result.json").read_text())["values"]


def test_boundaries_from_a_folder_of_latents_and_a_table(run: Started, models: Models, here: Path) -> None:
    """The attribute is the sign of the third number; the label file names the pictures, the folder has the latents."""
    ws = torch.randn(120, 8)
    for index, code in enumerate(ws):
        save_latent(here / "latents" / f"{index}.safetensors", Latent(code, "w", models.fingerprint))
    lines = [f"{index}.png,{int(code[2] > 0)}" for index, code in enumerate(ws)]
    (here / "table.csv").write_text("\n".join(["name,third", *lines]))
    # One thing stands where several may.
    chosen = ["finder=svm", 'finder.attributes="third=1"', "finder.layers=2", "finder.regularisation=100"]
    shown, refusal = run("directions", *chosen, "latents=latents", "attributes=table.csv", "run_dir=out")
    assert refusal == ""
    assert {"directions.safetensors", "overview.png"} <= {path.name for path in (here / "out").iterdir()}
    directions = load_directions(here / "out" / "directions.safetensors", fingerprint=models.fingerprint)
    assert directions.items[0].layers == (2,)
    assert directions.vectors[0].argmax() == 2
    assert directions.vectors[0, 2] > 0.95
    entry = values(here / "out")["directions/balanced_accuracy_third=1"]
    assert entry["value"] > 0.9
    assert (entry["protocol"]["num_held_out"], entry["protocol"]["latents"]) == (36, "latents")
    assert "third=1: num with" in shown


def test_edits_of_seeds_and_images(run: Started, models: Models, here: Path) -> None:
    save_directions(here / "d.safetensors", pca(models, num_directions=4, num_samples=100))
    save_png(here / "a.png", torch.rand(3, 20, 20) * 2 - 1)
    fast = ["inverter=lbfgs", "inverter.num_steps=2", "inverter.num_candidates=2", "space=w+"]
    chosen = ["directions=d.safetensors", "direction=[pca1,3]", "latents=[seed:1,a.png]", "strengths=[-1,2]"]
    shown, refusal = run("edit", *chosen, *fast, "layers=fine", "mode=set", "run_dir=out")
    assert refusal == ""
    assert sorted(path.name for path in (here / "out" / "filmstrips").iterdir()) == ["pca1.png", "pca3.png"]
    edited = load_latent(here / "out" / "latents" / "a" / "pca3_+2.safetensors", fingerprint=models.fingerprint)
    inverted = load_latent(here / "out" / "inversion" / "latents" / "a.safetensors", fingerprint=models.fingerprint)
    assert (edited.code != inverted.code).any(dim=1).tolist() == [False] * 4 + [True] * 2
    found = values(here / "out")
    assert list(found) == ["edit/moved_pca1", "edit/moved_pca3"]
    assert found["edit/moved_pca3"]["protocol"]["where"] == "layers 4 to 5"
    inputs = json.loads((here / "out" / "result.json").read_text())["inputs"]
    assert {name: entry["kind"] for name, entry in inputs.items()} == {"model": "model", "directions": "directions"}


def test_the_consistency_of_an_inverter(run: Started, models: Models, here: Path) -> None:
    save_directions(here / "d.safetensors", pca(models, num_directions=2, num_samples=100))
    for index in range(3):
        save_png(here / "in" / f"{index}.png", torch.rand(3, 16, 16) * 2 - 1)
    chosen = ["directions=d.safetensors", "input=in", "inverter=lbfgs", "inverter.num_steps=2", "batch_size=2"]
    shown, refusal = run("consistency", *chosen, "run_dir=out")
    assert refusal == ""
    found = values(here / "out")
    names = ("lec_pca0", "lec_pca0_per_std", "lec_no_edit", "moved_pca0")
    assert {f"consistency/{name}" for name in names} <= set(found)
    protocol = found["consistency/lec_pca0"]["protocol"]
    assert (protocol["num_images"], protocol["space"]) == (3, "w")
    assert protocol["inverter"]["num_steps"] == 2
    assert "lec_pca0 " in shown
    table = json.loads((here / "out" / "table.json").read_text())
    norms = [row["lec_pca0_all"] for row in table["rows"].values()]
    assert sum(norms) / 3 == pytest.approx(found["consistency/lec_pca0_all"]["value"])
    assert list(table["targets"]) == ["0", "1", "2"]
    run("consistency", *chosen, "inverter.num_steps=4", "run_dir=more")
    methods = compare({"2 steps": here / "out", "4 steps": here / "more"}, output_dir=here / "compared")
    columns = [f"lec_{edit}_{what}" for what in ("all", "image") for edit in ("pca0", "no_edit")]
    assert list(methods.paired["4 steps"]) == columns
    run("consistency", *chosen, "strength=3", "run_dir=farther")
    with pytest.raises(UserError, match="lec_pca0_all.*measured differently"):
        compare({"2": here / "out", "3": here / "farther"}, output_dir=here / "compared")


@pytest.mark.parametrize(
    ("script", "overrides", "word"),
    [
        ("directions", ["finder=svm", "finder.attributes=[x]"], "has no encoder; invert images with invert.py"),
        (
            "directions",
            ["finder.num_directions=4", "finder.layers=top"],
            "layers must be all, coarse, middle, fine or a list of numbers, got 'top'",
        ),
        ("edit", ["directions=none.safetensors", "latents=[seed:1]"], "'none.safetensors' does not exist"),
    ],
)
def test_a_mistake_is_a_sentence(run: Started, script: str, overrides: list[str], word: str) -> None:
    _, refusal = run(script, *overrides, "run_dir=out")
    assert word in refusal
    assert "\n" not in refusal


def test_inverters_of_spaces_without_ws_compare_by_images_alone(run: Started, models: Models, here: Path) -> None:
    """Lengths in s and in f/w+ are different quantities, and have different names."""
    save_directions(here / "d.safetensors", pca(models, num_directions=1, num_samples=100))
    save_png(here / "in" / "a.png", torch.rand(3, 16, 16) * 2 - 1)
    chosen = ["directions=d.safetensors", "input=in", "inverter=lbfgs", "inverter.num_steps=2"]
    for space in ("s", "f8/w+"):
        assert run("consistency", *chosen, f"space={space}", f"run_dir={space[:1]}")[1] == ""
    found = values(here / "f")
    assert {"consistency/lec_pca0_in_f8wplus", "consistency/lec_pca0_in_f8wplus_all"} <= set(found)
    assert "consistency/lec_pca0_per_edit" in found
    assert "consistency/lec_no_edit_per_edit" not in found  # nothing was edited, to the last bit
    methods = compare({"s": here / "s", "f": here / "f"}, output_dir=here / "compared")
    assert {"lec_pca0_image", "lec_pca0_in_s_all", "lec_pca0_in_f8wplus_all"} <= set(methods.means["s"]) | set(
        methods.means["f"]
    )


@pytest.mark.parametrize(
    ("script", "overrides", "word"),
    [
        ("edit", ["latents=[seed:1]", "factor_strengths=[1]"], "factor_strengths has no effect without classifier=F"),
        ("edit", ["latents=[seed:1]", "classifier=none.safetensors"], "'none.safetensors' does not exist"),
        ("edit", ["latents=[seed:1]", "classifier=c.safetensors", "factor_strengths=[0,1]"],
         "factor_strengths must be a number of at least 1e-06, got 0"),
        ("edit", ["latents=[seed:1]", "classifier=c.safetensors", "factor_strengths=x"],
         "factor_strengths must be a number of at least 1e-06, got 'x'"),
        ("edit", ["latents=[seed:1]", "classifier=c.safetensors", "factor_strengths=[]"],
         "factor_strengths must have one or more numbers, got none"),
        ("consistency", ["input=in", "directions=s.safetensors"], "direction must be one of w here, got 'has=1.b4"),
    ],
)  # fmt: skip
def test_what_cannot_be_measured_is_refused_before_anything_is_written(
    run: Started, models: Models, here: Path, monkeypatch: pytest.MonkeyPatch, script: str, overrides: list[str],
    word: str,
) -> None:  # fmt: skip
    class Factors:
        classes = {"light": ["no", "yes"]}

    read = attribute_classifier.load_classifier
    monkeypatch.setattr(attribute_classifier, "load_classifier",
                        lambda path: Factors() if path == "c.safetensors" else read(path))  # fmt: skip
    w = pca(models, num_directions=1, num_samples=100)
    named = [dataclasses.replace(w[0], name="light=yes")]
    save_directions(here / "d.safetensors", Directions(tuple(named), models.fingerprint, w.found))
    channel = StyleDirection("has=1.b4.conv1.3", 3, "b4.conv1.3", 1.0, 0.0)
    save_directions(here / "s.safetensors", Directions((channel,), models.fingerprint, {"finder": "style_channels"}))
    save_png(here / "in" / "a.png", torch.rand(3, 16, 16) * 2 - 1)
    given = overrides if any("directions=" in each for each in overrides) else ["directions=d.safetensors", *overrides]
    assert word in run(script, *given, "run_dir=out")[1]
    assert not (here / "out" / "result.json").exists()
    assert not (here / "out" / "filmstrips").exists()


def test_what_names_latents_is_refused_where_none_are_read(run: Started) -> None:
    few = ["finder.num_directions=2", "finder.num_samples=50"]
    _, refusal = run("directions", "finder=sefa", *few, "attributes=my.csv", "run_dir=out")
    assert "attributes has no effect on finder=sefa, which reads no labels" in refusal
