"""The model with everything that stepping it needs, warmed up and looked at."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec
import torch

from workernode.local.server.ending import CannotServe
from workernode.local.server.steps import cores, loading, memory, packing, placement, pooling
from workernode.local.server.steps.attention import CachedAttention
from workernode.local.server.steps.batch import lay_out
from workernode.local.server.steps.detokenizer import Vocabulary
from workernode.local.server.steps.files import first_line
from workernode.local.server.steps.forward import Forward
from workernode.local.server.steps.grammar import Grammars
from workernode.local.server.steps.growth import growing
from workernode.local.server.steps.row import Row
from workernode.local.server.steps.schedule import Schedule
from workernode.local.server.steps.steps import Steps
from workernode.local.server.words import OVERFLOW, Defaults, Ready

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from workernode.local.server.flags import Flags

_LOOK_TOKENS = 48
_DIFFERENCE_MAX = {torch.float32: 2e-3, torch.float16: 0.05, torch.bfloat16: 0.1}
"""How far our logits may be from the model's own, relative to their size: more is no rounding."""
_CONTEXT_UNKNOWN = 2048
_IN_MASKS_ALONE = ("attention_chunk_size", "keep_window_size")


class Model:
    """What the step process works with. ``steps`` is None for an encoder, which only embeds."""

    def __init__(self, ready: Ready, steps: Steps | None, embed: Callable[[list[list[int]]], list[bytes]]) -> None:
        self.ready = ready
        self.steps = steps
        self.embed = embed


def load(flags: Flags, folder: Path, progress: Callable[[str, str, float], None]) -> Model:
    """Load the model of a directory, place it, warm it up. Raises :class:`CannotServe`."""
    device = placement.device_of(flags)
    seen = torch.get_num_threads()
    torch.set_num_threads(flags.threads or min(seen, cores.of_container() or seen))
    files = loading.read_files(folder, flags)
    progress("loading", f"Loading {flags.model}.", 0.1)
    tokenizer = loading.load_tokenizer(files, trust=flags.trust_remote_code)
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        raise CannotServe("model_files", "This model has no tokenizer.json.")
    return (
        _decoder(flags, files, tokenizer, device, progress)
        if files.generates
        else _encoder(flags, files, tokenizer, device, progress)
    )


def _decoder(
    flags: Flags,
    files: loading.Files,
    tokenizer: Any,
    device: torch.device,
    progress: Callable[[str, str, float], None],
) -> Model:
    attention = CachedAttention(eager=flags.attention == "eager")
    with growing(progress, "loading", 0.1, lambda: f"Loading {flags.model}: {memory.own_gib():.1f} GiB in memory."):
        model = loading.load_model(files, flags, device, attention.name)
    packed = device.type == "cpu" and not flags.compile and _pack(model, files)
    progress("warming_up", f"Warming {flags.model} up.", 0.8)
    attention.hold(2 * _LOOK_TOKENS)
    _look(model, Forward(model, attention, device, scratch_place=attention.tokens), attention.name, packed=packed)
    if not attention.token_bytes:
        name = files.config.model_type
        raise CannotServe("architecture", f"Models such as {name}, without attention, are not supported.")
    known, most, made = _positions(files.config.get_text_config(), attention)
    if flags.max_context > most:
        why = "" if most >= made else " that are served here: it reads longer texts in another way"
        asked = f"A context of {flags.max_context} tokens"
        raise CannotServe("usage", f"{asked} is more than the model's {most} tokens{why}.")
    tokens, context = memory.cache_tokens(
        kv_tokens=flags.kv_tokens,
        max_batch=flags.max_batch,
        context=flags.max_context or known,
        context_asked=bool(flags.max_context),
        token_bytes=attention.token_bytes,
        free=memory.free_for_cache(model, device),
        device=device.type,
    )
    attention.hold(tokens)
    forward = Forward(model, attention, device, scratch_place=tokens)
    if device.type == "cpu":
        try:
            forward.find_row_multiple()
        except AttributeError as error:
            raise CannotServe(
                "architecture", f"{type(model).__name__} cannot be batched here: {first_line(error)}"
            ) from None
    _begin(forward)
    if flags.compile:
        _compile(model, forward)
    if device.type == "cpu" and not flags.threads:
        _find_threads(forward)
    eos = _eos_of(model, tokenizer)
    size = model.get_input_embeddings().weight.shape[0]
    schedule = Schedule(rows_max=flags.max_batch, kv_tokens=tokens, prefill_tokens=flags.prefill_tokens)
    steps = Steps(
        schedule,
        forward,
        attention,
        Vocabulary(tokenizer),
        Grammars(tokenizer, size, sorted(eos)),
        eos=eos,
        stream_interval=flags.stream_interval,
    )
    pool = pooling.pooling_of(files.folder, generates=True)
    ready = _ready(tokenizer, model, flags, context, row_invariant=forward.row_invariant, pool=pool, device=device)
    return Model(ready, steps, lambda inputs: pooling.embed(inputs, forward.hidden, pool))


