"""A number is marked if its network was used to train the judged one, wherever that network's file has been."""

from types import SimpleNamespace

import pytest
import torch

import wplus
from tests.fakes import PooledDistance
from wplus.adapters.convert import convert
from wplus.checkpoint import fingerprint
from wplus.core.metric_result import MetricInfo, MetricResult
from wplus.errors import UserError
from wplus.inversion.report import with_marks
from wplus.inversion.result import Score
from wplus.losses.adversarial import logistic_discriminator, nonsaturating_generator
from wplus.losses.pixel import L2
from wplus.models.stylegan2 import Discriminator, Generator
from wplus.pretrained import seen
from wplus.pretrained.effnet_lite0 import EffNetLite0Features, weights_provenance
from wplus.probes import ProbeContext
from wplus.training.gan import GanModule
from wplus.training.hparams import Hparams
from wplus.training.transfer import Source, start_from

ARGUMENTS = {"resolution": 8, "channel_base": 64, "channel_max": 4, "num_mapping_layers": 1}
NUMBERS = {"batch_size": 8, "gamma": 0.0, "lr_generator": 0.002, "lr_discriminator": 0.002, "ema_kimg": 0.02,
           "ema_rampup": None, "pl_weight": 0.0, "style_mixing_prob": 0.0}  # fmt: skip
INFO = MetricInfo(meaning="A number.")


def generator(**changes) -> Generator:
    return Generator(**ARGUMENTS, **{"z_dim": 4, "w_dim": 4, **changes})


def discriminator(*saw: str) -> Discriminator:
    network = Discriminator(**ARGUMENTS, mbstd_group_size=4)
    network.saw = saw
    return network


def trained(*saw: str) -> GanModule:
    losses = {"generator_loss": nonsaturating_generator, "discriminator_loss": logistic_discriminator}
    return GanModule(generator(), discriminator(*saw), hparams=Hparams(**NUMBERS), **losses)


@pytest.mark.parametrize(
    ("protocol", "saw", "name"),
    [
        ({"extractor": "effnet_lite0", "num_generated": 5}, ["effnet_lite0"], "n_seen"),
        ({"extractor": "mobilenet_v2", "num_generated": 5}, ["effnet_lite0"], "n"),
        ({"extractor": "effnet_lite0", "num_generated": 5}, [], "n"),
        ({"extractor": "effnet_lite0", "num_real": 5}, ["effnet_lite0"], "n"),  # real images against real ones
        ({"distance": "identity", "distance_provenance": weights_provenance(), "generator": "f"}, ["effnet_lite0"],
         "n_seen"),
        ({"distance": "lpips_vgg", "distance_provenance": {"weights": "vgg16-397923af.pth"}, "generator": "f"},
         ["mobilenet_v2", "vgg16"], "n_seen"),
        ({"identity": dict(weights_provenance()), "samples": "f"}, ["effnet_lite0"], "n_seen"),
        ({"classifier": "effnet_lite0", "num_generated": 5}, ["effnet_lite0"], "n"),  # no instrument of that key
    ],
)  # fmt: skip
def test_marks(protocol, saw, name):
    marked = seen.marked_result(MetricResult.of(INFO, "n", 1.0, protocol=protocol), saw)
    assert marked.name == name
    assert (seen.SEEN in marked.protocol) == (name == "n_seen")


def test_a_distance_is_known_by_its_weights():
    distance = PooledDistance()
    assert not seen.is_seen(distance.provenance, ["effnet_lite0"])
    assert seen.is_seen({**distance.provenance, **weights_provenance()}, ["effnet_lite0"])
    protocol = EffNetLite0Features().protocol
    assert seen.NETS[protocol["extractor_weights"]] == protocol["extractor"]


def test_what_the_discriminator_saw_goes_with_the_generator_wherever_it_goes(tmp_path):
    module = trained("effnet_lite0")
    assert module.exported["generator"].saw == ("effnet_lite0",)
    alone = wplus.save(tmp_path / "g.safetensors", generator=module.ema)
    for target in ("again.safetensors", "folder/", "nvlabs.pt"):
        layout = {"layout": "nvlabs"} if target.endswith(".pt") else {}
        convert(alone, tmp_path / target, **layout)
        models = wplus.load(tmp_path / target)
        assert models.generator.saw == models.saw == ("effnet_lite0",), target
    # in a run that starts from it, beside what the new discriminator sees
    later = trained("mobilenet_v2")
    start_from(later, Source(models=wplus.load(alone)))
    assert later.ema.saw == later.generator.saw == ("effnet_lite0", "mobilenet_v2")


def test_a_generator_takes_over_what_only_its_discriminator_says(tmp_path):
    plain, network = generator(), generator()
    network.load_state_dict(plain.state_dict())
    path = wplus.save(tmp_path / "both.safetensors", generator=network, discriminator=discriminator("vgg16"))
    found = wplus.load(path).generator
    assert found.saw == ("vgg16",)
    assert fingerprint(found) == fingerprint(plain)  # latents are bound to the function, not to its history


def test_scores_of_inversions_and_probes_are_marked_by_the_net_behind_them():
    distance = PooledDistance()
    distance.provenance = {**distance.provenance, **weights_provenance()}
    columns = {name: Score(torch.zeros(2), INFO) for name in ("l2", distance.name, f"locality_{distance.name}")}
    found = with_marks(columns, {"perceptual": distance, "l2": L2()}, ["effnet_lite0"])
    assert list(found) == ["l2", f"{distance.name}_seen", f"locality_{distance.name}_seen"]
    assert list(with_marks(columns, {"perceptual": distance}, [])) == list(columns)
    context = SimpleNamespace(
        data=SimpleNamespace(extractor=SimpleNamespace(name="effnet_lite0")), generator=trained("effnet_lite0").ema
    )
    assert ProbeContext.of_extractor(context, "probe/recall_effnet_lite0") == "probe/recall_effnet_lite0_seen"


def test_a_file_that_says_nonsense_is_refused(tmp_path):
    network = generator()
    network.saw = (7,)
    path = wplus.save(tmp_path / "m.safetensors", generator=network)
    with pytest.raises(UserError, match="describes no networks"):
        wplus.load(path)


def test_a_file_without_a_word_of_it_has_seen_nothing(tmp_path):
    path = wplus.save(tmp_path / "m.safetensors", generator=generator())
    assert wplus.load(path).saw == ()
