"""llama.cpp: text models in GGUF, on the CPU or what it was built for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from drivetrain.config import MiB
from drivetrain.engines.engine import Engine, Facts, Get, Needs, Package
from drivetrain.engines.options import option
from drivetrain.errors import Invalid
from drivetrain.formats import gguf
from drivetrain.formats.format import Files

PROMPT_CACHE = 256 * MiB
"""What it may keep of prompts that are in no slot any more."""
_BATCH = 512


@dataclass(frozen=True, kw_only=True)
class Options:
    file: str = option("", "Which of several GGUF files; the first model otherwise.")
    parallel: int = option(8, "Requests that a replica works on at once.", setting="parallel")
    context_tokens: int = option(4096, "Context length of each of them, unless the model's own is shorter.", setting="context_tokens")
    threads: int = option(0, "Threads of a replica.", setting="threads")
    pooling: str = option("", "Give embeddings instead of text, made in this way.", choices=gguf.POOLINGS)


def context_of(options: Options, head: gguf.Gguf) -> int:
    """Tokens of one slot."""
    return min(options.context_tokens, head.context_length or options.context_tokens)


def _plan(files: Files, models: Sequence[str], options: Options) -> Needs:
    path = options.file or models[0]
    if path not in models:
        raise Invalid(f"There is no GGUF file {path!r} in this version; there are: {', '.join(models)}.", param="options.file")
    parts = gguf.parts(path)
    if missing := [part for part in parts if part not in files.entries]:
        raise Invalid(f"The model is split into {len(parts)} files, and {missing[0]} is missing. Import all of them.", param="source")
    heads = [_head(files, part) for part in parts]
    head = heads[0]
    if head.kind != "model":
        raise Invalid(
            f"{path} is no model but a part to go with one ({head.kind}). Choose another file: option file.", param="options.file"
        )
    if head.pooling == "rank":
        raise Invalid(f"{path} is a model that ranks texts, which no protocol here asks for.", param="options.file")
    slots, context = options.parallel, context_of(options, head)
    which = f", the first of {len(models)} (option file chooses another)" if len(models) > 1 and not options.file else ""
    parameters = sum(one.parameters for one in heads)
    weights = sum(files.size(part) for part in parts)
    cache = slots * context * head.kv_bytes_per_token
    # What it works in: mainly the scores of a batch of tokens over the vocabulary, and the prompts it remembers.
    working = 100 * MiB + 4 * _BATCH * head.vocabulary + PROMPT_CACHE
    return Needs(
        tasks=("embeddings",) if head.pooling or options.pooling else ("chat", "completion"),
        memory_bytes=weights + cache + working,
        slots=slots,
        why=f"{path}{which} is GGUF: {head.architecture}, {parameters / 1e6:,.0f} M parameters, {head.quantization or 'mixed'}; "
        f"weights {weights / MiB:,.0f} MiB, cache {cache / MiB:,.0f} MiB for {slots} × {context} tokens.",
    )


def _describe(files: Files, models: Sequence[str]) -> Facts:
    path = models[0]
    head = _head(files, path)
    return Facts(
        format=gguf.FORMAT.name,
        size=files.size(path),
        digest=files.entries[path].sha256,
        family=head.architecture,
        parameters=head.parameters,
        quantization=head.quantization,
        context_length=head.context_length,
        template=head.chat_template,
        license=head.license,
        tasks=("embeddings",) if head.pooling else ("chat", "completion"),
        tools="tools" in head.chat_template,
    )


def _head(files: Files, path: str) -> gguf.Gguf:
    return gguf.read(files.reader(path), files.size(path), path)


def _busy(get: Get) -> bool:
    answer = get("/slots")
    if answer is None or answer[0] != 200:
        return False
    try:
        slots = msgspec.json.decode(answer[1])
    except msgspec.DecodeError:
        return False
    return isinstance(slots, list) and any(isinstance(slot, dict) and slot.get("is_processing") for slot in slots)


LLAMACPP = Engine(
    name="llamacpp",
    serves="GGUF models",
    formats=(gguf.FORMAT,),
    tasks=("chat", "completion", "embeddings"),
    options=Options,
    plan=_plan,
    describe=_describe,
    module="drivetrain.engines.llamacpp.serve",
    packages=(Package(module="xllamacpp", install="xllamacpp", without="no GGUF models"),),
    busy=_busy,
    keeps_connections=False,  # its server gives every kept connection a thread of its own, idle or not
)
