"""What conftest.py and pyproject.toml guarantee for every test."""

import os
import random
import socket
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from pytest_socket import SocketConnectBlockedError


def test_the_network_is_out_of_reach():
    with (
        socket.socket(socket.AF_INET, socket.SOCK_STREAM) as connection,
        pytest.raises((SocketConnectBlockedError, UserWarning)),
    ):
        connection.connect(("192.0.2.1", 80))


def test_this_machine_is_within_reach():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname()).close()


def test_warnings_are_errors():
    with pytest.raises(DeprecationWarning):
        warnings.warn("old", DeprecationWarning, stacklevel=1)


@pytest.mark.parametrize("_", range(2))
def test_randomness_starts_from_the_same_state(_):
    found = (random.random(), float(np.random.rand()), float(torch.rand(())))
    assert found == pytest.approx((0.8444218515, 0.5488135039, 0.4962565899))


def test_one_thread_each():
    assert torch.get_num_threads() == 1
    assert os.environ["OMP_NUM_THREADS"] == "1"


def test_wandb_is_offline_and_writes_to_temporary_folders(tmp_path_factory):
    assert os.environ["WANDB_MODE"] == "offline"
    assert Path(os.environ["WANDB_CONFIG_DIR"]).is_relative_to(tmp_path_factory.getbasetemp())
