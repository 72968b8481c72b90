"""The header of a GGUF file (format version 2 and 3): what the model is, and whether the file can be what it says.

Every length is checked against the bytes that are there before anything is allocated: the file comes from outside. Reads the header only,
never the weights.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Collection, Sequence
from typing import Any

from msgspec import Struct

from drivetrain.errors import Invalid
from drivetrain.formats.format import Format, Read, ending

_ENDING = ".gguf"
_SHARD = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_BESIDE = ("mmproj", "lora", "adapter", "imatrix")
"""Files with such names accompany a model; they are none."""

_SIMPLE = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
_STRING, _ARRAY = 8, 9
_MOST_KEYS = 100_000
_MOST_TENSORS = 1_000_000
_MOST_HEADER = 256 << 20
_KEPT_ARRAY = 64
_PIECE = 1 << 20

# Bytes of a block and elements in it, by tensor type (ggml.h, enum ggml_type).
_TYPES = {
    0: (4, 1), 1: (2, 1), 2: (18, 32), 3: (20, 32), 6: (22, 32), 7: (24, 32), 8: (34, 32), 9: (36, 32), 10: (84, 256), 11: (110, 256),
    12: (144, 256), 13: (176, 256), 14: (210, 256), 15: (292, 256), 16: (66, 256), 17: (74, 256), 18: (98, 256), 19: (50, 256),
    20: (18, 32), 21: (110, 256), 22: (82, 256), 23: (136, 256), 24: (1, 1), 25: (2, 1), 26: (4, 1), 27: (8, 1), 28: (8, 1),
    29: (56, 256), 30: (2, 1), 34: (54, 256), 35: (66, 256), 39: (17, 32),
}  # fmt: skip
_FILE_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 7: "Q8_0", 8: "Q5_0", 9: "Q5_1", 10: "Q2_K", 11: "Q3_K_S", 12: "Q3_K_M", 13: "Q3_K_L",
    14: "Q4_K_S", 15: "Q4_K_M", 16: "Q5_K_S", 17: "Q5_K_M", 18: "Q6_K", 32: "BF16",
}  # fmt: skip

POOLINGS = ("mean", "cls", "last")
_POOLING_TYPES = {1: "mean", 2: "cls", 3: "last", 4: "rank"}
"""How an embedding model makes one vector of many (llama.h, enum llama_pooling_type)."""


class Gguf(Struct, frozen=True, kw_only=True):
    """What a header says.

    `kind` is model, adapter or projector; only a model can be served. `kv_bytes_per_token` is the size of the key-value cache of one token
    at 16 bits. `pooling` is "" for a model that generates.
    """

    kind: str
    architecture: str
    name: str
    parameters: int
    quantization: str
    context_length: int
    layers: int
    kv_bytes_per_token: int
    vocabulary: int
    pooling: str
    chat_template: str
    license: str
    tensors: int


def find(paths: Collection[str]) -> list[str]:
    """The files that may be models: of a split one its first part only; not what merely accompanies a model."""
    models = [path for path in ending(_ENDING)(paths) if not path.rsplit("/", 1)[-1].lower().startswith(_BESIDE)]
    return [path for path in models if (part := _SHARD.fullmatch(path)) is None or int(part[2]) == 1]


def parts(path: str) -> Sequence[str]:
    """All files that the model whose first file is `path` should have."""
    part = _SHARD.fullmatch(path)
    if part is None:
        return [path]
    return [f"{part[1]}-{number:05}-of-{part[3]}{path[-5:]}" for number in range(1, min(int(part[3]), 10_000) + 1)]


FORMAT = Format(name="gguf", title="GGUF", find=find, endings=(_ENDING,))


def read(source: Read, size: int, name: str = "the file") -> Gguf:
    """Read the header of a file of `size` bytes. Raises `Invalid` for what is no GGUF file, or a damaged or truncated one."""
    reader = _Reader(source, size, name)
    if reader.take(4) != b"GGUF":
        raise Invalid(f"{name} is no GGUF file: it does not begin with 'GGUF'.")
    version = reader.number("<I")
    if version not in (2, 3):
        raise Invalid(f"{name} is GGUF version {version}; versions 2 and 3 can be read. Convert it anew with a current tool.")
    tensors, keys = reader.number("<Q"), reader.number("<Q")
    if keys > _MOST_KEYS or tensors > _MOST_TENSORS:
        raise Invalid(f"{name} is damaged: its header announces {keys} keys and {tensors} tensors.")
    about: dict[str, Any] = {}
    for _ in range(keys):
        key = reader.text()
        about[key] = reader.value(reader.number("<I"))
    alignment = about.get("general.alignment", 32)
    parameters = reader.tensors(tensors, alignment if isinstance(alignment, int) else 0)
    # The parts of a split model after the first one leave out what the first has said.
    arch = str(about.get("general.architecture", "")) or ("unknown" if "split.no" in about else "")
    if not arch:
        raise Invalid(f"{name} is damaged: it does not say its architecture.")

    def number(key: str, default: int = 0) -> int:
        value = about.get(f"{arch}.{key}", default)
        if isinstance(value, list):  # one for each layer
            value = max(value, default=default)
        return int(value) if isinstance(value, (int, float)) else default

    heads = number("attention.head_count", 1) or 1
    width = number("embedding_length")
    key_length = number("attention.key_length", width // heads)
    value_length = number("attention.value_length", width // heads)
    file_type = about.get("general.file_type")
    kv = number("block_count") * number("attention.head_count_kv", heads) * (key_length + value_length) * 2
    return Gguf(
        kind={"adapter": "adapter", "mmproj": "projector"}.get(str(about.get("general.type")), "projector" if arch == "clip" else "model"),
        architecture=arch,
        name=str(about.get("general.name", "")),
        parameters=parameters,
        quantization=_FILE_TYPES.get(file_type, "") if isinstance(file_type, int) else "",
        context_length=number("context_length"),
        layers=number("block_count"),
        kv_bytes_per_token=kv,
        vocabulary=number("vocab_size") or _count(about.get("tokenizer.ggml.tokens")),
        pooling=_pooling(about, arch),
        chat_template=str(about.get("tokenizer.chat_template", "")),
        license=str(about.get("general.license", "")),
        tensors=tensors,
    )


def _pooling(about: dict[str, Any], arch: str) -> str:
    said = about.get(f"{arch}.pooling_type")
    if isinstance(said, int) and said in _POOLING_TYPES:
        return _POOLING_TYPES[said]
    return "mean" if arch.endswith("bert") else ""


def _count(value: Any) -> int:
    return value if isinstance(value, int) else 0


class _Reader:
    def __init__(self, source: Read, size: int, name: str) -> None:
        self._source = source
        self._size = size
        self._name = name
        self._at = 0
        self._buffer = b""
        self._start = 0

    def take(self, count: int) -> bytes:
        if count > _MOST_HEADER or self._at + count > self._size:
            raise Invalid(f"{self._name} is truncated or damaged: its header does not fit into its {self._size} bytes. Fetch it again.")
        end = self._at + count
        if not self._start <= self._at or end > self._start + len(self._buffer):
            self._start = self._at
            self._buffer = self._source(self._at, min(self._size, self._at + max(count, _PIECE)))
            if len(self._buffer) < count:
                raise Invalid(f"{self._name} is truncated. Fetch it again.")
        data = self._buffer[self._at - self._start : end - self._start]
        self._at = end
        return data

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def text(self) -> str:
        return self.take(self.number("<Q")).decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        if kind in _SIMPLE:
            return self.number(_SIMPLE[kind])
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            raise Invalid(f"{self._name} is damaged: it has a value of the unknown type {kind}.")
        inner, count = self.number("<I"), self.number("<Q")
        if inner in _SIMPLE:
            width = struct.calcsize(_SIMPLE[inner])
            data = self.take(count * width)
            return [struct.unpack_from(_SIMPLE[inner], data, i * width)[0] for i in range(min(count, _KEPT_ARRAY))]
        if inner != _STRING:
            raise Invalid(f"{self._name} is damaged: it has an array of the unknown type {inner}.")
        if self._at + count * 8 > self._size:
            raise Invalid(f"{self._name} is truncated: it announces {count:,} texts. Fetch it again.")
        for _ in range(count):  # vocabularies: not needed, but they must be walked over
            self.take(self.number("<Q"))
        return count

    def tensors(self, count: int, alignment: int) -> int:
        """Walk over the tensors' descriptions; the sum of their elements. Each must lie within the file."""
        elements, furthest = 0, 0
        for _ in range(count):
            name = self.text()
            dimensions = self.number("<I")
            if dimensions > 8:
                raise Invalid(f"{self._name} is damaged: the tensor {name!r} has {dimensions} dimensions.")
            size = 1
            for _ in range(dimensions):
                size *= self.number("<Q")
            kind, offset = self.number("<I"), self.number("<Q")
            block, per = _TYPES.get(kind, (0, 1))
            elements += size
            furthest = max(furthest, offset + size // per * block)
        if alignment <= 0 or alignment & (alignment - 1):
            raise Invalid(f"{self._name} is damaged: its alignment is {alignment}.")
        start = (self._at + alignment - 1) // alignment * alignment
        if start + furthest > self._size:
            missing = start + furthest - self._size
            raise Invalid(f"{self._name} is truncated: {missing:,} bytes of its weights are missing. Fetch it again.")
        return elements