def _look(model: Any, forward: Forward, attention: str, *, packed: bool) -> None:
    """Raises :class:`CannotServe` for what cannot be batched."""
    try:
        _compare(model, forward, attention)
    except CannotServe as problem:
        if not packed or problem.kind != "architecture":
            raise
        packing.unpack(model)  # perhaps a layer's weight is read by other code than the layer
        _compare(model, forward, attention)


def _positions(config: Any, attention: CachedAttention) -> tuple[int, int, int]:
    """For how many tokens the model is read here as it is made, for how many it may be if that is asked for, and for
    how many it is made.

    Where another set of frequencies holds for longer texts (longrope), transformers chooses by the longest row of a
    step, and what is in the cache was reckoned by the other one: rows would change one another. And where a token sees
    the last ones only, that may stand in masks alone, which are not made here.
    """
    made = getattr(config, "max_position_embeddings", None) or _CONTEXT_UNKNOWN
    windows = [getattr(config, name, None) for name in _IN_MASKS_ALONE]
    if not attention.windows:
        windows.append(getattr(config, "sliding_window", None))
    told = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    made, stretched = _stretched(told, made)
    bounds = [window for window in windows if window]
    for rope in (told, *(each for each in told.values() if isinstance(each, dict))):
        if _kind(rope) == "longrope":
            original = rope.get("original_max_position_embeddings")
            bounds.append(original or getattr(config, "original_max_position_embeddings", None) or made)
    return min([made, *bounds]), min([stretched, *bounds]), made


def _stretched(rope: dict[str, Any], stated: int) -> tuple[int, int]:
    """For how many tokens scaled positions are made, and what that may mean at most.

    YaRN tells from how many it starts. Of linear scaling files state the tokens before it (Vicuna's with 16k) or after
    it (DeepSeek Coder's): whoever serves the model has to know.
    """
    tokens = int((rope.get("original_max_position_embeddings") or stated) * (rope.get("factor") or 1))
    if _kind(rope) == "yarn":
        return max(stated, tokens), max(stated, tokens)
    return stated, max(stated, tokens) if _kind(rope) == "linear" else stated


def _kind(rope: dict[str, Any]) -> Any:
    return rope.get("rope_type") or rope.get("type")


def _pack(model: Any, files: loading.Files) -> bool:
    try:
        return packing.pack(model)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "alloc" not in str(error):
            raise
        raise loading.out_of_memory(files) from None


def _encoder(
    flags: Flags,
    files: loading.Files,
    tokenizer: Any,
    device: torch.device,
    progress: Callable[[str, str, float], None],
) -> Model:
    model = loading.load_model(files, flags, device, "eager" if files.config.model_type in loading.HALVED else None)
    progress("warming_up", f"Warming {flags.model} up.", 0.8)
    context = pooling.tokens_max_of(files.folder, model, tokenizer)
    context = min(context, flags.max_context or context)
    pool = pooling.pooling_of(files.folder, generates=False)
    padding = tokenizer.pad_token_id or 0

    def embed(inputs: list[list[int]]) -> list[bytes]:
        return pooling.embed(inputs, lambda texts: pooling.encode(model, padding, texts), pool)

    try:
        embed([tokenizer.encode("warm")])
    except OverflowError:
        raise CannotServe("usage", OVERFLOW) from None
    ready = _ready(tokenizer, model, flags, context, row_invariant=None, pool=pool, device=device)
    return Model(ready, None, embed)


def _ready(
    tokenizer: Any,
    model: Any,
    flags: Flags,
    context: int,
    *,
    row_invariant: bool | None,
    pool: pooling.Pooling,
    device: torch.device,
) -> Ready:
    """``row_invariant`` is None for what generates nothing."""
    template, tool_template = _templates_of(tokenizer)
    return Ready(
        tokenizer=tokenizer.backend_tokenizer.to_str(),
        special_tokens={name: str(token) for name, token in tokenizer.special_tokens_map.items() if token},
        chat_template=template,
        tool_template=tool_template,
        context_length=context,
        architecture=type(model).__name__,
        dtype=str(model.dtype).removeprefix("torch."),
        device=str(device),
        generates=row_invariant is not None,
        embedding_dimensions=pool.size_of(int(model.config.get_text_config().hidden_size)),
        vocabulary=int(model.get_input_embeddings().weight.shape[0]),
        max_batch=flags.max_batch,
        row_invariant=bool(row_invariant),
        defaults=_defaults_of(model) if flags.generation_config == "model" else Defaults(),
    )


