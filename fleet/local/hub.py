"""What the hub has of a model. Run by the Python that has huggingface_hub: ``python -m fleet.local.hub size NAME``."""

from __future__ import annotations

import sys
from fnmatch import fnmatch

WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")


def size(name: str) -> int:
    """Bytes of the files that will be fetched."""
    from huggingface_hub import HfApi

    files = HfApi().model_info(name, files_metadata=True).siblings or []
    return sum(file.size or 0 for file in files if any(fnmatch(file.rfilename, wanted) for wanted in WANTED))


def fetch(name: str) -> str:
    """Fetch what is missing, with progress on standard error; what broke off goes on where it was. Returns where."""
    from huggingface_hub import snapshot_download

    return str(snapshot_download(name, allow_patterns=list(WANTED)))


def main(what: str, name: str) -> None:
    """Print the answer, or end with a sentence."""
    try:
        print(size(name) if what == "size" else fetch(name))
    except Exception as error:
        reason = type(error).__name__
        sys.exit(
            f"The hub did not give {name!r} ({reason}). Check the name and the network; HF_TOKEN opens gated models."
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
