"""MLflow's REST protocol, as the client of release 3.17 speaks it, at `/mlflow` (`MLFLOW_TRACKING_URI=$URL/mlflow`).

| of the protocol | served |
|---|---|
| experiments, runs, metrics (with history), params, tags, batches | all |
| inputs (datasets, models) and outputs of runs; search-datasets | all |
| search of experiments, runs, logged models, registered models, versions | the whole grammar |
| logged models | all |
| registered models, versions, tags, aliases, stages, latest versions | all; sources are on this server |
| prompts | as registered models with tags, as their client keeps them |
| artifacts: list, upload, download with ranges, delete | all; in one piece: multipart and presigned answer NOT_IMPLEMENTED |
| server-info, version, health, get-artifact | all |
| traces (spans by OTLP, also at the root's `/v1/traces`), assessments, their search | all |
| evaluation datasets, scorers (kept, never run here) | all but schedules |
| trace metrics and correlations, webhooks, gateway, graphql | ENDPOINT_NOT_FOUND |
"""

from drivetrain.dialects.mlflow.dialect import MLflow
from drivetrain.dialects.mlflow.ingest import Otlp

__all__ = ["MLflow", "Otlp"]
