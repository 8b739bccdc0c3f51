"""Networks that turn images into images: pix2pix' U-Net, CycleGAN's ResNet, and the discriminator of patches."""
