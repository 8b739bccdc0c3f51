"""The whole metric with tiny networks: what it leaves, that it goes on, what it refuses."""

import csv
import functools
import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from tests import interpolation_plugins as plugins
from wplus.checkpoint import save
from wplus.core.images import to_float, to_uint8
from wplus.core.metric_result import MetricInfo
from wplus.core.progress import silent
from wplus.data.image_set import ImageSet
from wplus.errors import UserError
from wplus.evaluation.context import EvalContext
from wplus.evaluation.frechet import FeatureStatistics, frechet_distance
from wplus.evaluation.interpolation import Interpolation
from wplus.evaluation.interpolation.pairs import read_pairs
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
from wplus.inversion.folder import output_names
from wplus.inversion.optimize import optimize
from wplus.inversion.pti import pti
from wplus.latents.latent import Latent, load_latent, save_latent
from wplus.latents.w_stats import Whitened
from wplus.losses.image_pair import ImageDistance
from wplus.models.stylegan2 import Discriminator
from wplus.tracking.local import open_tracker, read_result
from wplus.tracking.report import write_report

NUM_PAIRS = 6


class Blurred(ImageDistance):
    """|x - y|^2 of small copies of the images."""

    name, provenance = "blurred", MappingProxyType({"weights": "none"})
    info = MetricInfo(meaning="A distance of blurred images.")

    def features(self, images):
        return [nn.functional.avg_pool2d(images, 4).flatten(1)]

    def distance(self, features_a, features_b, mask=None):
        return (features_a[0] - features_b[0]).square().sum(dim=1)


class Identity(Blurred):
    name = "identity_blurred"

    def features(self, images):
        return [nn.functional.normalize(super().features(images)[0], dim=1)]

    def distance(self, features_a, features_b, mask=None):
        return super().distance(features_a, features_b) / 2


@in_spaces("w", "w+", otherwise="choose slerp")
def not_in_z(keyframes, context):
    """A path that z has not."""
    return lerp(keyframes, context)


METRICS = {"fidelity": fidelity, "ppl": pair_ppl, "steps": steps, "curvature": curvature, "drift": drift,
           "prior": prior, "discriminator_score": discriminator_score}  # fmt: skip
FEW = {"methods": ["w_slerp"], "path_metrics": {"fidelity": fidelity, "steps": steps}, "pictures": "none"}


def images(num, seed):
    source = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (num, 3, 4, 4), generator=source, dtype=torch.uint8)
    pixels = pixels.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    return ImageSet(pixels, None, [f"folder/{seed}-{index:02d}.png" for index in range(num)])


@pytest.fixture
def make(extractor):
    def make(**options):
        shared = {
            "paths": {"slerp": slerp, "straight": not_in_z},
            "spaces": ["z", "w"],
            "path_metrics": METRICS,
            "perceptual": Blurred(),
            "identity": Identity(),
            "extractor": extractor,
            "inverter": SEARCH,
            "num_pairs": NUM_PAIRS,
            "num_frames": 17,
            "frames_per_bin": 1,
            "num_real": 20,
        }
        return Interpolation(**{**shared, **options})

    return make


@pytest.fixture
def bench(models, tmp_path):
    models.discriminator = Discriminator(resolution=16, channel_base=64, channel_max=8).eval().requires_grad_(False)
    return EvalContext(models, images(24, 0), images(30, 1), batch_size=8, progress=silent, output_dir=tmp_path)


@pytest.fixture
def latents(bench, tmp_path):
    """Folders of latents in z and w for every held-out image, random ones."""
    generator, fingerprint = bench.models.generator, bench.models.fingerprint
    codes = torch.randn(30, 8)
    spaces = {"z": codes, "w": generator.mapping(codes)[:, 0]}
    for space, rows in spaces.items():
        for name, code in zip(output_names(bench.held_out.names), rows, strict=True):
            save_latent(tmp_path / "ends" / space / f"{name}.safetensors", Latent(code, space, fingerprint))
    return {space: str(tmp_path / "ends" / space) for space in spaces}


def run(bench, metric):
    return {each.name: each for each in measure(bench, {"interpolation": metric})}


def lines(path):
    return list(csv.DictReader(path.read_text().splitlines()))


def printed(results, width=120):
    console = Console(file=io.StringIO(), width=width)
    console.print(table(results))
    return console.file.getvalue()


