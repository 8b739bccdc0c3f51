"""Phases as functions of tensors: compiled, recorded, or neither, and with Triton kernels, against plain ones."""

import functools
import itertools
import json
import re
from dataclasses import replace

import pytest
import torch
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from tests.training.trained import CPU, assert_gradients_close, equal, gradients, snapshot
from tests.triton_interpreter import interpreted
from wplus.__main__ import main
from wplus.commands.train import ways
from wplus.core.images import to_float
from wplus.core.runtime import Runtime
from wplus.data import Batches
from wplus.errors import UserError
from wplus.losses.adversarial import logistic_discriminator
from wplus.losses.lecam import LeCam
from wplus.models import ops
from wplus.training import gan
from wplus.training.augment.control import AdaptiveAugment
from wplus.training.faster import PhaseFunction, cuda_graph, difference, prepare, tensors_of, why_plain
from wplus.training.heads import Heads

COMPILED = replace(CPU, compile="auto")
PHASES = ("generator", "path_length", "discriminator", "r1")


def as_traced(graph, inputs):
    """The graph that a compiler would get, without compiling for minutes."""
    return graph


@pytest.fixture
def batches(make_images):
    """Batches of eight images with three labels."""
    return lambda num: list(itertools.islice(Batches(make_images(c_dim=3), 8), num))


@pytest.fixture
def conditional(make_tiny):
    """Everything a phase may have: labels, micro-batches, ADA, style mixing, scheduled weights."""

    def make(num_micro=1, transforms="blit"):
        augment = AdaptiveAugment(target=-1.0, transforms=transforms, interval=1, speed_kimg=0.05)  # p rises from 0
        moving = {"decay_kimg": 0.064, "gamma_end": 0.5, "style_mixing_prob": 0.5}
        return make_tiny(batch_size=8, c_dim=3, num_micro=num_micro, augment=augment, **moving)

    return make


def play(module, batches, optimizers=None):
    optimizers = optimizers or module.configure_optimizers()
    for batch in batches:
        module.run_step(*batch, optimizers=optimizers)
    return module


