"""A folder in, a folder out; resuming, refusals, tracking."""

import csv
import functools
import json

import pytest
import torch

from tests.fakes import Brightness, Recorder, random_images, read_pixels, tiny_encoder
from wplus.checkpoint import Models, fingerprint
from wplus.core.images import to_float
from wplus.core.progress import Bar
from wplus.data import ImageSet
from wplus.errors import UserError
from wplus.inversion.encoder import encode
from wplus.inversion.folder import InversionFolder
from wplus.inversion.init import prior
from wplus.inversion.optimize import optimize
from wplus.inversion.run import FolderInversion, choose_labels
from wplus.latents.latent import Latent, load_latent, save_latent, synthesize
from wplus.latents.space import space_named
from wplus.losses.pixel import l2, psnr
from wplus.tracking import Tracker

quick = functools.partial(optimize, num_steps=3)


def some_images(num: int = 4, *, c_dim: int = 0) -> ImageSet:
    images = random_images(num, c_dim=c_dim)
    return ImageSet(images.images, images.labels, [f"sub/{name}" for name in images.names])


@pytest.fixture
def models(stylegan):
    return Models(generator=stylegan)


@pytest.fixture
def run(models, pooled, tmp_path, without_curves):
    """Invert a folder with defaults for everything that a test does not set."""

    def call(images=None, invert=quick, tracker=None, **options):
        shared = {"models": models, "space": "w", "perceptual": pooled, "output_dir": tmp_path / "out"}
        options = {**shared, "batch_size": 2, "chunk_size": 2, **options}
        return FolderInversion(images or some_images(), invert=invert, **options).run(tracker)

    return call


def latent_of(tmp_path, name: str) -> Latent:
    return load_latent(tmp_path / "out" / "latents" / "sub" / f"{name}.safetensors", fingerprint=None)


def test_everything_is_there(run, models, tmp_path, monkeypatch):
    monkeypatch.undo()
    images, out, memory = some_images(), tmp_path / "out", Recorder()
    table, store = run(images, tracker=Tracker([memory])), InversionFolder(out)
    for index in range(4):
        name = f"sub/{index}"
        stored, target = to_float(store.image("images", name))[None], to_float(images.images[index : index + 1])
        again = synthesize([load_latent(store.path("latents", name), fingerprint=models.fingerprint)], models.generator)
        assert (stored - again.clamp(-1, 1)).abs().max() < 1 / 127
        # The table holds what anyone would measure on the files.
        assert table.rows[name]["l2"] == pytest.approx(l2(stored, target).item(), rel=1e-5)
        assert table.rows[name]["psnr_db"] == pytest.approx(psnr(stored, target).item(), rel=1e-5)
    with open(out / "table.csv", newline="") as file:
        assert next(csv.reader(file)) == ["name", "l1", "l2", "psnr_db", "pooled", "prior_distance", "style_distance",
                                      "seconds"]  # fmt: skip
    content = json.loads((out / "table.json").read_text())
    expected = {"generator": models.fingerprint, "num_images": 4, "perceptual": {"name": "pooled"}}
    assert expected.items() <= content["protocol"].items()
    assert content["info"]["psnr_db"]["unit"] == "dB"
    assert all(read_pixels(out / picture).shape[1] > 60 for picture in ("grid.png", "convergence.png"))
    entry = memory.seen["invert/l2"]
    assert (entry["value"], entry["direction"]) == (pytest.approx(table.means["l2"].value), "lower")
    assert "squared difference" in entry["meaning"]
    assert memory.seen["invert/seconds"]["interval"] is None
    assert (out / "latents", "latents") in memory.seen.values()
    assert list(memory.seen["invert/images"][0])[:3] == ["name", "target", "inversion"]


def test_other_settings_are_refused(run, models):
    run()
    for options, message in (
        ({"seed": 1}, "seed was 0, now 1"),
        ({"space": "w+"}, r"space was w, now w\+"),
        ({"chunk_size": 3}, "chunk_size was 2, now 3"),
        ({"losses": {"brightness": Brightness()}}, "brightness was absent"),
        ({"invert": functools.partial(optimize, num_steps=4)}, r"inverter\.num_steps was 3, now 4"),
    ):
        with pytest.raises(UserError, match=message):
            run(**options)
    before = models.fingerprint
    models.fingerprint = "f" * 16
    with pytest.raises(UserError, match=f"generator was {before}"):
        run()


def test_known_latents_give_an_error_of_the_latents(run, stylegan, models, tmp_path):
    for index in range(2):
        save_latent(
            tmp_path / "true" / "sub" / f"{index}.safetensors", Latent(torch.zeros(12), "w", models.fingerprint)
        )
    table = run(some_images(2), ground_truth=tmp_path / "true")
    expected = latent_of(tmp_path, "1").code.norm() / prior(stylegan, space_named("w"), None, 1).std[0]
    assert table.rows["sub/1"]["latent_error"] == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(UserError, match=r"ground_truth was .*true, now None"):
        run(some_images(2))


def test_noise_is_saved_with_the_latent(run, stylegan, tmp_path):
    run(some_images(2), invert=functools.partial(quick, noise="optimize"))
    noise = latent_of(tmp_path, "1").noise
    assert [tuple(layer.shape[1:]) for layer in noise] == stylegan.synthesis.noise_shapes


