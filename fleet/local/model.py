"""What a model's name means: a file, a directory, or a name on the hub."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from workernode.local.settings import EngineName

_ENGINES: dict[str, EngineName] = {".llamafile": "llamafile", ".gguf": "llama-server"}
DEFAULT = "Qwen/Qwen2.5-0.5B-Instruct"
TINY_FOLDER = Path("data") / "models" / "tiny"


@dataclass(frozen=True)
class Model:
    """``path`` is what MODEL_PATH will be; ``weights_bytes`` is None while it is only known to the hub. ``halves``: its
    weights have 16 bits each."""

    path: str
    engine: EngineName
    weights_bytes: int | None = None
    halves: bool = False

    @property
    def on_hub(self) -> bool:
        """Whether it is still to be fetched."""
        return self.weights_bytes is None


class NoSuchModel(Exception):
    """A sentence that says what is wrong with the name."""


def model_of(word: str) -> Model:
    """Read the argument. Raises :class:`NoSuchModel` for a path that is not there or holds no model."""
    path = Path(word).expanduser()
    engine = _ENGINES.get(path.suffix.lower(), "transformers")
    if path.is_file():
        if engine == "transformers":
            raise NoSuchModel(f"{word} is neither a .gguf nor a .llamafile, nor a directory with a model in it.")
        # Not where a link leads: the hub's cache names files by their contents, and llama-server finds the other parts
        # of a model in several files by the name of the first.
        return Model(str(path.parent.resolve() / path.name), engine, path.stat().st_size)
    if path.is_dir():
        weights = sum(file.stat().st_size for file in path.glob("*.safetensors"))
        if not weights or not (path / "config.json").is_file():
            raise NoSuchModel(
                f"{word} lacks config.json or *.safetensors: it is no model in the format of transformers."
            )
        return Model(str(path.resolve()), "transformers", weights, _has_halves(path / "config.json"))
    if engine != "transformers" or word.startswith(("/", ".", "~")) or word.count("/") > 1:
        raise NoSuchModel(f"There is no {word}.")
    return Model(word, "transformers")


def _has_halves(config: Path) -> bool:
    try:
        told = msgspec.json.decode(config.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return False  # the model server will say what is wrong with it
    return (told.get("dtype") or told.get("torch_dtype")) in ("bfloat16", "float16")
