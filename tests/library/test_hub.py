"""Models are uploaded to Hugging Face's hub and read back, with a local stand-in."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import wplus
from tests.library.hub_stand_in import Hub


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Point HF_ENDPOINT at the stand-in, with the client's cache in a temporary folder."""
    from huggingface_hub import constants

    server = Hub()
    monkeypatch.setenv("HF_ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()


def test_a_model_goes_there_and_comes_back(model, hub):
    address = model.push_to_hub("someone/cats", licence="cc-by-4.0", token="of a test")
    assert address == f"{hub.address}/someone/cats"
    files = hub.files["someone/cats"]
    assert set(files) == {"config.json", "model.safetensors", "README.md"}
    assert b"cc-by-4.0" in files["README.md"]
    found = [wplus.load("hub:someone/cats"), wplus.load("hub:someone/cats@main"),
             wplus.Model.from_pretrained("someone/cats")]  # fmt: skip
    for each in found:
        assert each.fingerprint == model.fingerprint
        assert torch.equal(each.generate(seed=1).images, model.generate(seed=1).images)
    downloads = [line for line in hub.asked if line.startswith("GET ") and line.endswith("model.safetensors")]
    assert len(downloads) == 1  # kept in the client's cache


def test_a_folder_is_read_without_a_hub(model, tmp_path):
    folder = model.save_pretrained(tmp_path / "cats", licence="mit")
    assert wplus.Model.from_pretrained(folder).fingerprint == model.fingerprint


def test_weights_alone_are_enough(model, hub):
    hub.files["someone/plain"] = {"model.safetensors": Path("model.safetensors").read_bytes()}
    assert wplus.load("hub:someone/plain").fingerprint == model.fingerprint


@pytest.mark.parametrize("name", ["someone/nothing", "no name at all", "a/b/c"])
def test_what_is_not_there_is_said_in_a_sentence(hub, name):
    with pytest.raises(wplus.UserError, match=f"^Cannot read 'hub:{name}': ") as caught:
        wplus.load(f"hub:{name}")
    assert "\n" not in str(caught.value)


def test_a_hub_that_does_not_answer(model, monkeypatch, hub):
    hub.files["someone/cats"] = {}
    with pytest.raises(wplus.UserError, match="^Cannot read 'hub:someone/cats': "):
        wplus.load("hub:someone/cats")
    hub.server_close()
    hub.shutdown()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(wplus.UserError, match="^Cannot write 'hub:someone/cats': "):
        model.push_to_hub("someone/cats", token="of a test")
