"""What the hub has of a model. Run by the Python that has huggingface_hub: ``… hub size NAME REVISION``."""

from __future__ import annotations

import sys
from fnmatch import fnmatch

from workernode.local.server.steps.files import TWICE, WANTED, kept_at, sweep

_HALVES = {"BF16", "F16"}


def size(name: str, revision: str) -> tuple[int, int, str, str]:
    """Bytes of the files that a model needs, those of them that are still to be fetched, whether its weights are
    ``halves`` (of 16 bits) or ``other``, and where the files will be."""
    from huggingface_hub import HfApi, try_to_load_from_cache

    def fits(file: str, patterns: list[str]) -> bool:
        return any(fnmatch(file, pattern) for pattern in patterns)

    told = HfApi().model_info(name, revision=revision, files_metadata=True)
    wanted = [file for file in told.siblings or [] if fits(file.rfilename, WANTED) and not fits(file.rfilename, TWICE)]
    missing = [
        file for file in wanted if not isinstance(try_to_load_from_cache(name, file.rfilename, revision=told.sha), str)
    ]
    total, still = (sum(file.size or 0 for file in files) for files in (wanted, missing))
    kinds = set(told.safetensors.parameters) if told.safetensors else set()
    return total, still, "halves" if kinds and kinds <= _HALVES else "other", str(kept_at(name))


def fetch(name: str, revision: str) -> str:
    """Fetch the files that are missing, with progress on standard error. Returns where they are."""
    from huggingface_hub import snapshot_download

    sweep(kept_at(name))
    return str(snapshot_download(name, revision=revision, allow_patterns=WANTED, ignore_patterns=TWICE))


def main(what: str, name: str, revision: str) -> None:
    """Print the answer, or end with a sentence."""
    try:
        print(*size(name, revision) if what == "size" else [fetch(name, revision)])
    except Exception as error:
        reason = type(error).__name__
        sys.exit(
            f"The hub did not give {name!r} ({reason}). Check the name and the network; HF_TOKEN opens gated models."
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
