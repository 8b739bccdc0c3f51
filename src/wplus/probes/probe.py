"""The context passed to probes at each snapshot, and the data they share over a run."""

from collections.abc import Callable, Collection, Hashable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from wplus.core.files import ensure_folder
from wplus.core.images import as_uint8, to_float
from wplus.core.random import rng
from wplus.core.runtime import eval_mode
from wplus.data import ImageSet
from wplus.errors import UserError
from wplus.evaluation.feature_pass import load_arrays, save_arrays
from wplus.evaluation.sampler import LATENT, normal, random_labels
from wplus.pretrained.effnet_lite0 import EffNetLite0Features
from wplus.pretrained.extractor import Extractor
from wplus.pretrained.seen import SUFFIX, marked
from wplus.training.heads import mean_per_head
from wplus.training.snapshot import LogMessage

Which = Literal["generated", "train", "held_out"]
BATCH_SIZE = 32  # images generated or processed at once
KEPT_BYTES = 2**28  # memory for generated images; any beyond it are regenerated for each use
# Seed for choosing real images and latents. It is the same in every run, so that only the generated images differ, and
# used for nothing else, so that the best snapshot is not evaluated on the latents by which it was selected.
SEED = 20_240_001
T = TypeVar("T")


class ProbeData:
    """Data shared by all snapshots of a run: real images, the extractor and its features of them.

    `held_out` loads the images not used in training when they are first needed; `extractor` creates the extractor.
    `cache_dir` stores features for later runs; None: no cache.
    """

    def __init__(
        self, train: ImageSet, held_out: Callable[[], ImageSet], *, seed: int,
        extractor: Callable[[], Extractor] = EffNetLite0Features, cache_dir: str | Path | None = None,
    ) -> None:  # fmt: skip
        self.train, self.seed, self._read_held_out, self._make_extractor = train, seed, held_out, extractor
        self.cache_dir = None if cache_dir is None else Path(cache_dir)
        self._has_told = False
        self.messages: list[LogMessage] = []  # to be included in the next result
        self._features: dict[Which, Tensor] = {}
        self._made: dict[Hashable, Any] = {}

    @cached_property
    def held_out(self) -> ImageSet | None:
        """The held-out images; None if there are none, which is reported once."""
        try:
            return self._read_held_out()
        except UserError as error:
            self.messages.append(LogMessage(f"Measures that need held-out images are skipped. {error}"))
            return None

    def tell_if_seen(self, saw: Collection[str]) -> None:
        """Warn once if the generator was trained with the extractor in use, which makes its metrics meaningless."""
        net = self.extractor.name if "extractor" in self.__dict__ else None
        if net in saw and not self._has_told:
            self._has_told = True
            self.messages.append(LogMessage(
                f"The generator was trained with {net}, so metrics from {net} are marked ({SUFFIX}); to judge it, use "
                "another extractor, such as extractor=mobilenet_v2.", level="warning",
            ))  # fmt: skip

    @cached_property
    def extractor(self) -> Extractor:
        """The extractor, on the CPU until a context moves it."""
        return self._make_extractor().eval()

    def images(self, which: Which) -> ImageSet:
        """Return one of the two sets of real images."""
        found = self.train if which == "train" else self.held_out
        assert found is not None, "a probe leaves out what needs held-out images where there are none"
        return found

    def batch(self, which: Which, number: int) -> tuple[Tensor, Tensor]:
        """Return batch `number` of the shuffled images: uint8 (B, C, H, W), labels (B, c_dim)."""
        # Shuffled because files are not in random order: the first thousand may all be of one class.
        order = torch.randperm(len(self.images(which)), generator=rng(self.seed, "watching", which))
        return self.images(which).batch(order[number * BATCH_SIZE : (number + 1) * BATCH_SIZE])

    def features(self, which: Which, num: int, device: torch.device) -> Tensor:
        """Features (M, dim) of the first `num` shuffled real images (or all, if fewer), on the CPU; computed once."""
        num = min(num, len(self.images(which)))
        if len(self._features.get(which, ())) < num:
            self._features[which] = self._known(which, num, device)
        return self._features[which][:num]

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the cached result of `make()` for `key`, computing it at the first call."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def _known(self, which: Which, num: int, device: torch.device) -> Tensor:
        """Load features from the cache or compute and store them; a cache that cannot be written is reported."""
        about = {"kind": "probe", "which": which, "data": self.images(which).fingerprint, "num": num, "seed": self.seed}
        key = {"images": about, "extractor": self.extractor.protocol}
        kept = None if self.cache_dir is None else load_arrays(self.cache_dir, key)
        if kept is not None:
            return torch.from_numpy(kept["rows"])
        numbers = range(-(-num // BATCH_SIZE))
        rows = torch.cat([self.extract(self.batch(which, number)[0], device) for number in numbers])[:num]
        if self.cache_dir is not None:
            try:
                save_arrays(ensure_folder(self.cache_dir), key, {"rows": rows.numpy()})
            except UserError as error:
                self.messages.append(LogMessage(f"Features of real images are not kept for the next run. {error}"))
        return rows

    def extract(self, images: Tensor, device: torch.device) -> Tensor:
        """Extract features (B, dim), on the CPU, from images that are uint8 or float in [-1, 1]."""
        return self.extractor.to(device)(as_uint8(images.to(device))).float().cpu()


class ProbeContext:
    """State of a run at a snapshot, without gradients. Requesting more images does not change the first ones.

    `module` is the module in its current state; `generator` is its `ema`, used with its stored noise.
    """

    has_latents = True  # whether images are generated from latents; translators generate them from images

    def __init__(self, module: Any, data: ProbeData, folder: Path) -> None:
        self.module, self.data, self.folder = module, data, folder
        self.generator, self.device = self._generator(), module.device
        self.seed, self.kimg = data.seed, module.images_seen / 1000
        self._images: dict[int, Tensor] = {}
        self._features: dict[int, Tensor] = {}
        self._logits: dict[tuple[Which, int], Tensor] = {}

    def _generator(self) -> Any:
        return self.module.ema

    def images(self, which: Which, num: int) -> Tensor:
        """Return images (M, C, H, W) on the CPU: generated ones float, around [-1, 1]; real ones uint8, shuffled.

        Images are generated from `latents`. M is `num`, or the number of real images if there are fewer.
        """
        return torch.cat(list(self._batches(which, num)))

    def thumbnails(self, which: Which, num: int, *, px: int = 32) -> Tensor:
        """Return `images` as floats in [-1, 1], area-averaged to at most `px` pixels, so that all fit in memory."""
        batches = (to_float(as_uint8(batch)) for batch in self._batches(which, num))
        return torch.cat([F.adaptive_avg_pool2d(batch, min(px, batch.shape[3])) for batch in batches])

    def latents(self, num: int, *, start: int = 0) -> tuple[Tensor, Tensor | None]:
        """Return z (num, z_dim) and labels (num, c_dim) drawn from the training images; item i depends on (seed, i)."""
        indices = range(start, start + num)
        c = random_labels(self.generator, self.data.train.labels, self.seed, indices)
        z = normal(self.seed, LATENT, indices, self.generator.z_dim).to(self.device)
        return z, None if c is None else c.to(self.device)

    def features(self, which: Which, num: int) -> Tensor:
        """Return the extractor's features (M, dim), on the CPU."""
        if which != "generated":
            return self.data.features(which, num, self.device)
        return torch.cat([self._features_of(n)[:size] for n, size in enumerate(self._sizes(which, num))])

    def protocol(self, num: int) -> dict[str, Any]:
        """Return the protocol of a metric measured on `num` generated images and as many training images."""
        images = {"data": self.data.train.fingerprint, "split": "train", "num_real": num, "num_generated": num,
                  "all_real": num == len(self.data.train), "seed": self.seed}  # fmt: skip
        said = self.module.describe()
        made: dict[str, Any] = {name: said[name] for name in ("weights", "prior") if name in said}
        return {**self.data.extractor.protocol, **images, **made, "kimg": self.kimg}

    def logits(self, which: Which, num: int) -> Tensor:
        """Return logits (M,) of the discriminator in evaluation mode, without augmentation.

        Real images are shown at the level of detail of a progressive generator. If the discriminator has a minibatch
        standard deviation, M is a multiple of its group size; groups do not mix kinds of images, as in training.
        """
        sizes = [size - size % self._group_size for size in self._sizes(which, num)]
        return torch.cat([self._logits_of(which, number)[:size] for number, size in enumerate(sizes)])

    @torch.no_grad()
    def head_hinges(self, which: Which, num: int) -> Tensor | None:
        """Return the hinge loss (M,) of the discriminator's heads on frozen features, averaged over heads and
        positions; None if it has no heads."""
        discriminator: Any = getattr(self.module, "discriminator", None)
        if not hasattr(discriminator, "head_logits"):
            return None
        sign, parts = (1 if which == "generated" else -1), []
        with eval_mode(discriminator):
            for number, size in enumerate(self._sizes(which, num)):
                images, labels = (each[:size].to(self.device) for each in self._batch(which, number))
                heads = discriminator.head_logits(self._shown(which, images), labels if labels.shape[1] else None)
                parts.append(mean_per_head([F.relu(1 + sign * logits) for logits in heads]))
        return torch.cat(parts).float().cpu()

    @property
    def has_discriminator(self) -> bool:
        """Whether there are logits; autoencoders, for example, have no discriminator."""
        return hasattr(self.module, "discriminator")

    def of_extractor(self, name: str) -> str:
        """Return the name of a metric from the extractor, marked if the generator was trained with that network."""
        return marked(name, self.data.extractor.name, self.generator.saw)

    @property
    def _group_size(self) -> int:
        return min(self.module.discriminator.group_size, BATCH_SIZE)

    def _features_of(self, number: int) -> Tensor:
        if number not in self._features:
            self._features[number] = self.data.extract(self._generated(number), self.device)
        return self._features[number]

    @torch.no_grad()
    def _logits_of(self, which: Which, number: int) -> Tensor:
        """Logits of a batch, dropping images of the last one that do not fill a group."""
        if (which, number) in self._logits:
            return self._logits[which, number]
        images, labels = self._batch(which, number)
        num, images = len(images) - len(images) % self._group_size, self._shown(which, images)
        c = labels[:num].to(self.device) if labels.shape[1] else None
        with eval_mode(self.module.discriminator) as discriminator:
            found = discriminator(images[:num].to(self.device), c)[:, 0].float().cpu() if num else torch.empty(0)
        self._logits[which, number] = found
        return found

    def _shown(self, which: Which, images: Tensor) -> Tensor:
        """Return real images as floats at the generator's level of detail; generated ones unchanged."""
        if which == "generated":
            return images
        growth = self.module.growth
        return to_float(images) if growth is None else growth.shown(to_float(images), self.module.images_seen)

    def _sizes(self, which: Which, num: int) -> list[int]:
        """Return how many images of each batch are among the first `num`."""
        available = num if which == "generated" else min(num, len(self.data.images(which)))
        return [min(BATCH_SIZE, available - start) for start in range(0, available, BATCH_SIZE)]

    def _batches(self, which: Which, num: int) -> Iterator[Tensor]:
        for number, size in enumerate(self._sizes(which, num)):
            yield self._batch(which, number)[0][:size]

    def _batch(self, which: Which, number: int) -> tuple[Tensor, Tensor]:
        if which != "generated":
            return self.data.batch(which, number)
        c = self.latents(BATCH_SIZE, start=number * BATCH_SIZE)[1] if self.has_latents else None
        return self._generated(number), torch.empty(BATCH_SIZE, 0) if c is None else c.cpu()

    @torch.no_grad()
    def _fresh(self, number: int) -> Tensor:
        """Generate batch `number` (BATCH_SIZE, C, H, W), on the CPU."""
        return self.generator(*self.latents(BATCH_SIZE, start=number * BATCH_SIZE)).float().cpu()

    def _generated(self, number: int) -> Tensor:
        """Return batch `number` of generated images, cached while there is room."""
        if number in self._images:
            return self._images[number]
        images = self._fresh(number)
        if (len(self._images) + 1) * images.nbytes <= KEPT_BYTES:
            self._images[number] = images
        return images
