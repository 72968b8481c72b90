"""The job of a retraining: training set → run → script → version → gate → rollout.

What was done is written down on the server, stage by stage (see `jobs.stages`), so that nothing is done twice. The job's folder only saves
work. The script is an ordinary training script, run in a process of its own, that finds

| in the variable | what |
|---|---|
| DRIVETRAIN_TRAINING_SET | a Parquet file: labelled answers, none of those held out: inputs, `prediction`, `label`, `request_id` |
| DRIVETRAIN_BASE | the file of base data, or a folder if there are several |
| DRIVETRAIN_MODEL | the registered model that gets the version |
| MLFLOW_TRACKING_URI, MLFLOW_RUN_ID | where to log, and the run, which `mlflow.start_run()` takes up |
"""

from __future__ import annotations

from drivetrain.jobs import stages
from drivetrain.jobs.handle import Handle
from drivetrain.jobs.kinds import Retrain, Retrained
from drivetrain.retraining.attempt.record import Record
from drivetrain.retraining.attempt.stages import Stages
from drivetrain.retraining.model import Stage


def run(job: Handle[Retrain]) -> Retrained:
    """The handler of jobs of kind `retrain`."""
    record = Record(job)
    acts = Stages(job, record)
    stages.run(
        job,
        record,
        {
            Stage.training_set: acts.training_set,
            Stage.run: acts.run,
            Stage.training: acts.train,
            Stage.version: acts.version,
            Stage.gate: acts.gate,
            Stage.rollout: acts.roll_out,
        },
    )
    return record.result
