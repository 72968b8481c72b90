"""Words of the server's addresses: no workspace, user, repo or deployment gets one of them as its name."""

from __future__ import annotations

RESERVED = frozenset(
    (
        "admin", "ajax-api", "alerts", "api", "artifacts", "artifactsv2", "assets", "checklist", "data", "datasets", "deployments",
        "docs", "experiments", "favicon.ico", "files", "flags", "graphql", "health", "hf", "invoke", "jobs", "keys", "kserve",
        "login", "logout", "media", "metrics", "mlflow", "models", "new", "oidc", "ollama", "openai", "openapi.json", "playground",
        "replicate", "repos", "requests", "retrainings", "rollouts", "runs", "sdk", "search", "settings", "sign-in", "sign-out",
        "spaces", "static", "storage", "sweeps", "tgi", "together", "users", "v1", "v2", "wandb", "workspace", "workspaces",
    )
)  # fmt: skip
"""In lower case."""