def test_labels_of_a_conditional_generator(run, conditional, stylegan, models, tmp_path):
    images, own = some_images(), some_images(c_dim=3)
    assert choose_labels(images, stylegan, None) is choose_labels(images, conditional, None) is None
    assert torch.equal(choose_labels(images, conditional, 1), torch.eye(3)[[1, 1, 1, 1]])
    assert torch.equal(choose_labels(own, conditional, None), own.labels)
    for given, generator, label, message in (
        (images, stylegan, 1, "label must be null for a generator without classes, got 1"),
        (images, conditional, 3, "label must be a class number from 0 to 2 or a list of 3 numbers, got 3"),
        (images, conditional, [1, 2], r"label must be .* a list of 3 numbers, got \[1, 2\]"),
        (some_images(c_dim=5), conditional, None, "generator's 3 classes, got 5"),
    ):
        with pytest.raises(UserError, match=message):
            choose_labels(given, generator, label)
    models.generator = conditional
    with pytest.raises(UserError, match="labels of 3 classes must be given in z"):
        run(space="z")
    run(some_images(2), space="z", label=2)
    latent = latent_of(tmp_path, "0")
    assert (latent.label.tolist(), latent.space) == ([0, 0, 1], "z")
    run(some_images(2), space="z", label=[3, 3, 3])  # a latent belongs to its label
    assert latent_of(tmp_path, "0").label.tolist() == [3, 3, 3]
    assert not torch.equal(latent_of(tmp_path, "0").code, latent.code)


def test_no_latent_stays_under_a_name_of_before(run, tmp_path):
    """With a second image of the same stem both keep their extensions, and the first one's files would be left over."""
    images = random_images(3)
    of = {name: ImageSet(images.images[:num], None, list(names)) for name, num, names in (
        ("one", 1, ["a.png"]), ("two", 2, ["a.png", "a.jpg"]), ("other", 1, ["b.png"]))}  # fmt: skip
    run(of["one"])
    run(of["other"])
    with pytest.raises(UserError, match=r"latents/a\.safetensors' is an earlier inversion of 'a\.png'.*'a\.png' now"):
        run(of["two"])
    assert len(run(of["two"], output_dir=tmp_path / "second").rows) == 2
    with pytest.raises(UserError, match=r"a\.png\.safetensors' is an earlier inversion of 'a\.png'.*'a' now"):
        run(of["one"], output_dir=tmp_path / "second")


def test_masks_decide_and_are_kept(run, tmp_path):
    images, masks = some_images(2), torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    masks[:, :, :4] = 255
    table, store = run(images, masks=masks), InversionFolder(tmp_path / "out")
    target, image = (to_float(store.image(kind, "sub/0"))[None, :, :4] for kind in ("targets", "images"))
    assert table.rows["sub/0"]["l2"] == pytest.approx(l2(image, target).item(), rel=1e-5)
    assert torch.equal(store.image("masks", "sub/0"), masks[0])
    before = latent_of(tmp_path, "1").code
    images.images[1, :, 6] += 1  # outside: another image, the same latent
    masks[0, 0, 5] = 10
    run(images, masks=masks)
    assert torch.equal(latent_of(tmp_path, "1").code, before)
    assert latent_of(tmp_path, "0").metadata["mask"]
    with pytest.raises(UserError, match="masked was True, now False"):
        run(images)
    with pytest.raises(UserError, match="takes no mask"):
        run(images, masks=masks, losses={"brightness": Brightness()})


def test_an_encoder_is_a_setting_where_it_is_used(run, stylegan, models, tmp_path):
    models.encoder = tiny_encoder(stylegan)
    assert len(run(some_images(2), invert=encode).rows) == 2
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["encoder"] == fingerprint(models.encoder)
    models.encoder = tiny_encoder(stylegan)
    models.encoder.latent_avg.add_(1)
    with pytest.raises(UserError, match="encoder was "):
        run(some_images(2), invert=encode)
    run(some_images(2), output_dir=tmp_path / "other")
    models.encoder = None
    run(some_images(2), output_dir=tmp_path / "other")
    starting, third = functools.partial(optimize, init="encoder"), tmp_path / "third"
    for space in ("w", "z"):
        with pytest.raises(UserError, match="needs an encoder"):
            run(some_images(2), space=space, invert=starting, output_dir=third)
    assert not third.exists()


def test_the_first_batch_is_filmed_once(run, tmp_path):
    memory, video = Recorder(), tmp_path / "out" / "inversion.mp4"
    run(some_images(3), tracker=Tracker([memory]), video="keep")
    assert memory.seen["invert/video"] == video
    before = video.stat().st_mtime_ns
    run(some_images(4), video="keep")
    assert video.stat().st_mtime_ns == before


def test_the_bar_arrives_also_when_steps_are_not_needed(run, monkeypatch):
    heard = []

    class Recorded(Bar):
        def update(self, advance=1, note=None):
            heard.append(advance)

    monkeypatch.setattr("wplus.inversion.run.Bar", Recorded)
    run(
        some_images(3),
        functools.partial(optimize, num_steps=64, early_stop={"patience": 1, "tolerance": 0.99}, restarts=1),
    )
    assert sum(heard) == pytest.approx(3)
    assert min(heard) > 0
    assert len(heard) < 2 * 2 * 64


def test_bad_arguments_before_any_work(run, tmp_path):
    (tmp_path / "file").write_text("")
    for options, message in (
        ({"batch_size": 0}, "batch_size must .* 1, got 0"),
        ({"video": "yes"}, "video must be one of drop, keep, got 'yes'"),
        ({"output_dir": tmp_path / "file"}, "Cannot write to the output folder"),
    ):
        with pytest.raises(UserError, match=message):
            run(**options)
