"""Every user error gets one sentence with the value and what is allowed; nothing is left behind, nothing is lost."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

import wplus
from wplus.__main__ import main
from wplus.editing.directions import Direction, Directions, save_directions
from wplus.latents.latent import Latent, save_latent
from wplus.models.stylegan2 import Discriminator, Generator

SMALL = {"resolution": 8, "z_dim": 4, "w_dim": 4, "num_mapping_layers": 1, "channel_base": 32, "channel_max": 4}
Refused = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Refused:
    """Run a command with arguments that it must refuse without leaving files; return its one sentence."""
    monkeypatch.chdir(tmp_path)

    def run(verb: str, *arguments: object) -> str:
        before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
        with pytest.raises(SystemExit) as stopped:
            main([verb, *map(str, arguments), "tracking=local"])
        message = str(stopped.value)
        assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        assert message.strip() not in ("", "0", "None")
        assert "\n" not in message
        assert "Traceback" not in message
        return message

    return run


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return wplus.save(tmp_path / "model.safetensors", generator=Generator(**SMALL))


def pictures(folder: Path, *sizes: tuple[int, int]) -> Path:
    folder.mkdir(exist_ok=True)
    for index, size in enumerate(sizes):
        Image.new("RGB", size, (index, 20, 30)).save(folder / f"{index}.png")
    return folder


def train_on(folder: Path, *arguments: object) -> tuple[object, ...]:
    return (
        "train",
        "data=folder",
        f"data.path={folder}",
        "data.resolution=8",
        f"run_dir={folder.parent}/run",
        *arguments,
    )


def test_missing_and_empty_folders(tmp_path, refused):
    assert "nowhere" in refused(*train_on(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    assert "empty" in refused(*train_on(tmp_path / "empty"))
    assert not (tmp_path / "run").exists()


def test_a_corrupt_image_is_named(tmp_path, refused):
    folder = pictures(tmp_path / "in", (8, 8), (8, 8))
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:40])
    assert "broken.png" in refused(*train_on(folder))


def test_mixed_sizes_are_refused_where_asked(tmp_path, refused):
    folder = pictures(tmp_path / "in", (8, 8), (16, 12))
    assert "1.png" in refused(*train_on(folder, "data.fit=refuse"))


def test_a_resolution_that_is_no_power_of_two(tmp_path, refused):
    message = refused("train", "data.resolution=48", f"run_dir={tmp_path}/run")
    assert "48" in message
    assert "power of two" in message
    assert not (tmp_path / "run").exists()


def test_a_batch_that_the_stddev_group_does_not_divide(tmp_path, refused):
    message = refused("train", "debug=quick", "training.hparams.batch_size=6", f"run_dir={tmp_path}/run")
    assert "mbstd_group_size must divide the 6" in message
    assert "6 images" in message


ENCODERS = [  # of an encoder's training: arguments, words of the sentence
    (["training=e4e"], ["encoder=small"]),
    (["experiment=e4e_cats"], ["checkpoint=model.safetensors"]),
    (["experiment=e4e_cats", "checkpoint=nowhere.pt"], ["'nowhere.pt' does not exist"]),
    (["experiment=e4e_cats", "checkpoint={model}", "debug=quick"], ["model has no effect", "debug=quick_encoder"]),
    (
        ["experiment=e4e_cats", "checkpoint={model}", "data.resolution=16"],
        ["data.resolution=16", "differs from the generator's, 8"],
    ),
    (
        ["experiment=e4e_cats", "checkpoint={model}", "training.loss_weights.ssim=1"],
        ["weights.ssim=1", "image_loss=[...]"],
    ),
    (
        ["experiment=e4e_cats", "checkpoint={model}", "training.loss_weights.lpips=1"],
        ["loss_weights.lpips=1 has no loss", "image_loss=[...]"],
    ),
    (["experiment=psp_cats", "checkpoint={model}", "training.loss_weights.adversarial=1"], ["training=e4e"]),
    (["experiment=e4e_cats", "checkpoint={model}", "training.hparams.optimizer=sgd"], ["sgd", "ranger, adamw"]),
    (["experiment=e4e_cats", "checkpoint={model}", "training.hparams.num_passes=3"], ["encoder=restyle"]),
    (["checkpoint={model}"], ["checkpoint has no effect", "training=e4e"]),
    (["encoder=small"], ["encoder has no effect", "training=e4e"]),
    (["experiment=e4e_cats", "encoder=null"], ["A choice must be one of"]),
]


@pytest.mark.parametrize(("arguments", "words"), ENCODERS)
def test_choices_of_an_encoders_training(tmp_path, model, refused, arguments, words):
    message = refused("train", *[part.format(model=model) for part in arguments], f"run_dir={tmp_path}/run")
    assert all(word in message for word in words), message
    assert not (tmp_path / "run").exists()


ANYTHING_WRONG = [  # arguments, words of the sentence; refused at different places of a command
    ("train data.resolution=8 training.hparams.gamma=-1 debug=quick", "gamma must be"),
    ("evaluate metrics=[fd] data.path=nowhere", "'nowhere' does not exist"),
    ("evaluate metrics=[pr] metrics.pr.k=0", "k must be"),
    ("evaluate metrics=[ppl_wend,reconstruction]", "needs an encoder"),
    ("invert input=in inverter.num_steps=0", "num_steps must be"),
    ("invert input=in inverter=sketch", "inverter=sketch needs masks"),
    ("interpolate inputs=[in/0.png,in/1.png] inverter.num_steps=0", "num_steps must be"),
    ("interpolate inputs=[seed:1,seed:2] noise=own", "noise must be"),
    ("directions finder.num_directions=1 strengths=[x]", "strengths must be a number, got 'x'"),
    ("edit directions=d.safetensors latents=[seed:1] strengths=[1,x]", "strengths must be a number, got 'x'"),
    ("consistency directions=d.safetensors input=in inverter=encoder", "needs an encoder"),
    ("translate input=in", "translat"),
    ("compare folders=[in,nowhere]", "in"),
    ("ema folder=in", "in"),
    ("classifier data.resolution=8", "attributes"),
]


@pytest.mark.parametrize(("line", "words"), ANYTHING_WRONG)
def test_what_is_refused_leaves_nothing(tmp_path, model, refused, line, words):
    pictures(tmp_path / "in", (8, 8), (8, 8))
    verb, *arguments = line.split()
    fingerprint = wplus.load(model).fingerprint
    found = Direction("d", torch.eye(4)[0], (0, 1, 2, 3), 4, 1.0, 0.0)
    save_directions(tmp_path / "d.safetensors", Directions((found,), fingerprint, {"finder": "sefa"}))
    where = [] if verb in ("train", "compare", "ema", "classifier") else [f"checkpoint={model}"]
    data = ["data=folder", "data.path=in"] if verb in ("train", "evaluate", "classifier") else []
    assert words in refused(verb, *where, *data, *arguments)


def test_a_checkpoint_without_a_generator(tmp_path, refused):
    discriminator = Discriminator(resolution=8, channel_base=32, channel_max=4)
    path = wplus.save(tmp_path / "d.safetensors", discriminator=discriminator)
    message = refused(
        "invert", f"checkpoint={path}", f"input={pictures(tmp_path / 'in', (8, 8))}", f"run_dir={tmp_path}/run"
    )
    assert "generator" in message
    assert "d.safetensors" in message


@pytest.mark.parametrize("kind", ["missing", "truncated", "foreign"])
def test_a_file_that_is_no_checkpoint(tmp_path, model, refused, kind):
    path = tmp_path / "bad.safetensors"
    content = {"truncated": model.read_bytes()[:-20], "foreign": b"GIF89a this is something else"}
    if kind != "missing":
        path.write_bytes(content[kind])
    for command in (
        ["invert", "input=x"],
        ["interpolate", "inputs=[seed:1,seed:2]"],
        ["evaluate"],
    ):
        assert "bad.safetensors" in refused(*command, f"checkpoint={path}", f"run_dir={tmp_path}/run")


def test_a_latent_of_another_generator(tmp_path, model, refused):
    other = Generator(**SMALL)
    latent = Latent(code=torch.zeros(4), space="w", generator=wplus.checkpoint.fingerprint(other))
    for name in ("a", "b"):
        save_latent(tmp_path / f"{name}.safetensors", latent)
    inputs = f"inputs=[{tmp_path}/a.safetensors,{tmp_path}/b.safetensors]"
    message = refused("interpolate", f"checkpoint={model}", inputs, f"run_dir={tmp_path}/run")
    assert "a.safetensors" in message
    assert latent.generator in message


def test_an_output_folder_that_cannot_be_written(model, refused):
    assert "/dev/null/run" in refused("train", "debug=quick", "run_dir=/dev/null/run")
    assert "/dev/null/run" in refused(
        "interpolate", f"checkpoint={model}", "inputs=[seed:1,seed:2]", "run_dir=/dev/null/run"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_a_gpu_that_is_not_there(tmp_path, model, refused):
    for command in (["train"], ["evaluate", f"checkpoint={model}"]):
        message = refused(*command, "device=cuda", f"run_dir={tmp_path}/run")
        assert "device=cuda" in message
        assert "device=cpu" in message
