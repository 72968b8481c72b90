"""The reference of the API says what the server does."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from drivetrain.web.reference import operations
from tests.conftest import Server

DOCUMENT: dict[str, Any] = {
    "paths": {
        "/api/v1/keys": {
            "post": {
                "tags": ["identity"],
                "operationId": "create_key",
                "summary": "Create Key",
                "description": "The secret is in this answer.",
                "parameters": [{"name": "limit", "in": "query", "schema": {"type": "integer", "default": 3}}],
                "requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/NewKey"}}}},
            }
        }
    },
    "components": {
        "schemas": {
            "NewKey": {
                "required": ["name"],
                "properties": {
                    "name": {"type": "string"},
                    "scopes": {"type": "array", "items": {"enum": ["read", "write"]}},
                    "days": {"anyOf": [{"type": "number"}, {"type": "null"}]},
                },
            }
        }
    },
}


def test_operations_are_read_out_of_the_document() -> None:
    ((tag, one),) = operations(DOCUMENT)
    assert (tag, one.method, one.path, one.words) == ("identity", "POST", "/api/v1/keys", "The secret is in this answer.")
    assert [(field.name, field.where, field.type, field.required, field.default) for field in one.fields] == [
        ("limit", "query", "integer", False, "3"),
        ("name", "body", "string", True, ""),
        ("scopes", "body", "list of read | write", False, ""),
        ("days", "body", "number | null", False, ""),
    ]


@pytest.mark.slow
def test_the_page_of_a_real_server(server: Server) -> None:
    page = httpx.get(f"{server.url}/api/v1/docs")
    assert page.status_code == 200
    assert "//cdn" not in page.text
    for path in ("/api/v1/deployments", "/api/v1/keys", "/api/v1/requests/{request_id}/lineage", "/api/v1/jobs"):
        assert f"<code>{path}</code>" in page.text
    assert httpx.get(f"{server.url}/api/v1/openapi.json").json()["paths"]
