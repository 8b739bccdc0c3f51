import json
import pickle
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

import wplus
from tests.adapters.foreign import Persistent, assert_same, dumps, persistent_network, randomise, trainer_pickle
from wplus.adapters import nvlabs
from wplus.errors import UserError
from wplus.models.stylegan2 import Discriminator, Generator

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
TINY = {"resolution": 16, "channel_base": 128, "channel_max": 16}

# Sizes that are read off shapes: every resolution, odd channels, with and without labels, z and w of other sizes.
SIZES = [
    {"resolution": 8, "z_dim": 5, "w_dim": 7, "num_mapping_layers": 1, "channel_base": 130, "channel_max": 11},
    {"resolution": 8, "z_dim": 7, "w_dim": 5, "num_mapping_layers": 8, "channel_base": 36, "c_dim": 7},
    {"resolution": 16, "z_dim": 6, "w_dim": 6, "num_mapping_layers": 2, "channel_base": 135},
    {"resolution": 32, "z_dim": 4, "w_dim": 9, "num_mapping_layers": 3, "channel_base": 250, "c_dim": 7},
    {"resolution": 64, "z_dim": 8, "w_dim": 4, "num_mapping_layers": 4, "channel_base": 333, "c_dim": 1},
    {"resolution": 64, "z_dim": 3, "w_dim": 3, "num_mapping_layers": 1, "channel_base": 64, "channel_max": 3},
    {"resolution": 128, "z_dim": 0, "w_dim": 1, "num_mapping_layers": 8, "channel_base": 257, "c_dim": 10},
]


def build(img_channels: int, **sizes: Any) -> tuple[Generator, Discriminator]:
    shared = {name: sizes[name] for name in ("resolution", "c_dim", "channel_base", "channel_max") if name in sizes}
    generator = Generator(img_channels=img_channels, **sizes)
    discriminator = Discriminator(img_channels=img_channels, mbstd_group_size=2, **shared)
    return randomise(generator), randomise(discriminator)


def snapshot(generator: Generator, discriminator: Discriminator) -> bytes:
    content = nvlabs.export(generator=generator, discriminator=discriminator)
    other = {name: tensor + 1 for name, tensor in content["G_ema"].items() if "resample_filter" not in name}
    networks = {
        "G": ({**content["G_ema"], **other}, content["G_kwargs"]),
        "D": (content["D"], content["D_kwargs"]),
        "G_ema": (content["G_ema"], content["G_kwargs"]),
    }
    return trainer_pickle(networks)


@pytest.mark.parametrize("sizes", SIZES, ids=lambda sizes: f"{sizes['resolution']}px-{sizes['channel_base']}")
def test_networks_of_any_size(sizes: dict[str, int], tmp_path: Path) -> None:
    """From a pickle of NVlabs' trainer, and from state dicts with and without the constructors' arguments."""
    for img_channels, form in ((1, "pickle"), (4, "state dicts"), (3, "raw")):
        generator, discriminator = build(img_channels, **sizes)
        content = nvlabs.export(generator=generator, discriminator=discriminator)
        if form == "pickle":
            (tmp_path / form).write_bytes(snapshot(generator, discriminator))
        else:
            torch.save(
                {key: part for key, part in content.items() if form != "raw" or "kwargs" not in key}, tmp_path / form
            )
        models = wplus.load(tmp_path / form)
        assert_same(models.generator, generator)
        assert_same(models.discriminator, discriminator)
        if form != "raw":
            assert models.fingerprint == wplus.checkpoint.fingerprint(generator)
            assert models.discriminator.arguments == discriminator.arguments
    assert "path" in wplus.load(tmp_path / "pickle").metadata["training_set_kwargs"]


