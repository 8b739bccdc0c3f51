"""A file is written whole or not at all, whatever goes wrong on the way."""

import errno
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from wplus.core import files
from wplus.core.files import atomic_write, ensure_folder, write_json
from wplus.errors import UserError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_a_new_file_and_replaces_an_old_one(tmp_path):
    path = tmp_path / "deep" / "er" / "file.bin"
    assert atomic_write(path, lambda file: file.write(b"first")) == path
    atomic_write(str(path), lambda file: file.write(b"second"))
    assert path.read_bytes() == b"second"
    assert names(path.parent) == ["file.bin"]


@pytest.mark.parametrize("error", [RuntimeError("ours"), KeyboardInterrupt()])
def test_a_writer_that_raises_leaves_the_old_file(tmp_path, error):
    path = atomic_write(tmp_path / "file.bin", lambda file: file.write(b"old"))

    def fail(file) -> None:
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        atomic_write(path, fail)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("step", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, step):
    path = atomic_write(tmp_path / "file.bin", lambda file: file.write(b"old"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if step != "write":
        monkeypatch.setattr(files.os, step, full)
    with pytest.raises(UserError, match=r"^Cannot write '.*file\.bin': No space left on device\.$"):
        atomic_write(path, full if step == "write" else lambda file: file.write(b"new"))
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file.bin"]


SCRIPT = (
    "import os, resource, signal, sys; from wplus.errors import UserError; from wplus.core.files import atomic_write\n"
)


def test_a_disk_that_is_full_for_the_kernel(tmp_path):
    """A limit on the file's size fails in the same calls as a full disk, without a monkeypatch in between."""
    path = atomic_write(tmp_path / "file.bin", lambda file: file.write(b"old"))
    code = (
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: atomic_write(sys.argv[1], lambda file: file.write(b'x' * 5000))\n"
        "except UserError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", SCRIPT + code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == f"Cannot write '{path}': File too large.\n"
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file.bin"]


def test_a_kill_in_the_middle_leaves_the_old_file(tmp_path):
    path = atomic_write(tmp_path / "file.bin", lambda file: file.write(b"old"))
    code = (
        "def write(file):\n    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "atomic_write(sys.argv[1], write)"
    )
    assert subprocess.run([sys.executable, "-c", SCRIPT + code, str(path)]).returncode == -9
    assert path.read_bytes() == b"old"
    atomic_write(path, lambda file: file.write(b"new"))
    assert path.read_bytes() == b"new"


def test_content_is_on_disk_before_the_name_is(tmp_path, monkeypatch):
    """The order of calls that a power cut needs: flush the file, rename, flush the folder."""
    calls: list[str] = []
    fsync, replace = os.fsync, os.replace

    def watched_fsync(descriptor: int) -> None:
        calls.append(
            "folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else f"{os.fstat(descriptor).st_size} bytes"
        )
        fsync(descriptor)

    def watched_replace(*paths: object) -> None:
        calls.append("rename")
        replace(*paths)

    monkeypatch.setattr(files.os, "fsync", watched_fsync)
    monkeypatch.setattr(files.os, "replace", watched_replace)
    atomic_write(tmp_path / "file.bin", lambda file: file.write(b"x" * 10))
    assert calls == ["10 bytes", "rename", "folder"]


def test_a_reader_sees_the_old_content_while_the_new_is_written(tmp_path):
    path = atomic_write(tmp_path / "file.bin", lambda file: file.write(b"old"))

    def write(file) -> None:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"

    atomic_write(path, write)
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize("place", ["/dev/null/x", "/proc/x"])
def test_places_that_cannot_be_written_to(place):
    with pytest.raises(UserError, match=rf"^Cannot write '{place}/file': .*\.$"):
        atomic_write(f"{place}/file", lambda file: file.write(b""))
    with pytest.raises(UserError, match=rf"^Cannot write to the output folder '{place}': .*\.$"):
        ensure_folder(place)


def test_things_in_the_way(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="Is a directory"):
        atomic_write(tmp_path, lambda file: file.write(b""))
    assert names(tmp_path.parent).count(tmp_path.name) == 1
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="File exists"):
        ensure_folder(tmp_path / "file")

    def refuse(**_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)  # a folder that exists is not enough
    with pytest.raises(UserError, match=r"Read-only file system\.$"):
        ensure_folder(tmp_path)


def test_ensure_folder_makes_parents_and_leaves_no_trace(tmp_path):
    folder = ensure_folder(tmp_path / "a" / "b")
    assert folder == tmp_path / "a" / "b"
    (folder / "kept").touch()
    assert ensure_folder(str(folder)) == folder
    assert names(folder) == ["kept"]


def test_write_json(tmp_path):
    path = write_json(tmp_path / "a.json", {"name": "Käthe", "path": tmp_path, "values": [1, 2.5, None]})
    assert json.loads(path.read_text()) == {"name": "Käthe", "path": str(tmp_path), "values": [1, 2.5, None]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"value": float("nan")})
    assert json.loads(path.read_text())["name"] == "Käthe"
