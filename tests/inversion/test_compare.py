"""Comparing folders of inversions: on common images, with equal pixels and equal instruments."""

import json

import pytest
import torch

from tests.fakes import read_pixels
from tests.sweeps.runs import write_run
from wplus.__main__ import main
from wplus.core.images import save_png
from wplus.core.metric_result import MetricInfo
from wplus.core.tables import Table
from wplus.editing.consistency import LEC_ALL
from wplus.errors import UserError
from wplus.inversion.compare import compare
from wplus.inversion.folder import InversionFolder
from wplus.inversion.report import score_notes
from wplus.inversion.result import Score
from wplus.latents.latent import Latent
from wplus.losses.pixel import L2
from wplus.losses.ssim import SSIM
from wplus.tracking.local import open_tracker, read_result

NAMES = [f"image{index}" for index in range(8)]
NET = {"name": "net", "sha256": "0" * 64}
INFO = {
    "psnr_db": MetricInfo(meaning="An error.", unit="dB", direction="higher"),
    "seconds": MetricInfo(meaning="A time.", unit="s", direction="lower", per_item=False),
}


def target_of(name: str) -> torch.Tensor:
    rng = torch.Generator().manual_seed(sum(map(ord, name)))
    return torch.randint(0, 256, (3, 16, 16), generator=rng, dtype=torch.uint8)


def a_folder(path, *, error: int, names=NAMES, net=NET, masked=False, other_pixels=()):
    """A folder of inversions whose pictures differ from their targets by `error`."""
    store = InversionFolder(path, fingerprint="f" * 16, settings_digest="s")
    for index, name in enumerate(names):
        target = target_of(name + "!" if name in other_pixels else name)
        image = torch.where(target > 127, target - error, target + error)
        values = {"psnr_db": 40.0 - error, "seconds": index + error / 10}
        columns = {
            name: Score(torch.tensor([value], dtype=torch.float64), INFO[name]) for name, value in values.items()
        }
        latent = Latent(code=torch.zeros(4), space="w", generator="f" * 16, metadata=score_notes(columns, 0))
        mask = torch.full((1, 16, 16), 255, dtype=torch.uint8) if masked else None
        if masked:
            mask[:, 8:] = 0
        store.save(name, latent, image=image, target=target, history={"loss": torch.rand(4) + 1}, mask=mask)
    (path / "settings.json").write_text(json.dumps({"space": "w", "perceptual": net, "losses": {}}))
    return path


def test_one_table_of_what_the_folders_have_in_common(tmp_path):
    folders = {"far": a_folder(tmp_path / "a", error=20), "near": a_folder(tmp_path / "b", error=5, names=NAMES[1:])}
    with open_tracker(output_dir=tmp_path / "out", job_type="compare", name="x") as tracker:
        methods = compare(folders, output_dir=tmp_path / "out", tracker=tracker)
    found = methods.paired["near"]["psnr_db"]
    assert (found.num_items, found.difference, found.p) == (7, 15, pytest.approx(2 / 2**7))
    content = json.loads((tmp_path / "out" / "table.json").read_text())
    assert content["protocol"]["num_images"] == 7
    assert content["protocol"]["left_out"] == {"far": 1, "near": 0}
    assert content["protocol"]["methods"]["near"]["perceptual"] == NET
    assert content["paired"]["near"]["psnr_db"]["p_holm"] == pytest.approx(2 / 2**7)  # seconds were not tested
    result = read_result(tmp_path / "out")
    assert result["methods"]["compare/methods"]["near"]["psnr_db"]["value"] == 35
    assert {"compare/grid", "compare/convergence", "compare/methods_paired"} <= set(result["files"])
    assert read_pixels(tmp_path / "out" / "grid.png").ndim == 3


