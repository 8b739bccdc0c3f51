"""Marks of numbers whose net has taught what they judge: a discriminator on a net's features is judged by itself there.

A generator that learned from the features of a net comes closer in those features without better images
(Kynkäänniemi et al. 2023, arXiv:2203.06026). Networks say which nets taught them (`wplus.models.network.Network.saw`),
protocols which nets measured; where the two meet, a number's name ends in `_seen` and its protocol names the net.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace

from wplus.core.metric_result import MetricResult
from wplus.pretrained import effnet_lite0, inception, mobilenet_v2, squeezenet, vgg16

SUFFIX = "_seen"
SEEN = "seen_in_training"  # of a protocol: the nets that measured and had taught
INSTRUMENTS = ("extractor", "extractor_weights", "distance", "distance_provenance", "identity")  # keys of a protocol
# A distance has a name of its own (identity_effnet_lite0, lpips_vgg) and says its net by the weights file.
NETS = {
    effnet_lite0.WEIGHTS[-1]: "effnet_lite0",
    inception.FILE: "inception",
    mobilenet_v2.MobileNetV2Features.file[-1]: "mobilenet_v2",
    squeezenet.SqueezeNetFeatures.file[-1]: "squeezenet",
    vgg16.FILE: "vgg16",
}


def nets_of(instrument: object) -> set[str]:
    """Every word in the description of an instrument (its provenance, its protocol), weights files by their net."""
    return {NETS.get(word, word) for word in _words(instrument)}


def is_seen(instrument: object, saw: Collection[str]) -> bool:
    """Whether one of the nets that `saw` names stands behind an instrument."""
    return not nets_of(instrument).isdisjoint(saw)


def marked(name: str, instrument: object, saw: Collection[str]) -> str:
    """A number's name, with `_seen` where its instrument looks through a net that has taught what it measures."""
    return f"{name}{SUFFIX}" if is_seen(instrument, saw) else name


def marked_result(result: MetricResult, saw: Collection[str]) -> MetricResult:
    """The same for a result, by its protocol, which then names these nets; real images alone are judged by any net."""
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
