"""Against torch-fidelity's network with the same (random) weights, and what is said when something is missing."""

import json
import sys

import pytest
import torch
from torch_fidelity import feature_extractor_inceptionv3 as theirs

from wplus.errors import UserError
from wplus.pretrained import inception
from wplus.pretrained.inception import InceptionFeatures


@pytest.fixture
def state(monkeypatch, random_state):
    with monkeypatch.context() as patch, torch.device("meta"):
        patch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        net = theirs.FeatureExtractorInceptionV3("shapes", ["2048"])
    return random_state({name: tensor.shape for name, tensor in net.state_dict().items()})


def test_features_and_logits_are_torch_fidelitys(state, cached_weights, pictures):
    path = cached_weights(inception, state)
    extractor = InceptionFeatures(download=False)
    wanted = ["2048", "logits_unbiased"]
    net = theirs.FeatureExtractorInceptionV3("theirs", wanted, feature_extractor_weights_path=str(path))
    features, logits = net(pictures)
    assert features.std() > 1e-3
    torch.testing.assert_close(extractor(pictures), features, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(extractor.logits(features), logits, atol=1e-5, rtol=1e-5)
    grey = extractor(pictures[:1, :1])
    assert torch.equal(grey, extractor(pictures[:1, :1].repeat(1, 3, 1, 1)))
    protocol = json.loads(json.dumps(extractor.protocol))
    assert protocol["extractor_weights"] == path.name
    assert protocol["extractor_sha256"].startswith(path.stem[-8:])


def test_missing_weights_name_file_url_and_folder(cache):
    with pytest.raises(UserError) as error:
        InceptionFeatures(download=False)
    for part in (inception.FILE, "https://github.com/toshas/torch-fidelity/", str(cache), "download=true"):
        assert part in str(error.value)


def test_other_files_are_refused(cache, cached_weights):
    (cache / inception.FILE).write_bytes(b"not the weights")
    with pytest.raises(UserError, match="SHA-256 begins with"):
        InceptionFeatures()
    cached_weights(inception, {"fc.weight": torch.zeros(2)})
    with pytest.raises(UserError, match="weights of another net"):
        InceptionFeatures()


def test_a_file_that_would_run_code_is_refused(cached_weights):
    cached_weights(inception, torch.nn.Linear(1, 1))
    with pytest.raises(UserError, match="not a file of weights alone"):
        InceptionFeatures()


def test_without_the_package_it_says_how_to_install_it(monkeypatch, cached_weights):
    cached_weights(inception, {})
    monkeypatch.setitem(sys.modules, theirs.__name__, None)
    with pytest.raises(UserError, match=r"pip install 'wplus\[fidelity\]'"):
        InceptionFeatures()
