"""Convert overrides as users type them, including arbitrary file names, into Hydra's grammar."""

import os
import re
import shlex
from collections.abc import Sequence

from wplus.config import Parsed, parsed, quoted
from wplus.core.claim import PATHS
from wplus.errors import UserError

# Old names of keys and choices -> new names, for the error message. A key stands for all keys below it.
RENAMED = {
    "model": "checkpoint",  # a file; `model` is now a choice of networks
    "generator": "checkpoint",
    "watch": "probes",
    "training.recipe": "training.hparams",
    "geodesic.steps": "geodesic.num_steps",
    "path=slerp_mean": "path=slerp_centered",
    "path=whitened": "path=pn",
    **{
        f"path={name}_even": f"path={name} retime=arc_length"
        for name in ("lerp", "slerp", "spline", "coarse_first", "fine_first", "geodesic")
    },
    "path=slerp_mean_even": "path=slerp_centered retime=arc_length",
    "path=whitened_even": "path=pn retime=arc_length",
    "path_metrics=logit": "path_metrics=discriminator_score",
    "interpolation.gate": "interpolation.endpoint_threshold",
    "truth": "ground_truth",
    "codes": "latents",  # in `directions`
    "inverter.steps": "inverter.num_steps",
    "inverter.weights": "inverter.loss_weights",
    "inverter.code_noise": "inverter.latent_noise",
    "inverter.code_noise_length": "inverter.latent_noise_length",
    "inverter.start": "inverter.init",
    "inverter.basis": "inverter.preconditioner",
    "inverter.keep": "inverter.return_best",
    "inverter.lanes": "chunk_size",
    "inverter.start=best_of": "inverter.init=best_of_n",
    "inverter.keep=best": "inverter.return_best=true",
    "inverter.keep=last": "inverter.return_best=false",
    "inverter=search": "inverter=preconditioned",
    "inverter=fast": "inverter=quick",
    "inverter=pivotal": "inverter=pti",
    "inverter=scribble": "inverter=sketch",
    "inverter=refine": "inverter=restyle",
    "encoder=refine": "encoder=restyle",
    "training.weights": "training.loss_weights",
    "training.hparams.refinements": "training.hparams.num_passes",
    "loss.numbers": "loss.hparams",
}
# Keys of Hydra's sweeps -> their names in sweeps of wplus.
LAUNCHING = {
    "hydra/launcher=basic": "slots=1",
    "hydra/launcher=joblib": "slots=cpu:N",
    "hydra/launcher=slurm": "slots=slurm",
    "hydra/launcher": "slots",
    "hydra/sweeper": "search.trials",
    "hydra.launcher.n_jobs": "slots=cpu:N",
    "hydra.launcher": "slurm",
    "hydra.sweeper": "search",
    "hydra.sweep": "sweep",
}
_KEY = re.compile(r"(~|\+{0,2})\w[\w$|-]*([./@:][\w$|-]+)*", re.ASCII)  # as in Hydra's grammar

_BLOCK, _F_WPLUS = "space.block", "f/w+"
SPACE_KEYS = ("space", _BLOCK)  # which form one name


def readable(overrides: Sequence[str], *, is_sweep: bool = False) -> list[str]:
    """Make overrides readable for Hydra's grammar: quote names that it cannot parse, and prevent `+` from adding keys.

    Raises UserError for an argument that is not KEY=VALUE, and for a renamed choice.
    """
    for place, override in enumerate(overrides):
        if "=" not in override and not override.startswith("~"):
            raise UserError(f"An argument must be KEY=VALUE, got '{override}'{_meant(overrides, place)}.")
    return [_readable(override, is_sweep) for override in with_block(overrides)]


def with_block(overrides: Sequence[str]) -> list[str]:
    """Convert `space=f/w+ space.block=16` to its name `space=f16/w+`, or to several names for several blocks.

    Raises UserError for a block without that space, and for one that is not an integer.
    """
    given = {override: override.partition("=") for override in overrides}
    blocks = [each for key, _, value in given.values() if key.lstrip("+") == _BLOCK for each in value.split(",")]
    if not blocks:
        return list(overrides)
    if wrong := next((each for each in blocks if not each.isdecimal()), None):
        raise UserError(f"{_BLOCK} must be the resolution of a block, such as 16, got {wrong}.")
    names, kept = ",".join(f"f{block}/w+" for block in blocks), []
    for override, (key, _, value) in given.items():
        if key.lstrip("+") == "space":
            kept.append(f"space={value.replace(_F_WPLUS, names)}")
        elif key.lstrip("+") != _BLOCK:
            kept.append(override)
    if not any(key.lstrip("+") == "space" and _F_WPLUS in value for key, _, value in given.values()):
        raise UserError(f"{_BLOCK} must go with space={_F_WPLUS}, got {_BLOCK}={','.join(blocks)} alone.")
    return kept


