"""Checkpoints of e4e, pSp and ReStyle ({state_dict, latent_avg, opts}) <-> an encoder of ours and its generator.

Names, shapes and order of the encoder's tensors are the same in both; the decoder is rosinality's generator. `opts`
holds what tensors do not show: the type of the encoder ("encoder_type"), whether its output is relative to the mean
latent ("start_from_latent_avg"), and for e4e, together with "global_step", how many deltas have been trained.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from wplus.adapters import rosinality
from wplus.adapters.rebuild import count, entry, fill, plain, refuse_shape, within
from wplus.adapters.restricted import as_tensors
from wplus.checkpoint import fingerprint
from wplus.errors import UserError
from wplus.models.encoders.base import Encoder
from wplus.models.encoders.e4e import STRIDES, Encoder4Editing, GradualStyleEncoder, WEncoder
from wplus.models.encoders.ir_se import UNITS
from wplus.models.layers import block_resolutions
from wplus.models.network import Network, meta_init
from wplus.models.stylegan2 import Generator

PREFIX = "encoder."
PUBLISHED = {"input_size": 256, "w_dim": 512, "depth": 50}  # fixed in their code
PROGRESSIVE_EVERY = 2000  # e4e's default number of steps between two deltas
MAX_HALVINGS = 10

# Their names of the encoders -> our classes, and the maps that the heads read (None: there are no heads).
TYPES: dict[str, tuple[type[Encoder], str | None]] = {
    "Encoder4Editing": (Encoder4Editing, "pyramid"),
    "GradualStyleEncoder": (GradualStyleEncoder, "pyramid"),
    "ProgressiveBackboneEncoder": (Encoder4Editing, "last"),
    "BackboneEncoder": (GradualStyleEncoder, "last"),
    "BackboneEncoderUsingLastLayerIntoW": (WEncoder, None),
    "SingleStyleCodeEncoder": (WEncoder, None),  # the same under e4e's name
}


def recognises(content: object) -> bool:
    """Whether `content` of a torch file looks like a checkpoint with an encoder."""
    state = content.get("state_dict") if isinstance(content, Mapping) else None
    return isinstance(state, Mapping) and any(str(name).startswith(PREFIX) for name in state)


def read(content: Mapping[str, Any], origin: str) -> tuple[dict[str, Network], dict[str, Any]]:
    """Networks by role ("encoder", and "generator" if there is a decoder), and metadata; `origin` names the file.

    Encoders of unsupported types are skipped and noted in the metadata. UserError names the tensor that is missing,
    unknown or of the wrong shape.
    """
    options = plain(content["opts"]) if isinstance(content.get("opts"), dict) else {}
    if rosinality.recognises(content):
        networks, metadata = rosinality.read(content, origin)
    else:
        networks, metadata = {}, {"format": "e4e"} | ({"options": options} if options else {})
    tensors = within(as_tensors(content["state_dict"]), PREFIX)
    generator = networks.get("generator")
    assert generator is None or isinstance(generator, Generator)
    kind = _kind(tensors, options)
    colours, stem = 3 if generator is None else generator.img_channels, tensors.get("input_layer.0.weight")
    num = stem.shape[1] if stem is not None and stem.ndim == 4 else colours
    if kind not in TYPES:
        problem = f"an encoder of the type '{kind[:60]}' cannot be rebuilt, only {', '.join(TYPES)}"
        return networks, metadata | {"encoder": {"left_out": problem}}
    if num not in (colours, 2 * colours):
        problem = f"its input has {num} channels, where the generator draws images of {colours}"
        return networks, metadata | {"encoder": {"left_out": problem}}
    given = {"num_ws": _num_ws(tensors, options, generator, f"{origin}, encoder"), "img_channels": colours}
    encoder = _encoder(kind, tensors, {**given, "is_iterative": num == 2 * colours}, f"{origin}, encoder")
    said = {
        "type": kind,
        "generator": None if generator is None else fingerprint(generator),
        "latent_avg": _set_average(encoder, content.get("latent_avg"), options, generator, origin),
        "stage": _set_stage(encoder, content.get("global_step"), options),
    }
    metadata.pop("latent_avg", None)  # its rows are the encoder's buffer
    return {**networks, "encoder": encoder}, metadata | {"encoder": said}


def export(
    *, generator: Generator | None = None, encoder: Encoder | None = None, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Our networks as {state_dict, latent_avg, opts}, as read by the published code; `options` are further `opts`.

    UserError unless both are given and the published code can build them.
    """
    if generator is None or encoder is None:
        lacking = "generator" if generator is None else "encoder"
        raise UserError(f"The e4e layout holds a generator and its encoder, and there is no {lacking}.")
    kind = _their_type(encoder)
    decoder = rosinality.export(generator=generator)["g_ema"]
    own = {name: tensor for name, tensor in encoder.state_dict().items() if name not in ("latent_avg", "stage")}
    state = {f"{PREFIX}{name}": tensor.detach().cpu().clone() for name, tensor in own.items()}
    state |= {f"{rosinality.DECODER}{name}": tensor for name, tensor in decoder.items()}
    average, starts_from_it = _their_average(generator, encoder)
    content: dict[str, Any] = {"state_dict": state, "latent_avg": average}
    stage, opts = int(encoder.stage), dict(options or {})
    for name in ("progressive_steps", "progressive_start"):
        opts.pop(name, None)
    if stage < encoder.num_ws - 1:  # one step per delta, the only way the layout can express a stage
        opts["progressive_steps"], content["global_step"] = list(range(encoder.num_ws)), stage
    sizes = {"stylegan_size": generator.resolution, "output_size": generator.resolution, "n_styles": encoder.num_ws}
    sizes |= rosinality.budget(generator)
    channels = {"input_nc": encoder.in_channels, "learn_in_w": isinstance(encoder, WEncoder)}
    return content | {"opts": opts | sizes | channels | {"encoder_type": kind, "start_from_latent_avg": starts_from_it}}


