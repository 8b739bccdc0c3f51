"""Labels of a conditional generator: those of its training data, and the one a user gives."""

from collections.abc import Sequence

import torch
from torch import Tensor

from wplus.core.random import permutation
from wplus.data.reader import is_one_hot
from wplus.errors import UserError
from wplus.models.generator import GeneratorNetwork

NUM_KEPT = 1024
Label = int | Sequence[float] | None
"""What `label=` takes: a class number, a vector, or nothing."""


def sample_of(labels: Tensor | None) -> Tensor | None:
    """At most 1024 labels of the data (N, c_dim), a fixed subset in random order, to be kept in a checkpoint."""
    return None if labels is None else labels[torch.from_numpy(permutation(len(labels), 0, 0)[:NUM_KEPT])].clone()


def labels_in_turn(generator: GeneratorNetwork, num: int, *, each_class: bool = False) -> Tensor | None:
    """Labels (num, c_dim) on the generator's device: those kept of its data in turn, which preserves their frequencies,
    or all classes in turn if none were kept. None for a generator without labels.

    With `each_class`, one-hot labels of the data are replaced by all classes in turn.
    """
    if not generator.c_dim:
        return None
    rows = generator.data_labels
    if rows is None or (each_class and is_one_hot(rows)):
        rows = torch.eye(generator.c_dim)
    return rows[torch.arange(num) % len(rows)].to(generator.mapping.w_avg.device)


def read_label(label: Label, generator: GeneratorNetwork) -> Tensor | None:
    """The label (c_dim,) for a class number or a vector, None for None; UserError for an invalid one."""
    if label is None:
        return None
    if isinstance(label, Sequence):
        numbers = [float(number) for number in label if type(number) in (int, float) and abs(number) < 1e38]
        if len(numbers) == len(label) == generator.c_dim > 0:
            return torch.tensor(numbers)
    elif type(label) is int and 0 <= label < generator.c_dim and not _of_vectors(generator):
        return torch.eye(generator.c_dim)[label]
    raise UserError(f"label must be {allowed_labels(generator)}, got {label!r:.80}.")


def allowed_labels(generator: GeneratorNetwork) -> str:
    """Describe the allowed values of `label=`."""
    if not generator.c_dim:
        return "null for a generator without classes"
    number = "" if _of_vectors(generator) else f"a class number from 0 to {generator.c_dim - 1} or "
    return f"{number}a list of {generator.c_dim} numbers"


def _of_vectors(generator: GeneratorNetwork) -> bool:
    """Whether the labels of its data are real-valued rather than marks of one or several classes."""
    known = generator.data_labels
    return known is not None and not bool(((known == 0) | (known == 1)).all())
