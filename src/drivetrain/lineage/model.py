"""The nouns of lineage: things, and edges between them that say what happened."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

Kind = Literal["run", "dataset", "model", "version", "deployment", "variant", "rollout", "retraining"]
"""`model` is a logged model; `version` one of the registry, be it a model's or an artifact's."""
Role = Literal["used", "made", "derived", "serves", "began", "brought"]
"""What the first thing did with the second: a run used a data set; a run or a retraining made a version; a version was derived from
another, or from a logged model; a deployment serves a version; a retraining began a rollout; a rollout brought a variant."""


MAX_ID = 64


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
