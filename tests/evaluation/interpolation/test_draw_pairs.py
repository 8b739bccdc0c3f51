"""The command that draws a list of pairs."""

from __future__ import annotations

import json
import subprocess
import sys


def test_the_command_writes_a_list(repository, tmp_path):
    command = [sys.executable, "-m", "wplus", "draw_pairs", "num_pairs=6", "resolution=16", "data.num_images=200",
               f"data.cache_dir={tmp_path}", f"output={tmp_path / 'pairs.json'}"]  # fmt: skip
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 near, 2 mid, 2 far pairs" in done.stdout
    assert len(json.loads((tmp_path / "pairs.json").read_text())["pairs"]) == 6