def test_one_table_one_picture_per_pair(bench, make, tmp_path):
    found = run(bench, make())
    folder = tmp_path / "interpolation"
    content = json.loads((folder / "table.json").read_text())
    assert list(content["means"]) == ["z_slerp", "w_slerp", "w_straight", "cross_dissolve"]
    assert len(list((folder / "pictures").glob("*.png"))) == NUM_PAIRS
    assert {path.name for path in (folder / "inversions").iterdir()} == {"z", "w"}
    for name in ("table.md", "along.png", "pairs.json"):
        assert (folder / name).stat().st_size > 500, name

    rows = lines(folder / "rows.csv")
    assert len(rows) == 4 * NUM_PAIRS
    numbers = [float(row["tortuosity"]) for row in rows if row["method"] == "w_straight"]
    mean = found["interpolation/w_straight/tortuosity"]
    assert mean.value == pytest.approx(np.mean(numbers))
    assert mean.interval[0] <= mean.value <= mean.interval[1]
    assert mean.protocol["num_pairs"] == NUM_PAIRS
    assert mean.protocol["distance"] == "blurred"
    assert all(each.meaning.endswith(".") and "{" not in each.meaning for each in found.values())
    third_person = found["interpolation/w_slerp/third_person_identity_blurred"]
    assert (third_person.direction, mean.direction) == ("higher", "lower")
    assert all(line["meaning"] and line["direction"] for line in lines(folder / "table.csv"))

    # What the intervals of sets of frames leave out, and why two tables need not agree.
    as_given = {name: "real images as given" in each.protocol["interval"] for name, each in found.items()}
    of_sets = [name for name, given in as_given.items() if given]
    assert of_sets == [name for name in found if name.split("/")[2].startswith(("kd_", "precision_"))] != []
    assert "differences take all pairs: relative_ppl." in (folder / "table.md").read_text()

    # The paired difference is that of the rows.
    first, other = ({row["pair"]: float(row["tortuosity"]) for row in rows if row["method"] == method}
                    for method in ("z_slerp", "w_slerp"))  # fmt: skip
    expected = np.mean([other[pair] - first[pair] for pair in first])
    assert content["paired"]["w_slerp"]["tortuosity"]["difference"] == pytest.approx(expected)
    assert {line["pairs"] for line in lines(folder / "table.csv")} >= {"all", "near", "mid", "far"}

    # The cross-dissolve is made of the real images, and has no latents.
    assert found["interpolation/cross_dissolve/endpoint_psnr_db"].value == 100
    assert "interpolation/cross_dissolve/prior_max" not in found
    assert "interpolation/w_slerp/logit_dip" in found
    curves = content["along"]["w_slerp"]
    assert set(curves) == {"step", "similarity_a", "similarity_b", "prior", "logit"}
    assert all(len(curve) == 17 for curve in curves.values())


def test_a_path_and_a_metric_from_elsewhere_are_tested_shown_and_explained(bench, make, latents, tmp_path):
    """One function each, no edit anywhere: in the terminal, table.md, table.csv, table.json, result.json."""
    bench.tracker = open_tracker(output_dir=tmp_path, job_type="evaluate", name="x")
    metric = make(paths={"halting": plugins.halting}, retime={"none": None, "arc_length": arc_length}, spaces=["w"],
                  path_metrics={"brightness": plugins.brightness}, endpoint_threshold=None, num_frames=18,
                  latents={"w": latents["w"]})  # fmt: skip
    with bench.tracker:
        results = list(report(measured(bench, {"interpolation": metric}), bench.tracker))
    folder, name = tmp_path / "interpolation", "brightness_half_way"
    found = {each.name: each for each in results}
    one = found[f"interpolation/w_halting+arc_length/{name}"]
    assert (one.meaning, one.unit, one.direction) == (plugins.MEANING, "levels", "higher")
    assert f"interpolation/w_halting/{name}_max" in found
    assert f"{one.value:.3g}" in printed(results)
    text = (folder / "table.md").read_text()
    assert f"- `{name}`: {plugins.MEANING}" in text
    assert f"{name}, levels ↑" in text
    content = json.loads((folder / "table.json").read_text())
    assert content["numbers"][name]["meaning"] == plugins.MEANING
    assert set(content["paired"]["w_halting+arc_length"]) == {name}
    assert "brightness" in content["along"]["w_halting"]
    (line,) = [
        line
        for line in lines(folder / "table.csv")
        if line["metric"] == name and line["pairs"] == "all" and line["method"] == "w_halting"
    ]
    assert (line["meaning"], line["unit"], line["direction"]) == (plugins.MEANING, "levels", "higher")
    entry = read_result(tmp_path)["methods"]["evaluate/interpolation"]["w_halting+arc_length"][name]
    assert (entry["value"], entry["meaning"], entry["direction"]) == (one.value, plugins.MEANING, "higher")
    assert plugins.MEANING in write_report(tmp_path).read_text().replace("&#39;", "'")
    secret = "brightness_secret"
    assert secret in lines(folder / "rows.csv")[0]
    assert secret not in text
    assert not any(secret in each for each in found)


