"""Identity distances: the published protocols step by step, and the message when their weights are missing."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from omegaconf import OmegaConf

from wplus.config import CONFIG_FOLDER, build, plain
from wplus.errors import UserError
from wplus.losses.identity import ArcFaceIdentity, EffNetLite0Identity, MoCoIdentity
from wplus.pretrained import weights
from wplus.pretrained.arcface import ArcFaceNet


def test_arcface_sees_the_face_at_112_px(arcface_file, pictures):
    """e4e: 256 px, rows 35 to 222, columns 32 to 219, averaged to 112 px."""
    distance, image = ArcFaceIdentity(arcface_file), pictures(1, 256)
    net = ArcFaceNet().eval()
    net.load_state_dict(torch.load(arcface_file, weights_only=True))
    with torch.no_grad():
        expected = net(F.adaptive_avg_pool2d(image[:, :, 35:223, 32:220], (112, 112)))
        torch.testing.assert_close(distance.features(image)[0], expected, atol=1e-5, rtol=1e-4)
        outside = image.clone()
        outside[:, :, :35], outside[:, :, :, 220:] = 1, -1
        assert torch.equal(distance.features(outside)[0], distance.features(image)[0])


def test_arcface_without_a_crop_sees_it_all(arcface_file, pictures):
    distance, image = ArcFaceIdentity(arcface_file, crop="none"), pictures(1, 224)
    with torch.no_grad():
        expected = distance.net(F.avg_pool2d(image, 2))
        torch.testing.assert_close(distance.features(image)[0], expected, atol=1e-5, rtol=1e-4)
    assert distance.provenance["crop"] == "none"


@pytest.mark.parametrize("compat", ["published", "imagenet_normalised"])
def test_moco_is_resnet50_before_its_head(moco_file, pictures, compat):
    distance, image = MoCoIdentity(moco_file, compat=compat), pictures(1, 32)
    state = torch.load(moco_file, weights_only=True)["state_dict"]
    net = torchvision.models.resnet50().eval()
    net.fc = torch.nn.Identity()
    net.load_state_dict({name[17:]: value for name, value in state.items() if "encoder_q.fc" not in name})
    seen = image.repeat_interleave(7, dim=2).repeat_interleave(7, dim=3)  # nearest neighbour, 32 to 224 px
    if compat == "imagenet_normalised":
        seen = torchvision.transforms.functional.normalize((seen + 1) / 2, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    with torch.no_grad():
        torch.testing.assert_close(distance.features(image)[0], F.normalize(net(seen)), atol=1e-5, rtol=1e-4)
    assert ("ImageNet" in distance.provenance["input"]) == (compat == "imagenet_normalised")


@pytest.mark.parametrize(("given", "seen"), [(32, 64), (64, 64), (100, 100), (256, 224)])
def test_the_stand_in_is_the_cosine_of_pooled_features(pictures, given, seen):
    distance, a, b = EffNetLite0Identity(), *pictures(2, given)[:, None]
    resize = {"mode": "area"} if given > seen else {"mode": "bilinear", "align_corners": False}
    pooled = [distance.net.pooled(F.interpolate(x, size=(seen, seen), **resize)) for x in (a, b)]
    torch.testing.assert_close(distance(a, b), 1 - torch.cosine_similarity(*pooled), atol=1e-5, rtol=1e-4)
    assert distance.name == "identity_effnet_lite0"


# Files


@pytest.mark.parametrize(("make", "file", "url"), [
    (ArcFaceIdentity, "model_ir_se50.pth", "https://drive.google.com/"),
    (MoCoIdentity, "moco_v2_800ep_pretrain.pth.tar", "https://dl.fbaipublicfiles.com/moco/"),
])  # fmt: skip
def test_missing_weights_name_file_url_folder_and_the_stand_in(monkeypatch, tmp_path, make, file, url):
    monkeypatch.setattr(weights.torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(UserError) as error:
        build(plain(OmegaConf.load(CONFIG_FOLDER / "image_loss" / f"{make.name}.yaml")))
    for part in (file, url, str(tmp_path / "checkpoints"), "choose effnet_lite0"):
        assert part in str(error.value)
    with pytest.raises(UserError, match=r"elsewhere\.pth' does not exist"):
        make(tmp_path / "elsewhere.pth")


def test_weights_are_found_in_torchs_cache(monkeypatch, tmp_path, moco_file):
    monkeypatch.setattr(weights.torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / moco_file.name).symlink_to(moco_file)
    assert MoCoIdentity().provenance["weights"] == moco_file.name


@pytest.mark.parametrize("make", [ArcFaceIdentity, MoCoIdentity])
@pytest.mark.parametrize("content", [
    {"conv.weight": torch.zeros(2)}, {"state_dict": {"module.encoder_q.conv1.weight": torch.zeros(2)}},
    {"state_dict": 1}, "not ours",
])  # fmt: skip
def test_other_files_are_refused(tmp_path, make, content):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(UserError, match=r"weights\.pth"):
        make(path)


def test_unknown_options():
    with pytest.raises(UserError, match="face, none, got 'eyes'"):
        ArcFaceIdentity(crop="eyes")
    with pytest.raises(UserError, match="published, imagenet_normalised, got 'raw'"):
        MoCoIdentity(compat="raw")