def with_fixed_form(module):
    module.fixed_form = module.augment.fixed_form = True
    return module


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_as_a_function_gives_what_backward_gives(conditional, batches, phase):
    """Bit for bit, without an effect on the module; and with it the numbers of the log and the running means."""
    plain, module = (with_fixed_form(conditional(num_micro=2, transforms="bgcfnc")) for _ in range(2))
    (images, labels), (chosen,) = batches(1)[0], [each for each in module.phases() if each.name == phase]
    expected = gradients(plain, phase, images, labels)
    module.seed_phase(phase)
    draw = chosen.draw(to_float(images), labels)
    before = snapshot(module)
    function = PhaseFunction(module, chosen, draw)
    outputs = function.outputs(function.held, tensors_of(draw))
    assert equal(snapshot(module), before)
    assert all(p.grad is None for p in module.parameters())
    module._take_note(function.deliver(outputs))
    found = {name: p.grad for name, p in getattr(module, chosen.network).named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    logged = {name: value for name, value in plain.means.collect().items() if not name.endswith("grad_norm")}
    assert module.means.collect() == logged
    assert equal(snapshot(module), snapshot(plain))


# --- nothing depends on data ----------------------------------------------------------------------------------------


class Operations(TorchDispatchMode):
    """What is done, in its order: names, shapes of tensors, and every number that comes from Python."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if not str(func).startswith("profiler."):
            self.seen.append(f"{func} {pytree.tree_map(plain, (args, kwargs))}")
        return func(*args, **(kwargs or {}))


def plain(value):
    return tuple(value.shape) if isinstance(value, torch.Tensor) else value


def addresses(module, optimizers):
    """Where everything lies that lives longer than a step."""
    states = [state for optimizer in optimizers for each in optimizer.state.values() for state in each.values()]
    held = [*module.parameters(), *module.buffers(), *states, *module.means._sums.values()]
    return [tensor.data_ptr() for tensor in held if tensor.numel()]


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_does_the_same_with_other_data_at_another_time(conditional, batches, phase):
    """Every operation from what was drawn to the optimizer's step, and every address."""
    module = with_fixed_form(conditional(num_micro=2, transforms="bgcfnc"))
    optimizers = module.configure_optimizers()
    play(module, batches(2), optimizers)  # optimizers have a state now
    (chosen,) = [each for each in module.phases() if each.name == phase]
    steps, places = [], []
    for nimg, (images, labels) in ((40, batches(2)[0]), (56, batches(2)[1])):
        module.images_seen = nimg
        module.hp_now = module.hp.at(nimg)
        module.seed_phase(phase)
        real = to_float(images)
        draw = chosen.draw(real, labels)
        with Operations() as operations:
            drawn = replace(chosen, draw=lambda *_, draw=draw: draw)
            module.run_phase(drawn, real, labels, optimizers[chosen.network == "discriminator"])
        steps.append(operations.seen)
        places.append(addresses(module, optimizers))
        module.means.collect()
    assert len(steps[0]) == len(steps[1]) > 400
    assert [pair for pair in zip(*steps, strict=True) if pair[0] != pair[1]] == []
    assert places[0] == places[1]


def test_data_that_python_looks_at_is_seen(make_tiny, batches, monkeypatch):
    """By tracing, which every compiled phase goes through."""
    module = make_tiny(pl_weight=0.0, gamma=0.0)
    monkeypatch.setattr(module, "generator_loss", lambda fake: fake if float(fake.detach().sum()) > 0 else -fake)
    said = prepare(module, COMPILED, compiler=as_traced)["trainer.compile"]
    assert said["generator"].startswith("plain: RuntimeError: ")
    assert "data-dependent" in said["generator"] or "tracing" in said["generator"]
    assert said["discriminator"] == "compiled"


# --- compiled -------------------------------------------------------------------------------------------------------


def test_a_compiled_training_is_the_plain_one(conditional, batches):
    module = conditional()
    assert prepare(module, COMPILED, compiler=as_traced) == {"trainer.compile": dict.fromkeys(PHASES, "compiled")}
    assert module.fixed_form
    assert module.augment.fixed_form
    play(module, batches(3))
    plain = play(conditional(), batches(3))
    for found, expected in zip(snapshot(module), snapshot(plain), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    logged = module.means.collect()
    assert logged == {name: pytest.approx(value, rel=1e-4, abs=1e-6) for name, value in plain.means.collect().items()}


def wrong(graph, inputs):
    """A compiler whose first output is off."""

    def run(*values):
        first, *others = graph(*values)
        return (first * 1.01, *others)

    return run


def broken(graph, inputs):
    raise OSError("no compiler here\nwhat it tried")


@pytest.mark.parametrize(
    ("compiler", "reason"),
    [
        (wrong, "plain: it differs by 0.0"),
        (broken, "plain: OSError: no compiler here"),
    ],
)
def test_what_does_not_compile_or_differs_runs_plainly(make_tiny, batches, compiler, reason):
    module, other = (make_tiny(batch_size=8, c_dim=3, style_mixing_prob=0.5, pl_weight=0.0) for _ in range(2))
    said = prepare(module, COMPILED, compiler=compiler)["trainer.compile"]
    assert said.keys() == {"generator", "discriminator", "r1"}
    assert all(reason in how and "\n" not in how for how in said.values()), said
    assert not module.backward_of
    assert not module.fixed_form
    assert equal(snapshot(play(module, batches(2))), snapshot(play(other, batches(2))))


def test_how_far_two_results_are_apart():
    """Each gradient by its own length and a thousandth of all, other numbers by one more than their own."""
    expected = [torch.tensor([3.0, 4.0]), torch.tensor([0.0]), torch.tensor(9.0)]
    far = functools.partial(difference, expected=expected, num_gradients=2)
    assert far(expected) == 0
    assert far([torch.tensor([3.0, 4.1]), *expected[1:]]) == pytest.approx(0.1 / 5.005, rel=1e-4)
    assert far([expected[0], torch.tensor([0.005]), expected[2]]) == pytest.approx(1.0, rel=1e-4)
    assert far([*expected[:2], torch.tensor(9.5)]) == pytest.approx(0.05)
    assert far([*expected[:2], torch.tensor(float("nan"))]) == float("inf")
    assert far(expected[:2]) == float("inf")


@pytest.mark.parametrize(
    ("options", "phases", "reason"),
    [
        ({"family": "stylegan1", "penalties": ()}, ("generator",), "the generator grows by the clock"),
        (
            {"family": "dcgan", "penalties": ()},
            ("generator", "discriminator"),
            "the generator (draws random|updates stat)",
        ),
        ({"blur_sigma": 2.0, "blur_fade_kimg": 1.0}, ("generator", "discriminator", "r1"), "the size of the blur"),
        ({"losses": {"discriminator": LeCam(logistic_discriminator)}}, ("discriminator",), "the loss has a state"),
    ],
    ids=["progressive", "batch norm", "blur", "lecam"],
)
def test_what_changes_from_step_to_step_runs_plainly(make_tiny, options, phases, reason):
    module = make_tiny(**options)
    found = {phase.name: why_plain(module, phase) for phase in module.phases()}
    for name, said in found.items():
        assert bool(re.search(reason, said)) == (name in phases or "generator" in reason), name


def test_heads_run_plainly_and_regularisers_beside_them_do_not(make_tiny, monkeypatch):
    module = make_tiny()
    monkeypatch.setattr(module, "heads", Heads())
    assert [bool(why_plain(module, phase)) for phase in module.phases()] == [True, False, True, False]


def test_a_line_says_what_came_of_it():
    prepared = {"trainer.kernels": "off", "trainer.compile": {"generator": "compiled", "r1": "plain: it differs"}}
    assert ways(prepared) == ["trainer.compile: generator compiled; r1 plain: it differs"]
    assert ways({"trainer.kernels": "off: no driver"}) == ["trainer.kernels: off: no driver"]


def test_the_record_and_the_terminal_say_what_came_of_it(tmp_path, monkeypatch, capsys):
    said = {"generator": "compiled", "discriminator": "plain: it differs by 0.1"}
    monkeypatch.setattr(
        gan, "prepare", lambda module, runtime: {"trainer.compile": said} if runtime.compile == "auto" else {}
    )
    small = ["debug=quick", "data.num_images=60", "schedule.kimg=0.016", "num_samples=4", "probes=[]"]
    assert main(["train", *small, "device=cpu", "trainer.compile=auto", f"run_dir={tmp_path}", "tracking=local"]) == 0
    record = json.loads((tmp_path / "result.json").read_text())["config"]["trainer"]
    assert (record["compile"], record["kernels"]) == (said, "off")
    assert "trainer.compile: generator compiled; discriminator plain: it differs by 0.1\n" in capsys.readouterr().out


# --- recorded -------------------------------------------------------------------------------------------------------


def on_cpu(work):
    """Stands for a CUDA graph: the same work on the same inputs, into outputs that stay where they are."""
    outputs = [output.clone() for output in work()]

    def replay():
        for output, value in zip(outputs, work(), strict=True):
            output.copy_(value)

    return replay, outputs


def test_a_recorded_training_is_the_plain_one_and_stays_where_it_is(conditional, batches):
    module, recorded = conditional(), replace(CPU)
    object.__setattr__(recorded, "cuda_graphs", True)  # which a runtime refuses on a CPU
    assert prepare(module, recorded, record=on_cpu) == {"trainer.cuda_graphs": dict.fromkeys(PHASES, "recorded")}
    optimizers = module.configure_optimizers()
    play(module, batches(1), optimizers)
    inputs = [way.inputs for way in module.backward_of.values()]
    kept = [tensor.data_ptr() for tensor in itertools.chain(*inputs)], addresses(module, optimizers)
    play(module, batches(3)[1:], optimizers)
    assert ([tensor.data_ptr() for tensor in itertools.chain(*inputs)], addresses(module, optimizers)) == kept
    plain = play(conditional(), batches(3))
    for found, expected in zip(snapshot(module), snapshot(plain), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_a_recording_of_nothing_is_noticed(conditional):
    """As of a graph that was recorded on another device than the one that works."""
    recorded = replace(CPU)
    object.__setattr__(recorded, "cuda_graphs", True)
    said = prepare(conditional(), recorded, record=lambda work: (lambda: None, [each.clone() for each in work()]))
    assert set(said["trainer.cuda_graphs"].values()) == {
        "plain: it differs by inf from the plain operations (allowed: 0.0001)"
    }


def test_graphs_are_for_cuda():
    with pytest.raises(UserError, match=r"^cuda_graphs=true needs device=cuda, got cpu; leave it out\.$"):
        Runtime(device=torch.device("cpu"), cuda_graphs=True)
    with pytest.raises(UserError, match=r"^compile=auto works in one process, got 2 processes; leave it out\.$"):
        Runtime(device=torch.device("cpu"), compile="auto", devices=2)
    assert cuda_graph is prepare.__kwdefaults__["record"]


def test_other_trainings_have_no_phases_to_compile(tiny_encoder):
    assert tiny_encoder().prepare(CPU) == {"trainer.kernels": "off"}
    with pytest.raises(UserError, match="^trainer.compile=auto has no effect: only the phases of a generator's"):
        tiny_encoder().prepare(COMPILED)


# --- by Triton kernels ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phase", ["path_length", "r1"])
def test_a_phase_by_kernels(make_tiny, make_images, monkeypatch, phase):
    """The regularisers, with both derivatives, through modulated layers, noise, clamps and both resamplings."""
    images, labels = Batches(make_images(), 2).at(0)
    modules = [make_tiny(batch_size=2, discriminator={"conv_clamp": 0.5}) for _ in range(2)]
    for module in modules:
        for layer in module.generator.synthesis.noise_layers:
            layer.conv_clamp = 0.5
    expected = gradients(modules[0], phase, images, labels)
    with interpreted() as kernels, ops.fused(True):
        used = [watched(kernels, name, monkeypatch) for name in ("_Activate", "_Fir")]
        found = gradients(modules[1], phase, images, labels)
    assert all(used)
    assert_gradients_close(found, expected)


def watched(module, name, monkeypatch):
    """The calls of a function with a backward pass."""
    calls, apply = [], getattr(module, name).apply
    monkeypatch.setattr(getattr(module, name), "apply", lambda *values: calls.append(name) or apply(*values))
    return calls