@pytest.mark.parametrize("case", ["nvlabs_sg2_r32", "nvlabs_sg2_cond_r16"])
def test_export_has_the_published_names_and_shapes(case: str) -> None:
    spec = json.loads((GOLDEN / f"{case}.json").read_text())
    kwargs = spec["G_kwargs"]
    sizes = {name: kwargs[name] for name in ("z_dim", "w_dim", "c_dim", "channel_base", "channel_max")}
    sizes |= {"resolution": kwargs["img_resolution"], "num_mapping_layers": kwargs["mapping_kwargs"]["num_layers"]}
    generator, discriminator = build(kwargs["img_channels"], **sizes)
    content = nvlabs.export(generator=generator, discriminator=discriminator)
    for ours, theirs in (("G_ema", "G"), ("D", "D")):
        expected = {name: entry["shape"] for name, entry in spec["networks"][theirs].items()}
        assert {name: list(tensor.shape) for name, tensor in content[ours].items()} == expected
    filters = [entry["constant"] for name, entry in spec["networks"]["G"].items() if "filter" in name]
    torch.testing.assert_close(content["G_ema"]["synthesis.b4.resample_filter"], torch.tensor(filters[0]))
    assert content["G_kwargs"] == kwargs


@pytest.mark.parametrize("form", ["flat", "generator alone", "discriminator alone", "raw weights only", "pickled dict"])
def test_other_forms_of_state_dicts(form: str, tmp_path: Path) -> None:
    generator, discriminator = build(3, **TINY)
    content = nvlabs.export(generator=generator, discriminator=discriminator)
    file = tmp_path / "networks.pt"
    if form == "pickled dict":
        file.write_bytes(pickle.dumps({"G_ema": generator.state_dict(), "D": discriminator.state_dict()}))
    else:
        flat = {f"{part}.{name}": tensor for part in ("G_ema", "D") for name, tensor in content[part].items()}
        forms = {"flat": flat, "generator alone": content["G_ema"], "discriminator alone": content["D"],
                 "raw weights only": {"G": content["G_ema"]}}  # fmt: skip
        torch.save(forms[form], file)
    models = wplus.load(file)
    if form != "discriminator alone":
        assert_same(models.generator, generator)
    if form in ("flat", "discriminator alone", "pickled dict"):
        assert_same(models.discriminator, discriminator)
    assert models.metadata.get("generator") == {"raw weights only": "G", "discriminator alone": None}.get(form, "G_ema")


def test_missing_average_is_estimated_and_said(tmp_path: Path) -> None:
    generator, _ = build(3, **TINY, z_dim=6, w_dim=4, c_dim=3)
    content = nvlabs.export(generator=generator)
    del content["G_ema"]["mapping.w_avg"]
    torch.save(content, tmp_path / "file.pt")
    models, again = wplus.load(tmp_path / "file.pt"), wplus.load(tmp_path / "file.pt")
    labels = torch.eye(3)[torch.randint(3, (20_000,))]
    expected = generator.mapping(torch.randn(20_000, 6), labels)[:, 0]
    assert "estimated" in models.metadata["w_avg"]
    assert torch.equal(models.generator.mapping.w_avg, again.generator.mapping.w_avg)
    error = (models.generator.mapping.w_avg - expected.mean(dim=0)).abs() / expected.std(dim=0)
    assert error.max() < 0.05


def edited(edit: Any) -> dict[str, Any]:
    content = nvlabs.export(generator=build(3, **TINY)[0], discriminator=build(3, **TINY)[1])
    edit(content)
    return content


def put(part: str, **entries: Any) -> Callable[[dict[str, Any]], None]:
    """An edit that adds or replaces entries; `__` stands for a dot."""
    return lambda content: content[part].update({name.replace("__", "."): value for name, value in entries.items()})


def drop(start: str) -> Callable[[dict[str, Any]], None]:
    """An edit that removes the generator's tensors whose names begin with `start`."""
    return lambda content: [content["G_ema"].pop(name) for name in list(content["G_ema"]) if name.startswith(start)]


