"""How Ollama shows models."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from drivetrain.dialects.ollama.answers import timestamp
from drivetrain.serving.catalog import Servable
from drivetrain.serving.routes import DeploymentRoute

_CAPABILITIES = {"chat": "completion", "completion": "completion", "embeddings": "embedding"}


def tagged(name: str) -> str:
    """Listings always show a tag."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def tag(item: Servable) -> dict[str, Any]:
    """One entry of /api/tags."""
    name = tagged(item.name)
    return {
        "name": name,
        "model": name,
        "modified_at": timestamp(item.modified_ms or item.created_ms),
        "size": item.size,
        "digest": item.digest or "0" * 64,
        "details": details(item),
    }


def details(item: Servable) -> dict[str, Any]:
    return {
        "parent_model": "",
        "format": item.format,
        "family": item.family,
        "families": [item.family] if item.family else [],
        "parameter_size": _short(item.parameters),
        "quantization_level": item.quantization,
    }


def running(items: Iterable[Servable], routes: Iterable[DeploymentRoute]) -> list[dict[str, Any]]:
    """The entries of /api/ps: what has a ready replica."""
    by_name = {item.name: item for item in items}
    out = []
    for route in routes:
        if any(variant.replicas for variant in route.variants):
            item = by_name.get(route.name) or Servable(name=route.name)
            entry = tag(item)
            del entry["modified_at"]
            expires = timestamp(int(time.time() * 1000) + 86_400_000)
            out.append(entry | {"expires_at": expires, "size_vram": 0, "context_length": item.context_length})
    return out


def shown(item: Servable) -> dict[str, Any]:
    """The answer of /api/show."""
    info: dict[str, Any] = {"general.architecture": item.family, "general.parameter_count": item.parameters}
    if item.family and item.context_length:
        info[f"{item.family}.context_length"] = item.context_length
    capabilities = list(dict.fromkeys(_CAPABILITIES[task] for task in item.tasks if task in _CAPABILITIES))
    if item.tools and "completion" in capabilities:
        capabilities.append("tools")
    return {
        "modelfile": f"FROM {tagged(item.name)}\n",
        "parameters": "",
        "template": item.template,
        "license": item.license,
        "details": details(item),
        "model_info": info,
        "capabilities": capabilities,
        "modified_at": timestamp(item.modified_ms or item.created_ms),
    }


def _short(parameters: int) -> str:
    """134515008 as "134.52M", as Ollama writes it."""
    for limit, unit in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if parameters >= limit:
            return f"{parameters / limit:.2f}".rstrip("0").rstrip(".") + unit
    return str(parameters) if parameters else ""
