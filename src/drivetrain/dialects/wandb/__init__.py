"""wandb: `WANDB_BASE_URL=$URL/wandb`. The real client logs to, and reads from, the same runs, files and artifacts as all others."""

from drivetrain.dialects.wandb.dialect import Telemetry, Wandb

__all__ = ["Telemetry", "Wandb"]