SEARCH = functools.partial(optimize, num_steps=5, num_candidates=4)
TUNING = functools.partial(pti, pivot=SEARCH, num_steps=5, lr=3e-3, stop_at=None, locality_interval=None, num_others=0)


@pytest.mark.parametrize(
    "inverter", [SEARCH, functools.partial(SEARCH, noise="optimize"), TUNING], ids=["plain", "noise", "tuned"]
)
def test_the_endpoints_are_what_the_inverter_found(bench, make, tmp_path, inverter):
    """Codes, noise and weights: each end frame is the inversion's own picture, and stands for its own image."""
    found = run(bench, make(inverter=inverter, **FEW))
    folder = tmp_path / "interpolation" / "inversions" / "w"
    own = {line["name"]: float(line["psnr_db"]) for line in lines(folder / "table.csv")}
    rows = [row for row in lines(tmp_path / "interpolation" / "rows.csv") if row["method"] == "w_slerp"]
    assert len(rows) == NUM_PAIRS
    for row in rows:
        expected = np.mean([own[name.removesuffix(".png")] for name in row["pair"].split(" to ")])
        assert float(row["endpoint_psnr_db"]) == pytest.approx(expected, rel=1e-4)

    # The same from the folder that is there now, and not without what was tuned.
    bench.output_dir = tmp_path / "again"
    again = run(bench, make(latents={"w": str(folder / "latents")}, inverter=None, **FEW))
    name = "interpolation/w_slerp/endpoint_psnr_db"
    assert again[name].value == pytest.approx(found[name].value, rel=1e-6)
    if inverter is TUNING:
        next((folder / "deltas").rglob("*.safetensors")).unlink()
        bench.output_dir = tmp_path / "third"
        with pytest.raises(UserError, match="was tuned, but its weight delta"):
            run(bench, make(latents={"w": str(folder)}, inverter=None, **FEW))


def test_two_processes_find_what_one_does(tmp_path):
    """Also where one of them begins when the other has stored pairs already."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    script = str(Path(__file__).with_name("two_comparing.py"))
    done = subprocess.run([*start, script, str(tmp_path)], capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["same"]


def test_sets_of_frames_are_those_of_the_trajectories(bench, make, latents, extractor, tmp_path):
    """Kernel and Fréchet distance and precision, from frames that are made here one by one."""
    found = run(bench, make(methods=["w_straight"], path_metrics={"fidelity": fidelity}, pictures="none",
                            latents=latents, num_frames=18))  # fmt: skip
    content = json.loads((tmp_path / "interpolation" / "table.json").read_text())
    pairs = read_pairs(tmp_path / "interpolation" / "pairs.json", bench.held_out).pairs
    pixels = dict(zip(bench.held_out.names, to_float(bench.held_out.images), strict=True))
    codes = {name: load_latent(Path(latents["w"]) / f"{file}.safetensors", fingerprint=None).code
             for name, file in zip(bench.held_out.names, output_names(bench.held_out.names), strict=True)}  # fmt: skip
    net = bench.models.generator
    order = sorted(range(len(bench.real)), key=lambda row: bytes(bench.real.digests[row]))[:20]
    real = extractor(bench.real.images[order]).double().numpy()

    def looks(t):
        """Features (P, dim) of all pairs' frames at t."""
        drawn = {
            "w_straight": [net.synthesis(torch.lerp(codes[p.a], codes[p.b], t).expand(1, net.num_ws, -1),
                                         noise_mode="const") for p in pairs],
            "cross_dissolve": [torch.lerp(pixels[p.a], pixels[p.b], t)[None] for p in pairs],
        }  # fmt: skip
        return {method: [extractor(to_uint8(image))[0].numpy() for image in each] for method, each in drawn.items()}

    middles, ends, early = [looks(t) for t in (8 / 17, 9 / 17)], [looks(t) for t in (0.0, 1.0)], looks(3 / 17)
    for method in ("w_straight", "cross_dissolve"):
        numbers = {name: each["value"] for name, each in content["means"][method].items()}
        for place, ts in (("middle", middles), ("ends", ends)):
            frames = np.stack([each[method] for each in ts], axis=1)
            distance, precision = slow_kernel_distance(frames, real), slow_precision(frames, real)
            assert numbers[f"kd_random_conv_{place}"] == pytest.approx(distance, rel=1e-4, abs=1e-7)
            assert numbers[f"precision_random_conv_{place}"] == pytest.approx(precision, abs=1e-9)
        expected = frechet_distance(statistics_of(np.array(early[method])), statistics_of(real))
        assert numbers["fd_random_conv_10_30"] == pytest.approx(expected, rel=1e-3)
        dip = numbers["kd_random_conv_middle"] - numbers["kd_random_conv_ends"]
        assert found[f"interpolation/{method}/kd_random_conv_mid_dip"].value == pytest.approx(dip)


