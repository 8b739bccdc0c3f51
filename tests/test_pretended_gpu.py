"""Every command on a pretended GPU: no mix of devices, and the CPU's files, bit for bit. And that what pretends refuses
what a GPU refuses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import wplus
from tests.fakes import noise, tiny_encoder, tiny_generator
from tests.pretended_gpu import GPU, OnGpu, pretended_gpu
from wplus.__main__ import main
from wplus.commands import demo, doctor, estimate
from wplus.config import CONFIG_FOLDER
from wplus.models.stylegan2 import Discriminator
from wplus.models.translation.resnet import ResNet

MODEL, SETS = (
    "checkpoint=model.safetensors",
    ["data=folder", "data.path=set", "data.resolution=8", "data.labels=folder"],
)
INPUT, DIRECTIONS = ["input=set/0/0.png"], "directions=cpu/directions/directions.safetensors"
PATHS = sorted(path.stem for path in (CONFIG_FOLDER / "path").glob("*.yaml"))
PATH_METRICS = sorted(path.stem for path in (CONFIG_FOLDER / "path_metrics").glob("*.yaml"))
FILM = [MODEL, "inputs=[seed:1,seed:2]", "space=w+", "num_frames=3", "frames=keep"]
SIZES = ["model.generator.channel_max=8", "model.discriminator.channel_max=8", "model.generator.z_dim=8",
         "model.generator.w_dim=8", "model.generator.num_mapping_layers=2",
         "training.hparams.batch_size=8"]  # fmt: skip
PAIRS = {"pairs": "draw", "num_pairs": 3, "num_frames": 17, "methods": "[w_lerp]", "pictures": "none",
         "inverter.num_steps": 2, "inverter.num_candidates": 4}  # fmt: skip
COMMANDS = {  # a verb, and perhaps what of it, in an order in which each finds what it needs
    "train": [*SETS, *SIZES, "schedule.kimg=0.016", "training.micro_batch_size=4", "augment=ada", "num_samples=4",
              "trainer.precision=float32", "probes=[style_mixing,truncation,noise_map,logits]"],
    "train from reconstructions": [*SETS, *SIZES, "data.labels=none", "schedule.kimg=0.032", "anchor=pairs",
                                   "probes=[]", "anchor.warmup_kimg=0.016", "anchor.fit_steps=2", "anchor.pool=64",
                                   "num_samples=4", "trainer.precision=float32"],
    "invert": [MODEL, *INPUT, "space=w+", "inverter=hybrid", "inverter.num_steps=2", "chunk_size=1"],
    "directions": [MODEL, "finder=pca", "finder.num_directions=1", "finder.num_samples=20"],
    "edit": [MODEL, DIRECTIONS, "latents=[seed:1,set/0/0.png]", "strengths=[-1,1]", "inverter.num_steps=2"],
    "consistency": [MODEL, DIRECTIONS, *INPUT, "inverter.num_steps=2"],
    "interpolate by every path": [*FILM, f"path=[{','.join(PATHS)}]", "retime=[none,arc_length]",
                                  "path_metrics=[prior]", "path.geodesic.num_steps=2"],
    "interpolate by every metric": [*FILM, f"path_metrics=[{','.join(PATH_METRICS)}]"],
    "draw_pairs": [*SETS, "resolution=8", "split=all", "num_pairs=3", "output={place}/draw_pairs/pairs.json"],
    "evaluate": [MODEL, *SETS, "data.held_out_fraction=0.5", "metrics=[interpolation]", "cache_dir=null",
                 *(f"metrics.interpolation.{key}={value}" for key, value in PAIRS.items())],
    "compare": ["folders=[cpu/invert,gpu/invert]", "labels=[a,b]", "image_loss=[identity_effnet_lite0]"],
    "translate": ["checkpoint=translator.safetensors", *INPUT, "resolution=8", "classifier=null"],
    "classifier": [*SETS, "width=16", "schedule.kimg=0.064", "schedule.batch_size=16"],
}  # fmt: skip
WITHOUT_DEVICE = {"ema"}  # averages files
PLOTS = ("plot", "curve", "distances", "along")
VOLATILE = ("seconds", "minutes", "sec_per_kimg", "kimg_per_s", "memory", "cost")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A generator with an encoder and a discriminator, a translator, and images of two classes."""
    root = tmp_path_factory.mktemp("pretended")
    generator = tiny_generator()
    judge = Discriminator(resolution=8, channel_base=64, channel_max=8, mbstd_group_size=1)
    wplus.save(root / "model.safetensors", generator=generator, encoder=tiny_encoder(generator), discriminator=judge)
    translator = ResNet(width=4, num_blocks=1, num_downs=1).eval()
    wplus.save(root / "translator.safetensors", generator=translator, metadata={"data": {"resolution": 8}})
    for number in range(32):
        path = root / "set" / str(number % 2) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise(8, 8, seed=number).save(path)
    return root


