"""The whole metric with tiny networks: its files, resuming, and what it refuses."""

import csv
import functools
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from tests import interpolation_plugins as plugins
from tests.fakes import CosinePixels, SquaredPixels
from tests.processes import pair
from wplus.checkpoint import save
from wplus.core.images import to_uint8
from wplus.core.progress import silent
from wplus.data.image_set import ImageSet
from wplus.errors import UserError
from wplus.evaluation.context import EvalContext
from wplus.evaluation.interpolation import Interpolation, tables
from wplus.evaluation.interpolation.pairs import read_pairs
from wplus.evaluation.interpolation.realism import PairFrechet, PairKernel, RealFeatures
from wplus.evaluation.interpolation.trajectories import PairRunner
from wplus.evaluation.measure import measure, measured, report, table
from wplus.interpolation.path import in_spaces
from wplus.interpolation.path_metrics.discriminator_score import discriminator_score
from wplus.interpolation.path_metrics.frames import drift, fidelity
from wplus.interpolation.path_metrics.ppl import pair_ppl
from wplus.interpolation.path_metrics.prior import prior
from wplus.interpolation.path_metrics.shape import curvature, steps
from wplus.interpolation.paths import lerp, pn, slerp
from wplus.interpolation.retime import arc_length
from wplus.inversion import report as inversion_report
from wplus.inversion.folder import output_names
from wplus.inversion.optimize import optimize
from wplus.inversion.pti import pti
from wplus.latents.latent import Latent, load_latent, save_latent
from wplus.latents.w_stats import Whitened
from wplus.models.stylegan2 import Discriminator
from wplus.report.page import write_report
from wplus.tracking.local import open_tracker, read_result

NUM_PAIRS = 6
METRICS = {"fidelity": fidelity, "ppl": pair_ppl, "steps": steps, "curvature": curvature, "drift": drift,
           "prior": prior, "discriminator_score": discriminator_score}  # fmt: skip
FEW = {"methods": ["w_slerp"], "path_metrics": {"fidelity": fidelity, "steps": steps}, "pictures": "none"}
SEARCH = functools.partial(optimize, num_steps=5, num_candidates=4)
TUNING = functools.partial(pti, pivot=SEARCH, num_steps=5, lr=3e-3, stop_at=None, locality_interval=None, num_others=0)


@in_spaces("w", "w+", otherwise="choose slerp")
def not_in_z(keyframes, context):
    """A path that z does not support."""
    return lerp(keyframes, context)


def images(num):
    """Images of 4 x 4 random tiles."""
    pixels = torch.randint(0, 256, (num, 3, 4, 4), generator=torch.Generator().manual_seed(num), dtype=torch.uint8)
    pixels = pixels.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    return ImageSet(pixels, None, [f"folder/{num}-{index:02d}.png" for index in range(num)])


@pytest.fixture
def make(extractor):
    shared = {"paths": {"slerp": slerp, "straight": not_in_z}, "spaces": ["z", "w"], "path_metrics": METRICS,
              "perceptual": SquaredPixels(), "identity": CosinePixels(), "extractor": extractor, "inverter": SEARCH,
              "num_pairs": NUM_PAIRS, "num_frames": 17, "frames_per_bin": 1, "num_real": 20}  # fmt: skip
    return lambda **options: Interpolation(**{**shared, **options})


@pytest.fixture
def bench(models, tmp_path):
    models.discriminator = Discriminator(resolution=16, channel_base=64, channel_max=8).eval().requires_grad_(False)
    return EvalContext(models, images(24), images(30), batch_size=8, progress=silent, output_dir=tmp_path)


@pytest.fixture
def latents(bench, tmp_path):
    """Folders of random latents in z and w for every held-out image."""
    codes = torch.randn(30, 8)
    spaces = {"z": codes, "w": bench.models.generator.mapping(codes)[:, 0]}
    for space, rows in spaces.items():
        for name, code in zip(output_names(bench.held_out.names), rows, strict=True):
            latent = Latent(code, space, bench.models.fingerprint)
            save_latent(tmp_path / "ends" / space / f"{name}.safetensors", latent)
    return {space: str(tmp_path / "ends" / space) for space in spaces}


def numbers(bench, metric):
    return {each.name: each for each in measure(bench, {"x": metric})}


