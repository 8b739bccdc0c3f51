"""A folder's lock: refused to a second process, released as soon as its owner ends, however it ends."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wplus.core import lock as module
from wplus.core.lock import LOCK, FolderLock, is_held
from wplus.errors import UserError

HOLDER = """
import sys, time
from pathlib import Path
from wplus.core.lock import FolderLock
FolderLock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(600)
"""


def test_a_lock_is_its_processes_own_and_dies_with_it(tmp_path: Path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        content = (tmp_path / LOCK).read_bytes(), os.stat(tmp_path).st_mtime_ns, os.stat(tmp_path / LOCK).st_mtime_ns
        who = re.escape(f"process {holder.pid} on {socket.gethostname()}, since ")
        with pytest.raises(UserError, match=rf"is in use by {who}[^;]*choose another run_dir\.$"):
            FolderLock(tmp_path).acquire()
        assert is_held(tmp_path)
        assert content == (
            (tmp_path / LOCK).read_bytes(), os.stat(tmp_path).st_mtime_ns, os.stat(tmp_path / LOCK).st_mtime_ns,
        )  # fmt: skip
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    assert not is_held(tmp_path)
    lock = FolderLock(tmp_path)
    lock.acquire()
    with pytest.raises(UserError, match=f"process {os.getpid()} "):  # nor twice by one process
        FolderLock(tmp_path).acquire()
    assert is_held(tmp_path)
    lock.release()
    assert not is_held(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("age", "is_alive"), [(5, True), (45, True), (75, False)])
def test_another_machines_process_lives_as_long_as_its_heartbeat(tmp_path: Path, age: float, is_alive: bool):
    (tmp_path / LOCK).write_text(json.dumps({"pid": 1, "host": "elsewhere", "since": "noon"}))
    os.utime(tmp_path / LOCK, (time.time() - age,) * 2)
    assert is_held(tmp_path) is is_alive
    if is_alive:
        with pytest.raises(UserError, match="process 1 on elsewhere, since noon") as refused:
            FolderLock(tmp_path).acquire()
        passed, left = map(int, re.findall(r"(\d+) s old: .* in (\d+) s\.$", str(refused.value))[0])
        assert age <= passed < age + 10
        assert abs(passed + left - 60) <= 1
    else:
        lock = FolderLock(tmp_path)
        lock.acquire()
        lock.release()


def test_a_lock_has_a_heartbeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "BEAT", 1)
    lock = FolderLock(tmp_path)
    lock.acquire()
    os.utime(tmp_path / LOCK, (0, 0))
    deadline = time.monotonic() + 60
    while not os.stat(tmp_path / LOCK).st_mtime:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    lock.release()


@pytest.mark.parametrize(("pid", "is_alive"), [(os.getppid(), True), (2**22 + 1, False)])
def test_where_there_are_no_locks_the_pid_decides(tmp_path, monkeypatch, pid, is_alive):
    monkeypatch.setattr(module, "fcntl", None)
    (tmp_path / LOCK).write_text(json.dumps({"pid": pid, "host": socket.gethostname(), "since": "noon"}))
    assert is_held(tmp_path) is is_alive
    (tmp_path / LOCK).write_text("half a li")
    assert not is_held(tmp_path)
