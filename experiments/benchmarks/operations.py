"""Count the operations of StyleGAN2 as published: convolutions and dense layers, a multiply-add counted as two.

Not counted, to the benchmark's disadvantage: resampling filters, demodulation, activations, statistics, optimizers.
"""

from wplus.models.layers import block_resolutions, num_channels


def generator_operations(
    resolution: int, channel_base: int, channel_max: int, w_dim: int, num_mapping_layers: int
) -> float:
    """Operations for one image in mapping and synthesis."""
    total, previous = num_mapping_layers * w_dim**2, 0
    for res in block_resolutions(resolution):
        channels = num_channels(res, channel_base, channel_max)
        total += 9 * channels**2 * res**2 + 3 * channels * res**2  # conv1, to RGB
        if previous:
            total += 9 * previous * channels * (res // 2) ** 2  # conv0: a transposed convolution over the smaller map
        previous = channels
    return 2.0 * total


def discriminator_operations(resolution: int, channel_base: int, channel_max: int) -> float:
    """Operations for one image in the residual discriminator."""
    total = 3 * num_channels(resolution, channel_base, channel_max) * resolution**2  # from RGB
    for res in block_resolutions(resolution)[:0:-1]:
        wide, narrow = num_channels(res, channel_base, channel_max), num_channels(res // 2, channel_base, channel_max)
        total += 9 * wide**2 * res**2 + (9 + 1) * wide * narrow * (res // 2) ** 2  # conv0, conv1, skip
    channels = num_channels(4, channel_base, channel_max)
    return 2.0 * (total + 9 * (channels + 1) * channels * 16 + 16 * channels**2 + channels)


def phase_operations(
    phase: str, generator: float, discriminator: float, batch_size: int, pl_batch_shrink: int = 2
) -> float:
    """Operations of a phase for one batch. Forward, input gradient and weight gradient of a layer cost the same.

    generator      G forward, D forward; D to its input, G to inputs and weights                      3 G + 2 D
    discriminator  G forward; D forward and back to inputs and weights, real and generated              G + 6 D
    r1             D forward, D to its input, and the same two differentiated                             6 D
    path_length    the same for G, on a part of the batch                                                 6 G
    """
    per_image = {
        "generator": 3 * generator + 2 * discriminator,
        "discriminator": generator + 6 * discriminator,
        "r1": 6 * discriminator,
        "path_length": 6 * generator / pl_batch_shrink,
    }
    return per_image[phase] * batch_size
