"""The Ollama dialect, at `/ollama` and at the root of a port of its own (`--listen 11434=ollama`).

| endpoint | served |
|---|---|
| GET / , GET /api/version | yes |
| POST /api/generate, /api/chat | options, format, tools, think, logprobs, raw; not context, template, suffix, images |
| POST /api/embed, /api/embeddings | yes |
| GET /api/tags, GET /api/ps, POST /api/show | deployments, and registry names that start when they are called |
| POST /api/pull | of a name that this server has; others are brought in by `drivetrain pull` |
| create, copy, delete, push, blobs | 404 in Ollama's shape |

`keep_alive` is accepted; when a model that was started on demand stops is the server's setting `idle_stop_seconds`.
"""

from drivetrain.dialects.ollama.dialect import Ollama

__all__ = ["Ollama"]
