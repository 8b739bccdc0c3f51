"""Settings are described completely, and guard a folder."""

from __future__ import annotations

import functools

import pytest

from wplus.errors import UserError
from wplus.inversion.encoder import encode
from wplus.inversion.folder import SETTINGS_FILE, describe, digest, require_same_settings, uses_encoder
from wplus.inversion.lbfgs import lbfgs
from wplus.inversion.optimize import optimize
from wplus.inversion.restyle import refine


def test_description_holds_every_option():
    told = describe(functools.partial(functools.partial(optimize, steps=7), lr=0.5))
    assert told["function"] == "wplus.inversion.optimize.optimize"
    assert (told["steps"], told["lr"], told["keep"]) == (7, 0.5, "best")
    assert "names" not in told
    assert digest(told) != digest(describe(optimize))
    assert digest(describe(lbfgs)) != digest(describe(optimize))


def test_unknown_option_is_refused():
    with pytest.raises(UserError, match=r"no option 'momentum'.*steps, lr,"):
        describe(functools.partial(optimize, momentum=0.5))


def tune(generator, targets, *, space, encoder=None, pivot=optimize, rank=4):
    """An inverter that calls another."""


def test_an_inverter_among_the_options_is_described_too():
    told = describe(functools.partial(tune, pivot=functools.partial(lbfgs, steps=3)))
    assert told["pivot"]["function"] == "wplus.inversion.lbfgs.lbfgs"
    assert (told["pivot"]["steps"], told["rank"]) == (3, 4)
    assert describe(tune)["pivot"] == describe(optimize)
    with pytest.raises(UserError, match="no option 'speed'"):
        describe(functools.partial(tune, pivot=functools.partial(lbfgs, speed=3)))


@pytest.mark.parametrize(
    ("invert", "uses"),
    [
        (optimize, False),
        (functools.partial(optimize, start="mean"), False),
        (functools.partial(lbfgs, start="encoder"), True),
        (encode, True),
        (functools.partial(refine, steps=2), True),
        (tune, False),
        (functools.partial(tune, pivot=functools.partial(optimize, start="encoder")), True),
        (functools.partial(tune, pivot=encode), True),
    ],
)
def test_who_uses_an_encoder(invert, uses):
    assert uses_encoder(invert) is uses


def test_a_folder_keeps_its_settings(tmp_path):
    require_same_settings(tmp_path, {"space": "w", "inverter": {"lr": 0.1, "betas": (0.9, 0.99)}})
    require_same_settings(tmp_path, {"inverter": {"lr": 0.1, "betas": [0.9, 0.99]}, "space": "w"})
    with pytest.raises(UserError, match=r"inverter\.lr was 0\.1, now 0\.2"):
        require_same_settings(tmp_path, {"space": "w", "inverter": {"lr": 0.2, "betas": (0.9, 0.99)}})
    with pytest.raises(UserError, match="inverter was .* now absent"):
        require_same_settings(tmp_path, {"space": "w"})


def test_damaged_settings_are_named(tmp_path):
    (tmp_path / SETTINGS_FILE).write_text("{")
    with pytest.raises(UserError, match=r"settings\.json"):
        require_same_settings(tmp_path, {})
