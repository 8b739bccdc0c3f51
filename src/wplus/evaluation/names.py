"""Names of distribution metrics: a famous name only for the famous protocol, every other name says what it stands for.

Famous are the names of NVlabs' metrics (Karras et al. 2020, arXiv:2006.06676): fid50k_full, kid50k_full, is50k on
TensorFlow's Inception network, pr50k3_full on VGG16. They stand for 50,000 images of a generator's moving average,
without truncation and with the stored noise, and all real images without flips. The other names say truncation, noise,
a generator that is no average, and flips in the same words, but not which images and how many.
"""

from collections.abc import Mapping
from typing import Any

FAMOUS_NUM = 50_000
INCEPTION, VGG16 = "inception", "vgg16"
LIVE = ("live", "G", "g")  # what files call a generator whose weights are not the moving average


def distribution_name(
    family: str, stand_in: str, protocol: Mapping[str, Any], *, famous: str, famous_extractor: str | None = INCEPTION
) -> str:
    """The name of a metric, from the protocol of its extractor and its images; no `num_real`: of generated ones alone.

    famous    the name under the famous protocol, as "fid50k_full"
    family    how the name begins under another protocol with the famous extractor: "fid" gives fid_10000, and what
              else differs is appended: fid_10000_psi0.7
    stand_in  how it begins with any other extractor: "fd" gives fd_<extractor>, fd_<extractor>_psi0.7
    famous_extractor  None for a metric without a famous name
    """
    flips = ["mirror"] * (protocol.get("mirror", "none") != "none")
    if protocol["extractor"] != famous_extractor:
        return "_".join([stand_in, protocol["extractor"], *_sampling(protocol), *flips])
    given, split = ["samples"] * ("samples" in protocol), protocol.get("split", "all")
    part = [split] * (split != "all") + [f"{protocol.get('num_real')}_real"] * (not protocol.get("all_real", True))
    differs, num = [*given, *_sampling(protocol), *part, *flips], protocol["num_generated"]
    return "_".join([family, str(num), *differs]) if differs or num != FAMOUS_NUM else famous


def is_live(protocol: Mapping[str, Any]) -> bool:
    """Whether the generator's weights are those of its last step, not their moving average."""
    return protocol.get("weights") in LIVE


def _sampling(protocol: Mapping[str, Any]) -> list[str]:
    psi, cutoff = protocol.get("truncation_psi", 1.0), protocol.get("truncation_cutoff")
    noise = protocol.get("noise_mode", "const")
    words = {f"psi{psi:g}": psi != 1.0, f"cutoff{cutoff}": psi != 1.0 and cutoff is not None,
             f"{noise}_noise": noise != "const", "live": is_live(protocol)}  # fmt: skip
    return [word for word, differs in words.items() if differs]
