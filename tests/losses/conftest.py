"""Pictures, and weight files of published networks: right names and shapes, random numbers."""

import hashlib
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

from tests.fakes import overlapping
from wplus.losses import perceptual
from wplus.pretrained import weights
from wplus.pretrained.arcface import ArcFaceNet


@pytest.fixture(scope="session")
def pictures() -> Callable[[int, int], torch.Tensor]:
    """Soft-edged coloured discs on plain ground: (num, 3, size, size) in [-1, 1]."""

    def paint(num: int, size: int) -> torch.Tensor:
        rng = torch.Generator().manual_seed(1)
        grid = torch.stack(torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij"))
        canvas = (torch.rand(num, 3, 1, 1, generator=rng) * 2 - 1).expand(-1, -1, size, size)
        for _ in range(5):
            centre, radius = torch.rand(num, 2, 1, 1, generator=rng), torch.rand(num, 1, 1, generator=rng) * 0.25 + 0.08
            inside = torch.sigmoid((radius - (grid - centre).norm(dim=1)) * size)[:, None]
            canvas = canvas * (1 - inside) + inside * (torch.rand(num, 3, 1, 1, generator=rng) * 2 - 1)
        return canvas

    return paint


def random_state(make: Callable[[], nn.Module]) -> dict[str, torch.Tensor]:
    """Random weights and identity normalisations. Overlapping views keep a file of 25 million weights small."""
    with torch.device("meta"):
        net = make()
    rng = torch.Generator().manual_seed(2)
    state = {}
    for name, shape in ((name, tensor.shape) for name, tensor in net.state_dict().items()):
        if len(shape) < 2:
            value = 1.0 if name.endswith(("running_var", "weight")) else 0.0
            state[name] = torch.tensor(value).expand(shape)
            continue
        state[name] = overlapping(shape, rng)
    return state


@pytest.fixture(scope="session")
def trunk_cache(tmp_path_factory) -> dict[str, Path]:
    """Trunks of LPIPS with random weights as files in one folder, under names that match their hashes."""
    folder = tmp_path_factory.mktemp("hub") / "checkpoints"
    folder.mkdir()
    files = {}
    for net, trunk in (("alex", models.alexnet), ("squeeze", models.squeezenet1_1)):
        state = {name: value for name, value in random_state(trunk).items() if "features" in name}
        torch.save(state, folder / "file")
        name = f"{net}-{hashlib.sha256((folder / 'file').read_bytes()).hexdigest()[:8]}.pth"
        files[net] = (folder / "file").rename(folder / name)
    return files


@pytest.fixture
def random_trunks(monkeypatch, trunk_cache) -> dict[str, Path]:
    """Use that folder as torch's cache."""
    monkeypatch.setattr(weights.torch.hub, "get_dir", lambda: str(trunk_cache["alex"].parents[1]))
    for net, path in trunk_cache.items():
        monkeypatch.setitem(perceptual.TRUNK_FILES, net, path.name)
    return trunk_cache


@pytest.fixture(scope="session")
def golden_weights() -> Callable[[str], dict[str, torch.Tensor]]:
    """The only network of a golden case, by the name of the case."""
    folder = Path(__file__).resolve().parents[1] / "golden"
    spec = importlib.util.spec_from_file_location("fill", folder / "fill.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def fill(case: str) -> dict[str, torch.Tensor]:
        (tensors,) = module.fill(folder / f"{case}.json").values()
        return {name: torch.from_numpy(array) for name, array in tensors.items()}

    return fill


@pytest.fixture(scope="session")
def stlpips_folder(tmp_path_factory) -> Iterator[Path]:
    """A weights package that can be found but not imported; its files are removed when the tests end."""
    folder = tmp_path_factory.mktemp("packages") / "stlpips_pytorch"
    (folder / "weights" / "vST0.0").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('it must not run')")
    yield folder
    for path in folder.rglob("*.pth"):
        path.unlink()


@pytest.fixture
def stlpips_package(monkeypatch, stlpips_folder, golden_weights) -> Callable[[str], Path]:
    """Install the package: called with a net, it has the golden case's weights and returns their path."""
    monkeypatch.syspath_prepend(str(stlpips_folder.parent))

    def path_of(net: str) -> Path:
        path = stlpips_folder / "weights" / "vST0.0" / f"{net}_shift_tolerant.pth"
        if not path.is_file():
            torch.save(golden_weights(f"stlpips_{net}"), path)
        return path

    return path_of


@pytest.fixture(scope="session")
def arcface_file(tmp_path_factory) -> Path:
    """A file like model_ir_se50.pth."""
    path = tmp_path_factory.mktemp("arcface") / "model_ir_se50.pth"
    torch.save(random_state(ArcFaceNet), path)
    return path


@pytest.fixture(scope="session")
def moco_file(tmp_path_factory) -> Path:
    """A file like moco_v2_800ep_pretrain.pth.tar: the query encoder and its head, as a wrapped module."""
    state = {f"module.encoder_q.{name}": value for name, value in random_state(models.resnet50).items()}
    for name in ("fc.weight", "fc.bias"):
        state[f"module.encoder_q.fc.0.{name[3:]}"] = state.pop(f"module.encoder_q.{name}")
    path = tmp_path_factory.mktemp("moco") / "moco_v2_800ep_pretrain.pth.tar"
    torch.save({"epoch": 800, "arch": "resnet50", "state_dict": state}, path)
    return path
