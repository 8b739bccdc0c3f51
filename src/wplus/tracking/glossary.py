"""One sentence for a newcomer about each kind of number that a report shows."""

from __future__ import annotations

import re

_EXPLANATIONS = (
    (
        r"real_halves",
        "The same distance between two halves of the real images: about what a perfect generator would get.",
    ),
    (
        r"(^|_)fd_",
        "Fréchet distance between the features of real and generated images; 0 is a perfect match, lower is better.",
    ),
    (r"^health$", "Whether generator and discriminator are well: well, watch or alarm; too early to say at first."),
    (r"^(diversity|overfitting|gradient)_level$", "What the monitor makes of it: 0 is well, 1 watch, 2 alarm."),
    (r"^distinct$", "Generated images that are no copies of each other, over such real ones; 0 is a single image."),
    (r"^(diversity|pixels)$", "How far generated images are from each other, over how far real ones are."),
    (r"^r_v$", "Overfitting of the discriminator: 0, real images it has not seen are real to it; 1, generated."),
    (r"^r_t$", "Mean sign of the discriminator's logits of training images; 1 when it takes all of them for real."),
    (r"^loss_slope$", "Slope of the generator's loss where its images are, over where the discriminator cannot tell."),
    (r"^probe_seconds$", "Seconds that the probes of a snapshot took, beside training."),
    (r"^precision(_|$)", "Part of the generated images that lie among the real ones, of so many; higher is better."),
    (r"^recall(_|$)", "Part of the real images that lie among the generated ones, of so many; higher is better."),
    (r"^diversity_", "How far generated images are from each other, over how far real ones are; 0 is a single image."),
    (
        r"^nearest_",
        "Distance of generated images to the nearest training image, over that of held-out ones; copies are near 0.",
    ),
    (r"^noise_std$", "How much the noise inputs move a pixel, standard deviation in levels of 255."),
    (r"^(train|held_out|generated)(_mean)?$", "The discriminator's logit of such images, without augmentation."),
    (r"ppl.*", "Perceptual path length: how fast images change along short steps in latent space; lower is smoother."),
    (r"psnr", "Peak signal-to-noise ratio in decibels, a logarithmic pixel error; higher is better."),
    (r"(^|_)(l2|mse)($|_)", "Mean squared difference of the pixels, values in [-1, 1]; lower is better."),
    (r"(^|_)(l1|mae)($|_)", "Mean absolute difference of the pixels, values in [-1, 1]; lower is better."),
    (r"stlpips", "Shift-tolerant relative of LPIPS, of another scale, by the net named; not LPIPS; lower is better."),
    (r"lpips", "LPIPS: learned perceptual distance between the image and its reconstruction; lower is better."),
    (r"prior_distance", "How far a code lies from what the mapping network makes: about 1 for its own samples."),
    (r"latent_error", "Distance of a code from the true one, in deviations of the prior; 0 is the true code."),
    (
        r"^similarity_identity",
        "Cosine similarity of two images' descriptors by the net named: 1 for equal ones; higher is better.",
    ),
    (r"^similarity_.*ssim", "Structural similarity of two images (SSIM, or over several scales): 1 for equal ones."),
    (r"^identity_", "1 minus the cosine similarity of two images' descriptors by the net named; lower is better."),
    (r"ssim", "1 minus the structural similarity of two images; lower is better."),
    (r"^locality_", "How far other pictures of a tuned generator moved; lower is better."),
    (r"effnet|perceptual", "Perceptual distance between features of an ImageNet net; not LPIPS; lower is better."),
    (r"seconds", "Wall time per image."),
    (r"step_cv", "How unequal the steps between neighbouring frames are (deviation over mean); 0 is an even walk."),
    (r"step_smoothness", "1 minus the Gini coefficient of the steps between neighbouring frames; 1 is an even walk."),
    (r"step_jump_ratio", "The largest step between neighbouring frames over the mean one; 1 is an even walk."),
    (r"path_length", "Sum of the steps between neighbouring frames; compare at equal numbers of frames only."),
    (r"tortuosity", "Length of the path over the distance of its ends: 1 is the most direct way."),
    (r"^lec_.*_per_edit$", "Latent editing consistency over the edit's length: 1 is an inverter blind to edits."),
    (r"^lec_.*_per_std$", "Latent editing consistency over the spread of latents, to compare generators."),
    (r"^lec_", "How far a latent is from itself after an edit, a new inversion and the edit undone; lower is better."),
    (r"^moved_", "Perceptual distance that one unit of an edit's strength moves the picture."),
    (r"^flipped_", "Share of pictures whose class changes when they are edited."),
    (r"^balanced_accuracy_", "Share of latents on their side of a boundary, mean over both classes; chance is 0.5."),
    (r"kimg_per_s|sec_per_kimg", "Speed: thousands of training images per second, or seconds per thousand."),
)


def explain(name: str) -> str:
    """The sentence for a number called `name` (`inversion/psnr`, `fd_effnet_lite0`); empty where there is none."""
    short = name.rsplit("/", 1)[-1].lower()
    return next((text for pattern, text in _EXPLANATIONS if re.search(pattern, short)), "")
