"""The tags by which clients say things that have no field of their own: whoever reads or writes one takes its name from here.

Each client's tags are kept as they came, so that it finds them again; what they mean is the same for everybody.
"""

MLFLOW = "mlflow."
"""What all tags that MLflow's client writes by itself begin with."""

# Of runs, as MLflow's and our own client write them.
RUN_NAME = "mlflow.runName"
USER = "mlflow.user"
PARENT = "mlflow.parentRunId"
NOTE = "mlflow.note.content"
SOURCE = "mlflow.source.name"
SOURCE_KIND = "mlflow.source.type"
GIT_COMMIT = "mlflow.source.git.commit"
GIT_BRANCH = "mlflow.source.git.branch"
GIT_REPO = "mlflow.source.git.repoURL"
IMAGE = "mlflow.docker.image.name"
MODEL_HISTORY = "mlflow.log-model.history"
"""The models that clients before MLflow 3 have logged with a run, as JSON."""

# Of runs, as wandb's client says them in fields.
LABEL = "wandb.tag."
"""wandb's tags have no value: they are run tags with this before them, and an empty one."""
GROUP = "wandb.group"
JOB_TYPE = "wandb.job_type"
HOST = "wandb.host"

# Of a dataset's use by a run, and of models that are prompts.
DATA_CONTEXT = "mlflow.data.context"
PROMPT = "mlflow.prompt.is_prompt"
"""Of models that are prompts: the client keeps them as models. Whoever lists models is not shown them."""

# Of traces, in tags, metadata and the attributes of spans.
TRACE_NAME = "mlflow.traceName"
TRACE_LOCATION = "mlflow.artifactLocation"
TRACE_SPANS = "mlflow.trace.spansLocation"
TRACE_PROMPTS = "mlflow.linkedPrompts"
TRACE_SESSION = "mlflow.trace.session"
TRACE_USER = "mlflow.trace.user"
TRACE_RUN = "mlflow.sourceRun"
TRACE_USAGE = "mlflow.trace.tokenUsage"
TRACE_COST = "mlflow.trace.cost"
TRACE_SIZES = "mlflow.trace.sizeStats"
TRACE_FINALIZED = "mlflow.trace.infoFinalized"
TRACE_TAG = "mlflow.traceTag."
"""What is before the name of a tag among the attributes of a span."""
SPAN_INPUTS = "mlflow.spanInputs"
SPAN_OUTPUTS = "mlflow.spanOutputs"
SPAN_KIND = "mlflow.spanType"
SPAN_USAGE = "mlflow.chat.tokenUsage"
SPAN_COST = "mlflow.llm.cost"
