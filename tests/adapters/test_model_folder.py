"""Model folders for the hub: they load without the hub's libraries and are never left incomplete."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file

import wplus
from tests.adapters.foreign import randomise
from wplus.adapters import model_folder
from wplus.adapters.convert import convert
from wplus.adapters.model_folder import model_card
from wplus.commands.files import convert as command
from wplus.errors import UserError
from wplus.models.stylegan2 import Discriminator, Generator

SHAPE = {"resolution": 8, "channel_base": 64, "channel_max": 4, "c_dim": 2}
DATA = {"source": "cats <b>by</b> | David", "num_images": 7, "sizes": {"min": 8}}


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    generator = randomise(Generator(**SHAPE, z_dim=4, w_dim=6, num_mapping_layers=1))
    discriminator = randomise(Discriminator(**SHAPE, num_mapping_layers=1))
    metadata = {"data": DATA, "seed": 3, "odd": float("nan")}
    path = tmp_path / "ours.safetensors"
    return wplus.save(path, generator=generator, discriminator=discriminator, metadata=metadata)


def files(folder: Path) -> list[str]:
    return sorted(item.name for item in folder.iterdir())


def test_out_and_in_again(ours: Path, tmp_path: Path) -> None:
    folder = tmp_path / "new" / "cats"
    sentence = convert(ours, f"{folder}/")
    assert sentence == f"Wrote generator and discriminator to '{folder}/'."
    assert files(folder) == ["README.md", "config.json", "model.safetensors"]
    assert files(folder.parent) == ["cats"]
    models, expected = wplus.load(folder), wplus.load(ours)
    assert models.fingerprint == expected.fingerprint
    assert models.metadata["data"] == DATA
    convert(folder, tmp_path / "back.safetensors")
    assert (tmp_path / "back.safetensors").read_bytes() == ours.read_bytes()
    config = json.loads((folder / "config.json").read_text(), parse_constant=lambda name: pytest.fail(name))
    assert config["library_name"] == "wplus"
    assert config["networks"]["generator"]["class"] == "stylegan2.Generator"


def test_weights_that_other_tools_rewrote_load_by_the_config(ours: Path, tmp_path: Path) -> None:
    convert(ours, tmp_path / "f")
    weights, config = tmp_path / "f" / "model.safetensors", tmp_path / "f" / "config.json"
    described = json.loads(config.read_text())
    described["networks"]["generator"]["arguments"]["z_dim"] = 5
    config.write_text(json.dumps(described))
    with pytest.raises(UserError, match="describe different networks"):
        wplus.load(tmp_path / "f")
    described["networks"]["generator"]["arguments"]["z_dim"] = 4
    config.write_text(json.dumps(described))
    save_file(load_file(weights), weights, metadata={"format": "pt"})
    assert wplus.load(tmp_path / "f").fingerprint == wplus.load(ours).fingerprint
    for text, word in (
        ('{"architectures": ["BertModel"]}', "describes no networks"),
        ('{"networks"', r"config\.json': the file is truncated or damaged"),
    ):
        config.write_text(text)
        with pytest.raises(UserError, match=word):
            wplus.load(tmp_path / "f")


def test_a_card_that_is_there_is_kept(ours: Path, tmp_path: Path) -> None:
    convert(ours, tmp_path / "f")
    (tmp_path / "f" / "README.md").write_text("my own words")
    (tmp_path / "f" / ".gitattributes").write_text("")
    other = randomise(Generator(**SHAPE, z_dim=5, w_dim=6, num_mapping_layers=1))
    again = wplus.save(tmp_path / "other.safetensors", generator=other)
    assert "README.md that was there is kept" in convert(again, tmp_path / "f")
    assert (tmp_path / "f" / "README.md").read_text() == "my own words"
    assert wplus.load(tmp_path / "f").generator.z_dim == 5


def test_nothing_else_is_touched(ours: Path, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    (tmp_path / "project" / "README.md").write_text("about something else")
    with pytest.raises(UserError, match=r"holds other things \('README\.md'\)"):
        convert(ours, tmp_path / "project")
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="a file of this name is there"):
        convert(ours, tmp_path / "file")
    assert files(tmp_path / "project") == ["README.md"]


def test_an_interrupted_folder_leaves_nothing(ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*args: Any, **kwargs: Any) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(model_folder, "model_card", stop)
    with pytest.raises(KeyboardInterrupt):
        convert(ours, tmp_path / "f")
    assert files(tmp_path) == ["ours.safetensors"]


def test_the_card(ours: Path, tmp_path: Path) -> None:
    values = {"fd_effnet_lite0": {"value": 1.25, "interval": [1, 2], "protocol": {"num": 50}}, "seconds": 3,
              "derived/gamma": {"value": 1, "protocol": {"why": "x"}}}  # fmt: skip
    (tmp_path / "result.json").write_text(json.dumps({"values": values}))
    arguments = [str(ours), f"{tmp_path}/f/", "--license", "cc-by-4.0", "--metrics", f"{tmp_path}/result.json"]
    assert command(arguments) == 0
    card = (tmp_path / "f" / "README.md").read_text()
    header = ModelCard(card).data
    assert (header.license, header.library_name, header.tags[0]) == ("cc-by-4.0", "wplus", "wplus")
    assert "| fd_effnet_lite0 | 1.25 | 1 to 2 | num=50 |" in card
    assert "derived" not in card
    assert "cats \\<b\\>by\\</b\\> \\| David" in card
    assert "| sizes.min | 8 |" in card
    assert command([*arguments[:1], f"{tmp_path}/g/", "--metrics", str(ours)]) == 1
    assert "Not stated" in model_card("x", wplus.Models(generator=wplus.load(ours).generator), licence=None, metrics={})


def test_the_cards_example_runs(ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert(ours, tmp_path / "f")
    code = re.search(r"```python\n(.*?)```", (tmp_path / "f" / "README.md").read_text(), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(code.group(1), names)
    assert names["images"].shape == (4, 3, 8, 8)
    assert torch.isfinite(names["images"]).all()
