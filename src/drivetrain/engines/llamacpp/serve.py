"""llama.cpp as a replica: its own server, at our address.

Its HTTP server answers `/health` (503 while loading), the OpenAI paths, `/slots` and `/metrics` by itself.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from drivetrain.compute.address import Address
from drivetrain.config import MiB
from drivetrain.engines.llamacpp.declaration import PROMPT_CACHE, Options, context_of
from drivetrain.engines.model import ReplicaSpec
from drivetrain.errors import Invalid
from drivetrain.formats import gguf


def serve(spec: ReplicaSpec, stop: threading.Event) -> None:
    """Load and serve until `stop`. Raises `Invalid` for a file that cannot be served, RuntimeError for what llama.cpp refuses."""
    folder, options = Path(spec.model_dir), Options(**spec.options)
    models = gguf.find([str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()])
    path = folder / (options.file or models[0])
    head = _head(path)
    for part in gguf.parts(str(path))[1:]:
        _head(Path(part))

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    socket, host, port = Address.parse(spec.address)
    params.hostnames = [socket or host]
    params.port = port
    params.n_parallel = spec.slots
    context = context_of(options, head)
    params.n_ctx = spec.slots * context
    threads = options.threads or os.cpu_count() or 1
    params.cpuparams.n_threads = threads
    params.cpuparams_batch.n_threads = threads
    params.cache_ram_mib = PROMPT_CACHE // MiB
    params.endpoint_metrics = True
    params.endpoint_slots = True
    params.ui = False
    params.warmup = False
    if pooling := options.pooling or head.pooling:
        params.embedding = True
        params.pooling_type = getattr(xllamacpp.llama_pooling_type, f"LLAMA_POOLING_TYPE_{pooling.upper()}")
        # Such a model reads a text in one piece or not at all.
        params.n_batch = params.n_ubatch = context
    if socket:  # one that an earlier life left behind would block the new one
        Path(socket).unlink(missing_ok=True)
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        raise Invalid(f"llama.cpp could not load {path.name} ({head.architecture}): {error}. Its log says more.") from error
    stop.wait()
    del server


def _head(path: Path) -> gguf.Gguf:
    """Raises `Invalid` for a damaged file, before llama.cpp sees it."""
    with path.open("rb") as file:

        def read(start: int, end: int) -> bytes:
            file.seek(start)
            return file.read(end - start)

        return gguf.read(read, path.stat().st_size, path.name)