def slow_kernel_distance(frames, real):
    """Of frames (P, F, dim) from real images (R, dim): pairs meet other pairs only."""

    def kernel(x, y):
        return float((x @ y / len(x) + 1) ** 3)

    within = [kernel(x, y) for i, p in enumerate(frames) for j, q in enumerate(frames) if i != j for x in p for y in q]
    reals = [kernel(x, y) for i, x in enumerate(real) for j, y in enumerate(real) if i != j]
    across = [kernel(x, y) for p in frames for x in p for y in real]
    return float(np.mean(within) + np.mean(reals) - 2 * np.mean(across))


def slow_precision(frames, real):
    """Share of the frames within the distance of a real image to its third neighbour."""
    radii = [np.sort(np.linalg.norm(real - each, axis=1))[3] for each in real]
    flat = frames.reshape(-1, frames.shape[-1])
    return float(np.mean([(np.linalg.norm(real - frame, axis=1) <= radii).any() for frame in flat]))


def statistics_of(rows):
    return FeatureStatistics.of(torch.from_numpy(rows))


def test_endpoints_that_fail_are_told(bench, make, latents, tmp_path):
    """Random codes show other images; the cross-dissolve shows the images themselves."""
    found = run(bench, make(latents=latents, **FEW))
    shares = {method: found[f"interpolation/{method}/endpoints_pass"].value for method in ("w_slerp", "cross_dissolve")}
    assert shares["w_slerp"] < 0.5
    assert shares["cross_dissolve"] == 1
    assert found["interpolation/w_slerp/endpoints_pass"].protocol["endpoint_threshold"] == 0.5
    assert found["interpolation/w_slerp/step_cv_max"].protocol["interval"].startswith("none")
    rows = lines(tmp_path / "interpolation" / "rows.csv")
    assert all((float(row["endpoint_miss"]) <= 0.5) == (float(row["endpoints_pass"]) == 1) for row in rows)
    worst = max(float(row["step_cv"]) for row in rows if row["method"] == "w_slerp")
    assert found["interpolation/w_slerp/step_cv_max"].value == pytest.approx(worst)
    assert "w_slerp (endpoints fail)" in (tmp_path / "interpolation" / "table.md").read_text()
    marks = {
        line.split()[0]: "(endpoints fail)" in line for line in printed(found.values()).splitlines() if line.split()
    }
    assert marks["w_slerp"]
    assert not marks["cross_dissolve"]
    parts = [line["pairs"] for line in lines(tmp_path / "interpolation" / "table.csv")]
    assert "endpoints pass" not in parts  # of the cross-dissolve alone it would say nothing

    # Another threshold judges the same trajectories.
    unlimited = run(bench, make(latents=latents, endpoint_threshold=None, **FEW))
    assert "interpolation/w_slerp/endpoints_pass" not in unlimited
    assert not any("caveat" in each.protocol for each in unlimited.values())


class Rough(nn.Module):
    """Features that batches of fewer than 16 change, as kernels for small batches change the last bits."""

    name, dim = "rough", 3
    protocol = MappingProxyType({"extractor": "rough"})

    def forward(self, images):
        return to_float(images).mean(dim=(2, 3)) * (1 if len(images) >= 16 else 2)


def test_the_batch_size_does_not_change_sets_of_frames(bench, make, latents, tmp_path):
    found = []
    for batch_size in (100, 7):
        bench = replace(bench, batch_size=batch_size, output_dir=tmp_path / str(batch_size))
        found.append(run(bench, make(extractor=Rough(), latents=latents, **FEW, frames_per_bin=3)))  # 30 frames a pair
    for name, each in found[0].items():
        assert each.value == pytest.approx(found[1][name].value, rel=1e-6, abs=1e-9), name


