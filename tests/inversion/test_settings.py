"""Settings are described completely, and guard a folder."""

from __future__ import annotations

import functools

import pytest

from wplus.errors import UserError
from wplus.inversion.lbfgs import lbfgs
from wplus.inversion.optimize import optimize
from wplus.inversion.settings import SETTINGS_FILE, claim, describe, digest


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


def test_a_folder_keeps_its_settings(tmp_path):
    claim(tmp_path, {"space": "w", "inverter": {"lr": 0.1, "betas": (0.9, 0.99)}})
    claim(tmp_path, {"inverter": {"lr": 0.1, "betas": [0.9, 0.99]}, "space": "w"})
    with pytest.raises(UserError, match=r"inverter\.lr was 0\.1, now 0\.2"):
        claim(tmp_path, {"space": "w", "inverter": {"lr": 0.2, "betas": (0.9, 0.99)}})
    with pytest.raises(UserError, match="inverter was .* now absent"):
        claim(tmp_path, {"space": "w"})


def test_damaged_settings_are_named(tmp_path):
    (tmp_path / SETTINGS_FILE).write_text("{")
    with pytest.raises(UserError, match=r"settings\.json"):
        claim(tmp_path, {})
