"""From a model's name to its directory. Without torch, so that what is missing is told at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from workernode.local.server.ending import CannotServe

if TYPE_CHECKING:
    from collections.abc import Callable

    from workernode.local.server.flags import Flags

_PATTERNS = ["*.json", "*.safetensors", "*.txt", "*.model", "*.jinja"]


def find_folder(flags: Flags, progress: Callable[[str, str, float], None]) -> Path:
    """The model's directory, downloaded if it is a name. Raises :class:`CannotServe`."""
    folder = Path(flags.model)
    if not folder.is_dir():
        if folder.is_absolute() or flags.model.startswith((".", "~")):
            raise CannotServe("model_files", f"There is no directory {flags.model}.")
        progress("downloading", f"Downloading {flags.model}.", 0.0)
        folder = _download(flags)
    if not (folder / "config.json").is_file():
        raise CannotServe("model_files", f"There is no config.json in {folder}: it is no model of transformers.")
    if not any(folder.glob("*.safetensors")):
        raise CannotServe("model_files", f"There are no safetensors in {folder}: other formats may hold code.")
    return folder


def first_line(error: Exception) -> str:
    """Of what a library says, as the end of a sentence."""
    return (str(error).strip().split("\n")[0] or type(error).__name__)[:300].rstrip(".") + "."


def _download(flags: Flags) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(flags.model, revision=flags.revision, allow_patterns=_PATTERNS))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError, ValueError) as error:
        raise CannotServe("model_files", f"{flags.model} cannot be downloaded: {first_line(error)}") from None