def _meant(overrides: Sequence[str], place: int) -> str:
    """Suggest what was meant by an argument without `=`: KEY=VALUE with spaces around the `=` or in the value."""
    before, given, *after = ["", *overrides][place : place + 4]
    if after and after[0].startswith("="):
        joined = given + after[0] + ("" if after[0] != "=" else "".join(after[1:2]))
        return f"; write {typed(joined)}, without spaces"
    if before.endswith("="):
        return f"; write {typed(before + given)}, without spaces"
    return f"; if it belongs to the argument before it, write {typed(f'{before} {given}')}" if before else ""


def typed(override: str) -> str:
    """Quote an override for a shell."""
    if re.fullmatch(r"[\w@%+=:,./\[\]-]+", override):
        return override
    return shlex.quote(override) if re.search(r'["$`\\!]', override) else f'"{override}"'


def _readable(override: str, is_sweep: bool) -> str:
    key, _, value = override.partition("=")
    if not _KEY.fullmatch(key):
        raise UserError(f"A key must be letters, digits, _ and dots, as in seed=1 or data.path=x, got '{override}'.")
    if key.startswith("~"):
        return override
    key = key if key.lstrip("+").startswith("hydra") else key.lstrip("+")
    _refuse_hydra(f"{key.lstrip('+')}={value}")
    for choice in filter(None, re.split(r"[\[\],\s]+", value)):
        _refuse_renamed(f"{key.partition('@')[0]}={choice}")
    read, takes_names = parsed(f"{key}={value}"), key.rpartition(".")[2] in PATHS
    is_name = os.path.exists(os.path.expanduser(value))
    if not is_name and value.startswith(("[", "{")):
        return f"{key}={_quoted_items(value, read, takes_names=takes_names)}"
    if read is None or (is_name and _is_read_otherwise(value, read, is_sweep)):
        return f"{key}={as_text(value, is_name=is_name)}"
    # A file name that looks like a number stays a name.
    return f"{key}={as_text(value)}" if takes_names and _is_number(read) else f"{key}={value}"


def _is_read_otherwise(name: str, read: Parsed, is_sweep: bool) -> bool:
    """Whether the grammar would read a name as several values or as one with a `${key}` inside, or strip spaces."""
    if read.is_sweep:
        return not is_sweep
    return "${" in name or (isinstance(read.value, str) and read.value != name)


def _is_number(read: Parsed) -> bool:
    return isinstance(read.value, (bool, int, float))


def _refuse_renamed(choice: str) -> None:
    if choice in RENAMED:
        raise UserError(f"'{choice}' is now '{RENAMED[choice]}'.")


def _refuse_hydra(override: str) -> None:
    """Refuse Hydra's keys for launching sweeps, which wplus does itself; a name stands for all keys below it."""
    old = override if override in LAUNCHING else override.partition("=")[0]
    while old.startswith("hydra"):
        if old in LAUNCHING:
            raise UserError(f"'{override}' is now '{LAUNCHING[old]}'.")
        old = old.rpartition("." if "." in old else "/")[0]


def as_text(text: str, *, is_name: bool = False) -> str:
    """Quote a text; in names, `${` is escaped so that it is not a reference to a key."""
    return quoted(re.sub(r"(\\*)\$\{", r"\1\1\\${", text) if is_name else text)


def _quoted_items(text: str, read: Parsed | None, *, takes_names: bool) -> str:
    """Quote the items of a list that the grammar would misread; a text that is not a list, or cannot be made one, is
    returned unchanged.
    """  # fmt: skip
    is_list = read is None or (takes_names and isinstance(read.value, list))
    if not (is_list and text.startswith("[") and text.endswith("]")):
        return text
    items = [item.strip() for item in text[1:-1].split(",")]
    if read is not None and len(items) != len(read.value):
        return text
    found = f"[{','.join(_item(item, takes_names) for item in items)}]"
    return text if parsed(f"key={found}") is None else found


def _item(text: str, takes_names: bool) -> str:
    read, is_name = parsed(f"key={text}"), os.path.exists(os.path.expanduser(text))
    if read is None:
        return as_text(text, is_name=is_name)
    is_other = _is_read_otherwise(text, read, False) or (takes_names and _is_number(read))
    return as_text(text, is_name=True) if is_name and is_other else text
