"""From a model's name to its directory. Without torch, so that what is missing is told at once."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from workernode.local.server.ending import CannotServe
from workernode.local.server.steps.growth import growing

if TYPE_CHECKING:
    from collections.abc import Callable

    from workernode.local.server.flags import Flags

WANTED = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]
_CODE = "*.py"
_NOT_GIVEN = (401, 403, 404)
"""The hub's answers of a model that is not there or not for everyone, and to a wrong token: often it tells no more."""
_LEFT_BEHIND_S = 600.0
"""Whoever fetches a part of a file writes to it all the time, or has given it up."""
TWICE = ["original/*", "consolidated*"]
"""The same weights once more, as their makers' own programs want them."""


def find_folder(flags: Flags, progress: Callable[[str, str, float], None]) -> Path:
    """The model's directory, downloaded if it is a name. Raises :class:`CannotServe`."""
    folder = Path(flags.model)
    if folder.is_file():
        engines = "LOCAL_ENGINE=llama-server serves a .gguf, and LOCAL_ENGINE=llamafile a .llamafile"
        raise CannotServe("model_files", f"{flags.model} is a file and no directory: {engines}.")
    if not folder.is_dir():
        if folder.is_absolute() or flags.model.startswith((".", "~")):
            raise CannotServe("model_files", f"There is no directory {flags.model}.")
        progress("downloading", f"Downloading {flags.model}.", 0.0)
        folder = _download(flags, progress)
    if not (folder / "config.json").is_file():
        raise CannotServe("model_files", f"There is no config.json in {folder}: it is no model of transformers.")
    if not any(folder.glob("*.safetensors")):
        raise CannotServe("model_files", f"There are no safetensors in {folder}: other formats may hold code.")
    return folder


def first_line(error: Exception) -> str:
    """Of what a library says, as the end of a sentence."""
    return (str(error).strip().split("\n")[0] or type(error).__name__)[:300].rstrip(".") + "."


def _bytes_in(place: Path) -> int:
    total = 0
    for path in place.rglob("*"):
        with contextlib.suppress(OSError):  # it has another name by now
            total += 0 if path.is_symlink() else path.stat().st_size
    return total


def kept_at(name: str) -> Path:
    """Where the hub's library keeps what it fetches of a model. Raises ValueError for what can be no name."""
    from huggingface_hub import constants
    from huggingface_hub.file_download import repo_folder_name

    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=name, repo_type="model")


def sweep(place: Path) -> None:
    """Remove parts of files that were left behind there: by now the library begins such a file anew, under another
    name, and a node that is restarted while it downloads would fill the disk."""
    for part in place.glob("blobs/*.*.incomplete"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > _LEFT_BEHIND_S:
                part.unlink()


def _download(flags: Flags, progress: Callable[[str, str, float], None]) -> Path:
    from huggingface_hub import snapshot_download

    patterns = [*WANTED, *([_CODE] if flags.trust_remote_code else [])]
    try:
        place = kept_at(flags.model)
        sweep(place)

        def sentence() -> str:
            return f"Downloading {flags.model}: {_bytes_in(place) / 2**30:.2f} GiB are here."

        with growing(progress, "downloading", 0.0, sentence):
            return Path(
                snapshot_download(flags.model, revision=flags.revision, allow_patterns=patterns, ignore_patterns=TWICE)
            )
    except Exception as error:  # what clients of HTTP raise has no class in common with what the hub's library does
        raise CannotServe("model_files", _why_not(flags, error)) from None


def _why_not(flags: Flags, error: Exception) -> str:
    from huggingface_hub.errors import RevisionNotFoundError

    if isinstance(error, RevisionNotFoundError):
        return f"{flags.model} has no revision {flags.revision} on the hub."
    if getattr(getattr(error, "response", None), "status_code", None) in _NOT_GIVEN:
        return (
            f"There is no directory {flags.model}, and the hub does not give you a model of that name: check it, "
            "accept its licence there, or set HF_TOKEN."
        )
    return f"{flags.model} cannot be downloaded: {first_line(error)}"
