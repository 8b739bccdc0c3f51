"""`wplus app` that prints when drawing begins and ends, slowly enough for two requests to overlap."""

import sys
import time

from wplus.__main__ import main
from wplus.app.acts import Acts

draw = Acts.draw


def noted(*given):
    print("draw begins", flush=True)
    time.sleep(0.5)
    found = draw(*given)
    print("draw ends", flush=True)
    return found


Acts.draw = noted
sys.exit(main(["app", *sys.argv[1:]]))