@pytest.fixture
def run(bench, make, monkeypatch):
    """Numbers of a comparison by name; plots are skipped, as they would take longer."""
    monkeypatch.setattr(tables, "plot", lambda path, summary: path)
    monkeypatch.setattr(inversion_report, "plot_convergence", lambda histories, path: path)
    return lambda bench=bench, **options: numbers(bench, make(**options))


def lines(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def printed(results):
    console = Console(file=io.StringIO(), width=120)
    console.print(table(results))
    return console.file.getvalue()


def test_one_table_one_picture_per_pair(bench, make, tmp_path):
    found, folder = numbers(bench, make()), tmp_path / "interpolation"
    content, text = json.loads((folder / "table.json").read_text()), (folder / "table.md").read_text()
    assert list(content["means"]) == ["z_slerp", "w_slerp", "w_straight", "cross_dissolve"]
    assert len(list((folder / "pictures").glob("*.png"))) == NUM_PAIRS
    assert {path.name for path in (folder / "inversions").iterdir()} == {"z", "w"}
    assert all((folder / name).stat().st_size > 500 for name in ("along.png", "pairs.json"))

    rows, parts = lines(folder / "rows.csv"), lines(folder / "table.csv")
    assert len(rows) == 4 * NUM_PAIRS
    of = {method: np.array([float(row["tortuosity"]) for row in rows if row["method"] == method])
          for method in content["means"]}  # fmt: skip
    mean = found["interpolation/w_straight/tortuosity"]
    assert mean.value == pytest.approx(of["w_straight"].mean())
    assert mean.interval[0] <= mean.value <= mean.interval[1]
    assert (mean.protocol["num_pairs"], mean.protocol["distance"], mean.direction) == (NUM_PAIRS, "squared", "lower")
    difference = content["paired"]["w_slerp"]["tortuosity"]["difference"]
    assert difference == pytest.approx((of["w_slerp"] - of["z_slerp"]).mean())
    assert all(each.meaning.endswith(".") and "{" not in each.meaning for each in found.values())
    assert all(line["meaning"] and line["direction"] for line in parts)
    assert {line["pairs"] for line in parts} >= {"all", "near", "mid", "far"}

    # What the intervals of sets of frames leave out, and why two tables need not agree.
    as_given = [name for name, each in found.items() if "real images as given" in each.protocol["interval"]]
    assert as_given == [name for name in found if name.split("/")[2].startswith(("kd_", "precision_"))] != []
    assert "differences take all pairs: relative_ppl." in text

    # The cross-dissolve is made of the real images, and has no latents.
    assert found["interpolation/cross_dissolve/endpoint_psnr_db"].value == 100
    assert "interpolation/cross_dissolve/prior_max" not in found
    assert "interpolation/w_slerp/logit_dip" in found
    curves = {name: len(curve) for name, curve in content["along"]["w_slerp"].items()}
    assert curves == dict.fromkeys(("step", "similarity_a", "similarity_b", "prior", "logit"), 17)


def test_a_path_and_a_metric_from_elsewhere_are_tested_shown_and_explained(bench, make, latents, tmp_path):
    """One function each and no other edit: shown in the terminal, table.md, table.csv, table.json, result.json."""
    bench.tracker = open_tracker(output_dir=tmp_path, job_type="evaluate", name="x")
    metric = make(paths={"halting": plugins.halting}, retime={"none": None, "arc_length": arc_length}, spaces=["w"],
                  path_metrics={"brightness": plugins.brightness}, endpoint_threshold=None, num_frames=18,
                  latents={"w": latents["w"]})  # fmt: skip
    with bench.tracker:
        results = list(report(measured(bench, {"interpolation": metric}), bench.tracker))
    folder, name, secret = tmp_path / "interpolation", "brightness_half_way", "brightness_secret"
    found, expected = {each.name: each for each in results}, (plugins.MEANING, "levels", "higher")
    one = found[f"interpolation/w_halting+arc_length/{name}"]
    assert (one.meaning, one.unit, one.direction) == expected
    assert f"interpolation/w_halting/{name}_max" in found
    assert f"{one.value:.3g}" in printed(results)
    text, content = (folder / "table.md").read_text(), json.loads((folder / "table.json").read_text())
    assert f"- `{name}`: {plugins.MEANING}" in text
    assert f"{name}, levels ↑" in text
    assert content["numbers"][name]["meaning"] == plugins.MEANING
    assert set(content["paired"]["w_halting+arc_length"]) == {name}
    assert "brightness" in content["along"]["w_halting"]
    row = next(row for row in lines(folder / "table.csv") if row["metric"] == name)
    assert (row["meaning"], row["unit"], row["direction"]) == expected
    entry = read_result(tmp_path)["methods"]["evaluate/interpolation"]["w_halting+arc_length"][name]
    assert (entry["value"], entry["meaning"], entry["direction"]) == (one.value, plugins.MEANING, "higher")
    assert plugins.MEANING in write_report(tmp_path).read_text().replace("&#39;", "'")
    assert secret in lines(folder / "rows.csv")[0]
    assert secret not in f"{text} {list(found)}"


@pytest.mark.parametrize(
    "inverter", [SEARCH, functools.partial(SEARCH, noise="optimize"), TUNING], ids=["plain", "noise", "tuned"]
)
def test_the_endpoints_are_what_the_inverter_found(bench, run, tmp_path, inverter):
    """Latents, noise and weights: each end frame is the inversion's own picture, and stands for its own image."""
    found = run(inverter=inverter, **FEW)
    folder = tmp_path / "interpolation" / "inversions" / "w"
    own = {line["name"]: float(line["psnr_db"]) for line in lines(folder / "table.csv")}
    rows = [row for row in lines(tmp_path / "interpolation" / "rows.csv") if row["method"] == "w_slerp"]
    assert len(rows) == NUM_PAIRS
    for row in rows:
        expected = np.mean([own[name.removesuffix(".png")] for name in row["pair"].split(" to ")])
        assert float(row["endpoint_psnr_db"]) == pytest.approx(expected, rel=1e-4)

    # The same from the folder that is there now, and not without what was tuned.
    name, again = "interpolation/w_slerp/endpoint_psnr_db", replace(bench, output_dir=tmp_path / "again")
    same = run(again, latents={"w": str(folder / "latents")}, inverter=None, **FEW)
    assert same[name].value == pytest.approx(found[name].value, rel=1e-6)
    if inverter is TUNING:
        next((folder / "deltas").rglob("*.safetensors")).unlink()
        with pytest.raises(UserError, match="was tuned, but its weight delta"):
            run(again, latents={"w": str(folder)}, inverter=None, **FEW)


def test_two_processes_find_what_one_does(tmp_path):
    """Also if one process begins after the other has stored pairs."""
    assert pair(Path(__file__).with_name("two_comparing.py"), tmp_path, timeout=200) == ["same"]


def test_sets_of_frames_are_those_of_the_trajectories(bench, run, latents, extractor, tmp_path):
    """Kernel distance, Fréchet distance and precision, of frames that are made here one by one."""
    run(methods=["w_straight"], path_metrics={"fidelity": fidelity}, pictures="none", latents=latents, num_frames=18)
    folder, held_out, net = tmp_path / "interpolation", bench.held_out, bench.models.generator
    numbers = json.loads((folder / "table.json").read_text())["means"]["w_straight"]
    pairs = read_pairs(folder / "pairs.json", held_out).pairs
    codes = {name: load_latent(Path(latents["w"]) / f"{file}.safetensors", fingerprint=None).code
             for name, file in zip(held_out.names, output_names(held_out.names), strict=True)}  # fmt: skip
    order = sorted(range(len(bench.real)), key=lambda row: bytes(bench.real.digests[row]))[:20]
    real = RealFeatures(extractor(bench.real.images[order]))

    def looks(*ts):
        """Features (P, F, dim) of all pairs' frames at these t."""
        made = torch.stack([torch.lerp(codes[p.a], codes[p.b], t) for p in pairs for t in ts])
        shown = net.synthesis(made[:, None].expand(-1, net.num_ws, -1), noise_mode="const")
        return extractor(to_uint8(shown)).view(len(pairs), len(ts), -1)

    for place, frames in (("middle", looks(8 / 17, 9 / 17)), ("ends", looks(0.0, 1.0))):
        distance = float(PairKernel(frames, real).distance(np.ones((1, len(pairs))))[0])
        assert numbers[f"kd_random_conv_{place}"]["value"] == pytest.approx(distance, rel=1e-4, abs=1e-7)
        inside = float(real.holds(frames.flatten(0, 1)).double().mean())
        assert numbers[f"precision_random_conv_{place}"]["value"] == pytest.approx(inside, abs=1e-9)
    expected = PairFrechet(looks(3 / 17), real.statistics).with_interval().value
    assert numbers["fd_random_conv_10_30"]["value"] == pytest.approx(expected, rel=1e-3)


def test_endpoints_that_fail_are_told(run, latents, tmp_path):
    """Random latents show other images; the cross-dissolve shows the images themselves."""
    found, folder = run(latents=latents, **FEW), tmp_path / "interpolation"
    passing = {method: found[f"interpolation/{method}/endpoints_pass"] for method in ("w_slerp", "cross_dissolve")}
    assert passing["w_slerp"].value < 0.5
    assert passing["cross_dissolve"].value == 1
    assert passing["w_slerp"].protocol["endpoint_threshold"] == 0.5
    rows = [row for row in lines(folder / "rows.csv") if row["method"] == "w_slerp"]
    assert all((float(row["endpoint_miss"]) <= 0.5) == (float(row["endpoints_pass"]) == 1) for row in rows)
    worst = found["interpolation/w_slerp/step_cv_max"]
    assert worst.value == pytest.approx(max(float(row["step_cv"]) for row in rows))
    assert worst.protocol["interval"].startswith("none")
    assert "w_slerp (endpoints fail)" in (folder / "table.md").read_text()
    marked = [line.split()[0] for line in printed(found.values()).splitlines() if "(endpoints fail)" in line]
    assert marked == ["w_slerp"]
    parts = [line["pairs"] for line in lines(folder / "table.csv")]
    assert "endpoints pass" not in parts  # of the cross-dissolve alone it would say nothing
    unlimited = run(latents=latents, endpoint_threshold=None, **FEW)  # judges the same trajectories
    assert "interpolation/w_slerp/endpoints_pass" not in unlimited
    assert not any("caveat" in each.protocol for each in unlimited.values())


def test_goes_on_where_it_was_and_gives_the_same(run, latents, tmp_path, monkeypatch):
    whole = run(pictures="none", latents=latents)
    for path in sorted((tmp_path / "interpolation" / "pairs").glob("*.safetensors"))[2:4]:
        path.unlink()
    made, original = [], PairRunner.run
    monkeypatch.setattr(PairRunner, "run", lambda self, *names: made.append(names) or original(self, *names))
    again = run(pictures="none", latents=latents)
    assert len(made) == 2
    assert {name: (each.value, each.meaning) for name, each in again.items()} == {
        name: (each.value, each.meaning) for name, each in whole.items()
    }
    with pytest.raises(UserError, match="trajectories with other settings.*num_frames was 17, now 18"):
        run(num_frames=18, pictures="none", latents=latents)


def test_a_fixed_list_and_latents_that_are_lifted(bench, run, latents, tmp_path):
    first = run(methods=["w_slerp"], pictures="none", latents=latents)
    listed = {"pairs": str(tmp_path / "interpolation" / "pairs.json"), "latents": {"w": latents["w"]}}
    again = run(replace(bench, output_dir=tmp_path / "again"), methods=["w_slerp", "w+_slerp"], pictures="none",
                inverter=None, **listed)  # fmt: skip
    for name, each in first.items():
        assert again[name].value == pytest.approx(each.value, rel=1e-5), name
    lifted = again["interpolation/w+_slerp/endpoint_psnr_db"].value
    assert lifted == pytest.approx(first["interpolation/w_slerp/endpoint_psnr_db"].value, rel=1e-5)
    assert not (tmp_path / "again" / "interpolation" / "inversions").exists()


def test_spaces_without_ws_are_compared_too(run, bench, tmp_path):
    """Names of numbers are divided by slashes, so f8/w+ has none there; a folder of latents can be used again."""
    options = {"paths": {"straight": lerp}, "pictures": "none"}
    found = run(spaces=["s", "f/w+", "pn+"], **options)
    methods = ["s_straight", "fw+_straight", "pn+_straight", "cross_dissolve"]
    assert list(dict.fromkeys(name.split("/")[1] for name in found)) == methods
    assert all(name.count("/") == 2 for name in found)
    assert found["interpolation/fw+_straight/prior_mean"].value > 0
    fading = {name.split("/")[1] for name, each in found.items() if "cross-fade" in each.protocol.get("caveat", "")}
    assert fading == {"fw+_straight"}
    folder = tmp_path / "interpolation"
    assert {path.name for path in (folder / "inversions").iterdir()} == {"s", "f8w+", "pn+"}
    given = {"latents": {"f8/w+": str(folder / "inversions" / "f8w+")}, "pairs": str(folder / "pairs.json")}
    again = run(replace(bench, output_dir=tmp_path / "again"), methods=["f8w+_straight"], **given, **options)
    first, second = (each[f"interpolation/{name}_straight/endpoint_psnr_db"].value
                     for each, name in ((found, "fw+"), (again, "f8w+")))  # fmt: skip
    assert first == pytest.approx(second, rel=1e-5)


def test_a_folder_of_latents_is_walked_in_its_space(run, bench, latents, tmp_path):
    """Pairs are drawn from its images, and the list of them can be used again."""
    for path in sorted(Path(latents["w"]).rglob("*.safetensors"))[2 * NUM_PAIRS :]:
        path.unlink()
    options = {"paths": {"straight": lerp}, "pictures": "none", "latents": latents["w"], "inverter": None}
    found = run(**options)
    assert {name.split("/")[1] for name in found} == {"w_straight", "cross_dissolve"}
    listed = str(tmp_path / "interpolation" / "pairs.json")
    again = run(replace(bench, output_dir=tmp_path / "again"), pairs=listed, **options)
    assert {name: each.value for name, each in again.items()} == {name: each.value for name, each in found.items()}


def test_the_prior_is_measured_once(run, latents, monkeypatch):
    measured, original = [], Whitened.of
    monkeypatch.setattr(Whitened, "of", lambda generator, **options: measured.append(1) or original(generator))
    run(methods=["w_pn"], paths={"pn": pn}, pictures="none", latents=latents)
    assert measured == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["z_straight"]}, "not_in_z must be w or w.*choose slerp"),
        ({"spaces": ["z"], "paths": {"straight": not_in_z}}, "paths must include one that supports one of .* z"),
        ({"baseline": "w+_slerp"}, "baseline must be one of .*'w.*'"),
        ({"num_frames": 16}, "num_frames must .* got 16"),
        ({"frames_per_bin": 0}, "frames_per_bin must .* got 0"),
        ({"inversion_batch_size": 0}, "inversion_batch_size must .* got 0"),
        ({"path_metrics": {"steps": steps}}, "must include fidelity"),
        ({"pictures": "some"}, "pictures must .* got 'some'"),
        ({"latents": {"w+": "x"}}, "No given latents can be lifted into z"),
        ({"latents": ["x"]}, "latents must be a folder, or folders by space as in {w: FOLDER}, got .'x'."),
        ({"latents": "nowhere"}, "There are no latents in the folder 'nowhere'"),
    ],
)
def test_refused_before_any_work(make, options, message):
    with pytest.raises(UserError, match=message):
        make(**options)


def test_refused_by_the_plan(bench, make, run, latents, tmp_path):
    larger = Discriminator(resolution=32, channel_base=64, channel_max=8)
    other = str(save(tmp_path / "other.safetensors", discriminator=larger))
    for options, words in [
        ({"pairs": "nowhere.json"}, "got 'nowhere.json'"),
        ({"latents": {"z": "nowhere", "w": "nowhere"}}, "folder 'nowhere' of latents in z does not exist"),
        ({"discriminator": "nowhere"}, "'nowhere' does not exist"),
        ({"discriminator": other}, "The discriminator takes images of 32 px .* and the data has 16 px"),
        ({"num_real": 3}, "num_real must .* at least 4, got 3"),
    ]:
        with pytest.raises(UserError, match=words):
            make(**options)(bench)
    with pytest.raises(UserError, match="output folder"):
        make()(replace(bench, output_dir=None))
    with pytest.raises(UserError, match="is a latent of z, not of w"):
        run(methods=["w_slerp"], latents={"w": latents["z"]})
