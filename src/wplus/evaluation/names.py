"""Names of distribution metrics. Established names are reserved for their exact protocol; others state what differs.

The established names are those of NVlabs' metrics (Karras et al. 2020, arXiv:2006.06676): fid50k_full, kid50k_full,
is50k with TensorFlow's Inception network, pr50k3_full with VGG16. They stand for 50,000 images from a generator's
moving average, without truncation and with stored noise, and all real images without flips. Names with other extractors
also state truncation, noise, non-averaged weights and flips, but not which images were used or how many.
"""

from collections.abc import Mapping
from typing import Any

FAMOUS_NUM = 50_000
INCEPTION, VGG16 = "inception", "vgg16"
LIVE = ("live", "G", "g")  # names in files for a generator whose weights are not the moving average


def distribution_name(
    family: str, stand_in: str, protocol: Mapping[str, Any], *, famous: str, famous_extractor: str | None = INCEPTION
) -> str:
    """Build a metric's name from the protocol of its extractor and images (no `num_real`: generated images only).

    famous    the name under the established protocol, such as "fid50k_full"
    family    prefix for other protocols with the established extractor: "fid" gives fid_10000, and further
              differences are appended: fid_10000_psi0.7
    stand_in  prefix for any other extractor: "fd" gives fd_<extractor>, fd_<extractor>_psi0.7
    famous_extractor  None for a metric without an established name
    """
    flips = ["mirror"] * (protocol.get("mirror", "none") != "none")
    if protocol["extractor"] != famous_extractor:
        return "_".join([stand_in, protocol["extractor"], *_sampling(protocol), *flips])
    given, split = ["samples"] * ("samples" in protocol), protocol.get("split", "all")
    part = [split] * (split != "all") + [f"{protocol.get('num_real')}_real"] * (not protocol.get("all_real", True))
    differs, num = [*given, *_sampling(protocol), *part, *flips], protocol["num_generated"]
    return "_".join([family, str(num), *differs]) if differs or num != FAMOUS_NUM else famous


def is_live(protocol: Mapping[str, Any]) -> bool:
    """Whether the generator's weights are those of the last training step rather than their moving average."""
    return protocol.get("weights") in LIVE


def _sampling(protocol: Mapping[str, Any]) -> list[str]:
    psi, cutoff = protocol.get("truncation_psi", 1.0), protocol.get("truncation_cutoff")
    noise = protocol.get("noise_mode", "const")
    words = {f"psi{psi:g}": psi != 1.0, f"cutoff{cutoff}": psi != 1.0 and cutoff is not None,
             f"{noise}_noise": noise != "const", "live": is_live(protocol)}  # fmt: skip
    return [word for word, differs in words.items() if differs]
