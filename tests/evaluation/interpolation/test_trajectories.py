import functools
import time
from dataclasses import asdict

import pytest
import torch

from wplus.errors import UserError
from wplus.evaluation.interpolation.trajectories import CurveMemory, PairResult, in_words, methods_of
from wplus.interpolation.geodesic import geodesic
from wplus.interpolation.keyframes import Keyframes
from wplus.interpolation.path import Curve
from wplus.interpolation.path_metrics.cost import Cost
from wplus.interpolation.path_metrics.frames import THIRD_PERSON
from wplus.interpolation.path_metrics.shape import CHORD, STEP_CV
from wplus.interpolation.paths import coarse_first, lerp
from wplus.inversion.task import describe

CALLS: list[str] = []


def search(keyframes, context, *, strength=1.0):
    CALLS.append(f"search {strength} in {keyframes.space}")
    time.sleep(0.02)
    return Curve(lambda t: keyframes.codes[:1] + strength * t[:, None])


STRONG = functools.partial(search, strength=2.0)


def paced(keyframes, context, *, path=STRONG):
    CALLS.append("paced")
    curve = path(keyframes, context)
    return Curve(lambda t: curve.codes(t**2))


@pytest.fixture
def keyframes():
    CALLS.clear()
    return Keyframes(torch.randn(2, 4), "w", ("a", "b"))


@pytest.mark.parametrize("even", [functools.partial(paced, path=functools.partial(search, strength=2.0)), paced])
def test_a_search_is_made_once_and_charged_wherever_it_is_used(keyframes, even):
    """As an option or by default; a curve costs as much as its parts."""
    memory, t = CurveMemory(), torch.tensor([0.5]).double()
    plain, first, _ = (memory.path(path)(keyframes, None) for path in (STRONG, even, even))
    assert CALLS == ["search 2.0 in w", "paced"]
    torch.testing.assert_close(first.codes(t), plain.codes(t**2))
    alone, whole = memory.reused
    assert whole.seconds > alone.seconds >= 0.02
    assert whole.memory_mib == max(whole.memory_mib, alone.memory_mib or 0)


def test_other_options_spaces_and_directions_are_other_searches(keyframes):
    memory = CurveMemory()
    others = (keyframes.reversed(), Keyframes(keyframes.codes, "z", ("a", "b")))
    for path, each in ((search, keyframes), (STRONG, keyframes), *((search, other) for other in others)):
        memory.path(path)(each, None)
    assert CALLS == ["search 1.0 in w", "search 2.0 in w", "search 1.0 in w", "search 1.0 in z"]
    assert memory.reused == []


def test_what_is_charged_is_the_price_without_memory():
    """In seconds and MiB: the second trajectory alone, with what it found made, with what that had found made."""
    memory, cost = CurveMemory(), Cost(0.5, 20.0)
    memory.reused += [Cost(5.0, 500.0), Cost(1.0, 30.0), Cost(2.0, None)]
    for since in (1, 3):
        memory.charge(cost, since=since)
        assert cost == Cost(3.5, 30.0)


def test_methods_are_every_path_in_every_space_that_it_is_for_or_a_choice():
    paths = {"lerp": lerp, "late": coarse_first, "lerp+arc_length": lerp}
    names = [method.name for method in methods_of(paths, ["w", "w+"])]
    assert names == ["w_lerp", "w_lerp+arc_length", "w+_lerp", "w+_late", "w+_lerp+arc_length"]
    chosen = ["w+_late", "z_lerp+arc_length"]
    assert [method.name for method in methods_of(paths, ["w"], chosen)] == chosen
    for wrong, words in (("w_late", r"coarse_first must be w\+, got w"), ("w_spiral", "SPACE_PATH.* got 'w_spiral'")):
        with pytest.raises(UserError, match=words):
            methods_of(paths, ["w"], [wrong])


def test_a_protocol_says_every_option_also_those_that_nobody_set():
    found = describe(functools.partial(functools.partial(geodesic, num_steps=50), prior=2.0))
    assert found["function"] == "wplus.interpolation.geodesic.geodesic"
    assert (found["num_steps"], found["prior"], found["num_points"]) == (50, 2.0, 12)
    assert found["init"]["path"] == {"function": "wplus.interpolation.paths.lerp"}
    assert (found["init"]["function"], found["init"]["aim"]) == ("wplus.interpolation.retime.arc_length", 0.05)


def test_a_result_comes_back_from_its_file(tmp_path):
    rows, numbers = {"w_lerp": {"step_cv": 0.5}, "cross_dissolve": {}}, {"step_cv": STEP_CV}
    some = {"w_lerp": {"step": torch.rand(3)}, "cross_dissolve": {}}
    result = PairResult(rows, numbers, some, {"w_lerp": {"10_30": torch.rand(2, 4)}, "cross_dissolve": {}})
    found = PairResult.load(result.save(tmp_path / "pair.safetensors", fingerprint="0" * 16), fingerprint="0" * 16)
    assert (found.rows, asdict(found.numbers["step_cv"])) == (rows, asdict(STEP_CV))
    assert torch.equal(found.along["w_lerp"]["step"], some["w_lerp"]["step"])
    assert found.features["w_lerp"]["10_30"].shape == (2, 4)
    with pytest.raises(UserError, match="are of generator 0000"):
        PairResult.load(tmp_path / "pair.safetensors", fingerprint="1" * 16)


def test_titles_tell_the_main_numbers():
    assert in_words({THIRD_PERSON.by("net"): 0.12345, STEP_CV: 0.5, CHORD: 9.0}) == "third person 0.123, step cv 0.500"