BROKEN = {
    "unknown tensor": (put("G_ema", synthesis__L0=torch.zeros(1)), r"synthesis\.L0.*not part"),
    "unknown in D": (put("D", b4__extra=torch.zeros(1)), r"b4\.extra.*not part"),
    "missing tensor": (drop("synthesis.b8.conv0.bias"), r"synthesis\.b8\.conv0\.bias.*missing"),
    "missing size": (drop("synthesis.b8.conv1.weight"), r"synthesis\.b8\.conv1\.weight.*missing"),
    "not StyleGAN2": (drop("synthesis"), "missing"),
    "wrong shape": (put("G_ema", synthesis__b8__conv0__bias=torch.zeros(3)), r"synthesis\.b8\.conv0\.bias.*\(3,\)"),
    "odd channels": (put("G_ema", synthesis__b8__conv1__weight=torch.zeros(3, 3, 3, 3)), "3 at 8 px"),
    "other filter": (put("G_ema", synthesis__b4__resample_filter=torch.ones(4, 4) / 16), "resampling filter"),
    "other activation": (put("G_kwargs", synthesis_kwargs={"activation": "relu"}), "activation = 'relu'"),
    "no limit": (put("G_kwargs", conv_clamp=True), "conv_clamp must be a positive number or None, got True"),
    "odd limit": (put("G_kwargs", conv_clamp="wide"), "conv_clamp must be .*, got 'wide'"),
    "endless limit": (put("G_kwargs", conv_clamp=float("inf")), "conv_clamp must be .*, got inf"),
    "no group": (put("D_kwargs", epilogue_kwargs={"mbstd_group_size": 0}), "mbstd_group_size must be .*, got 0"),
    "odd group": (put("D_kwargs", mbstd_group_size="all"), "mbstd_group_size must be .*, got 'all'"),
    "large": (
        put("G_ema", synthesis__b2048__conv1__weight=torch.zeros(1, 1, 3, 3)), r"resolution must be one of .* got 2048",
    ),
    "architecture of G": (put("G_kwargs", architecture="resnet"), "architecture 'resnet'"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BROKEN)
def test_what_does_not_fit_is_named(kind: str, tmp_path: Path) -> None:
    edit, message = BROKEN[kind]
    torch.save(edited(edit), tmp_path / "broken.pt")
    with pytest.raises(UserError, match=message) as error:
        wplus.load(tmp_path / "broken.pt")
    assert "broken.pt" in str(error.value)


FILTER = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64)


def slow_filter(x: torch.Tensor, *, padding: int, stride: int = 1) -> torch.Tensor:
    kernel = (torch.outer(FILTER, FILTER) / 64).expand(x.shape[1], 1, 4, 4)
    return F.conv2d(x, kernel, padding=padding, stride=stride, groups=x.shape[1])


