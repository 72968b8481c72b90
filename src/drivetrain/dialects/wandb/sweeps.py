"""Placeholder."""

from __future__ import annotations

from drivetrain.dialects.wandb.services import Resolvers, Services
from drivetrain.identity.model import Context
from drivetrain.tracking.model import Experiment, Run


def roots(s: Services, ctx: Context) -> Resolvers:
    return {}


def mutations(s: Services, ctx: Context) -> Resolvers:
    return {}


def project_fields(s: Services, ctx: Context, experiment: Experiment) -> Resolvers:
    return {}


def run_fields(s: Services, ctx: Context, run: Run) -> Resolvers:
    return {}
