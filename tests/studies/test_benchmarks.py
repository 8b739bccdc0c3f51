"""Benchmarks that cannot run to their end here: of GPUs, and of third-party code."""

import json
import re
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "experiments" / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch):
    """Import benchmarks by name, as they import one another."""
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and Path(sys.modules[name].__file__).parent == FOLDER:
            del sys.modules[name]


def test_what_needs_no_gpu_is_checked_and_timed(benchmarks, tmp_path, monkeypatch):
    """A phase that is wrong in one mode is reported; what cannot run here is listed."""
    import gpu

    few = ["--size", "smoke", "--device", "cpu", "--turns", "1", "--output", str(tmp_path)]
    monkeypatch.setattr(gpu, "time_others", lambda *_, **__: None)
    assert gpu.main(few) == 0
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert [(row["what"], row["difference"]) for row in found["parity"]] == [
        (f"{variant}{phase}", 0) for variant in ("", "grey, ", "augmented, ")
        for phase in ("generator", "path_length", "discriminator", "r1")
    ]  # fmt: skip
    (speed,) = found["speed"]
    assert speed["s_per_kimg"] > 0
    assert {"graphs: needs a GPU", "CPU against GPU: needs a GPU"} <= set(found["left_out"])
    assert "| smoke | plain | 4 |" in (tmp_path / "gpu.md").read_text()

    monkeypatch.setattr(gpu, "time_phases", lambda *_: None)
    inner = gpu.backward
    seen = []
    monkeypatch.setattr(gpu, "backward", lambda phase, draw: seen.append(phase.name) or off(inner(phase, draw), seen))
    assert gpu.main(few) == 1
    assert re.search(r"\| generator \| plain \| plain \| [0-9.]+ \| NO \|", (tmp_path / "gpu.md").read_text())


def off(told, seen):
    """The generator's loss differs when requested for the second time."""
    if seen.count("generator") == 2 and seen[-1] == "generator":
        told.numbers = [(name, value * 2 + 1) for name, value in told.numbers]
    return told


NETWORKS = """
import torch
class Generator(torch.nn.Module):
    def __init__(self, z_dim, c_dim, w_dim, img_resolution, img_channels, mapping_kwargs={}, synthesis_kwargs={}):
        super().__init__()
        self.z_dim, self.mapping, self.synthesis = z_dim, torch.nn.Linear(z_dim, w_dim), torch.nn.Linear(w_dim, 3)
        assert mapping_kwargs == {"num_layers": 2} and synthesis_kwargs["channel_max"] == 16
class Discriminator(torch.nn.Module):
    def __init__(self, c_dim, img_resolution, img_channels, channel_base, channel_max, num_fp16_res, conv_clamp,
                 epilogue_kwargs={}):
        super().__init__()
        self.out = torch.nn.Linear(3, 1)
"""
LOSS = """
import time
class StyleGAN2Loss:
    def __init__(self, device, G_mapping, G_synthesis, D, r1_gamma=10, pl_weight=2, style_mixing_prob=0.5):
        assert style_mixing_prob == 0.9
        self.G, self.D = (G_mapping, G_synthesis), D
    def accumulate_gradients(self, phase, real_img, real_c, gen_z, gen_c, sync, gain):
        assert gain == {"Gmain": 1, "Greg": 4, "Dmain": 1, "Dreg": 16}[phase] and sync
        w = self.G[1](self.G[0](gen_z))
        assert w.requires_grad == (phase[0] == "G")
        time.sleep(0.3)
        self.D.out(w if phase[0] == "G" else w.detach()).mean().mul(gain).backward()
"""
LATER = {"G_mapping, G_synthesis, D,": "G, D,", "(G_mapping, G_synthesis)": "(G.mapping, G.synthesis)",
         "sync, gain": "gain, cur_nimg", " and sync": " and cur_nimg == 0"}  # fmt: skip


@pytest.mark.parametrize("networks", ["networks", "networks_stylegan2"])
def test_somebody_elses_code_is_timed_beside_ours(benchmarks, tmp_path, networks):
    """A checkout of the same shape, each of whose phases takes 0.3 s at least."""
    import training

    from wplus.core.runtime import Runtime, resolve_device

    folder = tmp_path / "training"
    folder.mkdir()
    parts = {"__init__": "", networks: NETWORKS, "loss": LOSS}
    if networks == "networks_stylegan2":
        parts[networks] = NETWORKS.replace("synthesis_kwargs={}", "**synthesis_kwargs")
        for ours, theirs in LATER.items():
            parts["loss"] = parts["loss"].replace(ours, theirs)
    for name, text in parts.items():
        (folder / f"{name}.py").write_text(text)
    figure = training.measure("smoke", Runtime(device=resolve_device("cpu")), turns=1, peer=tmp_path)
    peer = figure["peer"]
    assert all(ms > 300 for ms in peer["phases_ms"].values())
    step = 0.3 * (1 + 1 / 4 + 1 + 1 / 16)
    assert peer["images_per_s"] == pytest.approx(4 / step, rel=0.2)
    assert peer["times_as_fast"] == pytest.approx(figure["images_per_s"] / peer["images_per_s"], rel=1e-6)
    assert sys.modules["training"] is training
    with pytest.raises(SystemExit, match="--peer needs a checkout"):
        training.measure("smoke", Runtime(device=resolve_device("cpu")), turns=1, peer=tmp_path / "nowhere")
