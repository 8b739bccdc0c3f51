"""The numbers of a comparison in words: what each is, which ones the tables show, and in which form."""

from __future__ import annotations

from collections.abc import Iterable

# Beginning of a number's name -> one sentence for a newcomer. The first that fits is taken.
MEANINGS = {
    "ends_pass": "Share of the pairs whose two ends pass the gate: each misses its image by at most that part of the "
    "distance between the images. Where it is low, the method's other numbers say nothing of these images.",
    "end_miss": "Larger error of the two end frames over the distance of the two real images, as lengths in feature "
    "space; less is better, 1 is as far from the image as the other image is.",
    "end_psnr_db": "PSNR of the two end frames against the real images, in dB, pixels in [-1, 1]; more is better, and "
    "where it is low nothing else means much.",
    "end_": "Perceptual distance of the two end frames from the real images; less is better, and where it is large "
    "nothing else means much.",
    "relative_ppl": "Mean squared speed of the picture along the path over the squared way from end to end; 1 is the "
    "straightest, most even path, more is worse.",
    "pair_ppl": "Perceptual path length between two images: how much the picture moves for a small step; less is "
    "smoother, but it also grows with how different the images are.",
    "step_cv_max": "Unevenness of the steps of the least even pair of all: standard deviation over mean of the steps.",
    "step_cv": "Unevenness of the steps from frame to frame: standard deviation over mean; 0 is perfectly even.",
    "step_smoothness": "1 - Gini coefficient of the steps; 1 is perfectly even.",
    "step_jump_ratio": "Largest step over the mean step; 1 is perfectly even.",
    "path_length": "Length of the way through feature space; longer ways pass more different pictures.",
    "tortuosity": "Length of the way over the straight distance of its ends; 1 is the shortest there is.",
    "chord": "Perceptual distance of the two ends of the path: how far apart the pictures are that it joins.",
    "turning_deg": "By how many degrees the way through feature space turns, cut into eight pieces; 0 is straight.",
    "turning_mean_deg": "Mean angle between successive steps through feature space; falls with the number of frames.",
    "third_person_": "Least similarity of any frame to the end that it is more like; low means that somebody "
    "else appears on the way. More is better.",
    "backwards_": "Share of the steps on which a frame becomes more like the start or less like the goal; "
    "less is better.",
    "backtrack_": "How far the identity moves the wrong way, over how far it must go; 0 is never, less is better.",
    "crossover_": "Where on the path the frames become more like the goal than like the start; 0.5 is half way.",
    "distinctness": "Distance of the middle frame from the nearest pixel mixture of the ends, over the distance of "
    "the ends; 0 is a double exposure, more is better.",
    "detail_dip": "Share of fine detail that the middle frame lacks against the ends; 0.5 is a double "
    "exposure, 0 none.",
    "prior_": "Distance of the latents from what the mapping network makes; about 1 for its own samples, much more is "
    "where the generator has learned nothing.",
    "logit_dip": "By how much the discriminator takes the middle for less real than the ends; less is better.",
    "logit_": "What the discriminator thinks of the frames; more is more real.",
    "asymmetry": "Largest perceptual distance between the path from a to b and that from b to a; 0 is the same path.",
    "seconds": "Seconds to make the path and render its frames.",
    "memory_mib": "Peak memory of making the path and rendering it, above what was held before, in MiB.",
    "mid_dip": "How much less like real images the middle frames are than the end frames, as a set; 0 is no loss.",
    "kd_": "Kernel distance of the frames in a part of the path from real images, as a set; less is better.",
    "fd_": "Fréchet distance of the frames in a part of the path from real images, as a set; less is better, and only "
    "equal numbers of frames compare.",
    "precision_": "Share of the frames in that place that lie among real images; more is better.",
}  # fmt: skip

# The tables to read: heading, and beginnings of the names of its columns with their form.
TABLES: dict[str, dict[str, str]] = {
    "Ends and shape of the way": {
        "ends_pass": ".2f", "end_psnr_db": ".1f", "end_": ".3f", "relative_ppl": ".2f", "tortuosity": ".2f",
        "step_cv": ".3f", "step_cv_max": ".3f", "step_jump_ratio": ".2f", "turning_deg": ".0f", "asymmetry": ".4f",
    },
    "Pictures on the way": {
        "kd_mid_dip": ".3f", "precision_": ".3f", "logit_dip": ".2f", "third_person_": ".3f", "backtrack_": ".3f",
        "distinctness": ".3f", "detail_dip": ".3f",
    },
    "Latents and cost": {"prior_mean": ".2f", "prior_max": ".2f", "seconds": ".2f", "memory_mib": ".0f"},
}  # fmt: skip


def meaning(name: str) -> str:
    """One sentence about a number, by its name; nothing for the numbers of metrics that this project does not have."""
    if name.startswith("kd_") and name.endswith("mid_dip"):
        return MEANINGS["mid_dip"]
    return next((text for start, text in MEANINGS.items() if name.startswith(start)), "")


def shown(names: Iterable[str]) -> dict[str, dict[str, tuple[str, str]]]:
    """Table -> column -> (heading, form) of those of the numbers that the tables show."""
    every = list(names)
    found = {}
    for table, forms in TABLES.items():
        columns = ((next((n for n in every if _fits(n, start)), None), form) for start, form in forms.items())
        found[table] = {name: (name.replace("_", " "), form) for name, form in columns if name is not None}
    return {table: columns for table, columns in found.items() if columns}


def _fits(name: str, start: str) -> bool:
    if start == "kd_mid_dip":
        return name.startswith("kd_") and name.endswith("mid_dip")
    whole = [each for each in ("end_psnr_db", "end_miss", "step_cv", "step_cv_max") if name == each]
    return name == start if whole else name.startswith(start)
