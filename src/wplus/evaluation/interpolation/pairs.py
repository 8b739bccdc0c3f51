"""Pairs of real images at different distances, on which paths are compared, and the latents of their endpoints."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wplus.checkpoint import Models
from wplus.core.distributed import all_agree, is_first
from wplus.core.files import write_json
from wplus.core.images import to_float
from wplus.core.progress import track
from wplus.core.random import rng
from wplus.data.image_set import ImageSet
from wplus.errors import UserError, check_choice
from wplus.evaluation.context import by_digest
from wplus.evaluation.feature_pass import Progress
from wplus.inversion.folder import DELTA, output_names
from wplus.inversion.run import FolderInversion
from wplus.latents.latent import Latent, load_latent
from wplus.latents.space import Space, space_named
from wplus.latents.weight_delta import WeightDelta, load_delta
from wplus.losses.image_pair import ImageDistance

STRATA = ("near", "mid", "far")
_MOST_CANDIDATES = 4000  # maximum number of pairs whose distance is measured


@dataclass(frozen=True)
class Pair:
    """Two images by name, the perceptual distance between them, and which third of all distances it falls into."""

    a: str
    b: str
    stratum: str
    distance: float

    @property
    def name(self) -> str:
        """The name of the pair's trajectories."""
        return f"{self.a} to {self.b}"


@dataclass(frozen=True)
class PairList:
    """Pairs of images from one data set, and how they were drawn; no image is in two pairs."""

    pairs: tuple[Pair, ...]
    data: str  # fingerprint of the set of images
    protocol: Mapping[str, Any]

    @property
    def names(self) -> list[str]:
        """Names of the images, a then b of each pair."""
        return [name for pair in self.pairs for name in (pair.a, pair.b)]

    def save(self, path: str | Path) -> Path:
        """Write the list as JSON, atomically."""
        pairs = [{**asdict(pair), "distance": round(pair.distance, 6)} for pair in self.pairs]
        return write_json(path, {"data": self.data, "protocol": dict(self.protocol), "pairs": pairs})


def draw_pairs(
    images: ImageSet, *, num_pairs: int, distance: ImageDistance, seed: int = 0, batch_size: int = 64,
    device: torch.device | str = "cpu", progress: Progress = track, order: str = "digests",
) -> PairList:  # fmt: skip
    """Draw `num_pairs` pairs, equally many (to within one) near, mid and far ones, using no image twice.

    Images are paired at random and the distance within each pair is measured; the strata are the thirds of these
    distances, and the first pairs drawn in each are used. No image is in two pairs, so pairs are independent and
    intervals over pairs are valid. Images are drawn in the `order` of their "digests" or "files"; a list whose protocol
    does not state an order was drawn from "files".
    """
    check_choice("order", order, ("digests", "files"))
    most = len(images) // 2
    if most < 3:
        raise UserError(f"Drawing pairs needs at least 6 images, got {len(images)}.")
    if not 3 <= num_pairs <= most:
        raise UserError(f"num_pairs must be from 3 to {most}, none of {len(images)} images twice, got {num_pairs}.")
    candidates = torch.randperm(len(images), generator=rng(seed, "pairs of images"))[: 2 * min(most, _MOST_CANDIDATES)]
    if order == "digests":
        candidates = by_digest(images.digests, len(images))[0][candidates]
    batches, distance = candidates.view(-1, 2).split(batch_size), distance.to(device)
    shown = progress(batches, "Distances within pairs", total=len(batches))
    distances = torch.cat([_distances(images, batch, distance, device) for batch in shown])
    thirds = distances.argsort(stable=True).tensor_split(len(STRATA))
    counts = [len(part) for part in torch.arange(num_pairs).tensor_split(len(STRATA))]
    chosen = sorted((row, stratum) for stratum, third, count in zip(STRATA, thirds, counts, strict=True)
                    for row in third.sort().values[:count].tolist())  # fmt: skip
    every = images.names
    names = [every[number] for number in candidates]
    pairs = [Pair(names[2 * row], names[2 * row + 1], stratum, float(distances[row])) for row, stratum in chosen]
    protocol = {"seed": seed, "num_candidates": len(distances), "distance": distance.name, "px": images.resolution,
                "distance_provenance": dict(distance.provenance),
                **({"order": order} if order == "digests" else {})}  # fmt: skip
    return PairList(tuple(pairs), images.fingerprint, protocol)


@torch.no_grad()
def _distances(images: ImageSet, pairs: Tensor, distance: ImageDistance, device: torch.device | str) -> Tensor:
    """Distances (B,) within pairs (B, 2) of image indices."""
    a, b = (to_float(images.batch(numbers)[0].to(device)) for numbers in pairs.unbind(dim=1))
    return distance(a, b).double().cpu()


