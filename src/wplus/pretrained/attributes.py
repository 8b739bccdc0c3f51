"""Attributes that a classifier can learn: factors with their classes, and binary attributes derived from them."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.data import ImageSet
from wplus.data.reader import is_one_hot
from wplus.errors import UserError

MOST_CLASSES = 20  # an attribute with more values is treated as a scale, not as classes


def known_factors(images: ImageSet, wanted: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Factor -> value of every image (N,), as text: the `wanted` attributes, or all that have 2 to 20 values.

    Images without attributes have one factor, `label`, if they have one-hot labels. Raises UserError if there is
    nothing to learn, or if an attribute is missing, or has one value or too many.
    """
    known = {name: values.numpy() for name, values in (images.attributes or {}).items()}
    if not known and images.labels is not None and is_one_hot(images.labels):
        names = np.array(images.label_names or [str(index) for index in range(images.labels.shape[1])])
        known = {"label": names[images.labels.argmax(dim=1).numpy()]}
    missing = [name for name in wanted or () if name not in known]
    if missing:
        raise UserError(f"The images have no attribute '{missing[0]}'; they have {', '.join(known) or 'none'}.")
    counts = {name: len(np.unique(values)) for name, values in known.items()}
    for name in wanted or ():
        if not 2 <= counts[name] <= MOST_CLASSES:
            raise UserError(f"'{name}' has {counts[name]} value(s) here; a classifier needs 2 to {MOST_CLASSES}.")
    chosen = wanted or [name for name, count in counts.items() if 2 <= count <= MOST_CLASSES]
    if not chosen:
        raise UserError("These images have neither labels nor attributes that a classifier could learn.")
    return {name: known[name].astype(str) for name in chosen}


def class_indices(values: np.ndarray, classes: Sequence[str]) -> Tensor:
    """Values (N,) as positions in `classes`, int64; -1 for a value that is not among them."""
    places = {value: index for index, value in enumerate(classes)}
    return torch.tensor([places.get(value, -1) for value in values.tolist()])


def binary_attributes(
    images: ImageSet,
    values: Mapping[str, np.ndarray],
    classes: Mapping[str, Sequence[str]],
    *,
    min_share: float,
    num_contrasts: int,
) -> dict[str, tuple[str, list[str]]]:
    """Attribute -> (factor, classes that have it).

    There is an attribute `factor=class` for every class that at least a share `min_share` of the images has, and at
    least the same share lacks. Linear separability keeps the half of the samples that a classifier is most certain of,
    and for a rare class nearly all of these lack it. Factors without a frequent class are therefore split in two: for
    `factor_contrast1`, 2, ..., the classes are sorted along the principal components of their mean pictures and split
    where about half of the images lie on either side.
    """
    found: dict[str, tuple[str, list[str]]] = {}
    for factor, names in classes.items():
        shares = np.array([(values[factor] == name).mean() for name in names])
        asked = range(1, 2) if len(names) == 2 else range(len(names))
        frequent = [index for index in asked if min_share <= shares[index] <= 1 - min_share]
        for index in frequent:
            found[f"{factor}={names[index]}"] = (factor, [names[index]])
        if not frequent and len(names) > 2:
            means = mean_pictures(images, class_indices(values[factor], names), len(names))
            for number, group in enumerate(contrasts(means, shares, num_contrasts), start=1):
                found[f"{factor}_contrast{number}"] = (factor, [names[index] for index in group])
    if not found:
        raise UserError(f"No class is as frequent as min_share={min_share}: take a smaller one.")
    return found


def mean_pictures(images: ImageSet, targets: Tensor, num_classes: int, *, max_px: int = 32) -> np.ndarray:
    """Mean image of each class (num_classes, pixels), with sides of at most `max_px`, float64."""
    side = min(max_px, images.resolution)
    sums = torch.zeros(())
    for some in torch.arange(len(images)).split(1000):
        pixels = F.adaptive_avg_pool2d(images.batch(some)[0].float(), side).flatten(1).double()
        sums = sums + F.one_hot(targets[some], num_classes).double().T @ pixels
    return (sums / targets.bincount(minlength=num_classes)[:, None]).numpy()


def contrasts(means: np.ndarray, shares: np.ndarray, num: int) -> list[list[int]]:
    """Up to `num` different groups of classes: those on one side of the split along each principal component."""
    centred = (means - shares @ means) * np.sqrt(shares)[:, None]
    vectors, _, _ = np.linalg.svd(centred, full_matrices=False)  # (classes, components)
    groups: list[list[int]] = []
    for column in (vectors / np.sqrt(shares)[:, None]).T:
        order = np.argsort(column, kind="stable")
        cut = 1 + int(np.abs(np.cumsum(shares[order])[:-1] - 0.5).argmin())
        side = order[:cut] if 0 in order[:cut] else order[cut:]  # the first class's side, whatever the sign
        if len(groups) < num and sorted(side.tolist()) not in groups:
            groups.append(sorted(side.tolist()))
    return groups