@pytest.fixture(autouse=True)
def as_on_a_gpu(without_curves: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Imitate a GPU: CPUs alone have another form of the modulated convolution, GPUs another layout, and they search
    for other numbers of images at once; all of these round differently."""
    monkeypatch.setattr("wplus.models.ops.prefers_per_sample_weights", lambda *_: False)
    monkeypatch.setattr("wplus.training.loop.lay_out", lambda *_: None)
    monkeypatch.setattr("wplus.inversion.task.resolve_chunk_size", lambda *_: 1)


def test_every_command_is_among_them():
    known = {path.stem for path in CONFIG_FOLDER.glob("*.yaml") if "- common" in path.read_text()}
    assert known == {name.partition(" ")[0] for name in COMMANDS} | WITHOUT_DEVICE


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_leaves_what_it_leaves_on_a_cpu(folder, monkeypatch, capsys, name):
    monkeypatch.chdir(folder)
    run(name, "cpu", "cpu")
    with pretended_gpu() as gpu:
        run(name, "gpu", "cuda:0")
    assert gpu.operations
    assert dict(contents(folder / "gpu" / name)) == dict(contents(folder / "cpu" / name))


def run(name: str, place: str, device: str) -> None:
    verb = name.partition(" ")[0]
    own = [] if verb == "draw_pairs" else [f"run_dir={place}/{name}", "tracking=local"]
    main([verb, *(each.format(place=place) for each in COMMANDS[name]), *own, f"device={device}"])


def contents(root: Path) -> Iterator[tuple[str, Any]]:
    """Contents of a run's files, without times and pictures of times."""
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.suffix == ".safetensors":
            yield name, {key: value.numpy().tobytes() for key, value in load_file(path).items()}
        elif path.name == "pairs.json" or (path.suffix == ".png" and not any(word in name for word in PLOTS)):
            yield name, path.read_bytes()
    if (root / "result.json").is_file():
        found = json.loads((root / "result.json").read_text())
        for part in ("values", "methods"):
            yield part, dict(numbers(found.get(part, {}), part))


def numbers(tree: Any, where: str) -> Iterator[tuple[str, float]]:
    """Values of a record by their paths."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if any(word in key for word in VOLATILE) or key == "protocol":
            continue
        if isinstance(value, (int, float)) and value == value:
            yield f"{where}/{key}", value
        yield from numbers(value, f"{where}/{key}")


# --- commands without a run -----------------------------------------------------------------------------------------


def test_the_doctor_says_what_it_says_on_a_cpu(monkeypatch):
    monkeypatch.setattr(doctor, "NUM_STEPS", 3)
    (plain,) = doctor.inversion("cpu")
    with pretended_gpu() as gpu:
        (found,) = doctor.inversion("cuda:0")
    assert gpu.operations
    assert found.text.endswith("s on cuda:0")
    assert found.text.partition(", in")[0] == plain.text.partition(", in")[0]


def test_an_estimate_is_of_what_a_run_leaves(folder, monkeypatch):
    monkeypatch.chdir(folder)
    overrides = [each for each in COMMANDS["train"] if "kimg" not in each]
    plain = estimate.measure(estimate.configuration([*overrides, "device=cpu"]), 0.5)
    with pretended_gpu() as gpu:
        found = estimate.measure(estimate.configuration([*overrides, "device=cuda:0"]), 0.5)
    assert gpu.operations
    assert (found.what, found.model) == (plain.what, plain.model)
    assert found.memory_gib == 0.25  # what the device says, not the process


def test_the_demo_is_of_commands_that_are_here(folder, tmp_path):
    """It starts each command separately, without setting a device."""
    for name in "ab":
        path = tmp_path / "invert" / "w" / "latents" / f"{name}.safetensors"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [command for _, command in demo.steps(tmp_path, None, 1.0, 1)]
    assert {verb for verb, *_ in found} - {"report"} <= {name.partition(" ")[0] for name in COMMANDS}
    assert [each for _, *arguments in found for each in arguments if "device" in each] == []


# --- what pretends --------------------------------------------------------------------------------------------------


def test_it_refuses_what_a_gpu_refuses():
    with pretended_gpu():
        here, there = torch.ones(3, device="cuda"), torch.ones(3)
        for mixed in (lambda: here + there, lambda: torch._foreach_add_([here], [there]), lambda: here @ there):
            with pytest.raises(RuntimeError, match="same device"):
                mixed()
        with pytest.raises(RuntimeError, match="indices should be either on cpu"):
            there[torch.zeros(2, dtype=torch.int64, device="cuda")]
        with pytest.raises(TypeError, match="numpy"):
            here.numpy()
        for drawn in (
            lambda rng: torch.randn(3, generator=rng, device="cuda"),
            lambda rng: here.normal_(generator=rng),
        ):
            with pytest.raises(RuntimeError, match="'cuda' device type for generator"):
                drawn(torch.Generator())
        assert torch.equal((here + 1 + torch.tensor(2.0)).cpu(), there + 3)
        assert here.device == GPU
        assert here[torch.tensor([0, 2])].device == GPU


def test_it_counts_who_makes_the_host_wait_and_what_is_sent():
    with pretended_gpu() as gpu:
        here = torch.zeros(3, device="cuda")
        assert not gpu.waits
        assert not gpu.uploads
        for waiting in (lambda: float(here[0]), here.tolist, lambda: here[here > 0], here.cpu, here.nonzero):
            gpu.forget()
            waiting()
            assert sum(gpu.waits.values()) == 1
        sendings = [
            lambda: torch.tensor(1.0, device="cuda"), lambda: torch.ones(2).to(GPU), lambda: here[[0, 1]],
            lambda: here.copy_(torch.ones(3)), lambda: here[torch.tensor([0])],
        ]  # fmt: skip
        for sending in sendings:
            gpu.forget()
            sending()
            assert sum(gpu.uploads.values()) == sum(gpu.waits.values()) == 1
        gpu.forget()
        torch.ones(2).pin_memory().to(GPU, non_blocking=True)
        here.copy_(torch.ones(3).pin_memory(), non_blocking=True)
        assert sum(gpu.uploads.values()) == 2
        assert not gpu.waits


def test_gradients_of_it_are_the_cpus():
    x = torch.randn(4, 3, 8, 8)
    layer = torch.nn.Conv2d(3, 2, 3)
    layer(x).square().sum().backward()
    with pretended_gpu():
        there = torch.nn.Conv2d(3, 2, 3)
        there.weight, there.bias = (torch.nn.Parameter(OnGpu(p.detach())) for p in (layer.weight, layer.bias))
        there(OnGpu(x)).square().sum().backward()
    assert torch.equal(there.weight.grad.numbers, layer.weight.grad)
