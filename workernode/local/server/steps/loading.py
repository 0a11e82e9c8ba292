"""From a directory to a model in memory. Everything that can go wrong has a kind of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from workernode.local.server.ending import CannotServe
from workernode.local.server.steps.files import first_line
from workernode.local.server.steps.placement import arguments_of, require_no_disk

if TYPE_CHECKING:
    from pathlib import Path

    from workernode.local.server.flags import Flags

_ENCODERS = ("ForMaskedLM", "ForPreTraining", "EncoderModel", "BertModel", "T5ForConditionalGeneration", "T5Model")

_JUDGES = ("ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering", "ForMultipleChoice")
"""Rerankers, reward models and their like: as a decoder or an encoder they would lack a part, and look right."""
HALVED = ("t5", "mt5", "umt5")
"""Families of encoder and decoder, of which the encoder makes embeddings."""


@dataclass(frozen=True)
class Files:
    """Where a model's files lie, and its configuration as transformers reads it."""

    folder: Path
    config: Any

    @property
    def generates(self) -> bool:
        """Whether it is a decoder that writes text, and not an encoder."""
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

        names = self.config.architectures or []
        if any(name.endswith(("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")) for name in names):
            return not self.config.is_encoder_decoder
        # Without a named architecture, or one of a bare decoder: what transformers would make of it.
        return (
            bool(names)
            and not any(name.endswith(_ENCODERS) or name.endswith("Model") for name in names)
            and (self.config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
        )


def read_files(folder: Path, flags: Flags) -> Files:
    """A model's directory. Raises :class:`CannotServe` for an architecture that is not known."""
    files = Files(folder, _config(folder, flags))
    for name in files.config.architectures or []:
        if name.endswith(_JUDGES):
            raise CannotServe("architecture", f"{name} judges texts: it neither writes them nor makes embeddings.")
    return files


def load_tokenizer(files: Files, *, trust: bool) -> Any:
    """The model's tokenizer. Raises :class:`CannotServe`."""
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(files.folder, trust_remote_code=trust)
    except Exception as error:  # transformers takes files for what they should be, and stumbles over what they are
        raise CannotServe("model_files", f"The tokenizer cannot be read: {first_line(error)}") from None


def load_model(files: Files, flags: Flags, device: torch.device, attention: str | None) -> Any:
    """The weights where they shall be; without an ``attention`` the model has the one of its own that is best.

    Raises :class:`CannotServe`.
    """
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM

    placement = arguments_of(flags, files.config, device)
    maker = AutoModelForCausalLM if files.generates else _encoder_maker(files)
    try:
        model, told = maker.from_pretrained(
            files.folder,
            output_loading_info=True,
            dtype=_dtype(flags, device),
            attn_implementation=attention,
            use_safetensors=True,
            trust_remote_code=flags.trust_remote_code,
            **placement,
        )
        _require_weights(told)
        require_no_disk(model)
        if flags.lora:
            quantized = flags.quantization or getattr(files.config, "quantization_config", None)
            model = _with_lora(model, flags.lora, merges=not quantized)
        return (model if "device_map" in placement else model.to(device)).eval()
    except CannotServe:
        raise
    except (MemoryError, torch.OutOfMemoryError):
        raise out_of_memory(files) from None
    except (OSError, SafetensorError) as error:
        raise CannotServe("model_files", f"The weights cannot be read: {first_line(error)}") from None
    except RuntimeError as error:
        if "alloc" in str(error) or "out of memory" in str(error):
            raise out_of_memory(files) from None
        raise CannotServe("model_files", f"The weights do not fit the model: {first_line(error)}") from None
    except Exception as error:  # a model's own code may raise anything
        if isinstance(error, KeyError) and error.args == (attention,):  # as GPT-J and Falcon, which know their own only
            name = (files.config.architectures or [files.config.model_type])[0]
            sentence = f"{name} cannot be batched here: its attention is not called as others' is."
            raise CannotServe("architecture", sentence) from None
        raise CannotServe("architecture", f"This model cannot be built: {first_line(error)}") from None


def _require_weights(told: dict[str, Any]) -> None:
    """transformers makes up what the files lack, by chance, and goes on."""
    lacking = {*told["missing_keys"], *(name for name, *_ in told["mismatched_keys"])}
    # Some encoders come without their pooler, which is not asked.
    lacking = {name for name in lacking if "pooler." not in name}
    if lacking:
        example = min(lacking)
        raise CannotServe("model_files", f"The files lack {len(lacking)} of the model's weights, such as {example}.")


def out_of_memory(files: Files) -> CannotServe:
    """The model does not fit."""
    size = sum(path.stat().st_size for path in files.folder.glob("*.safetensors")) / 2**30
    return CannotServe("out_of_memory", f"The model ({size:.1f} GiB of weights) does not fit into memory.")


def _config(folder: Path, flags: Flags) -> Any:
    from transformers import AutoConfig

    try:
        raw = msgspec.json.decode((folder / "config.json").read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        raise CannotServe("model_files", f"{folder}/config.json cannot be read.") from None
    if "auto_map" in raw and not flags.trust_remote_code:
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

        if raw.get("model_type") not in CONFIG_MAPPING_NAMES:
            raise CannotServe(
                "architecture", "This model needs code of its own. If you trust it, set TRUST_REMOTE_CODE=true."
            )
    try:
        return AutoConfig.from_pretrained(folder, trust_remote_code=flags.trust_remote_code)
    except (OSError, ImportError) as error:
        raise CannotServe("model_files", f"The model's own code cannot be used: {first_line(error)}") from None
    except Exception as error:  # of a value that it does not expect, a class of the hub's library
        raise CannotServe("architecture", f"transformers does not know this model: {first_line(error)}") from None


def _encoder_maker(files: Files) -> Any:
    from transformers import AutoModel, AutoModelForTextEncoding

    if files.config.model_type in HALVED:
        return AutoModelForTextEncoding
    if files.config.is_encoder_decoder:
        raise CannotServe("architecture", f"Of a model {files.config.model_type} the encoder alone is not served.")
    return AutoModel


def _dtype(flags: Flags, device: torch.device) -> Any:
    if flags.dtype == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    return getattr(torch, flags.dtype)


def _with_lora(model: Any, folder: str, *, merges: bool) -> Any:
    try:
        from peft import PeftModel
    except ImportError:
        raise CannotServe("usage", "LoRA needs peft: run pip install '.[lora]' in the checkout.") from None
    try:
        adapted = PeftModel.from_pretrained(model, folder)
        # Quantized weights would lose by it: there the adapter is computed beside them.
        return adapted.merge_and_unload() if merges else adapted.get_base_model()
    except (MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise CannotServe("model_files", f"The LoRA adapter cannot be used: {first_line(error)}") from None
