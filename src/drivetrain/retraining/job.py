"""The job of a retraining: training set → run → script → version → gate → rollout.

What was done is written down on the server, stage by stage, and each stage begins by looking for what an earlier attempt has left there:
killed anywhere and started again, on this server or another, the job goes on where it was, and nothing is done twice. The job's folder
only saves work. The script is an ordinary training script, run in a process of its own, that finds

| in the variable | what |
|---|---|
| DRIVETRAIN_TRAINING_SET | a Parquet file: labelled answers, none of those held out: inputs, `prediction`, `label`, `request_id` |
| DRIVETRAIN_BASE | the file of base data, or a folder if there are several |
| DRIVETRAIN_MODEL | the registered model that gets the version |
| MLFLOW_TRACKING_URI, MLFLOW_RUN_ID | where to log, and the run, which `mlflow.start_run()` takes up |
"""

from __future__ import annotations

from drivetrain.jobs.handle import Handle
from drivetrain.jobs.kinds import Retrain, Retrained
from drivetrain.retraining.model import Stage
from drivetrain.retraining.work import Work


def run(job: Handle[Retrain]) -> Retrained:
    """The handler of jobs of kind `retrain`."""
    work = Work(job)
    stages = {
        Stage.training_set: work.training_set,
        Stage.run: work.run,
        Stage.training: work.train,
        Stage.version: work.version,
        Stage.gate: work.gate,
    }
    for number, (stage, act) in enumerate(stages.items()):
        if work.ended:
            break
        if stage in work.done:
            job.log(f"[{stage}] was done before: {work.words(stage)}")
            continue
        job.progress(number, len(Stage), f"{stage.value.replace('_', ' ')}")
        act()
    if not work.ended:
        work.roll_out()
    return work.result
