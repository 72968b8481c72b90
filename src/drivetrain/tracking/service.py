"""Tracking's verbs, by what they are about. Each is one transaction, sees the caller's workspace only, and is durable when it returns."""

from __future__ import annotations

from dataclasses import dataclass

from drivetrain.store.blobs import Blobs
from drivetrain.store.sql import Database
from drivetrain.tracking.artifacts import Artifacts
from drivetrain.tracking.evaluation.datasets import EvaluationDatasets
from drivetrain.tracking.evaluation.scorers import Scorers
from drivetrain.tracking.experiments import Experiments
from drivetrain.tracking.history.reports import Reports
from drivetrain.tracking.history.service import History
from drivetrain.tracking.metrics.service import Metrics
from drivetrain.tracking.models.service import LoggedModels
from drivetrain.tracking.runs.groups import Groups
from drivetrain.tracking.runs.inputs import Inputs
from drivetrain.tracking.runs.service import Runs
from drivetrain.tracking.runs.views import Views
from drivetrain.tracking.traces.assessments import Assessments
from drivetrain.tracking.traces.service import Traces
from drivetrain.tracking.transfer.incoming import Imports
from drivetrain.tracking.transfer.outgoing import Exports


@dataclass(frozen=True, slots=True)
class Tracking:
    """`tracking.runs.search(…)`, `tracking.metrics.log(…)`: independent parts on one database and one blob store. Thread-safe."""

    experiments: Experiments
    runs: Runs
    groups: Groups
    views: Views
    inputs: Inputs
    metrics: Metrics
    artifacts: Artifacts
    models: LoggedModels
    reports: Reports
    history: History
    traces: Traces
    assessments: Assessments
    scorers: Scorers
    evaluation: EvaluationDatasets
    exports: Exports
    imports: Imports

    @classmethod
    def of(cls, db: Database, blobs: Blobs) -> Tracking:
        experiments, artifacts = Experiments(db), Artifacts(db, blobs)
        models, reports = LoggedModels(db), Reports(db)
        return cls(
            experiments=experiments,
            runs=Runs(db),
            groups=Groups(db),
            views=Views(db),
            inputs=Inputs(db),
            metrics=Metrics(db),
            artifacts=artifacts,
            models=models,
            reports=reports,
            history=History(db),
            traces=Traces(db),
            assessments=Assessments(db),
            scorers=Scorers(db),
            evaluation=EvaluationDatasets(db),
            exports=Exports(db, reports, experiments, models, artifacts),
            imports=Imports(db, experiments),
        )
