"""Augmentation of what the discriminator sees (Karras et al. 2020, "Training GANs with Limited Data", ADA)."""

from wplus.training.augment.ada import Drawn, Untouched
from wplus.training.augment.control import AdaptiveAugment, FixedAugment, NoAugment

__all__ = ["AdaptiveAugment", "Drawn", "FixedAugment", "NoAugment", "Untouched"]
