"""Augmentation of the discriminator's inputs (Karras et al. 2020, "Training GANs with Limited Data", ADA)."""
