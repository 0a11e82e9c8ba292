"""What the hub has of a model. Run by the Python that has huggingface_hub: ``python -m fleet.local.hub size NAME``."""

from __future__ import annotations

import sys
from fnmatch import fnmatch

from workernode.local.server.steps.files import TWICE, WANTED


def size(name: str) -> int:
    """Bytes of the files that will be fetched."""
    from huggingface_hub import HfApi

    def fits(file: str, patterns: list[str]) -> bool:
        return any(fnmatch(file, pattern) for pattern in patterns)

    files = HfApi().model_info(name, files_metadata=True).siblings or []
    wanted = [file for file in files if fits(file.rfilename, WANTED) and not fits(file.rfilename, TWICE)]
    return sum(file.size or 0 for file in wanted)


def fetch(name: str) -> str:
    """Fetch what is missing, with progress on standard error; what broke off goes on where it was. Returns where."""
    from huggingface_hub import snapshot_download

    return str(snapshot_download(name, allow_patterns=WANTED, ignore_patterns=TWICE))


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
