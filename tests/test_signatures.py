"""Options read from source: defaults of functions, classes and dataclasses, and how configs are completed with them."""

from __future__ import annotations

import sys

import pytest

from wplus.signatures import complete, options, takes_further_keys

SOURCE = '''
from __future__ import annotations
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar
from other_of_signatures import FAR, Base
import math

NEAR = 2 * FAR
WEIGHTS: Mapping[str, float] = MappingProxyType({"l1": 0.0, **{"l2": -1.0}})

def plain(x, y=1, *, rate: float = 1e-3, near=NEAR, names=("a", "b"), weights: Mapping[str, float] = WEIGHTS):
    """Something.

    rate   how fast
    near: how near, and
        more
    """

def commented(
    given,
    size: int | None = None,  # in pixels
):
    pass

def passes_on(a=1, **rest):
    return plain(a, rate=5, **rest)

class Child(Base):
    def __init__(self, own=1, **rest):
        super().__init__(**rest)

class Heir(Base):
    """Has its parent's."""

@dataclass(frozen=True)
class Data:
    """Fields.

    kept  said of it
    """
    needed: int
    kept: bool = True
    more: list = field(default_factory=list)
    shared: ClassVar[int] = 3

def unreadable(f=math.sqrt, g=plain, h=2):
    pass
'''
OTHER = """
FAR = 10
class Base:
    def __init__(self, width=64, depth: int = 3):
        pass
"""


@pytest.fixture(scope="module", autouse=True)
def modules(tmp_path_factory):
    folder = tmp_path_factory.mktemp("modules")
    (folder / "of_signatures.py").write_text(SOURCE)
    (folder / "other_of_signatures.py").write_text(OTHER)
    sys.path.insert(0, str(folder))
    yield
    sys.path.remove(str(folder))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", {"y": 1, "rate": 1e-3, "near": 20, "names": ["a", "b"], "weights": {"l1": 0.0, "l2": -1.0}}),
        ("commented", {"size": None}),
        ("passes_on", {"a": 1, "y": 1, "near": 20, "names": ["a", "b"], "weights": {"l1": 0.0, "l2": -1.0}}),
        ("Child", {"own": 1, "width": 64, "depth": 3}),
        ("Heir", {"width": 64, "depth": 3}),
        ("Data", {"kept": True, "more": []}),
        ("unreadable", {"h": 2}),
        ("nothing", {}),
    ],
)
def test_defaults(name, expected):
    assert {key: option.default for key, option in options(f"of_signatures.{name}").items()} == expected


def test_what_is_said_of_an_option():
    said = {key: option.comment for key, option in options("of_signatures.plain").items()}
    assert (said["rate"], said["near"], said["y"]) == ("how fast", "how near, and", "")
    assert options("of_signatures.commented")["size"].comment == "in pixels"
    assert options("of_signatures.Data")["kept"].comment == "said of it"


def test_completion_keeps_what_is_given():
    node = {"a": [{"_target_": "of_signatures.plain", "y": 7, "weights": {"l2": 3.0, "ssim": 1.0}}], "b": 1}
    (found,) = complete(node, without=("names",))["a"]
    assert found == {"_target_": "of_signatures.plain", "y": 7, "rate": 1e-3, "near": 20,
                     "weights": {"l1": 0.0, "l2": 3.0, "ssim": 1.0}}  # fmt: skip
    assert complete({"_target_": "no.such.module"}) == {"_target_": "no.such.module"}
    assert takes_further_keys("of_signatures.plain", "weights")
    assert not takes_further_keys("of_signatures.plain", "names")
