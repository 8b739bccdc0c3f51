"""Download models from Hugging Face's hub and upload them, as folders of `wplus.adapters.model_folder`.

HF_ENDPOINT selects another hub, HF_TOKEN the account; downloads are kept in the hub's own cache (HF_HOME).
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from wplus.adapters import model_folder
from wplus.checkpoint import CONFIG, WEIGHTS, Models
from wplus.errors import UserError


def downloaded(name: str) -> Path:
    """The folder of USER/NAME, or USER/NAME@REVISION; UserError if there is no such model, or no network."""
    from huggingface_hub import hf_hub_download  # slow to import, needed here only
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    repo, _, revision = name.partition("@")
    options: dict[str, Any] = {"repo_id": repo, "revision": revision or None, "endpoint": _endpoint()}
    with _one_sentence(f"Cannot read 'hub:{name}'"):
        weights = hf_hub_download(filename=WEIGHTS, **options)
        try:
            hf_hub_download(filename=CONFIG, **options)
        except LocalEntryNotFoundError:
            raise
        except EntryNotFoundError:  # the weights describe themselves
            pass
    return Path(weights).parent


def uploaded(
    models: Models, name: str, *, licence: str | None = None, metrics: Mapping[str, Mapping[str, Any]] | None = None,
    private: bool | None = None, token: str | None = None, message: str = "Upload a model of wplus",
) -> str:  # fmt: skip
    """Upload a model to USER/NAME on the hub, created if missing; returns its address.

    `licence` and `metrics` go into the model card, see `model_folder.model_card`.
    """
    from huggingface_hub import HfApi

    api = HfApi(endpoint=_endpoint(), token=token)
    with tempfile.TemporaryDirectory() as temporary, _one_sentence(f"Cannot write 'hub:{name}'"):
        folder = Path(temporary) / (name.rpartition("/")[2] or "model")
        model_folder.write(folder, models, licence=licence, metrics=metrics)
        address = api.create_repo(name, private=private, exist_ok=True)
        api.upload_folder(repo_id=name, folder_path=folder, commit_message=message)
    return str(address)


def _endpoint() -> str | None:
    """Read HF_ENDPOINT at call time: the library only reads it when imported."""
    return os.environ.get("HF_ENDPOINT") or None


@contextlib.contextmanager
def _one_sentence(what: str) -> Iterator[None]:
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # invalid name, no account, no network: the client's messages are long
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        raise UserError(f"{what}: {lines[0].rstrip('.') if lines else type(error).__name__}.") from error
