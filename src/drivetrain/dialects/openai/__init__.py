"""The OpenAI dialect, at `/v1` and `/openai/v1`.

| endpoint | served |
|---|---|
| GET /models, GET /models/{id} | deployments, and registry names that start when they are called |
| POST /chat/completions, POST /completions | whole and streamed; tools, response_format, logprobs as the engine has them |
| POST /embeddings | float and base64, dimensions |
| everything else | OpenAI's own 404 |
"""

from drivetrain.dialects.openai.dialect import OpenAI

__all__ = ["OpenAI"]
