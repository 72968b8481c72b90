"""What the native API says of deployments, and of the requests that they answered."""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import asdict

from drivetrain.serving.model import Deployment
from drivetrain.store.events.model import Event, Point


class LiveDeployment(Deployment, frozen=True, kw_only=True):
    """A deployment, and how it is in one word and in words."""

    state: str
    problem: str

    @classmethod
    def of(cls, deployment: Deployment) -> LiveDeployment:
        return cls(**asdict(deployment), state=deployment.state, problem=deployment.problem)


class DeploymentList(Struct, frozen=True):
    deployments: list[LiveDeployment]


class PointList(Struct, frozen=True):
    points: list[Point]


class RecordedRequest(Struct, frozen=True):
    event: Event


class RequestList(Struct, frozen=True):
    events: list[Event]
