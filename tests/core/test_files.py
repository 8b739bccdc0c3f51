"""Files are written completely or not at all, whatever goes wrong."""

import errno
import json
import os
import stat
import subprocess
import sys

import pytest

from wplus.core import files
from wplus.core.files import atomic_write, ensure_folder, write_json
from wplus.errors import UserError


@pytest.fixture
def path(tmp_path):
    """An old file, which stays as it is, alone in its folder, unless the test replaces it."""
    return atomic_write(tmp_path / "deep" / "er" / "file.bin", lambda file: file.write(b"old"))


def is_untouched(path):
    return path.read_bytes() == b"old" and list(path.parent.iterdir()) == [path]


def test_a_file_is_replaced_and_readers_see_the_old_content_until_then(path):
    def write(file) -> None:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"

    assert atomic_write(str(path), write) == path
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [RuntimeError("ours"), KeyboardInterrupt()])
def test_a_writer_that_raises_leaves_the_old_file(path, error):
    def fail(file) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        atomic_write(path, fail)
    assert is_untouched(path)


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(path, monkeypatch, step):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if step != "write":
        monkeypatch.setattr(files.os, step, full)
    with pytest.raises(UserError, match=r"^Cannot write '.*file\.bin': No space left on device\.$"):
        atomic_write(path, full if step == "write" else lambda file: file.write(b"new"))
    assert is_untouched(path)


def run(code: str, path) -> subprocess.CompletedProcess:
    imports = "import os, resource, signal, sys; from wplus.core.files import *; from wplus.errors import UserError\n"
    return subprocess.run([sys.executable, "-c", imports + code, str(path)], capture_output=True, text=True)


def test_a_disk_that_is_full_for_the_kernel(path):
    """A limit on the file's size fails in the same calls as a full disk, without a monkeypatch in between."""
    done = run(
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: atomic_write(sys.argv[1], lambda file: file.write(b'x' * 5000))\n"
        "except UserError as error: print(error)", path
    )  # fmt: skip
    assert done.stdout == f"Cannot write '{path}': File too large.\n"
    assert is_untouched(path)


def test_a_kill_in_the_middle_leaves_the_old_file(path):
    done = run(
        "def write(file):\n    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "atomic_write(sys.argv[1], write)", path
    )  # fmt: skip
    assert done.returncode == -9
    assert path.read_bytes() == b"old"
    atomic_write(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"


def test_content_is_on_disk_before_the_name_is(tmp_path, monkeypatch):
    """The order of calls that a power cut needs: flush the file, rename, flush the folder."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        status = os.fstat(descriptor)
        calls.append("folder" if stat.S_ISDIR(status.st_mode) else f"{status.st_size} bytes")
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", watched_fsync)
    monkeypatch.setattr(files.os, "replace", lambda *paths: calls.append("rename") or replace(*paths))
    atomic_write(tmp_path / "file.bin", lambda file: file.write(b"x" * 10))
    assert calls == ["10 bytes", "rename", "folder"]


@pytest.mark.parametrize("place", ["/dev/null/x", "/proc/x"])
def test_places_that_cannot_be_written_to(place):
    with pytest.raises(UserError, match=rf"^Cannot write '{place}/file': .*\.$"):
        atomic_write(f"{place}/file", lambda file: file.write(b""))
    with pytest.raises(UserError, match=rf"^Cannot write to the output folder '{place}': .*\.$"):
        ensure_folder(place)


def test_things_in_the_way(path, monkeypatch):
    with pytest.raises(UserError, match="Is a directory"):
        atomic_write(path.parent, lambda file: file.write(b""))
    with pytest.raises(UserError, match="File exists"):
        ensure_folder(path)

    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)  # a folder that exists is not enough
    with pytest.raises(UserError, match=r"Read-only file system\.$"):
        ensure_folder(path.parent)


def test_ensure_folder_makes_parents_and_leaves_no_trace(tmp_path, path):
    assert ensure_folder(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    assert ensure_folder(str(path.parent)) == path.parent
    assert is_untouched(path)


def test_write_json(tmp_path):
    path = write_json(tmp_path / "a.json", {"name": "Käthe", "path": tmp_path, "values": [1, 2.5, None]})
    assert json.loads(path.read_text()) == {"name": "Käthe", "path": str(tmp_path), "values": [1, 2.5, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"value": float("nan")})
    assert json.loads(path.read_text())["name"] == "Käthe"
