"""Limits on a request to the app and on the queue, tested over the page's protocol without a browser."""

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import wplus
from tests.fakes import tiny_generator
from tests.processes import Python
from wplus.app.limits import Limits
from wplus.core.progress import Bar

SECONDS = 3  # of a request
DRAW = [0, 1, 0.7]


def test_work_tells_how_far_it_is():
    shown = []
    with Limits(seconds=60).kept(lambda share, what: shown.append((share, what))), Bar("Working", 4) as bar:
        bar.update()
        assert torch.ones(2).add(1).tolist() == [2, 2]
    assert shown == [(0.25, "Working")]


@pytest.mark.parametrize("work", [lambda: torch.ones(2) + 1, lambda: Bar("Working", 4).update()], ids=["torch", "bar"])
def test_work_ends_when_its_time_is_over(work):
    over = pytest.raises(wplus.UserError, match="^This took longer than 0 s, the limit of this app")
    with over, Limits(seconds=0).kept(lambda share, what: None):
        work()
    work()  # outside of the block there is no limit


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While this file exists no drawing ends."""
    return tmp_path_factory.mktemp("app") / "held"


@pytest.fixture(scope="module")
def app(held: Path) -> Iterator[Python]:
    pytest.importorskip("gradio")
    model = held.with_name("model.safetensors")
    wplus.save(model, generator=tiny_generator())
    process = Python(Path(__file__).parent / "held.py", model, held, SECONDS)
    yield process
    process.kill()
    process.output(timeout=60)


@pytest.fixture(scope="module")
def address(app: Python) -> str:
    while (found := re.search(r"The app is at (\S+)", app.printed())) is None:
        assert app.poll() is None, app.printed()
        time.sleep(0.1)
    return found[1]


def asked(address: str, path: str, content: bytes, kind: str = "application/json") -> tuple[int, str]:
    request = urllib.request.Request(f"{address}gradio_api/{path}", content, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def join(address: str, session: str, values: list[Any] = DRAW) -> tuple[int, str]:
    """Into the queue, as a click on the first button does."""
    return asked(address, "queue/join", json.dumps({"data": values, "fn_index": 0, "session_hash": session}).encode())


def answer(address: str, session: str) -> str:
    """What comes of it."""
    with urllib.request.urlopen(f"{address}gradio_api/queue/data?session_hash={session}", timeout=60) as lines:
        for line in lines:
            if b"process_completed" in line:
                return line.decode()
    raise AssertionError("there was no answer")


def test_a_request_without_a_progress_bar_ends_too(address, held):
    held.touch()
    assert join(address, "slow")[0] == 200
    assert f"This took longer than {SECONDS} s, the limit of this app" in answer(address, "slow")
    held.unlink()
    assert join(address, "quick")[0] == 200
    assert "data:image/png" in answer(address, "quick")


def test_a_full_queue_takes_nobody(address, app, held):
    held.touch()
    num_begun = app.printed().count("draw begins")
    assert join(address, "first")[0] == 200
    while app.printed().count("draw begins") == num_begun:
        time.sleep(0.02)
    found = [join(address, session) for session in ("second", "third", "fourth")]
    held.unlink()
    assert [status for status, _ in found] == [200, 200, 503]
    assert "Queue is full. Max size is 2" in found[-1][1]
    assert all("data:image/png" in answer(address, session) for session in ("first", "second", "third"))


@pytest.mark.parametrize("values", [[0, 10**6, 0.7], [0, 1, 50], [10**12, 1, 0.7]], ids=["images", "psi", "seed"])
def test_sizes_are_those_of_the_page(address, values):
    assert join(address, "greedy", values)[0] == 200
    assert "greater than maximum value" in answer(address, "greedy")


def test_what_is_too_large_is_not_received(address):
    def upload(size: int) -> tuple[int, str]:
        head = b'--edge\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
        return asked(address, "upload", head + bytes(size) + b"\r\n--edge--\r\n", "multipart/form-data; boundary=edge")

    status, said = upload(10_000)
    assert status == 200
    assert Path(json.loads(said)[0]).parts[1] == "tmp"
    assert upload(20_000)[0] == 413


def test_files_of_this_machine_are_not_handed_out(address):
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(f"{address}gradio_api/file=/etc/hostname", timeout=60)
