"""Names of distribution metrics: a famous name only for the famous protocol, every other name says what it stands for.

Famous are the names of NVlabs' metrics (Karras et al. 2020, arXiv:2006.06676) on TensorFlow's Inception network:
fid50k_full, kid50k_full, is50k; and pr50k3_full on VGG16. They stand for 50,000 generated images without truncation
and with the stored noise, by the moving average of a generator, and all real images without flips. The other names say
truncation, noise, a generator that is no average, and flips in the same words, but not which images and how many.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FAMOUS_NUM = 50_000
INCEPTION, VGG16 = "inception", "vgg16"
LIVE = ("live", "G", "g")  # what files call a generator whose weights are not the moving average


def distribution_name(
    family: str,
    stand_in: str,
    *,
    extractor: str,
    generated: Mapping[str, Any],
    real: Mapping[str, Any] | None = None,
    famous: str = "",
    famous_extractor: str | None = INCEPTION,
) -> str:
    """The name of a metric, from the protocols of its passes (`FeaturePass.protocol`).

    famous    the name under the famous protocol, as "fid50k_full"
    family    how the name begins under another protocol with the famous extractor: "fid" gives fid_10000, and what
              else differs is appended: fid_10000_psi0.7
    stand_in  how it begins with any other extractor: "fd" gives fd_<extractor>, fd_<extractor>_psi0.7
    real      None for a metric that looks at generated images alone
    famous_extractor  None for a metric without a famous name
    """
    if extractor != famous_extractor:
        return "_".join([stand_in, extractor, *_sampling(generated), *_flips(real)])
    differs = _differences(generated, real)
    return famous if not differs else "_".join([family, *differs])


def frechet_name(extractor: str, real: Mapping[str, Any], generated: Mapping[str, Any]) -> str:
    """fid50k_full, fid_<num>, or fd_<extractor>, and what differs from the plain protocol."""
    protocols = {"real": real, "generated": generated}
    return distribution_name("fid", "fd", extractor=extractor, famous="fid50k_full", **protocols)


def _differences(generated: Mapping[str, Any], real: Mapping[str, Any] | None) -> list[str]:
    """What is not as in the famous protocol, in short words, after the number of generated images."""
    given = ["samples"] if generated.get("samples") is not None else []
    some = [] if real is None or real["all_real"] else [f"{real['num_real']}_real"]
    some = ([] if real is None or real.get("split", "all") == "all" else [real["split"]]) + some
    words = [*given, *_sampling(generated), *some, *_flips(real)]
    num = generated["num_generated"]
    return [str(num), *words] if words or num != FAMOUS_NUM else []


def _sampling(generated: Mapping[str, Any]) -> list[str]:
    psi, cutoff = generated.get("truncation_psi", 1.0), generated.get("truncation_cutoff")
    noise = generated.get("noise_mode", "const")
    words = [(f"psi{psi:g}", psi != 1.0), (f"cutoff{cutoff}", psi != 1.0 and cutoff is not None),
             (f"{noise}_noise", noise != "const"), ("live", is_live(generated))]  # fmt: skip
    return [word for word, differs in words if differs]


def is_live(generated: Mapping[str, Any]) -> bool:
    """Whether the protocol says that the generator's weights are those of its last step, not their moving average."""
    return generated.get("weights") in LIVE


def _flips(real: Mapping[str, Any] | None) -> list[str]:
    return [] if real is None or real["mirror"] == "none" else ["mirror"]
