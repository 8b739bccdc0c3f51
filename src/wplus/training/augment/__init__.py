"""Augmentation of what the discriminator sees (Karras et al. 2020, "Training GANs with Limited Data", ADA)."""
