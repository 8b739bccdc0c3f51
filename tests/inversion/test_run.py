"""A folder in, a folder out; interrupted, continued, refused."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
from types import SimpleNamespace

import pytest
import torch

from tests.fakes import read_pixels, tiny_encoder
from tests.inversion.test_objective import Brightness
from wplus.checkpoint import Models, fingerprint
from wplus.core.images import to_float
from wplus.core.progress import Bar
from wplus.errors import UserError
from wplus.inversion import report
from wplus.inversion.encoder import encode
from wplus.inversion.folder import InversionFolder
from wplus.inversion.init import prior
from wplus.inversion.optimize import optimize
from wplus.inversion.report import plot_convergence
from wplus.inversion.run import FolderInversion, choose_labels
from wplus.latents.latent import Latent, load_latent, save_latent, synthesize
from wplus.losses.pixel import l2, psnr
from wplus.tracking import Sink, Tracker

FINGERPRINT = "0123456789abcdef"


class Images:
    """Four random 8 px pictures with names and, perhaps, labels."""

    def __init__(self, num: int = 4, labels: torch.Tensor | None = None) -> None:
        rng = torch.Generator().manual_seed(0)
        self.pixels = torch.randint(0, 256, (num, 3, 8, 8), dtype=torch.uint8, generator=rng)
        self.names, self.labels = [f"sub/{i}.jpg" for i in range(num)], labels

    def batch(self, indices):
        return self.pixels[indices], torch.empty(len(indices), 0)


class Interrupter:
    """An inverter that counts images and gives up, as Ctrl-C does, before batch number `at`."""

    def __init__(self, at: int | None = None) -> None:
        self.names, self.calls, self.at = [], 0, at

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls == self.at:
            raise KeyboardInterrupt
        self.names += kwargs["names"]
        return optimize(*args, steps=3, lanes=2, **kwargs)


class Note:
    """A delta that is a line of text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def save(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.text)


class Tuner(Interrupter):
    """An inverter that makes more than a code, and measures something of its own."""

    def __call__(self, *args, **kwargs):
        found = super().__call__(*args, **kwargs)
        scores = {"moved": torch.arange(len(found.codes)) / 2}
        return dataclasses.replace(found, deltas=[Note(name) for name in kwargs["names"]], scores=scores)


class Memory(Sink):
    def __init__(self) -> None:
        self.heard = {}

    def image(self, key, path, **_):
        self.heard[key] = path

    def video(self, key, path, **_):
        self.heard[key] = path

    def table(self, key, columns, rows):
        self.heard[key] = (columns, rows)

    def summary(self, values):
        self.heard.update(values)

    def artifact(self, path, *, name, kind, **_):
        self.heard[kind] = path


@pytest.fixture
def models(stylegan):
    found = Models(generator=stylegan)
    found.fingerprint = FINGERPRINT
    return found


@pytest.fixture
def fast_plots(monkeypatch):
    """Drawing takes longer than three steps of a tiny generator."""
    monkeypatch.setattr(report, "plot_convergence", lambda histories, path, terms: path)


@pytest.fixture
def run(models, pooled, tmp_path, fast_plots):
    """A folder inverted with everything but what a test cares about."""

    def call(images=None, invert=None, tracker=None, **options):
        defaults = {"models": models, "space": "w", "perceptual": pooled, "output_dir": tmp_path / "out"}
        options = {**defaults, "batch_size": 2, **options}
        return FolderInversion(images or Images(), invert=invert or Interrupter(), **options).run(tracker)

    return call


def test_everything_is_there(run, stylegan, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "plot_convergence", plot_convergence)
    images, out, memory = Images(), tmp_path / "out", Memory()
    table = run(images, tracker=Tracker([memory]))
    for index in range(4):
        latent = load_latent(out / "latents" / "sub" / f"{index}.safetensors", fingerprint=FINGERPRINT)
        pixels = torch.from_numpy(read_pixels(out / "images" / "sub" / f"{index}.png")).permute(2, 0, 1)
        redone = synthesize([latent], stylegan)[0]
        assert (to_float(pixels) - redone.clamp(-1, 1)).abs().max() < 1 / 127
        # The table holds what anyone would measure on the files.
        stored, target = to_float(pixels)[None], to_float(images.pixels[index : index + 1])
        assert table.rows[f"sub/{index}"]["l2"] == pytest.approx(l2(stored, target).item(), rel=1e-5)
        assert table.rows[f"sub/{index}"]["psnr_db"] == pytest.approx(psnr(stored, target).item(), rel=1e-5)
    with open(out / "table.csv", newline="") as file:
        columns = next(csv.reader(file))
    assert columns == ["name", "l1", "l2", "psnr_db", "pooled", "prior_distance", "seconds"]
    protocol = json.loads((out / "table.json").read_text())["protocol"]
    assert (protocol["generator"], protocol["num_images"], protocol["perceptual"]["name"]) == (FINGERPRINT, 4, "pooled")
    for picture in ("grid.png", "convergence.png"):
        assert read_pixels(out / picture).shape[1] > 60
    assert memory.heard["inversion/w/l2"]["value"] == pytest.approx(table.means["l2"].value)
    assert memory.heard["latents"] == out / "latents"
    assert memory.heard["inversion/w/table"][0][:3] == ["name", "target", "inversion"]


