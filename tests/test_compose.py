"""What jobs request is determined cheaply, and equals Hydra's full composition."""

from pathlib import Path

import pytest

from wplus.commands import compose
from wplus.commands.compose import Composer, shown
from wplus.commands.overrides import readable
from wplus.config import expand_home, swept_presets
from wplus.core.claim import digest, question
from wplus.core.sweep import sweep
from wplus.errors import UserError

INVERT = ["checkpoint=a.safetensors", "input=held_out"]
CASES = [
    ("invert", [*INVERT, "space=w+", "seed=3", "inverter.loss_weights.perceptual=0.5", "tags=[x,y]"]),
    ("invert", [*INVERT, "inverter=lbfgs", "image_loss=[ms_ssim]", "inverter.loss_weights.ms_ssim=1e-3", "group=null"]),
    ("invert", [*INVERT, "image_loss=[discriminator]", "num_images=4"]),  # reads the checkpoint
    ("invert", ["checkpoint=~/a", "input='a b'", "label=[1,2]", "run_dir=out/${seed}", "seed=4"]),
    ("invert", [*INVERT, "run_dir=out", "name=other", "inverter.num_steps=7"]),
    ("train", ["model=dcgan", "seed=1", "model.generator.channel_base=64", "schedule.kimg=3.5"]),  # another is derived
    ("train", ["debug=quick", "probes=[]", "training.hparams.gamma=0.5", "mirror=x", "schedule={kimg:2}"]),
    ("evaluate", ["checkpoint=b", "metrics=[fd,kd]", "extractor=vgg16", "metrics.fd.num_generated=9"]),
    ("interpolate", ["checkpoint=b", "inputs=[seed:1,seed:2]", "path=[lerp,slerp]", "retime=arc_length"]),
    ("train", ["experiment=cats32", "debug=overfit", "seed=2"]),
    ("report", ["folder=x", "output=y"]),
]


@pytest.mark.parametrize(("verb", "overrides"), CASES)
def test_what_a_job_asks_is_what_hydra_composes(verb, overrides):
    composer = Composer()
    for swept in (["seed", "debug"], ["schedule.kimg", "probes", "tags"]):
        with sweep(Path("s"), swept):
            config = expand_home(shown(verb, readable(overrides)))
            assert composer.composed(verb, overrides) == config
            own = digest(question(config, also=swept) | swept_presets(config, overrides))
            expected = (own, config.get("run_dir", ""), digest(question(config)))
            assert composer.asked(verb, overrides) == expected


def test_hydra_composes_once_for_each_choice_of_options(monkeypatch):
    calls = []
    real = compose._composed
    monkeypatch.setattr(compose, "_composed", lambda *given: calls.append(given) or real(*given))
    composer = Composer()
    found = {composer.asked("invert", [*INVERT, f"space={space}", f"seed={seed}"]) for space in "zw" for seed in (1, 2)}
    assert (len(found), len(calls)) == (4, 1)
    composer.asked("invert", [*INVERT, "inverter=pti"])
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("override", "sentence"),
    [("spce=w", "There is no key 'spce'; did you mean space?"), ("inverter=no", "inverter must be one of"),
     ("inverter.steps=3", "'inverter.steps=3' is now 'inverter.num_steps=3'."), ("loss=", "")],
)  # fmt: skip
def test_what_cannot_be_composed_is_one_sentence(override, sentence):
    with pytest.raises(UserError) as error:
        Composer().asked("invert", [*INVERT, override])
    assert str(error.value).startswith(sentence)
