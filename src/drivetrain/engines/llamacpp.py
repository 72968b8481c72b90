"""llama.cpp as a replica: its own server, on our socket.

Its HTTP server answers `/health` (503 while loading), the OpenAI paths, `/slots` and `/metrics` by itself.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from drivetrain.engines.model import ReplicaSpec
from drivetrain.errors import Invalid
from drivetrain.formats import gguf


def serve(spec: ReplicaSpec, stop: threading.Event) -> None:
    """Load and serve until `stop`. Raises `Invalid` for a file that cannot be served, RuntimeError for what llama.cpp refuses."""
    folder = Path(spec.model_dir)
    models = sorted(folder.rglob("*.gguf"))
    path = folder / str(spec.options["file"]) if "file" in spec.options else models[0]
    with path.open("rb") as file:

        def read(start: int, end: int) -> bytes:
            file.seek(start)
            return file.read(end - start)

        head = gguf.read(read, path.stat().st_size, path.name)

    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.hostnames = [spec.socket]
    params.n_parallel = spec.slots
    context = int(spec.options.get("context_tokens", spec.context_tokens))
    params.n_ctx = spec.slots * min(context, head.context_length or context)
    params.cpuparams.n_threads = int(spec.options.get("threads", spec.threads)) or os.cpu_count() or 1
    params.endpoint_metrics = True
    params.endpoint_slots = True
    params.ui = False
    params.warmup = False
    if head.embeddings:
        params.embedding = True
    # A socket file that an earlier life left behind would block the new one.
    Path(spec.socket).unlink(missing_ok=True)
    try:
        server = xllamacpp.Server(params)
    except RuntimeError as error:
        raise Invalid(f"llama.cpp could not load {path.name} ({head.architecture}): {error}. Its log says more.") from error
    stop.wait()
    del server