# --- to ours --------------------------------------------------------------------------------------------------------


def _kind(tensors: Mapping[str, Tensor], options: Mapping[str, Any]) -> str:
    """Their name of the encoder: as stated, otherwise inferred from its tensors, which e4e and pSp share."""
    if options.get("encoder_type"):
        return str(options["encoder_type"])
    if "styles.0.linear.weight" not in tensors:
        return "BackboneEncoderUsingLastLayerIntoW" if "linear.weight" in tensors else "unknown"
    maps = "pyramid" if "latlayer1.weight" in tensors else "last"
    encoder_class = GradualStyleEncoder if "learn_in_w" in options else Encoder4Editing  # an option that only pSp has
    return next(name for name, meant in TYPES.items() if meant == (encoder_class, maps))


def _encoder(kind: str, tensors: Mapping[str, Tensor], given: Mapping[str, Any], origin: str) -> Encoder:
    """The encoder with the file's weights; sizes not given are inferred from the tensors."""
    encoder_class, maps = TYPES[kind]
    num_units = count(tensors, "body.{}.res_layer.0.weight")
    depths = {sum(units): depth for depth, units in UNITS.items()}
    if num_units not in depths:
        raise UserError(f"{origin} has a backbone of {num_units} units; known are {', '.join(map(str, depths))}.")
    last = "linear.weight" if maps is None else "styles.0.linear.weight"
    arguments = {**given, "w_dim": len(entry(tensors, last, origin, kind=kind)), "depth": depths[num_units]}
    if maps is not None:  # each convolution of a head halves its map, down to one position
        side = 2 ** sum(f"styles.0.convs.{2 * i}.weight" in tensors for i in range(MAX_HALVINGS))
        arguments |= {"maps": maps, "input_size": side * STRIDES[0]}
    encoder = meta_init(encoder_class, arguments)
    own = {"latent_avg": torch.zeros(encoder.num_ws, encoder.w_dim), "stage": torch.tensor(encoder.num_ws - 1)}
    fill(encoder, {**own, **tensors}, origin, kind=kind)
    return encoder


