"""Exported graphs compute the same as the networks, for every batch size, in a runtime other than torch."""

import json
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch

import wplus
from tests.adapters.foreign import randomise
from wplus.adapters import onnx_graph
from wplus.commands.files import convert as command
from wplus.errors import UserError
from wplus.models import dcgan, mlp_gan, ops, progan, r3gan, stylegan1, stylegan2

TINY = {"resolution": 8, "z_dim": 4}
CHANNELS = {"channel_base": 32, "channel_max": 4}
STYLES = {**TINY, **CHANNELS, "w_dim": 6, "num_mapping_layers": 1}

# Family -> class and arguments; the first has labels and a clamp.
FAMILIES: dict[str, tuple[type, dict[str, Any]]] = {
    "stylegan2": (stylegan2.Generator, {**STYLES, "c_dim": 3, "conv_clamp": 0.5}),
    "stylegan1": (stylegan1.Generator, STYLES),
    "progan": (progan.Generator, {**TINY, **CHANNELS}),
    "dcgan": (dcgan.Generator, {**TINY, **CHANNELS}),
    "mlp_gan": (mlp_gan.Generator, {**TINY, "width": 8, "num_layers": 1}),
    "r3gan": (r3gan.Generator, {**TINY, "channel_base": 128, "channel_max": 16}),
}


def make(family: str) -> Any:
    network, arguments = FAMILIES[family]
    return randomise(network(**arguments))


def run(path: Path, **inputs: torch.Tensor) -> torch.Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [node.name for node in session.get_outputs()] == ["images"]
    return torch.from_numpy(session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})[0])


def assert_close(found: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(found / expected.std(), expected / expected.std(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_latents_to_images(family: str, tmp_path: Path) -> None:
    """The generator also computes as before: changes for the graph must be undone."""
    generator = make(family)
    ops._fir.cache_clear()  # as if no other test had made one
    path = onnx_graph.write(tmp_path / "g.onnx", generator, truncation_psi=0.6)
    for num in (1, 5):
        z, c = torch.randn(num, 4), torch.eye(3)[torch.arange(num) % 3] if generator.c_dim else None
        expected = generator(z, c, truncation_psi=0.6)
        assert type(expected) is torch.Tensor
        assert_close(run(path, z=z, **({} if c is None else {"c": c})), expected)
        if family.startswith("stylegan"):  # psi matters
            assert not torch.allclose(generator(z, c), expected, atol=1e-3)


def test_styles_to_images_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator = make("stylegan2")
    source = wplus.save(tmp_path / "g.safetensors", generator=generator)
    path = tmp_path / "s.onnx"
    assert command([str(source), str(path), "--part", "synthesis"]) == 0
    assert capsys.readouterr().out == f"Wrote generator to '{path}'; its synthesis only.\n"
    for num in (1, 3):
        ws = torch.randn(num, generator.num_ws, generator.w_dim)
        assert_close(run(path, ws=ws), generator.synthesis(ws))
    told = onnxruntime.InferenceSession(path).get_modelmeta().custom_metadata_map["wplus"]
    assert json.loads(told)["generator"] == wplus.load(source).fingerprint


def test_what_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = make("mlp_gan")
    with pytest.raises(UserError, match=r"^psi must be 1 for the synthesis, .* got 0\.5"):
        onnx_graph.write(tmp_path / "g.onnx", generator, part="synthesis", truncation_psi=0.5)
    for psi in (float("nan"), float("inf")):
        with pytest.raises(UserError, match=rf"^psi must be a finite number, got {psi}[.]$"):
            onnx_graph.write(tmp_path / "g.onnx", generator, truncation_psi=psi)
    monkeypatch.setattr(onnx_graph, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(UserError, match=r"package onnxscript; install it with: pip install 'wplus\[export\]'"):
        onnx_graph.write(tmp_path / "g.onnx", generator)
    assert not list(tmp_path.iterdir())
