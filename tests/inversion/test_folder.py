"""The files of a folder of inversions, and the settings that guard it."""

import pytest
import torch

from wplus.errors import UserError
from wplus.inversion.folder import (
    SETTINGS_FILE,
    InversionFolder,
    digest,
    output_names,
    read_settings,
    require_same_settings,
)  # fmt: skip
from wplus.latents.latent import Latent

TARGET = torch.arange(48, dtype=torch.uint8).view(3, 4, 4)
KINDS = ("images", "targets", "masks", "history", "deltas", "latents")


@pytest.fixture
def store(tmp_path) -> InversionFolder:
    return InversionFolder(tmp_path, fingerprint="f" * 16, settings_digest="s")


def save(store: InversionFolder, name: str, target: torch.Tensor = TARGET, **extra) -> None:
    latent = Latent(code=torch.randn(5), space="w", generator=store.fingerprint, metadata={"own": "note"})
    store.save(name, latent, image=target.flip(2), target=target, history={"loss": torch.tensor([2.0, 1.0])}, **extra)


class Note:
    """A delta that is a line of text."""

    def save(self, path):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("changed")


def test_what_is_saved_is_read_back_without_loss(store):
    save(store, "sub/a", mask=TARGET[:1], delta=Note())
    expected = {"targets": TARGET, "images": TARGET.flip(2), "masks": TARGET[:1]}
    assert all(torch.equal(store.image(kind, "sub/a"), pixels) for kind, pixels in expected.items())
    assert store.history("sub/a")["loss"].tolist() == [2.0, 1.0]
    notes = {"settings": "s", "own": "note", "delta": "deltas/sub/a.safetensors"}
    assert notes.items() < store.metadata("sub/a").items()
    assert store.path("deltas", "sub/a").read_text() == "changed"
    save(store, "b", TARGET[:1])
    assert store.image("images", "b").shape == (1, 4, 4)  # grey
    assert store.names() == ["b", "sub/a"]


def test_done_means_all_files_of_this_target_and_mask(store):
    mask = TARGET[:1] * 2
    assert not store.is_done("a", TARGET)
    save(store, "a")
    save(store, "masked", mask=mask)
    for name, given, done in (("a", None, True), ("a", mask, False), ("masked", mask, True), ("masked", None, False)):
        assert store.is_done(name, TARGET, given) is done
    assert not store.is_done("masked", TARGET, mask.flip(1))
    assert not store.is_done("a", TARGET.flip(1))  # the input has changed since


@pytest.mark.parametrize("kind", KINDS)
def test_without_one_of_its_files_an_image_is_not_done(store, kind):
    save(store, "sub/a", mask=TARGET[:1], delta=Note())
    assert store.is_done("sub/a", TARGET, TARGET[:1])
    store.path(kind, "sub/a").unlink()
    assert not store.is_done("sub/a", TARGET, TARGET[:1])


@pytest.mark.parametrize("kind", KINDS)
def test_with_one_bit_changed_in_one_of_its_files_an_image_is_not_done(store, kind):
    save(store, "a", mask=TARGET[:1], delta=Note())
    content = bytearray(store.path(kind, "a").read_bytes())
    content[-3 if kind == "latents" else len(content) // 2] ^= 4  # of the code, the last of its file
    store.path(kind, "a").write_bytes(content)
    assert not store.is_done("a", TARGET, TARGET[:1])


def test_damaged_files_are_not_done_or_named(store):
    save(store, "a")
    for kind in ("latents", "history"):
        store.path(kind, "a").write_bytes(store.path(kind, "a").read_bytes()[:20])
    assert not store.is_done("a", TARGET)
    with pytest.raises(UserError, match=r"Cannot read '.*history.*a\.safetensors'"):
        store.history("a")


def test_other_settings_and_other_generators_are_refused(store, tmp_path):
    save(store, "a")
    with pytest.raises(UserError, match="other settings"):
        InversionFolder(tmp_path, settings_digest="t").is_done("a", TARGET)
    with pytest.raises(UserError, match="made with generator ffff"):
        InversionFolder(tmp_path, fingerprint="0" * 16).metadata("a")
    assert InversionFolder(tmp_path).metadata("a")["settings"] == "s"  # whosever it is


@pytest.mark.parametrize(
    ("inputs", "outputs"),
    [
        (["a.jpg", "sub/b.png"], ["a", "sub/b"]),
        (["a.jpg", "a.png", "b.png"], ["a.jpg", "a.png", "b"]),
        (["A.png", "a.jpg"], ["A.png", "a.jpg"]),
        (["cat000001"], ["cat000001"]),
        (["v1.5.png"], ["v1.5"]),
        (["a.png", "a.jpg", "a.png.gif"], ["a.png", "a.jpg", "a.png.gif"]),
        (["M\u00fcller #1 & (2), 50%=x.png", "\u732b/\u72ac.png"], ["M\u00fcller #1 & (2), 50%=x", "\u732b/\u72ac"]),
    ],
)
def test_outputs_are_named_as_their_inputs(inputs, outputs):
    assert output_names(inputs) == outputs


def test_long_names_leave_room_for_endings():
    names = [f"sub/{letter * 250}{index}.png" for letter in ("a", "\u732b") for index in range(2)]
    found = output_names(names)
    assert len({*found}) == 4
    assert all(len(name.encode()) < 220 and name.startswith(("sub/aaaa", "sub/\u732b\u732b")) for name in found)


@pytest.mark.parametrize("name", ["/etc/a.png", "../a.png", "sub/../../a.png"])
def test_names_stay_inside_the_folder(name):
    with pytest.raises(UserError, match="must stay inside the output folder"):
        output_names([name])


def test_a_folder_keeps_its_settings(tmp_path):
    require_same_settings(tmp_path, {"space": "w", "inverter": {"lr": 0.1, "betas": (0.9, 0.99)}})
    require_same_settings(tmp_path, {"inverter": {"lr": 0.1, "betas": [0.9, 0.99]}, "space": "w"})
    with pytest.raises(UserError, match=r"inverter\.lr was 0\.1, now 0\.2"):
        require_same_settings(tmp_path, {"space": "w", "inverter": {"lr": 0.2, "betas": (0.9, 0.99)}})
    with pytest.raises(UserError, match="holds things with other settings .inverter was .* now absent"):
        require_same_settings(tmp_path, {"space": "w"}, noun="things")
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})
    (tmp_path / SETTINGS_FILE).write_text("{")
    for read in (read_settings, lambda folder: require_same_settings(folder, {})):
        with pytest.raises(UserError, match=r"Cannot read '.*settings\.json'"):
            read(tmp_path)
