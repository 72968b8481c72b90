"""MLflow's scoring protocol, at `/invoke/{deployment}`.

| endpoint | served |
|---|---|
| POST /invocations | JSON: dataframe_split, dataframe_records, instances, inputs (and params); CSV with a header line |
| GET /ping, /health | 200 when the deployment is ready |
| GET /version | the server's version |
"""

from drivetrain.dialects.invocations.dialect import Invocations

__all__ = ["Invocations"]
