"""Faster gradients for the phases of GAN training, by compilation and CUDA graphs.

A phase is traced once, with its derivatives of both orders, into a single graph of tensor operations. A compiler then
sees the second derivatives of R1 and path lengths like any other operation, built from the fast convolutions of
`wplus.models.ops`, and nothing that depends on data passes through Python (otherwise tracing fails). Each variant is
compared with plain execution before the first step; if it fails or differs, the phase runs plainly and the reason is
recorded.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

from wplus.core.runtime import Runtime, float32_convolutions
from wplus.models.ops import fused
from wplus.training.layout import lay_out
from wplus.training.phases import Draw, Phase, Told

if TYPE_CHECKING:
    from wplus.training.gan import GanModule

# Maximum relative difference of a network's gradient: a different order of float32 sums gives 1e-5; in bfloat16 a fused
# operation rounds once where plain operations round several times.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 0.05}
TF32_TOLERANCE = 0.05  # a last bit more or less in a float32 sum can move the next layer's inputs by one of 11 bits
Compiler = Callable[[torch.fx.GraphModule, Sequence[Tensor]], Callable[..., Sequence[Tensor]]]
Run = Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]]  # (held tensors, drawn tensors)


class PhaseFunction(nn.Module):
    """A phase as a pure function of tensors: maps parameters, buffers and drawn inputs to the gradients of trainable
    parameters and the phase's other outputs.

    `draw` defines the structure of the drawn inputs, which must be the same in every step.
    """

    def __init__(self, module: GanModule, phase: Phase, draw: Draw) -> None:
        super().__init__()
        module.set_learning(phase)
        self.module, self.phase, self.form = module, phase, draw
        held: dict[str, Tensor] = {"pl_mean": module.pl_mean}
        for name in ("generator", "discriminator"):
            network = getattr(module, name)
            held |= {f"{name}.{key}": tensor for key, tensor in (*network.named_parameters(), *network.named_buffers())}
        self.names, self.held = list(held), list(held.values())
        self.learns = [name for name, tensor in held.items() if tensor.requires_grad]
        self.used: list[str] = []
        self.told = Told()

    @torch.enable_grad()
    def outputs(self, held: Sequence[Tensor], drawn: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradients of `used`, in the memory layout of the parameters, then the tensors of `told`."""
        state = {name: tensor.detach() for name, tensor in zip(self.names, held, strict=True)}
        leaves = {name: state[name].requires_grad_() for name in self.learns}
        state = {f"module.{name}": tensor for name, tensor in state.items()}
        return torch.func.functional_call(self, state, (leaves, drawn))

    def forward(self, leaves: Mapping[str, Tensor], drawn: Sequence[Tensor]) -> list[Tensor]:
        """Compute `outputs` while the modules hold the leaves as their parameters."""
        told, gradients = Told(), dict[str, Tensor]()
        for loss in self.phase.losses(filled(self.form, iter(drawn)), told):
            found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)
            for name, gradient in zip(leaves, found, strict=True):
                if gradient is not None:
                    gradients[name] = gradients[name] + gradient if name in gradients else gradient
        self.used, self.told = list(gradients), told
        laid_out = [_laid_out(gradient.detach(), leaves[name]) for name, gradient in gradients.items()]
        return [*laid_out, *(tensor.detach() for tensor in tensors_of(told))]

    def deliver(self, outputs: Sequence[Tensor]) -> Told:
        """Assign the gradients to the parameters and return the phase's other outputs."""
        num = len(self.used)
        for name, gradient in zip(self.used, outputs[:num], strict=True):
            self.module.get_parameter(name).grad = gradient
        return filled(self.told, iter(outputs[num:]))


class Faster:
    """A phase run by a compiled function; call it with the inputs drawn for a step."""

    def __init__(self, function: PhaseFunction, run: Run) -> None:
        self.function, self.run = function, run

    @torch.no_grad()
    def __call__(self, draw: Draw) -> Told:
        """Assign gradients to the parameters and return the phase's other outputs."""
        return self.function.deliver(self.run(self.function.held, tensors_of(draw)))


class Recorded(Faster):
    """A phase that is recorded once, on inputs at fixed addresses, and then replayed.

    `record` returns a function that replays the recorded work, and the outputs that every replay overwrites.
    """

    def __init__(self, function: PhaseFunction, run: Run, drawn: Sequence[Tensor], record: Record) -> None:
        super().__init__(function, run)
        self.inputs = [tensor.clone() for tensor in drawn]
        self.replay, self.outputs = record(lambda: run(function.held, self.inputs))

    @torch.no_grad()
    def __call__(self, draw: Draw) -> Told:
        """Assign gradients to the parameters and return the other outputs, which the next step overwrites."""
        torch._foreach_copy_(self.inputs, tensors_of(draw))
        self.replay()
        return self.function.deliver(self.outputs)


