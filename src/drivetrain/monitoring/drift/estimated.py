"""How good a classifier that says how sure it is must be, estimated without labels: CBPE, confidence-based performance estimation (NannyML;
analysed in Białek et al., arXiv 2401.08348). Right while only the inputs change (covariate shift); blind to a change of what is right
(concept drift): that takes labels.
"""

from __future__ import annotations

from typing import Any

from drivetrain.monitoring.drift.model import Estimate
from drivetrain.profiles.calibration import believed
from drivetrain.profiles.model import Calibration

Z95 = 1.959963984540054


def accuracy(confidence: Any, calibration: Calibration | None) -> Estimate | None:
    """CBPE: the expected share of right answers is the mean of their calibrated confidences. None without rows.

    The number of right answers is Poisson binomial: its variance is Σ p(1 − p).
    """
    import numpy as np

    scores = np.asarray(confidence, dtype=np.float64)
    if not len(scores):
        return None
    p = believed(calibration, scores) if calibration is not None else np.clip(scores, 0, 1)
    value, error = float(p.mean()), float(np.sqrt(np.sum(p * (1 - p)))) / len(p)
    low, high = max(0.0, value - Z95 * error), min(1.0, value + Z95 * error)
    how = f"the calibration of {calibration.rows:,} rows" if calibration is not None else "the model's own confidence, which nobody checked"
    words = (
        f"Estimated without labels (CBPE): {value:.1%} of the answers are right (95 %: {low:.1%} to {high:.1%}), by {how}. "
        "It holds while only the inputs change."
    )
    calibrated = calibration is not None
    return Estimate(measure="accuracy", value=value, low=low, high=high, rows=len(p), calibrated=calibrated, words=words)