def _num_ws(tensors: Mapping[str, Tensor], options: Mapping[str, Any], generator: Generator | None, origin: str) -> int:
    """One style per head; without heads, as many as the decoder has; without a decoder, from the stated size."""
    num_heads = count(tensors, "styles.{}.linear.weight")
    if generator is not None and num_heads not in (0, generator.num_ws):
        styles = f"its decoder takes {generator.num_ws} styles"
        raise UserError(f"{origin} has {num_heads} style heads, {styles}; they must be as many.")
    if num_heads:
        return num_heads
    if generator is not None:
        return generator.num_ws
    size = options.get("stylegan_size", options.get("output_size"))
    if not isinstance(size, int):
        raise UserError(f"{origin}: neither a decoder nor the options' stylegan_size says how many styles there are.")
    return 2 * len(block_resolutions(size))


def _set_average(
    encoder: Encoder, average: object, options: Mapping[str, Any], generator: Generator | None, origin: str
) -> str:
    """Fill the encoder's `latent_avg`; returns a note for the metadata."""
    if not options.get("start_from_latent_avg", True):
        return "zero, as the options say"
    if isinstance(average, Tensor):
        rows = average.detach().float().reshape(-1, average.shape[-1]) if average.ndim in (1, 2) else average
        if rows.shape not in ((1, encoder.w_dim), encoder.latent_avg.shape):
            expected = f"({encoder.w_dim},) or {tuple(encoder.latent_avg.shape)}"
            refuse_shape("latent_avg", average, expected, origin)
        encoder.latent_avg.copy_(rows[:1] if isinstance(encoder, WEncoder) else rows)
        return "from the file"
    if generator is None:
        return "zero, the file has none"
    encoder.latent_avg.copy_(generator.mapping.w_avg)
    return "the generator's"


def _set_stage(encoder: Encoder, global_step: object, options: Mapping[str, Any]) -> str:
    """Fill the encoder's `stage`, the number of deltas in training at that step; returns a note for the metadata."""
    last, start = encoder.num_ws - 1, options.get("progressive_start")
    # Steps at which deltas are added: as listed, or a first one and then regular intervals.
    steps, every = options.get("progressive_steps"), options.get("progressive_step_every", PROGRESSIVE_EVERY)
    if not isinstance(steps, list) and isinstance(start, (int, float)) and isinstance(every, (int, float)):
        steps = [0, *(start + i * every for i in range(last))]
    are_known = isinstance(steps, list) and all(isinstance(step, (int, float)) for step in steps)
    if not encoder.has_stages or not steps or not are_known or not isinstance(global_step, int):
        return "all deltas, the file names no other"
    reached = sum(global_step >= step for step in steps) - 1
    encoder.stage.fill_(min(max(reached, 0), last))
    return f"{int(encoder.stage)} of {last} at step {global_step}"


# --- to theirs ------------------------------------------------------------------------------------------------------


def _their_type(encoder: Encoder) -> str:
    """Their name of this encoder; UserError with the reason if there is none."""
    maps = encoder.arguments.get("maps")
    found = [name for name, meant in TYPES.items() if meant == (type(encoder), maps)]
    if not found:
        published = f"the published encoders ({', '.join(TYPES)})"
        raise UserError(f"The e4e layout is for {published}, and the source has {type(encoder).__name__}.")
    sizes = {name: encoder.arguments[name] for name in PUBLISHED}
    if sizes != PUBLISHED:
        theirs, own = (", ".join(f"{name}={value}" for name, value in each.items()) for each in (PUBLISHED, sizes))
        raise UserError(f"The published encoders have {theirs}, this one {own}.")
    if encoder.is_iterative and found[0] == "Encoder4Editing":
        raise UserError("The published Encoder4Editing sees one image, this one two; write one with maps=last.")
    return found[0]


def _their_average(generator: Generator, encoder: Encoder) -> tuple[Tensor, bool]:
    """The file's single latent_avg, (num_ws, w_dim), or (1, w_dim) for W, and whether outputs are relative to it.

    UserError if the generator's mean differs from the encoder's: the layout has no place for both.
    """
    w_avg, rows = generator.mapping.w_avg.detach().cpu(), encoder.latent_avg.detach().cpu()
    starts = bool(rows.any())
    if starts and not torch.allclose(rows.mean(dim=0), w_avg, atol=1e-5):
        raise UserError("The e4e layout has one mean latent, and those of this encoder and its generator differ.")
    kept = rows if starts else w_avg.expand_as(rows)
    return (kept[:1] if isinstance(encoder, WEncoder) else kept).clone(), starts
