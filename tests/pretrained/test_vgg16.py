"""Against torch-fidelity's extractor with the same (random) weights, and what is said when something is missing."""

import pytest
import torch
import torchvision
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

from wplus.errors import UserError
from wplus.pretrained import vgg16
from wplus.pretrained.vgg16 import VGG16Features


@pytest.fixture
def state(random_state):
    with torch.device("meta"):
        net = torchvision.models.vgg16()
    return random_state({name: tensor.shape for name, tensor in net.state_dict().items()})


def test_features_are_torch_fidelitys(monkeypatch, state, cached_weights, pictures):
    path = cached_weights(vgg16, state)
    extractor = VGG16Features(download=False)
    features = extractor(pictures[:1])
    with monkeypatch.context() as patch:  # random numbers for 138 million parameters take seconds
        patch.setattr(torchvision.models, "vgg16", lambda make=torchvision.models.vgg16: make(init_weights=False))
        theirs = FeatureExtractorVGG16("theirs", ["fc2_relu"], feature_extractor_weights_path=str(path))
    expected = theirs(pictures[:1])[0]
    assert features.shape == (1, extractor.dim)
    assert (expected == 0).any()
    assert expected.std() > 1e-3
    torch.testing.assert_close(features, expected, atol=1e-5, rtol=1e-4)
    assert extractor.protocol["extractor_weights"] == path.name
    assert extractor.protocol["extractor_layer"] == "fc2 after ReLU"


def test_missing_weights_name_file_url_and_folder(cache):
    with pytest.raises(UserError) as error:
        VGG16Features(download=False)
    for part in (vgg16.FILE, "https://download.pytorch.org/models/", str(cache), "download=true"):
        assert part in str(error.value)


def test_other_files_are_refused(cached_weights):
    for content in ({"features.0.weight": torch.zeros(2)}, [1, 2]):
        cached_weights(vgg16, content)
        with pytest.raises(UserError, match="weights"):
            VGG16Features()
