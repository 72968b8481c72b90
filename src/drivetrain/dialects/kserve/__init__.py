"""Open Inference Protocol v2 as Triton and KServe speak it over HTTP, at `/kserve/v2` and `/v2`.

| endpoint | served |
|---|---|
| GET v2, v2/health/live, v2/health/ready | yes |
| GET v2/models/{m}[/versions/{v}], …/ready, …/config | deployments that do `infer` |
| POST v2/models/{m}[/versions/{v}]/infer | JSON and binary tensors, gzip and deflate bodies |
| POST v2/repository/index | deployments |
| POST v2/repository/models/{m}/load | waits until the deployment is ready |
| unload, statistics, shared memory, trace, logging, gRPC, classification | error in the protocol's shape |
"""

from drivetrain.dialects.kserve.dialect import KServe

__all__ = ["KServe"]
