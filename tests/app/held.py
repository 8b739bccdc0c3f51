"""A small app that draws without a progress bar, and does not finish while a given file exists."""

import sys
import threading
import time
from pathlib import Path

import torch

import wplus
from wplus.app.acts import Acts
from wplus.app.limits import Limits
from wplus.app.server import running
from wplus.library.pictures import Pictures


class Held(Acts):
    """Draws when it is allowed to."""

    def draw(self, seed: int, num: int, psi: float) -> Pictures:
        print("draw begins", flush=True)
        while held.exists():
            time.sleep(0.01)
            torch.ones(1).add(1)
        return super().draw(seed, num, psi)


model, held, seconds = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
acts = Held(wplus.load(model), None, [], megabytes=0.01)
with running(acts, host="127.0.0.1", limits=Limits(seconds=seconds, waiting=2)) as address:
    print(f"The app is at {address} until it ends.", flush=True)
    threading.Event().wait()
