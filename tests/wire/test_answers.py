"""Functions of routes that return nouns: what is sent, and what the OpenAPI document says of it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.testclient import TestClient
from msgspec import Struct
from pydantic import BaseModel

from drivetrain.wire.answers import describe_answers, native_router


class Wheel(Struct):
    size: float
    spokes: int | None = None


@dataclass(frozen=True)
class Cart:
    name: str
    wheels: tuple[Wheel, ...]


class Order(BaseModel):
    name: str


def made(*more: APIRouter) -> FastAPI:
    api = native_router("carts")

    @api.post("/carts", status_code=201)
    def make(order: Order) -> Cart:
        return Cart(order.name, (Wheel(1.5), Wheel(2.0, 12)))

    @api.get("/carts")
    async def listed() -> dict[str, list[Wheel]]:
        return {"front": [Wheel(1.0)]}

    @api.delete("/carts/{name}")
    def delete(response: Response, name: str) -> None:
        response.headers["x-gone"] = name

    @api.get("/carts/words")
    def words(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.url.path)

    app = FastAPI()
    for one in (api, *more):
        app.include_router(one)
    describe_answers(app, (api, *more))
    return app


def test_nouns_are_sent_as_json() -> None:
    with TestClient(made()) as client:
        cart = client.post("/api/v1/carts", json={"name": "red"})
        assert (cart.status_code, cart.json()) == (
            201,
            {"name": "red", "wheels": [{"size": 1.5, "spokes": None}, {"size": 2.0, "spokes": 12}]},
        )
        assert client.get("/api/v1/carts").json() == {"front": [{"size": 1.0, "spokes": None}]}
        assert client.get("/api/v1/carts/words").text == "/api/v1/carts/words"
        gone = client.delete("/api/v1/carts/red")
        assert (gone.json(), gone.headers["x-gone"]) == ({}, "red")
        assert client.post("/api/v1/carts", json={}).status_code == 422


def test_the_document_describes_them() -> None:
    app = made()
    for document in (app.openapi(), app.openapi()):  # the second one is kept from the first time
        paths, schemas = document["paths"], document["components"]["schemas"]
        said = paths["/api/v1/carts"]["post"]["responses"]["201"]["content"]["application/json"]["schema"]
        assert said == {"$ref": "#/components/schemas/Cart"}
        assert schemas["Cart"]["properties"]["wheels"] == {"type": "array", "items": {"$ref": "#/components/schemas/Wheel"}}
        assert schemas["Wheel"]["required"] == ["size"]
        assert {"Order", "HTTPValidationError"} < schemas.keys()
        listed = paths["/api/v1/carts"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert listed["additionalProperties"]["items"] == {"$ref": "#/components/schemas/Wheel"}
        nothing = paths["/api/v1/carts/{name}"]["delete"]["responses"]["200"]["content"]["application/json"]["schema"]
        assert nothing == {"$ref": "#/components/schemas/Nothing"}


def test_nouns_of_one_name_are_told_apart() -> None:
    def other() -> type[Struct]:
        class Wheel(Struct):
            teeth: int

        return Wheel

    def cog() -> object: ...

    cog.__annotations__["return"] = other()
    others = native_router("others")
    others.get("/cog")(cog)
    document = made(others).openapi()
    said = document["paths"]["/api/v1/cog"]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert document["components"]["schemas"][said["$ref"].rpartition("/")[2]]["properties"] == {"teeth": {"type": "integer"}}
    assert "Wheel" not in document["components"]["schemas"]


def test_a_noun_with_the_name_of_a_request_is_seen() -> None:
    def order() -> object: ...

    order.__annotations__["return"] = type("Order", (Struct,), {"__annotations__": {"name": str}})
    others = native_router("others")
    others.get("/order")(order)
    with pytest.raises(AssertionError, match="Order"):
        made(others).openapi()