Record = Callable[[Callable[[], Sequence[Tensor]]], tuple[Callable[[], None], Sequence[Tensor]]]


def cuda_graph(work: Callable[[], Sequence[Tensor]]) -> tuple[Callable[[], None], Sequence[Tensor]]:
    """Record `work` as a CUDA graph, after warm-up runs on a separate stream that let libraries initialise."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, pool=_pool()):
        outputs = work()
    return graph.replay, outputs


@functools.cache
def _pool() -> Any:
    """Memory pool shared by all phases: they run in sequence, and outputs are consumed before the next phase."""
    return torch.cuda.graph_pool_handle()


# --- before the first step ------------------------------------------------------------------------------------------


def inductor(graph: torch.fx.GraphModule, inputs: Sequence[Tensor]) -> Callable[..., Sequence[Tensor]]:
    """Compile an already traced graph with torch's own compiler."""
    return torch._inductor.compile(graph, list(inputs))


def prepare(
    module: GanModule, runtime: Runtime, *, compiler: Compiler = inductor, record: Record = cuda_graph
) -> dict[str, dict[str, str]]:
    """Compile and record the phases of a GAN as `runtime` requests; return how each runs, by configuration key.

    `module.fixed_form` is true afterwards if a phase requires drawn inputs to have the same structure in every step.
    """
    asked = {"trainer.compile": runtime.compile == "auto", "trainer.cuda_graphs": runtime.cuda_graphs}
    said: dict[str, dict[str, str]] = {key: {} for key, is_asked in asked.items() if is_asked}
    if not said:
        return {}
    lay_out(module.to(runtime.device), runtime.device)  # before recording: recorded tensors must keep their addresses
    module.fixed_form = module.augment.fixed_form = True
    with float32_convolutions(tf32=runtime.tf32, benchmark=True):
        for phase in module.phases():
            for key, how in _prepared(module, phase, said, compiler, record).items():
                said[key][phase.name] = how
    module.fixed_form = module.augment.fixed_form = bool(module.backward_of)
    return said


def _prepared(
    module: GanModule, phase: Phase, asked: Mapping[str, Any], compiler: Compiler, record: Record
) -> dict[str, str]:
    """Choose how a phase runs; return the outcome of each requested option."""
    reason = why_plain(module, phase)
    if reason:
        return dict.fromkeys(asked, f"plain: {reason}")
    module.seed_phase(phase.name)
    draw = phase.draw(*_images(module))
    function, drawn, found = PhaseFunction(module, phase, draw), tensors_of(draw), dict[str, str]()
    plain: Run = function.outputs
    with fused(False):
        expected = plain(function.held, drawn)
    run = plain
    if "trainer.compile" in asked:
        tried = _tried(lambda: Faster(function, compiled(function, drawn, compiler)), function, drawn, expected)
        found["trainer.compile"] = tried if isinstance(tried, str) else "compiled"
        if isinstance(tried, Faster):
            module.backward_of[phase.name], run = tried, tried.run
    if "trainer.cuda_graphs" in asked:
        with fused(module.kernels and run is plain):
            tried = _tried(lambda: Recorded(function, run, drawn, record), function, drawn, expected)
        found["trainer.cuda_graphs"] = tried if isinstance(tried, str) else "recorded"
        if isinstance(tried, Faster):
            module.backward_of[phase.name] = tried
    return found


def traced(function: PhaseFunction, drawn: Sequence[Tensor]) -> torch.fx.GraphModule:
    """Trace a phase and its derivatives into one graph; fails if Python code reads the value of a tensor."""
    num = len(function.held)
    return make_fx(lambda *tensors: function.outputs(tensors[:num], tensors[num:]))(*function.held, *drawn)


def compiled(function: PhaseFunction, drawn: Sequence[Tensor], compiler: Compiler) -> Run:
    """Trace the function of a phase on the drawn inputs, and compile the graph."""
    with fused(False):  # the compiler generates its own kernels
        graph = traced(function, drawn)
        run = compiler(graph, [*(tensor.detach() for tensor in function.held), *drawn])
    return lambda held, drawn: run(*(tensor.detach() for tensor in held), *drawn)


