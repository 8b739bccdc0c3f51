"""Images with known factors, small enough to learn in a second."""

from typing import Any

import numpy as np
import torch

from wplus.data import ImageSet


def image_set(num: int, **changes: Any) -> ImageSet:
    """A bright square in one of four corners, on a dark or a grey ground; 8 px."""
    rng = np.random.default_rng(num)
    corner, ground = rng.integers(4, size=num), rng.integers(2, size=num)
    images = np.full((num, 3, 8, 8), 0, dtype=np.uint8) + (100 * ground[:, None, None, None]).astype(np.uint8)
    for index, place in enumerate(corner):
        images[index, :, 4 * (place // 2) : 4 * (place // 2) + 4, 4 * (place % 2) : 4 * (place % 2) + 4] = 255
    attributes = {
        "corner": torch.from_numpy(corner), "ground": torch.from_numpy(ground),
        "same": torch.zeros(num, dtype=torch.int64), "number": torch.arange(num),
    }  # fmt: skip
    fields = {"images": torch.from_numpy(images), "labels": None, "names": [str(i) for i in range(num)],
              "attributes": attributes}  # fmt: skip
    return ImageSet(**(fields | changes))