def test_goes_on_where_it_was_and_gives_the_same(bench, make, latents, tmp_path, monkeypatch):
    whole = run(bench, make(pictures="none", latents=latents))
    folder = tmp_path / "interpolation" / "pairs"
    for path in sorted(folder.glob("*.safetensors"))[2:4]:
        path.unlink()
    made, original = [], PairRunner.run
    monkeypatch.setattr(
        PairRunner, "run", lambda self, names, *rest: made.append(names) or original(self, names, *rest)
    )
    again = run(bench, make(pictures="none", latents=latents))
    assert len(made) == 2
    assert {name: each.value for name, each in again.items()} == {name: each.value for name, each in whole.items()}
    assert {name: each.meaning for name, each in again.items()} == {name: each.meaning for name, each in whole.items()}
    with pytest.raises(UserError, match="trajectories with other settings.*num_frames was 17, now 18"):
        run(bench, make(num_frames=18, pictures="none", latents=latents))


def test_a_fixed_list_and_latents_that_are_lifted(bench, make, latents, tmp_path):
    first = run(bench, make(methods=["w_slerp"], pictures="none", latents=latents))
    bench.output_dir = tmp_path / "again"
    listed = {"pairs": str(tmp_path / "interpolation" / "pairs.json"), "latents": {"w": latents["w"]}}
    again = run(bench, make(methods=["w_slerp", "w+_slerp"], pictures="none", inverter=None, **listed))
    for name, each in first.items():
        assert again[name].value == pytest.approx(each.value, rel=1e-5), name
    lifted = again["interpolation/w+_slerp/endpoint_psnr_db"].value
    assert lifted == pytest.approx(first["interpolation/w_slerp/endpoint_psnr_db"].value, rel=1e-5)
    assert not (tmp_path / "again" / "interpolation" / "inversions").exists()


def test_the_prior_is_measured_once(bench, make, latents, monkeypatch):
    measured, original = [], Whitened.of
    monkeypatch.setattr(Whitened, "of", lambda generator, **options: measured.append(1) or original(generator))
    run(bench, make(methods=["w_pn"], paths={"pn": pn}, pictures="none", latents=latents))
    assert measured == [1]


def test_latents_of_another_space_or_missing(bench, make, latents):
    for wrong, words in ((latents["z"], "is a latent of z, not of w"), (latents["w"] + "/nothing", "does not exist")):
        with pytest.raises(UserError, match=words):
            run(bench, make(methods=["w_slerp"], latents={"w": wrong}))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ["z_straight"]}, "not_in_z must be w or w.*choose slerp"),
        ({"methods": ["w_spiral"]}, "got 'w_spiral'"),
        ({"methods": ["v_slerp"]}, "got 'v_slerp'"),
        ({"spaces": ["z"], "paths": {"straight": not_in_z}}, "paths must have one that is for one of the spaces z"),
        ({"baseline": "w+_slerp"}, "baseline must be one of .*'w.*'"),
        ({"num_frames": 16}, "num_frames must .* got 16"),
        ({"frames_per_bin": 0}, "frames_per_bin must .* got 0"),
        ({"inversion_batch_size": 0}, "inversion_batch_size must .* got 0"),
        ({"endpoint_threshold": 0}, "endpoint_threshold must .* got 0"),
        ({"path_metrics": {"steps": steps}}, "must include fidelity"),
        ({"pictures": "some"}, "pictures must .* got 'some'"),
        ({"latents": {"w+": "x"}}, "Nothing given as latents goes into z"),
    ],
)
def test_refused_before_any_work(make, options, message):
    with pytest.raises(UserError, match=message):
        make(**options)


def test_refused_by_the_plan(bench, make, tmp_path):
    larger = Discriminator(resolution=32, channel_base=64, channel_max=8)
    other = str(save(tmp_path / "other.safetensors", discriminator=larger))
    for options, words in [
        ({"pairs": "nowhere.json"}, "got 'nowhere.json'"),
        ({"latents": {"z": "nowhere", "w": "nowhere"}}, "folder 'nowhere' of latents in z does not exist"),
        ({"discriminator": "nowhere"}, "'nowhere' does not exist"),
        ({"discriminator": other}, "must be of images of 16 px with 3 channels, got one of 32 px"),
        ({"num_real": 3}, "num_real must .* at least 4, got 3"),
    ]:
        with pytest.raises(UserError, match=words):
            make(**options)(bench)
    bench.output_dir = None
    with pytest.raises(UserError, match="output folder"):
        make()(bench)
