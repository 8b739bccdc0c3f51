"""The files of a folder of inversions."""

from __future__ import annotations

import pytest
import torch

from wplus.errors import UserError
from wplus.inversion.folder import InversionFolder, output_names, pixel_digest
from wplus.latents.latent import Latent

TARGET = torch.arange(48, dtype=torch.uint8).view(3, 4, 4)


def a_store(folder, **changes) -> InversionFolder:
    return InversionFolder(folder, **{"fingerprint": "f" * 16, "settings_digest": "s", **changes})


def save(store: InversionFolder, name: str, target: torch.Tensor = TARGET, **extra) -> None:
    metadata = {"settings": store.settings_digest, "target": pixel_digest(target)}
    latent = Latent(code=torch.randn(5), space="w", generator=store.fingerprint, metadata=metadata)
    store.save(name, latent, image=target.flip(2), target=target, history={"loss": torch.tensor([2.0, 1.0])}, **extra)


class Note:
    """A delta that is a line of text."""

    def save(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("changed")


def test_what_is_saved_is_read_back_without_loss(tmp_path):
    store = a_store(tmp_path)
    save(store, "sub/a")
    target, image = store.pictures("sub/a")
    assert torch.equal(target, TARGET)
    assert torch.equal(image, TARGET.flip(2))
    assert store.history("sub/a")["loss"].tolist() == [2.0, 1.0]
    assert store.metadata("sub/a")["settings"] == "s"
    assert store.names() == ["sub/a"]


def test_grey_pictures_keep_one_channel(tmp_path):
    store = a_store(tmp_path)
    save(store, "a", TARGET[:1])
    assert store.pictures("a")[1].shape == (1, 4, 4)


def test_done_means_all_files_of_this_target(tmp_path):
    store = a_store(tmp_path)
    assert not store.is_done("a", TARGET)
    save(store, "a")
    assert store.is_done("a", TARGET)
    assert not store.is_done("a", TARGET.flip(1))  # the input has changed since
    store.image("a").unlink()
    assert not store.is_done("a", TARGET)


def test_a_delta_belongs_to_its_latent(tmp_path):
    store = a_store(tmp_path)
    save(store, "sub/a", delta=Note())
    assert store.delta("sub/a").read_text() == "changed"
    assert store.metadata("sub/a")["delta"] == "deltas/sub/a.safetensors"
    assert store.is_done("sub/a", TARGET)
    store.delta("sub/a").unlink()
    assert not store.is_done("sub/a", TARGET)


def test_done_means_with_this_mask(tmp_path):
    store, mask = a_store(tmp_path), TARGET[:1] * 2
    save(store, "a", mask=mask)
    assert store.is_done("a", TARGET, mask)
    assert not store.is_done("a", TARGET)
    assert not store.is_done("a", TARGET, mask.flip(1))
    store.mask("a").unlink()
    assert not store.is_done("a", TARGET, mask)
    save(store, "b")
    assert not store.is_done("b", TARGET, mask)


def test_a_damaged_latent_is_not_done(tmp_path):
    store = a_store(tmp_path)
    save(store, "a")
    store.latent("a").write_bytes(store.latent("a").read_bytes()[:20])
    assert not store.is_done("a", TARGET)


def test_other_settings_and_other_generators_are_refused(tmp_path):
    save(a_store(tmp_path), "a")
    with pytest.raises(UserError, match="other settings"):
        a_store(tmp_path, settings_digest="t").is_done("a", TARGET)
    with pytest.raises(UserError, match="made with generator ffff"):
        a_store(tmp_path, fingerprint="0" * 16).metadata("a")


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (["a.jpg", "sub/b.png"], ["a", "sub/b"]),
        (["a.jpg", "a.png", "b.png"], ["a.jpg", "a.png", "b"]),
        (["A.png", "a.jpg"], ["A.png", "a.jpg"]),
        (["cat000001"], ["cat000001"]),
        (["v1.5.png"], ["v1.5"]),
    ],
)
def test_outputs_are_named_as_their_inputs(inputs, outputs):
    assert output_names(inputs) == outputs


@pytest.mark.parametrize("name", ["/etc/a.png", "../a.png", "sub/../../a.png"])
def test_names_stay_inside_the_folder(name):
    with pytest.raises(UserError, match="leads out"):
        output_names([name])