def _tried(
    make: Callable[[], Faster], function: PhaseFunction, drawn: Sequence[Tensor], expected: Sequence[Tensor]
) -> Faster | str:
    """Return the result of `make`, or the reason why the phase runs plainly."""
    try:
        way = make()
        with torch.no_grad():
            if isinstance(way, Recorded):
                for output in way.outputs:  # a graph that recorded nothing would leave what was there
                    output.fill_(float("nan"))
                way.replay()
            found = way.outputs if isinstance(way, Recorded) else way.run(function.held, drawn)
        far = difference(found, expected, num_gradients=len(function.used))
    except Exception as error:  # compilers and drivers can raise anything
        lines = str(error).strip().splitlines() or ["no message"]
        return f"plain: {type(error).__name__}: {lines[0]}"
    allowed = TF32_TOLERANCE if torch.backends.cudnn.allow_tf32 else TOLERANCES[_precision(function.module)]
    return way if far <= allowed else f"plain: it differs by {far:.1g} from the plain operations (allowed: {allowed:g})"


def why_plain(module: GanModule, phase: Phase) -> str:
    """Return why a phase cannot be a fixed function of tensors, or "" if it can."""
    classes = {type(module.generator): "generator", module.discriminator.own_class: "discriminator"}
    for network, name in classes.items():
        for flag, what in (("progressive", "grows by the clock"), ("drops_units", "draws random numbers as it runs"),
                           ("batch_norm", "updates statistics as it runs")):  # fmt: skip
            if getattr(network, flag):
                return f"the {name} {what}"
    if phase.name == "path_length":
        return ""
    if module.anchor is not None and phase.name == "generator":
        return "the pairs that it keeps are images of the data"
    if module.hp.blur_sigma is not None:
        return "the size of the blur follows the clock"
    if module.heads is not None and phase.name in ("generator", "discriminator"):
        return "heads on frozen features have a state of their own"
    if isinstance(module.discriminator_loss, nn.Module) and phase.name == "discriminator":
        return "the loss has a state of its own"
    return ""


def difference(found: Sequence[Tensor], expected: Sequence[Tensor], *, num_gradients: int) -> float:
    """Return the largest difference between two results: |a - b| / (|b| + |all| / 1000) for gradients, with the norms
    of each and of all of them, and |a - b| / (1 + |b|) for other values; infinite if the shapes differ."""
    if [each.shape for each in found] != [each.shape for each in expected]:
        return float("inf")
    norms = torch.stack([each.float().norm() for each in expected[:num_gradients]])
    least = norms.norm() / 1000
    far = [(a.float() - b.float()).norm() / (norm + least)
           for a, b, norm in zip(found, expected, norms, strict=False)]  # fmt: skip
    others = zip(found[num_gradients:], expected[num_gradients:], strict=True)
    far += [((a - b).abs() / (1 + b.abs())).amax().float() for a, b in others]
    return float(torch.stack(far).nan_to_num(float("inf")).amax())


def _precision(module: GanModule) -> torch.dtype:
    parts = (*module.generator.modules(), *module.discriminator.modules())
    is_bf16 = any(getattr(part, "compute_dtype", None) == torch.bfloat16 for part in parts)
    return torch.bfloat16 if is_bf16 else torch.float32


def _images(module: GanModule) -> tuple[Tensor, Tensor]:
    """Return a stand-in for a training batch: uniform noise and labels from the data."""
    network, num = module.discriminator, module.batch_size
    shape = (num, network.img_channels, network.resolution, network.resolution)
    labels = module.labels[torch.randint(len(module.labels), (num,), device=module.labels.device)]
    return torch.rand(shape, device=module.labels.device) * 2 - 1, labels


# --- nested structures of tensors -----------------------------------------------------------------------------------


def tensors_of(value: Any) -> list[Tensor]:
    """Return all tensors in nested dataclasses, mappings and sequences, in order."""
    found = list[Tensor]()

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    _mapped(value, keep)
    return found


def filled(form: Any, tensors: Iterator[Tensor]) -> Any:
    """Return a copy of `form` with its tensors replaced, in order."""
    return _mapped(form, lambda _: next(tensors))


def _mapped(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(each, change) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_mapped(each, change) for each in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return dataclasses.replace(value, **{name: _mapped(part, change) for name, part in parts.items()})
    return value


def _laid_out(gradient: Tensor, parameter: Tensor) -> Tensor:
    """Return the gradient with the strides of the parameter, as optimizers expect and `backward` produces it."""
    return gradient if gradient.stride() == parameter.stride() else torch.empty_like(parameter).copy_(gradient)
