"""Members of a sweep have short, distinct names."""

import pytest

from wplus.sweeps.labels import labels, value_text


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (
            [{"space": space, "inverter.loss_weights.perceptual": weight, "seed": 1}
             for space in ("w", "w+") for weight in (0.1, 1.0)],
            ["w perceptual=0.1", "w perceptual=1.0", "w+ perceptual=0.1", "w+ perceptual=1.0"],
        ),
        ([{"seed": 0, "space": "w"}, {"seed": 1, "space": "w+"}], ["w s0", "w+ s1"]),
        ([{"a.lr": 1, "b.lr": 2}, {"a.lr": 3, "b.lr": 4}], ["a.lr=1 b.lr=2", "a.lr=3 b.lr=4"]),
        ([{"a": "x", "b": "y"}, {"a": "y", "b": "x"}], ["a=x b=y", "a=y b=x"]),  # which is which?
        ([{"a": True, "b": None}, {"a": False, "b": [1, "c"]}], ["a=true b=null", "a=false b=[1,c]"]),
        ([{"checkpoint": "runs/a/best.st"}, {"checkpoint": "runs/a/last.st"}], ["best.st", "last.st"]),
        ([{"checkpoint": "runs/a/m.st"}, {"checkpoint": "runs/b/m.st"}],
         ["checkpoint=runs/a/m.st", "checkpoint=runs/b/m.st"]),
        ([{"space": "z"}, {"space": "f/w+"}], ["z", "space=f/w+"]),  # no path
        ([{"latents": r"[seed\:1]"}, {"latents": r"[seed\:2]"}], ["latents=[seed:1]", "latents=[seed:2]"]),
        ([{"a": 1}, {"a": 1, "b": 2}], ["", "b=2"]),
        ([{"a": 1}], [""]),
        ([{"lr": 0.0123456789}, {"lr": 12.0}], ["lr=0.01235", "lr=12.0"]),
        ([{"lr": 0.0123456789}, {"lr": 0.0123456781}], ["lr=0.0123456789", "lr=0.0123456781"]),
    ],
)  # fmt: skip
def test_labels(points, expected):
    assert labels(points) == expected


def test_what_is_always_named():
    assert labels([{"x": 2.5}], always=["x"]) == ["x=2.5"]
    points = [{"a": 1, "seed": 0, "b": 2.5}, {"a": 1, "seed": 1, "b": 2.5}]
    assert labels(points, always=["b", "a"]) == ["a=1 b=2.5 s0", "a=1 b=2.5 s1"]  # in their own order, whatever varies


def test_a_mapping_is_written_as_an_override_has_it():
    assert value_text({"a": [1, None], "b": True}) == "{a:[1,null],b:true}"