def test_interrupted_it_goes_on_with_what_is_missing(run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(invert=Interrupter(at=2))
    assert len(json.loads((tmp_path / "out" / "table.json").read_text())["rows"]) == 2
    second = Interrupter()
    table = run(invert=second, batch_size=3)
    assert second.names == ["sub/2", "sub/3"]
    assert len(table.rows) == 4
    third = Interrupter()
    assert run(invert=third).rows == table.rows
    assert third.calls == 0


def test_an_interrupted_run_equals_a_straight_one(run, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(invert=Interrupter(at=2))
    run(batch_size=1)
    run(output_dir=tmp_path / "straight", batch_size=4)
    for index in range(4):
        first, second = (
            load_latent(tmp_path / folder / "latents" / "sub" / f"{index}.safetensors", fingerprint=None)
            for folder in ("out", "straight")
        )
        assert torch.equal(first.code, second.code)


def test_a_changed_input_is_inverted_again(run):
    images, second = Images(), Interrupter()
    run(images)
    images.pixels[1] += 1
    run(images, invert=second)
    assert second.names == ["sub/1"]


def test_other_settings_are_refused(run, models):
    run()
    with pytest.raises(UserError, match="seed was 0, now 1"):
        run(seed=1)
    with pytest.raises(UserError, match=r"space was w, now w\+"):
        run(space="w+")
    models.fingerprint = "f" * 16
    with pytest.raises(UserError, match=f"generator was {FINGERPRINT}"):
        run()


def test_options_of_the_inverter_are_settings(run):
    run(invert=functools.partial(optimize, steps=2))
    with pytest.raises(UserError, match=r"inverter\.steps was 2, now 3"):
        run(invert=functools.partial(optimize, steps=3))


def test_known_codes_give_an_error_of_the_codes(run, stylegan, tmp_path):
    for index in range(2):
        save_latent(tmp_path / "true" / "sub" / f"{index}.safetensors", Latent(torch.zeros(12), "w", FINGERPRINT))
    table = run(Images(2), truth=tmp_path / "true")
    found = load_latent(tmp_path / "out" / "latents" / "sub" / "1.safetensors", fingerprint=FINGERPRINT).code
    expected = found.norm() / prior(stylegan, "w", None, 1).std[0]
    assert table.rows["sub/1"]["latent_error"] == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(UserError, match=r"truth was .*true, now None"):
        run(Images(2))


def test_without_a_perceptual_net(run):
    table = run(Images(1), invert=functools.partial(optimize, steps=2, weights={"perceptual": 0.0}), perceptual=None)
    assert table.columns == ["l1", "l2", "psnr_db", "prior_distance", "seconds"]


def test_noise_is_saved_with_the_latent(run, stylegan, tmp_path):
    run(Images(2), invert=functools.partial(optimize, steps=2, noise="optimize"))
    latent = load_latent(tmp_path / "out" / "latents" / "sub" / "1.safetensors", fingerprint=FINGERPRINT)
    assert [tuple(layer.shape[1:]) for layer in latent.noise] == stylegan.synthesis.noise_shapes


def test_labels_of_a_conditional_generator(conditional):
    images, own = Images(), torch.eye(3)[[0, 1, 2, 0]]
    assert choose_labels(images, SimpleNamespace(c_dim=0), None) is None
    with pytest.raises(UserError, match="label=1 does not fit the generator; allowed: null"):
        choose_labels(images, SimpleNamespace(c_dim=0), 1)
    assert torch.equal(choose_labels(images, conditional, 1), torch.eye(3)[[1, 1, 1, 1]])
    assert torch.equal(choose_labels(Images(labels=own), conditional, None), own)
    assert choose_labels(images, conditional, None) is None
    with pytest.raises(UserError, match=r"label=3.*0 to 2"):
        choose_labels(images, conditional, 3)
    with pytest.raises(UserError, match="5 classes, the generator 3"):
        choose_labels(Images(labels=torch.eye(5)[:4]), conditional, None)


def test_z_of_a_conditional_generator_keeps_its_label(run, conditional, models, tmp_path):
    models.generator = conditional
    run(Images(2), space="z", label=2)
    latent = load_latent(tmp_path / "out" / "latents" / "sub" / "0.safetensors", fingerprint=FINGERPRINT)
    assert latent.label.tolist() == [0, 0, 1]
    assert latent.space == "z"


def test_deltas_and_scores_of_the_inverter_are_kept(run, tmp_path):
    table = run(Images(2), invert=Tuner())
    assert [row["moved"] for row in table.rows.values()] == [0, 0.5]
    delta = tmp_path / "out" / "deltas" / "sub" / "1.safetensors"
    assert delta.read_text() == "sub/1"
    delta.unlink()
    again = Tuner()
    run(Images(2), invert=again)
    assert again.names == ["sub/1"]


def test_masks_decide_and_are_kept(run, tmp_path):
    images, masks = Images(2), torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    masks[:, :, :4] = 255
    invert = functools.partial(optimize, steps=3, lanes=2)
    table = run(images, invert=invert, masks=masks)
    target, image = (to_float(torch.from_numpy(read_pixels(tmp_path / "out" / kind / "sub" / "0.png")).permute(2, 0, 1))
                     for kind in ("targets", "images"))  # fmt: skip
    expected = l2(image[None, :, :4], target[None, :, :4]).item()
    assert table.rows["sub/0"]["l2"] == pytest.approx(expected, rel=1e-5)
    assert (read_pixels(tmp_path / "out" / "masks" / "sub" / "0.png") == masks[0, 0].numpy()).all()
    images.pixels[1, :, 6] += 1  # outside: another picture, the same code
    code = load_latent(tmp_path / "out" / "latents" / "sub" / "1.safetensors", fingerprint=None).code
    run(images, invert=invert, masks=masks)
    assert torch.equal(load_latent(tmp_path / "out" / "latents" / "sub" / "1.safetensors", fingerprint=None).code, code)
    again = functools.partial(optimize, steps=3, lanes=2)
    masks[0, 0, 5] = 10
    run(images, invert=again, masks=masks)
    assert load_latent(tmp_path / "out" / "latents" / "sub" / "0.safetensors", fingerprint=None).metadata["mask"]
    with pytest.raises(UserError, match="masked was True, now False"):
        run(images, invert=invert)
    with pytest.raises(UserError, match="takes no mask"):
        run(images, invert=invert, masks=masks, losses={"brightness": Brightness()})


def test_an_encoder_is_a_setting_where_it_is_used(run, stylegan, models, tmp_path):
    models.encoder = tiny_encoder(stylegan)
    table = run(Images(2), invert=encode)
    assert len(table.rows) == 2
    settings = json.loads((tmp_path / "out" / "settings.json").read_text())
    assert settings["encoder"] == fingerprint(models.encoder)
    models.encoder = tiny_encoder(stylegan)
    models.encoder.latent_avg.add_(1)
    with pytest.raises(UserError, match="encoder was "):
        run(Images(2), invert=encode)
    run(Images(2), output_dir=tmp_path / "other")
    models.encoder = None
    run(Images(2), output_dir=tmp_path / "other")
    for space in ("w", "z"):
        with pytest.raises(UserError, match="needs an encoder"):
            run(
                Images(2),
                space=space,
                invert=functools.partial(optimize, start="encoder"),
                output_dir=tmp_path / "third",
            )
    assert not (tmp_path / "third").exists()


def test_further_losses_are_terms_scores_and_settings(run, tmp_path):
    losses = {"brightness": Brightness()}
    weighted = functools.partial(optimize, steps=2, weights={"brightness": 1.0})
    table = run(Images(2), invert=weighted, losses=losses)
    assert table.columns == ["l1", "l2", "psnr_db", "pooled", "brightness", "prior_distance", "seconds"]
    history = InversionFolder(tmp_path / "out", fingerprint=FINGERPRINT, settings_digest="").history("sub/0")
    assert "brightness" in history
    with pytest.raises(UserError, match="brightness was "):
        run(Images(2), invert=weighted)
    with pytest.raises(UserError, match="no term 'brightness'"):
        run(Images(2), invert=weighted, output_dir=tmp_path / "without")


def test_the_first_batch_is_filmed_once(run, tmp_path):
    memory = Memory()
    run(Images(3), tracker=Tracker([memory]), video="keep")
    film = tmp_path / "out" / "inversion.mp4"
    assert memory.heard["inversion/w/film"] == film
    before = film.stat().st_mtime_ns
    run(Images(4), video="keep")
    assert film.stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"video=yes.*drop, keep"):
        run(video="yes")


def test_the_bar_arrives_also_when_steps_are_not_needed(run, monkeypatch):
    heard = []

    class Recorded(Bar):
        def update(self, advance=1, note=None):
            heard.append(advance)

    monkeypatch.setattr("wplus.inversion.run.bar", Recorded)
    stopping = functools.partial(optimize, steps=64, early_stop={"patience": 1, "tolerance": 0.99}, restarts=1, lanes=2)
    run(Images(3), invert=stopping)
    assert sum(heard) == pytest.approx(3)
    assert min(heard) > 0
    assert len(heard) < 2 * 2 * 64


def test_bad_arguments_before_any_work(run, tmp_path):
    with pytest.raises(UserError, match="batch_size=0"):
        run(batch_size=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="Cannot write to the output folder"):
        run(output_dir=tmp_path / "file")