@pytest.mark.parametrize("masked", [False, True])
def test_further_scores_come_from_the_stored_pictures_under_the_mask(tmp_path, masked):
    folders = {label: a_folder(tmp_path / label, error=10, masked=masked) for label in "ab"}
    store = InversionFolder(folders["b"])
    for name in NAMES:  # wrong where nobody looks
        image = store.image("images", name)
        image[:, 8:] = 255
        save_png(store.path("images", name), image)
    terms = {"l2": L2(), "ssim": SSIM()}
    methods = compare(folders, output_dir=tmp_path, terms=terms, tested=["l2"], batch_size=3)
    assert methods.rows["a"]["image3"]["l2"] == pytest.approx((10 / 127.5) ** 2, rel=1e-5)
    assert (methods.paired["b"]["l2"].difference == 0) == masked
    assert "similarity_ssim" in methods.rows["b"]["image0"]
    assert list(methods.paired["b"]) == ["l2"]


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"other_pixels": ["image2"]}, {}, "'a' and 'b' hold different pictures: 1 of 8 images, such as 'image2'"),
        ({"masked": True}, {}, "different pictures: 8 of 8 images"),
        ({"names": ["else"]}, {}, "no image in common"),
        ({"net": {**NET, "sha256": "1" * 64}}, {}, "score 'net' of 'a' and that of 'b' were measured differently"),
        ({}, {"baseline": "c"}, "baseline=c is not one of the folders: choose one of a, b"),
    ],
)
def test_what_cannot_be_compared_is_refused(tmp_path, changes, options, message):
    folders = {"a": a_folder(tmp_path / "a", error=1), "b": a_folder(tmp_path / "b", error=1, **changes)}
    with pytest.raises(UserError, match=message):
        compare(folders, output_dir=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_one_folder_or_an_empty_one_is_refused(tmp_path):
    folders = {"a": a_folder(tmp_path / "a", error=1)}
    with pytest.raises(UserError, match="two folders or more"):
        compare(folders, output_dir=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="cannot be compared"):
        compare({**folders, "b": tmp_path / "empty"}, output_dir=tmp_path)


def test_tables_of_other_runs_are_compared_too(tmp_path):
    digests, info = {name: name for name in NAMES}, {"lec_up_all": LEC_ALL}
    for label, shift in (("a", 0.0), ("b", 1.0)):
        rows = {name: {"lec_up_all": index + shift} for index, name in enumerate(NAMES)}
        Table(rows, digests, info).write(tmp_path / label, {"instruments": {"lec_up_all": {"edit": "up"}}})
    folders = {"a": tmp_path / "a", "b": tmp_path / "b"}
    methods = compare(folders, output_dir=tmp_path / "out")
    assert methods.paired["b"]["lec_up_all"].difference == 1
    assert not (tmp_path / "out" / "grid.png").exists()
    with pytest.raises(UserError, match="a table and no images: image_loss=\\[\\]"):
        compare(folders, output_dir=tmp_path / "out", terms={"l2": L2()})
    Table(rows, digests, info).write(tmp_path / "b", {"instruments": {"lec_up_all": {"edit": "down"}}})
    with pytest.raises(UserError, match="measured differently"):
        compare(folders, output_dir=tmp_path / "out")


def test_the_command(tmp_path, capsys, without_curves):
    def command(*arguments: str, out: str = "out") -> None:
        main(["compare", *arguments, f"run_dir={tmp_path}/{out}", "tracking=local"])

    a, b = a_folder(tmp_path / "first", error=20), a_folder(tmp_path / "second", error=5)
    command(f"folders=[{a},{b}]", "baseline=second", "image_loss=[ssim]")
    shown = capsys.readouterr().out
    assert "| minus 'second', paired | psnr_db ↑ | similarity_ssim ↑ |" in shown
    assert "8 images in all folders" in shown
    command(f"folders=[{a},{b}]", "labels=[x,y]", "image_loss=[]", "tested=psnr_db", out="other")
    assert "minus 'x', paired" in (tmp_path / "other" / "table.md").read_text()
    for arguments, message in (
        (["folders=[x/w,y/w]"], "Two folders are called 'w' and have seed 0: give each a label"),
        (["folders=[a,b]", "labels=[a]"], "1 labels for 2 folders"),
    ):
        with pytest.raises(SystemExit, match=message):
            command(*arguments, out="none")


def test_runs_that_differ_in_their_seed_are_one_method(tmp_path, capsys, without_curves):
    """Six seeds of two spaces: seeds are the unit, and pairs of folders are named by what varies."""
    folders = []
    for space, gain in (("w", 20), ("w+", 10)):
        for seed in range(6):
            path = tmp_path / f"invert-{space}-{seed}"
            write_run(path, {"invert/psnr_db": 0.0}, space=space, seed=seed)
            folders.append(str(a_folder(path, error=gain + seed)))
    given = [f"folders=[{','.join(folders)}]", "image_loss=[]", "margins={psnr_db:20}", f"run_dir={tmp_path}/out"]
    main(["compare", *given, "tracking=local"])
    shown = capsys.readouterr().out
    assert "| minus 'space=w', paired | psnr_db ↑ |" in shown
    assert "| space=w+ | +10, p = 0.06, equal within the margin: p = 0" in shown  # Holm: seconds are tested, too
    assert "8 images in all folders" in shown
    content = json.loads((tmp_path / "out" / "table.json").read_text())
    assert content["unit"] == "seeds"
    assert content["rows"]["space=w"]["3"]["psnr_db"] == 17
    assert content["protocol"]["interval"].startswith("95 %, BCa bootstrap over seeds")
