"""The library's results equal those of the commands, bit for bit."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import wplus
from tests.fakes import noise, read_pixels
from wplus.__main__ import main
from wplus.editing.directions import Directions, load_directions, save_directions
from wplus.evaluation.translation import ROLES
from wplus.latents.latent import load_latent, synthesize
from wplus.library import drawing as library
from wplus.models.translation.resnet import ResNet

FEW = {"num_steps": 2, "chunk_size": 2}


def run(verb: str, *overrides: str, checkpoint: str = "model.safetensors") -> Path:
    main([verb, "tracking=local", f"checkpoint={checkpoint}", "run_dir=out", *overrides])
    return Path("out")


def result() -> dict:
    return json.loads(Path("out/result.json").read_text())


@pytest.mark.parametrize(
    ("chosen", "options", "overrides"),
    [
        ({"space": "w+", "method": "optimize"}, {**FEW, "loss_weights": {"l2": 2.0}},
         ["space=w+", "inverter.num_steps=2", "chunk_size=2", "inverter.loss_weights.l2=2.0"]),
        ({"space": "w+", "method": "encoder", "seed": 1}, {}, ["space=w+", "inverter=encoder", "seed=1"]),
        ({"method": "pti"}, {"num_steps": 2, "pivot": {"num_steps": 2}},
         ["inverter=pti", "inverter.num_steps=2", "inverter.pivot.num_steps=2"]),
    ],
    ids=["optimize", "encoder", "pti"],
)  # fmt: skip
def test_inversion(model, chosen, options, overrides, capsys):
    found = model.invert("in", **chosen, **options)
    out = run("invert", "input=in", *overrides)
    assert found.names == ("a", "b")
    for row, name in enumerate(found.names):
        theirs = load_latent(out / "latents" / f"{name}.safetensors", fingerprint=model.fingerprint)
        assert torch.equal(found[row].latent.code, theirs.code)
        assert torch.equal(
            found.images[row].permute(1, 2, 0), torch.from_numpy(read_pixels(out / f"images/{name}.png"))
        )
    with open(out / "table.csv") as file:
        rows = {row["name"]: float(row["l2"]) for row in csv.DictReader(file)}
    assert rows == {name: pytest.approx(row["l2"], rel=1e-6) for name, row in found.table.rows.items()}
    assert (found.deltas[0] is not None) == (chosen.get("method") == "pti")


@pytest.mark.parametrize("inputs", [("seed:1", "seed:2"), ("in/a.png", "in/b.png")], ids=["seeds", "images"])
def test_interpolation(model, inputs, capsys):
    options = {"path": ["lerp", "slerp"], "num_frames": 3, "path_metrics": ["prior"], "space": "w"}
    way = model.interpolate(*inputs, **options, inverter="quick", **{"inverter.num_steps": 2, "inverter.init": "mean"})
    few = ["inverter=quick", "inverter.num_steps=2", "inverter.init=mean", "num_frames=3"]
    out = run("interpolate", f"inputs=[{','.join(inputs)}]", "path=[lerp,slerp]", "frames=keep",
              "path_metrics=[prior]", "space=w", *few)  # fmt: skip
    for number, frame in enumerate(way.images):
        theirs = read_pixels(out / "lerp" / "frames" / f"frame_{number:05d}.png")
        assert torch.equal(frame.permute(1, 2, 0), torch.from_numpy(theirs))
    entries = result()["methods"]["interpolate/paths"]
    assert way.numbers == {path: {name: each["value"] for name, each in row.items()} for path, row in entries.items()}


def test_directions_and_edits(model, capsys):
    found = model.directions("pca", num_directions=2, num_samples=20, seed=1)
    file = run("directions", "finder=pca", "finder.num_directions=2", "finder.num_samples=20", "seed=1")
    theirs = load_directions(file / "directions.safetensors", fingerprint=model.fingerprint)
    assert theirs.names == found.names
    assert torch.equal(theirs.vectors, found.vectors)
    saved = save_directions("d.safetensors", found)
    made = [model.edit(["seed:3", model.generate(seed=4, psi=0.7)], given, [-1, 2], layers="coarse")
            for given in (found, str(saved))]  # fmt: skip
    Path("out").rename("before")
    out = run("edit", "directions=d.safetensors", "latents=[seed:3,seed:4]", "strengths=[-1,2]", "layers=coarse")
    assert torch.equal(made[0].images, made[1].images)
    files = [out / "latents" / seed / f"{name}_{strength}.safetensors"
             for seed in ("seed3", "seed4") for name in found.names for strength in ("-1", "+2")]  # fmt: skip
    assert len(made[0]) == len(files) == 8
    for latent, path in zip(made[0].latents, files, strict=True):
        assert torch.equal(latent.code, load_latent(path, fingerprint=model.fingerprint).code)
    assert found[0].name in repr(model.edit("seed:3", found[0], 1.0))


def test_what_a_classifier_says_of_edits(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    model = wplus.load("cats32")
    found = model.directions("sefa", num_directions=1, num_samples=20)
    named = Directions((replace(found[0], name="accessory=5"),), found.generator, found.found)
    save_directions("d.safetensors", named)
    made = model.edit(["seed:3", "seed:1"], named, [1], classifier="cats32_attributes", factor_strengths=[0.5, 2])
    run("edit", "directions=d.safetensors", "latents=[seed:3,seed:1]", "strengths=[1]", "classifier=cats32_attributes",
        "factor_strengths=[0.5,2]", checkpoint="cats32")  # fmt: skip
    theirs = {name.partition("/")[2]: entry["value"] for name, entry in result()["values"].items()}
    assert made.measurements.values == theirs
    assert {"moved_accessory=5_seen", "achieved_accessory=5", "editable"} <= theirs.keys()
    assert "achieved_accessory=5" in made._repr_html_()
    assert not model.edit("seed:3", named, 1).measurements.values


@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_translation(model, direction, capsys):
    networks = {}
    for seed, role in enumerate(ROLES.values()):
        torch.manual_seed(seed)
        networks[role] = ResNet(width=4, num_blocks=1, num_downs=1).eval()
    wplus.save("translator.safetensors", **networks, metadata={"data": {"resolution": 8}})
    pictures = [noise(8, 8, seed=seed) for seed in range(2)]
    made = wplus.load("translator.safetensors").translate(
        ["in/b.png", *pictures[:1]], direction=direction, mode="batch", ground_truth=["in/b.png", *pictures[:1]]
    )
    Path("given").mkdir()
    Path("in/b.png").rename("given/b.png")
    pictures[0].save("given/0001.png")
    out = run("translate", "input=given", f"direction={direction}", "mode=batch", "ground_truth=given",
              checkpoint="translator.safetensors")  # fmt: skip
    assert made.names == ("b", "0001")
    for row, name in enumerate(made.names):
        for images, kind in ((made.images, "images"), (made.inputs, "inputs"), (made.truth, "truth")):
            theirs = torch.from_numpy(read_pixels(out / kind / f"{name}.png")).permute(2, 0, 1)
            assert torch.equal(images[row], theirs)
    with open(out / "table.csv") as file:
        rows = {row.pop("name"): {name: float(value) for name, value in row.items()} for row in csv.DictReader(file)}
    assert rows == {name: pytest.approx(row, rel=1e-6) for name, row in made.table.rows.items()}


def test_measurement(model, capsys):
    for seed in range(2, 14):  # enough for some to be held out, which `images` leaves none
        noise(8, 8, seed=seed).save(f"in/{seed}.png")
    options = {"fd": {"num_generated": 6, "num_groups": 0}, "ppl_wend": {"num_samples": 4}, "seed": 2}
    measured = model.measure(["fd", "ppl_wend"], images="in", **options)
    run("evaluate", "metrics=[fd,ppl_wend]", "data=folder", "data.path=in", "split=all", "seed=2",
        "metrics.fd.num_generated=6", "metrics.fd.num_groups=0", "metrics.ppl_wend.num_samples=4")  # fmt: skip
    theirs = {name.partition("/")[2]: entry["value"] for name, entry in result()["values"].items()}
    assert measured.values == theirs
    assert measured[0].protocol["num_real"] == 14
    pictures = [read_pixels(path) for path in sorted(Path("in").iterdir())]
    mixed = [*pictures[:4], *map(str, sorted(Path("in").iterdir())[4:6]),
             torch.from_numpy(np.stack(pictures[6:])).permute(0, 3, 1, 2)]  # fmt: skip
    in_memory = model.measure("fd", images=mixed, fd=options["fd"], seed=2)
    assert in_memory[0].value == pytest.approx(measured[0].value, rel=1e-4)
    assert len(measured) >= 2


def test_samples_are_those_of_the_seeds(model, capsys):
    """The video between two seeds begins at the first and ends at the second."""
    out = run("interpolate", "inputs=[seed:5,seed:6]", "path=lerp", "num_frames=2", "frames=keep", "path_metrics=[]")
    for number, image in enumerate(model.generate(2, seed=5).images):
        theirs = torch.from_numpy(read_pixels(out / "frames" / f"frame_{number:05d}.png")).permute(2, 0, 1)
        assert (image.int() - theirs.int()).abs().max() <= 1  # batches of two and of eight round differently


def test_other_seeds_differ(model):
    assert not torch.equal(model.generate(seed=5).images, model.generate(seed=6).images)
    assert not torch.equal(model.generate(seed=5, psi=0.5).images, model.generate(seed=5).images)


def test_an_image_is_the_same_in_any_batch(model, monkeypatch):
    """Small batches are padded. Rounding rarely shows in whole numbers, so check the sizes."""
    sizes = []

    def counted(latents, generator):
        sizes.append(len(latents))
        return synthesize(latents, generator)

    monkeypatch.setattr(library, "synthesize", counted)
    many = model.generate(11, seed=0, psi=0.7, batch_size=8)
    assert torch.equal(model.generate(1, seed=9, psi=0.7).images[0], many.images[9])
    assert torch.equal(model.synthesize(many.latents, batch_size=11).images, many.images)
    assert sizes == [8, 8, 8, 11]


def test_a_folder_of_an_inversion_is_kept_and_continued(model):
    first = model.invert("in", output_dir="kept", **FEW)
    before = Path("kept/latents/a.safetensors").stat().st_mtime_ns
    assert torch.equal(model.invert("in", output_dir="kept", **FEW).images, first.images)
    assert Path("kept/latents/a.safetensors").stat().st_mtime_ns == before
    with pytest.raises(wplus.UserError, match="holds inversions with other settings"):
        model.invert("in", output_dir="kept", num_steps=3, chunk_size=2)
