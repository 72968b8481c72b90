"""The nouns of lineage: things, and edges between them that say what happened."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Kind = Literal["run", "dataset", "model", "version", "deployment", "rollout", "retraining"]
"""`model` is a logged model; `version` one of the registry, be it a model's or an artifact's."""
Role = Literal["used", "made", "derived", "serves", "brings"]
"""What the first thing did with the second: a run used a data set; a run or a retraining made a version; a version was derived from
another; a deployment serves a version; a retraining brings a rollout."""


class Thing(Struct, frozen=True):
    kind: Kind
    id: str


class Edge(Struct, frozen=True, kw_only=True):
    """`subject` did it to `object`. `user` is in whose name it happened."""

    subject: Thing
    role: Role
    object: Thing
    user: str
    created_ms: int
