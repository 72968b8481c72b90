"""Tracking's verbs. Each is one transaction, sees the caller's workspace only, and is durable when it returns."""

from __future__ import annotations

from drivetrain.tracking.evaluation.datasets import Evaluation
from drivetrain.tracking.runs.views import Views
from drivetrain.tracking.traces.service import Traces


class Tracking(Evaluation, Views, Traces):
    """Experiments, runs, metrics, inputs, artifacts and logged models, on one database and one blob store. Thread-safe.

    Each group of verbs has its module, and stands on the one before it: experiments, runs, metrics, inputs, artifacts, logged
    models, details, media, groups, saved views; and beside these, scorers, evaluation datasets and traces.
    """