def _templates_of(tokenizer: Any) -> tuple[str | None, str | None]:
    """The tokenizer's template, of several the default one, and that for requests with tools."""
    template = tokenizer.chat_template
    if isinstance(template, dict):
        return template.get("default") or next(iter(template.values())), template.get("tool_use")
    return template or None, None


def _eos_of(model: Any, tokenizer: Any) -> frozenset[int]:
    found = {tokenizer.eos_token_id} if tokenizer.eos_token_id is not None else set()
    asked = getattr(model.generation_config, "eos_token_id", None)
    return frozenset(found | set(asked if isinstance(asked, list) else [] if asked is None else [asked]))


def _defaults_of(model: Any) -> Defaults:
    """What the model's generation_config.json says. Raises :class:`CannotServe` for what cannot be meant."""
    told = getattr(model, "generation_config", None)
    found = {name: value for name in Defaults.__struct_fields__ if (value := getattr(told, name, None)) is not None}
    if getattr(told, "do_sample", None) is False:
        found["temperature"] = 0.0
    try:
        return msgspec.convert(found, Defaults)
    except msgspec.ValidationError as error:
        raise CannotServe("model_files", f"generation_config.json: {error}.") from None


def _compare(model: Any, forward: Forward, attention: str) -> None:
    """Whether the model, called in our way, says what it says in its own: not every architecture can be."""
    size = int(model.get_input_embeddings().weight.shape[0])
    tokens = [(number * 7919 + 13) % size for number in range(_LOOK_TOKENS)]
    schedule = Schedule(rows_max=1, kv_tokens=2 * _LOOK_TOKENS, prefill_tokens=_LOOK_TOKENS // 2)
    row = Row(0, 0, tokens[:-2], 2)
    schedule.add(row)
    try:
        while row.generated < 2:
            plan = schedule.plan()
            batch = lay_out(plan.parts)
            ours = forward.logits(batch, [len(batch.ids) - 1])
            schedule.computed(plan)
            if row.computed == len(row.tokens):
                row.tokens.append(tokens[len(row.tokens)])
        plan = schedule.plan()
        ours = forward.logits(lay_out(plan.parts), [0])
        model.set_attn_implementation("eager")  # the one that every model has
        with torch.inference_mode():
            own = model(torch.tensor([tokens], device=forward.device), use_cache=False).logits[:, -1].float()
            own = own.to(ours.device)
        model.set_attn_implementation(attention)
    except Exception as error:  # a model's own code may raise anything
        if isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "alloc" in str(error):
            raise CannotServe("out_of_memory", "The model has no memory left for a step.") from None
        raise CannotServe(
            "architecture",
            f"{type(model).__name__} cannot be batched here: {str(error)[:200] or type(error).__name__}.",
        ) from None
    if not own.isfinite().all():
        raise CannotServe("usage", OVERFLOW)
    difference = float((ours - own).norm() / own.norm())
    if not difference <= _DIFFERENCE_MAX.get(model.dtype, 0.1):
        raise CannotServe(
            "architecture",
            f"{type(model).__name__} cannot be batched here: its attention is not called as others' is.",
        )


def _begin(forward: Forward) -> None:
    """One step, by which the cache takes its memory where that is not taken as it is written: not from the first user.

    Raises :class:`CannotServe`.
    """
    try:
        _step_s(forward)
    except (MemoryError, torch.OutOfMemoryError):
        raise CannotServe("out_of_memory", "There is no memory for the cache that was reckoned.") from None


def _compile(model: Any, forward: Forward) -> None:
    """What lies between two attentions becomes code of its own. It rounds as it likes: nothing is promised of bits."""
    model.compile(dynamic=True)
    forward.row_invariant = False
    try:
        _step_s(forward)
    except Exception as error:  # whatever the compiler throws: it is a program of its own
        raise CannotServe("usage", f"The model cannot be compiled here: {type(error).__name__}.") from None


def _find_threads(forward: Forward) -> None:
    """As many threads as are fastest: a small model, or a busy machine, is slower with several."""
    most = torch.get_num_threads()
    fastest = (float("inf"), most)
    for threads in {1, most}:
        torch.set_num_threads(threads)
        fastest = min(fastest, (_step_s(forward), threads))
    torch.set_num_threads(fastest[1])


def _step_s(forward: Forward) -> float:
    schedule = Schedule(rows_max=1, kv_tokens=64, prefill_tokens=16)
    schedule.add(Row(0, 0, [1] * 16, 1))
    batch = lay_out(schedule.plan().parts)
    best = float("inf")
    for _ in range(4):
        began = time.perf_counter()
        forward.logits(batch, list(range(16)))
        best = min(best, time.perf_counter() - began)
    return best