def read_pairs(path: str | Path, images: ImageSet) -> PairList:
    """Read a list from its file; UserError if it is damaged or belongs to other images."""
    try:
        content = json.loads(Path(path).read_text())
        pairs = tuple(Pair(**entry) for entry in content["pairs"])
        found = PairList(pairs, content["data"], content["protocol"])
    except FileNotFoundError:
        raise UserError(f"pairs must be draw or an existing list, got '{path}'.") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"'{path}' is damaged or not a list of pairs ({type(error).__name__}: {error}).") from error
    if found.data != images.fingerprint:
        raise UserError(f"The pairs in '{path}' are of the images with fingerprint {found.data}, these have "
                        f"{images.fingerprint}: pairs=draw makes a list for them.")  # fmt: skip
    if lacking := sorted(set(found.names) - set(images.names)):
        raise UserError(f"The pairs in '{path}' name an image that does not exist: {lacking[0]}.")
    if len(set(found.names)) < len(found.names):
        raise UserError(f"The pairs in '{path}' use an image twice: intervals over pairs need different ones.")
    if not found.pairs:
        raise UserError(f"The list '{path}' has no pairs.")
    return found


@dataclass(frozen=True)
class Endpoint:
    """An inversion of one image: a latent, with noise if it was optimised, and possibly tuned weights."""

    latent: Latent
    delta_file: Path | None = None  # weight delta from tuning the generator (`inverter=pti`)

    def delta(self, *, fingerprint: str) -> WeightDelta | None:
        """Load the weight delta from its file each time, since those of all images would not fit into memory."""
        if self.delta_file is None:
            return None
        found = load_delta(self.delta_file, fingerprint=fingerprint)
        found.check_latent(self.latent)
        return found


Endpoints = Mapping[Space, Mapping[str, Endpoint]]
"""By space and image name; a space without endpoints uses those that can be lifted into it, see `source_space`."""


def source_space(space: Space, given: Sequence[Space]) -> Space:
    """Return the space whose latents a method in `space` uses: itself, or the first that lifts to it without loss."""
    found = [space] if space in given else [each for each in given if space_named(space).holds(space_named(each))]
    if not found:
        raise UserError(f"No given latents can be lifted into {space}: give latents of {space} too, or leave it out.")
    return found[0]


def read_endpoints(folders: Mapping[Space, str | Path], names: Sequence[str], *, fingerprint: str) -> Endpoints:
    """Read the endpoints of the images `names` from folders by space written by `invert.py` (or their latents/).

    UserError if one is missing, belongs to another generator or another space than stated, or was tuned and lacks its
    weight delta, without which it yields a different image.
    """
    return {space: _read(space, Path(folder), names, fingerprint) for space, folder in folders.items()}


def space_in(folder: str | Path) -> Space:
    """Return the space of the first latent in a folder; UserError if there is none."""
    first = next(iter(sorted(_files_in(Path(folder)).rglob("*.safetensors"))), None)
    if first is None:
        raise UserError(f"There are no latents in the folder '{folder}': wplus invert writes them.")
    return load_latent(first, fingerprint=None).space


def with_latents(images: ImageSet, folders: Mapping[Space, str | Path]) -> ImageSet:
    """Return the images that have a latent in every folder; UserError if none has."""
    files = [_files_in(Path(folder)) for folder in folders.values()]
    names = [name for name, file in zip(images.names, output_names(images.names), strict=True)
             if all((each / f"{file}.safetensors").is_file() for each in files)]  # fmt: skip
    if not names:
        raise UserError(f"None of the held-out images has latents in {', '.join(map(str, folders.values()))}.")
    return subset(images, names)


def _files_in(folder: Path) -> Path:
    return folder / "latents" if (folder / "latents").is_dir() else folder


def _read(space: Space, folder: Path, names: Sequence[str], fingerprint: str) -> dict[str, Endpoint]:
    space_named(space)
    found, files = {}, _files_in(folder)
    for name, file in zip(names, output_names(names), strict=True):
        latent = load_latent(files / f"{file}.safetensors", fingerprint=fingerprint)
        if latent.space != space:
            raise UserError(f"'{files / file}.safetensors' is a latent of {latent.space}, not of {space}.")
        delta = files.parent / latent.metadata[DELTA] if DELTA in latent.metadata else None
        if delta is not None and not delta.is_file():
            raise UserError(f"'{name}' was tuned, but its weight delta '{delta}' does not exist: restore it or "
                            "invert again.")  # fmt: skip
        found[name] = Endpoint(latent, delta)
    return found


def invert_endpoints(images: ImageSet, spaces: Sequence[Space], *, folder: Path, models: Models,
                     invert: Callable[..., Any], **inverting: Any) -> Endpoints:  # fmt: skip
    """Invert the images into each space and store them in `folder`/<space>, skipping those that already exist.

    Only the first process inverts while the others wait. `inverting` are further arguments of `FolderInversion`.
    """
    shared = {"models": models, "invert": invert, **inverting}
    folders = {space: folder / space.replace("/", "") for space in spaces}
    if is_first():
        made = [FolderInversion(images, space=space, output_dir=each, **shared) for space, each in folders.items()]
        for inversion in made:  # all are checked before the first one starts
            inversion.run()
    all_agree(True)
    return read_endpoints(folders, images.names, fingerprint=models.fingerprint)


def subset(images: ImageSet, names: Sequence[str]) -> ImageSet:
    """Return the images with these names as a new set."""
    numbers = {name: index for index, name in enumerate(images.names)}
    return images.subset(torch.tensor([numbers[name] for name in names]))
