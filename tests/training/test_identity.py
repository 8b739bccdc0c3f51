"""A run continues a run of the same settings only."""

import copy

import pytest

from wplus.errors import UserError
from wplus.training.module import check_same_run

FINGERPRINT = {"hparams": {"gamma": 1.0, "ema_rampup": None}, "generator": {"resolution": 8}, "seed": 0, "data": "abc"}


def test_the_same_run():
    check_same_run(FINGERPRINT, copy.deepcopy(FINGERPRINT), "file.ckpt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed was 0 and is now 1"),
        ({"data": "xyz"}, "data was 'abc' and is now 'xyz'"),
        ({"hparams": {"gamma": 2.0, "ema_rampup": None}}, r"hparams\.gamma was 1\.0 and is now 2\.0"),
        ({"hparams": {"gamma": 1.0, "ema_rampup": 0.05}}, r"hparams\.ema_rampup was None and is now 0\.05"),
        ({"generator": {"resolution": 16}}, r"generator\.resolution was 8 and is now 16"),
        ({"world_size": 2}, "world_size was None and is now 2"),
    ],
)
def test_another_run_is_refused(change, message):
    with pytest.raises(UserError, match=rf"^Cannot continue from 'file\.ckpt': {message}; .*another run_dir\.$"):
        check_same_run(FINGERPRINT, {**FINGERPRINT, **change}, "file.ckpt")
    with pytest.raises(UserError, match=r"^Cannot continue"):
        check_same_run({**FINGERPRINT, **change}, FINGERPRINT, "file.ckpt")
