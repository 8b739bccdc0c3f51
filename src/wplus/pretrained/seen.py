"""Marks metrics computed with a net that was also used in training, where the discriminator saw its features.

A generator trained on the features of a net scores better in those features without better images
(Kynkäänniemi et al. 2023, arXiv:2203.06026). Networks record the nets they were trained with
(`wplus.models.network.Network.saw`), protocols the nets that measured; if a net is in both, the metric's name ends in
`_seen` and its protocol names the net.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from wplus.core.metric_result import MetricResult
from wplus.pretrained import effnet_lite0, inception, mobilenet_v2, squeezenet, vgg16

SUFFIX = "_seen"
SEEN = "seen_in_training"  # key of a protocol: nets used both for training and for measuring
INSTRUMENTS = ("extractor", "extractor_weights", "distance", "distance_provenance", "identity")  # keys of a protocol
# Distances have their own names (identity_effnet_lite0, lpips_vgg); their net is identified by the weights file.
NETS = {
    effnet_lite0.WEIGHTS[-1]: "effnet_lite0",
    inception.FILE: "inception",
    mobilenet_v2.MobileNetV2Features.file[-1]: "mobilenet_v2",
    squeezenet.SqueezeNetFeatures.file[-1]: "squeezenet",
    vgg16.FILE: "vgg16",
}


def nets_of(instrument: object) -> set[str]:
    """All words in the description of an instrument (its provenance or protocol); weights files map to their net."""
    return {NETS.get(word, word) for word in _words(instrument)}


def is_seen(instrument: object, saw: Collection[str]) -> bool:
    """Whether an instrument uses one of the nets in `saw`."""
    return not nets_of(instrument).isdisjoint(saw)


def marked(name: str, instrument: object, saw: Collection[str]) -> str:
    """A metric's name, with `_seen` appended if its instrument uses a net that the measured model was trained with."""
    return f"{name}{SUFFIX}" if is_seen(instrument, saw) else name


def marked_result(result: MetricResult, saw: Collection[str]) -> MetricResult:
    """Mark a result by its protocol, which then lists these nets; metrics of real images alone are never marked."""
    instruments = {key: result.protocol[key] for key in INSTRUMENTS if key in result.protocol}
    nets = sorted(nets_of(instruments) & set(saw))
    if not nets or not {"generator", "num_generated", "samples"} & result.protocol.keys():
        return result
    return replace(result, name=f"{result.name}{SUFFIX}", protocol=result.protocol | {SEEN: nets})


def _words(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _words(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _words(item)
