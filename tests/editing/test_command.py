"""`wplus directions`, `edit` and `consistency` as a user starts them, from another folder."""

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
from wplus.editing.directions import load_directions, save_directions
from wplus.editing.finders import pca
from wplus.errors import UserError
from wplus.inversion.compare import compare
from wplus.latents.latent import Latent, load_latent, save_latent

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
    """The attribute is the sign of the third number; its file names the pictures, the folder the latents."""
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
    with pytest.raises(UserError, match="lec_pca0_all.*not measured alike"):
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
