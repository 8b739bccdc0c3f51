"""The study of inverters: its table says what the folders say, its commands compose."""

import json
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir

from experiments.studies.inversion import edits, known_truth, study, tables
from wplus.checkpoint import Models
from wplus.config import CONFIG_FOLDER
from wplus.editing.directions import Direction, Directions, save_directions
from wplus.latents.latent import Latent, save_latent
from wplus.latents.weight_delta import WeightDelta
from wplus.models.stylegan2 import Generator


def folder_of(output: Path, method: str, rows: dict[str, dict[str, float]]) -> None:
    folder = output / study.folder_name(method)
    folder.mkdir(parents=True)
    (folder / "table.json").write_text(json.dumps({"rows": rows, "protocol": {"space": "w"}}))


def test_scores_of_images_and_of_their_edits(tmp_path):
    rows = {"a": {"l2": 0.1, "similarity_identity_effnet_lite0_seen": 0.75}, "b": {"l2": 0.2}}
    folder_of(tmp_path, "hybrid", rows)
    (tmp_path / "edited").mkdir()
    (tmp_path / "edited" / "hybrid.json").write_text(json.dumps({"a": {"lec": 1.5}}))
    found = tables.scores(tmp_path, "hybrid")
    assert found == {"a": {"l2": 0.1, "identity": 0.75, "lec": 1.5}, "b": {"l2": 0.2}}


def test_the_table_has_paired_differences_from_the_baseline(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "draw", lambda *_: None)
    monkeypatch.setattr(tables, "draw_convergence", lambda *_: None)
    names = [str(index) for index in range(12)]
    baseline = {name: {"psnr_db": float(index), "effnet_lite0": 1.0} for index, name in enumerate(names)}
    better = {name: {"psnr_db": row["psnr_db"] + 2, "effnet_lite0": 1.0} for name, row in baseline.items()}
    folder_of(tmp_path, tables.BASELINE, baseline)
    folder_of(tmp_path, "hybrid", {**better, "only here": {"psnr_db": 99.0, "effnet_lite0": 0.0}})
    tables.write_tables(tmp_path, [tables.BASELINE, "hybrid"])
    content = json.loads((tmp_path / "table.json").read_text())
    found = content["paired"]["hybrid"]["psnr_db"]
    assert (found["difference"], found["num_items"]) == (2.0, 12)
    assert found["p_holm"] == pytest.approx(2 * 2 / 2**12)  # all signs alike: 2 of the 2^12 cases; two comparisons
    assert content["paired"]["hybrid"]["effnet_lite0"]["p"] == 1.0
    assert content["protocol"]["hybrid"] == {"space": "w"}
    assert "| hybrid | +2.0, p = 0.001 |" in (tmp_path / "table.md").read_text()


def test_every_image_has_its_edit(tmp_path):
    vectors = torch.eye(4)[:3]
    items = [Direction(f"d{i}", v, (0, 1), 2, unit=0.5, origin=0.0) for i, v in enumerate(vectors)]
    save_directions(tmp_path / "directions" / "directions.safetensors", Directions(tuple(items), "f" * 16))
    for name in "abcdefg":
        save_latent(tmp_path / "encoder" / "latents" / f"{name}.safetensors", Latent(torch.zeros(4), "w", "f" * 16))
    found = edits.edits(tmp_path, "encoder", num=7, fingerprint="f" * 16)
    assert [name for name, _ in found] == list("abcdefg")
    assert torch.equal(found[1][1], torch.tensor([[0.0, 1, 0, 0]] * 2))  # two units of a half, in both layers
    assert torch.equal(found[3][1], torch.tensor([[-1.0, 0, 0, 0]] * 2))
    assert torch.equal(found[6][1], found[0][1])


def test_a_tuned_generator_shows_its_latent(tmp_path):
    generator = Generator(resolution=8, z_dim=4, w_dim=4, channel_base=64, channel_max=8).eval().requires_grad_(False)
    models = Models(generator=generator)
    latent = Latent(torch.randn(4), "w", models.fingerprint)
    save_latent(tmp_path / "latents" / "a.safetensors", latent)
    assert edits.read(tmp_path, "a", models)[1] is generator
    change = {"synthesis.b8.torgb.bias": (torch.full((3,), 0.5),)}
    WeightDelta(change, generator=models.fingerprint, latent="").save(tmp_path / "deltas" / "a.safetensors")
    found, tuned = edits.read(tmp_path, "a", models)
    shift = torch.zeros(generator.num_ws, 4)
    moved = edits.picture(tuned, found, shift) - edits.picture(generator, found, shift)
    torch.testing.assert_close(moved, torch.full((3, 8, 8), 0.5))


@pytest.mark.parametrize("method", study.METHODS)
def test_every_command_composes(method, tmp_path):
    inverted, *_ = study.commands(tmp_path, [method], 2, 10)
    for command in (inverted, study.again(tmp_path, method, 10)):
        with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
            config = compose("invert", command[1:], return_hydra_config=True)
        assert Path(config.checkpoint).is_file()


def test_known_truth_counts_what_reaches_35_db(tmp_path):
    rows = {name: {"psnr_db": psnr} for name, psnr in (("a", 34.9), ("b", 35.0), ("c", 60.0), ("d", 40.0))}
    means = {"latent_error": {"value": 0.02, "interval": [0.01, 0.03]}}
    (tmp_path / "table.json").write_text(json.dumps({"rows": rows, "means": means}))
    assert known_truth.summary(tmp_path).startswith("3 of 4 pictures (75.0%) reach 35 dB; the lowest has 34.9")
