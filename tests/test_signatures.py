"""Options read from source: defaults of functions, classes and dataclasses, and how configs are completed with them."""

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

import hydra
import pytest
import yaml

from tests.fakes import nodes
from wplus.config import CONFIG_FOLDER
from wplus.signatures import complete, options, signature, takes_further_keys

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


def test_what_a_group_chooses_has_no_default_over_it(tmp_path):
    """In any order: GROUP@KEY in the defaults of a file, and the file itself after it."""
    for name, text in {
        "thing/a": "_target_: of_signatures.Heir\nwidth: 3\n",
        "main": "defaults: [{thing@node.weights: a}, _self_]\nnode: {_target_: of_signatures.plain}\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.yaml").write_text(text)
    with hydra.initialize_config_dir(str(tmp_path), version_base="1.3"):
        node = hydra.compose("main").node
    assert dict(node.weights) == {"_target_": "of_signatures.Heir", "width": 3, "depth": 3}
    assert node.rate == 1e-3


# The configs


def described(group: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(file, target, values) of every `_target_` in the files of a group, as written."""
    for path in sorted((CONFIG_FOLDER / group).glob("*.yaml")):
        for node in nodes(yaml.safe_load(path.read_text())):
            yield path.stem, node["_target_"], {key: value for key, value in node.items() if key[0] != "_"}


def says_otherwise(target: str, key: str, value: Any) -> bool:
    """Whether a value differs from a default. None says nothing: in a signature, of a choice; in a config, of a number
    that is derived from others."""
    option = options(target).get(key)
    is_reference = isinstance(value, dict) or (isinstance(value, str) and value.startswith("${"))
    return option is not None and value is not None and not is_reference and option.default not in (None, value)


GROUPS = sorted(path.name for path in CONFIG_FOLDER.iterdir() if path.is_dir())


@pytest.mark.parametrize("group", GROUPS)
def test_no_config_repeats_a_default(group):
    found = [
        f"{file}: {key}={value!r} of {target}"
        for file, target, values in described(group)
        for key, value in values.items()
        if key in options(target) and options(target)[key].default == value
    ]
    assert found == []


@pytest.mark.parametrize("group", GROUPS)
def test_no_config_contradicts_a_default_but_a_variant_beside_a_plain_one(group):
    differing = [(file, target, key) for file, target, values in described(group)
                 for key, value in values.items() if says_otherwise(target, key, value)]  # fmt: skip
    plain = {target for file, target, _ in described(group) if (file, target) not in {item[:2] for item in differing}}
    assert [item for item in differing if item[1] not in plain] == []


@pytest.mark.parametrize("group", GROUPS)
def test_comments_of_options_name_options(group):
    """`# num_steps: of Adam` describes an option that has its default."""
    targets: dict[str, set[str]] = {}
    for file, target, _ in described(group):
        targets.setdefault(file, set()).update(signature(target))
    unknown = []
    for file, known in targets.items():
        text = (CONFIG_FOLDER / group / f"{file}.yaml").read_text()
        said = re.findall(r"^ *# (\w+)(?:\.\w+)?: ", text, re.MULTILINE)
        unknown += [f"{file}: {name}" for name in said if name not in known]
    assert unknown == []


def test_every_default_can_be_read_without_importing():
    """Or has another choice in its place: the config names functions and networks."""
    unread = []
    for group in GROUPS:
        for file, target, values in described(group):
            if target.startswith("wplus."):
                parameters = inspect.signature(hydra.utils.get_object(target)).parameters.values()
                known = signature(target)
                unread += [f"{group}/{file}: {each.name}" for each in parameters
                           if each.default is not each.empty and not callable(each.default)
                           and known[each.name].default is ... and each.name not in values]  # fmt: skip
    assert unread == []


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