def slow_layer(state: dict[str, torch.Tensor], name: str, x: torch.Tensor, clamp: float, gain=1.0, down=1):
    """Equalised convolution, bias, leaky ReLU, gain and clamp, one after the other in this order."""
    weight = state[f"{name}.weight"]
    weight = weight / weight[0].numel() ** 0.5
    if down == 2 and weight.shape[2] == 1:
        y = F.conv2d(slow_filter(x, padding=1, stride=2), weight)
    elif down == 2:
        y = F.conv2d(slow_filter(x, padding=2), weight, stride=2)
    else:
        y = F.conv2d(x, weight, padding=weight.shape[2] // 2)
    if f"{name}.bias" not in state:
        return y * gain
    y = F.leaky_relu(y + state[f"{name}.bias"].view(1, -1, 1, 1), 0.2) * 2**0.5 * gain
    return y.clamp(-clamp * gain, clamp * gain)


def slow_discriminator(state: dict[str, torch.Tensor], img: torch.Tensor, architecture: str, clamp: float):
    """NVlabs' discriminator, reimplemented from its description; one group of the minibatch deviation."""
    x, resolution, gain = None, img.shape[2], 0.5**0.5 if architecture == "resnet" else 1.0
    while resolution > 4:
        name = f"b{resolution}"
        if x is None or architecture == "skip":
            colours = slow_layer(state, f"{name}.fromrgb", img, clamp)
            x, img = colours if x is None else x + colours, slow_filter(img, padding=1, stride=2)
        skip = slow_layer(state, f"{name}.skip", x, clamp, gain, down=2) if architecture == "resnet" else 0
        x = skip + slow_layer(state, f"{name}.conv1", slow_layer(state, f"{name}.conv0", x, clamp), clamp, gain, down=2)
        resolution //= 2
    if architecture == "skip":
        x = x + slow_layer(state, "b4.fromrgb", img, float("inf"))
    deviation = ((x - x.mean(dim=0)).square().mean(dim=0) + 1e-8).sqrt().mean().expand(len(x), 1, 4, 4)
    x = slow_layer(state, "b4.conv", torch.cat([x, deviation], dim=1), clamp).flatten(1)
    x = F.leaky_relu(x @ state["b4.fc.weight"].t() / x.shape[1] ** 0.5 + state["b4.fc.bias"], 0.2) * 2**0.5
    return x @ state["b4.out.weight"].t() / x.shape[1] ** 0.5 + state["b4.out.bias"]


@pytest.mark.parametrize("clamp", [None, 0.4])
@pytest.mark.parametrize("architecture", ["resnet", "orig", "skip"])
def test_discriminators_of_every_architecture(architecture: str, clamp: float | None, tmp_path: Path) -> None:
    """Read from a pickle and compared with a slow reference; written and read again, with and without arguments."""
    discriminator = randomise(Discriminator(**TINY, architecture=architecture, conv_clamp=clamp))
    content = nvlabs.export(discriminator=discriminator)
    assert (content["D_kwargs"]["architecture"], content["D_kwargs"]["conv_clamp"]) == (architecture, clamp)
    (tmp_path / "d.pkl").write_bytes(trainer_pickle({"D": (content["D"], content["D_kwargs"])}))
    found = wplus.load(tmp_path / "d.pkl").discriminator
    assert found.arguments == discriminator.arguments
    images = torch.randn(3, 3, 16, 16)
    state = {name: tensor.double() for name, tensor in found.state_dict().items()}
    expected = slow_discriminator(state, images.double(), architecture, float("inf") if clamp is None else clamp)
    torch.testing.assert_close(found(images).double(), expected, rtol=1e-5, atol=1e-5)
    torch.save(content["D"], tmp_path / "d.pt")
    assert wplus.load(tmp_path / "d.pt").discriminator.arguments["architecture"] == architecture


def test_filters_are_written_where_the_published_discriminator_has_them() -> None:
    content = nvlabs.export(discriminator=Discriminator(**TINY, architecture="skip"))["D"]
    found = {name.removesuffix(".resample_filter") for name in content if name.endswith("resample_filter")}
    layers = {f"b{res}.{layer}" for res in (8, 16) for layer in ("fromrgb", "conv0", "conv1")}
    assert found == {"b8", "b16", "b4.fromrgb", "b4.conv"} | layers


def test_clamping_is_part_of_the_function(tmp_path: Path) -> None:
    torch.save(edited(put("G_kwargs", conv_clamp=0.2)), tmp_path / "half.pt")
    generator = wplus.load(tmp_path / "half.pt").generator
    free = Generator(**{**generator.arguments, "conv_clamp": None})
    free.load_state_dict(generator.state_dict())
    z = torch.randn(2, generator.z_dim)
    assert generator.arguments["conv_clamp"] == 0.2
    assert not torch.allclose(generator(z), free(z), atol=1e-2)


def test_group_of_the_minibatch_deviation_is_read(tmp_path: Path) -> None:
    torch.save(edited(put("D_kwargs", epilogue_kwargs={"mbstd_group_size": None})), tmp_path / "file.pt")
    wplus.load(tmp_path / "file.pt").discriminator(
        torch.randn(6, 3, 16, 16)
    )  # the whole batch of 6 is one group, where groups of 4 would not divide it


def deep(depth: int) -> Persistent:
    inner = {"_modules": {"inner": deep(depth - 1)}} if depth else {"_parameters": {"weight": torch.zeros(1)}}
    return Persistent("Layer", inner)


LONG = Persistent("Layer", {"_parameters": dict.fromkeys(map(str, range(1000)), torch.zeros(1))})
TREES = {  # module in the place of a generator, and what is said of it
    "of another network": (
        {"synthesis": Persistent("SynthesisNetwork", {"_modules": {"input": Persistent("SynthesisInput", {})}})},
        r"missing.*SynthesisInput are not StyleGAN2's",
    ),
    "without end": ({"inner": deep(20)}, r"nested more than 10 deep"),
    # Names of tensors begin with those of their modules: 1000 times a million characters would be a gigabyte.
    "of long names": ({"n" * 10**6: LONG}, r"longer than 200 characters, at 'nnn"),
}


@pytest.mark.parametrize("kind", TREES)
def test_trees_of_modules_that_are_refused(kind: str, tmp_path: Path) -> None:
    modules, message = TREES[kind]
    (tmp_path / "file.pkl").write_bytes(dumps({"G_ema": Persistent("Generator", {"_modules": modules})}))
    tracemalloc.start()
    with pytest.raises(UserError, match=rf"file\.pkl.*{message}"):
        wplus.load(tmp_path / "file.pkl")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5e7


def layers(module: Persistent, name: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """The attributes of every module with a weight, by its dotted name."""
    state = module.meta["state"]
    if "weight" in state["_parameters"]:
        yield name, state
    for child, inner in state["_modules"].items():
        yield from layers(inner, f"{name}.{child}".strip("."))


def with_clamps(folder: Path, clamps: Callable[[str], Any]) -> Path:
    """A pickle whose constructors' arguments have no clamp, as in stylegan3's, but whose layers do."""
    generator = randomise(Generator(**TINY, z_dim=6, w_dim=6, num_mapping_layers=1))
    content = nvlabs.export(generator=generator, discriminator=randomise(Discriminator(**TINY, architecture="skip")))
    parts = {part: persistent_network(content[part], {}) for part in ("G_ema", "D")}
    for part in parts.values():
        for name, state in layers(part):
            if name.rpartition(".")[2] in ("conv", "conv0", "conv1", "torgb", "fromrgb", "skip"):
                state["conv_clamp"] = clamps(name)
    (folder / "file.pkl").write_bytes(dumps(parts))
    return folder / "file.pkl"


def test_what_the_layers_clamp_by_counts(tmp_path: Path) -> None:
    """In stylegan3's repository 256 is the constructor's default, which the file's arguments do not contain."""
    models = wplus.load(with_clamps(tmp_path, lambda name: None if name == "b4.fromrgb" else 0.25))
    assert models.generator.arguments["conv_clamp"] == models.discriminator.arguments["conv_clamp"] == 0.25
    models = wplus.load(with_clamps(tmp_path, lambda name: None))
    assert models.generator.arguments["conv_clamp"] is None


@pytest.mark.parametrize("odd", ["synthesis.b8.torgb", "b8.conv0", "b4.fromrgb"])
def test_layers_that_clamp_by_another_limit_are_refused(odd: str, tmp_path: Path) -> None:
    path = with_clamps(tmp_path, lambda name: 7.5 if name == odd else None if name == "b4.fromrgb" else 256)
    with pytest.raises(UserError, match=rf"the layer '{odd}' has conv_clamp = 7\.5, where (256|None) was expected"):
        wplus.load(path)
