"""Published networks against torch-fidelity's with the same (random) weights, and messages about missing weights."""

import json
import sys
from types import ModuleType

import pytest
import torch
import torchvision
from torch_fidelity import feature_extractor_inceptionv3 as theirs
from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

from wplus.errors import UserError
from wplus.pretrained import inception, vgg16
from wplus.pretrained.inception import InceptionFeatures
from wplus.pretrained.vgg16 import VGG16Features

EXTRACTORS = {vgg16: VGG16Features, inception: InceptionFeatures}


def test_inception_and_its_logits(monkeypatch, random_state, cached_weights, pictures, check_maps):
    with monkeypatch.context() as patch, torch.device("meta"):
        patch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        net = theirs.FeatureExtractorInceptionV3("shapes", ["2048"])
    state = random_state({name: tensor.shape for name, tensor in net.state_dict().items()})
    path = cached_weights(inception, state)
    extractor = InceptionFeatures(download=False)
    wanted = ["2048", "logits_unbiased"]
    net = theirs.FeatureExtractorInceptionV3("theirs", wanted, feature_extractor_weights_path=str(path))
    features, logits = net(pictures)
    assert features.std() > 1e-3
    torch.testing.assert_close(extractor(pictures), features, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(extractor.logits(features), logits, atol=1e-5, rtol=1e-5)
    assert torch.equal(extractor(pictures[:1, :1]), extractor(pictures[:1, :1].repeat(1, 3, 1, 1)))
    check_maps(extractor, lambda last: last.mean(dim=(2, 3)), px=299)
    protocol = json.loads(json.dumps(extractor.protocol))
    assert protocol["extractor_weights"] == path.name
    assert protocol["extractor_sha256"].startswith(path.stem[-8:])


def test_vgg16(monkeypatch, random_state, cached_weights, pictures, check_maps):
    with torch.device("meta"):
        net = torchvision.models.vgg16()
    path = cached_weights(vgg16, random_state({name: tensor.shape for name, tensor in net.state_dict().items()}))
    extractor = VGG16Features(download=False)
    with monkeypatch.context() as patch:  # random numbers for 138 million parameters take seconds
        patch.setattr(torchvision.models, "vgg16", lambda make=torchvision.models.vgg16: make(init_weights=False))
        net = FeatureExtractorVGG16("theirs", ["fc2_relu"], feature_extractor_weights_path=str(path))
    expected = net(pictures[:1])[0]
    assert (expected == 0).any()
    assert expected.std() > 1e-3
    torch.testing.assert_close(extractor(pictures[:1]), expected, atol=1e-5, rtol=1e-4)
    assert expected.shape == (1, extractor.dim)
    assert extractor.protocol["extractor_layer"] == "fc2 after ReLU"
    check_maps(extractor, lambda last: extractor.net.classifier(extractor.net.features[30](last).flatten(1)), px=224)


@pytest.mark.parametrize("module", EXTRACTORS, ids=lambda module: module.__name__)
def test_missing_weights_name_file_url_and_folder(module: ModuleType, cache):
    with pytest.raises(UserError) as error:
        EXTRACTORS[module](download=False)
    for part in (module.FILE, module.URL.removesuffix(module.FILE), str(cache), "download=true"):
        assert part in str(error.value)


@pytest.mark.parametrize("module", EXTRACTORS, ids=lambda module: module.__name__)
def test_other_files_are_refused(module: ModuleType, cache, cached_weights):
    (cache / module.FILE).write_bytes(b"not the weights")
    with pytest.raises(UserError, match="SHA-256 begins with"):
        EXTRACTORS[module]()
    for content, word in (
        ({"fc.weight": torch.zeros(2)}, "weights of another net"),
        ([1, 2], "weights of another net|must map names to tensors"),
        (torch.nn.Linear(1, 1), "not a file of weights alone"),  # would run code
    ):
        cached_weights(module, content)
        with pytest.raises(UserError, match=word):
            EXTRACTORS[module]()


def test_without_the_package_it_says_how_to_install_it(monkeypatch, cached_weights):
    cached_weights(inception, {})
    monkeypatch.setitem(sys.modules, theirs.__name__, None)
    with pytest.raises(UserError, match=r"pip install 'wplus\[fidelity\]'"):
        InceptionFeatures()
