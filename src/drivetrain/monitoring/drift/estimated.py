"""How good a model is without labels, estimated. Right while only the inputs change (covariate shift); blind to a change of what is right
(concept drift): that takes labels.

CBPE, confidence-based performance estimation, for classifiers that say how sure they are, and DLE, direct loss estimation, for regression
(both: NannyML; CBPE analysed in Białek et al., arXiv 2401.08348).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from drivetrain.monitoring.drift.model import Estimate
from drivetrain.profiles.calibration import believed
from drivetrain.profiles.model import Calibration

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Z95 = 1.959963984540054
NEIGHBOURS = 10
LEAST_ROWS = 100


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


def binary(probability: Any, *, threshold: float = 0.5) -> dict[str, float]:
    """CBPE of a classifier of two classes by calibrated probabilities of class 1: the expected confusion matrix (true positives Σ p over
    the rows said to be 1, and so on), and accuracy, precision, recall, F1 and the area under the ROC curve of it."""
    import numpy as np

    p = np.asarray(probability, dtype=np.float64)
    said = p >= threshold
    tp, fp = float(p[said].sum()), float((1 - p[said]).sum())
    fn, tn = float(p[~said].sum()), float((1 - p[~said]).sum())
    precision, recall = tp / (tp + fp) if tp + fp else math.nan, tp / (tp + fn) if tp + fn else math.nan
    # The chance that a one stands above a zero, both drawn by p; ties count half.
    _, at = np.unique(p, return_inverse=True)
    ones, zeros = np.bincount(at, weights=p), np.bincount(at, weights=1 - p)
    above = float((ones * (np.cumsum(zeros) - zeros / 2)).sum())
    return {
        "accuracy": (tp + tn) / len(p),
        "precision": precision,
        "recall": recall,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else math.nan,
        "roc_auc": above / float(ones.sum() * zeros.sum()) if ones.sum() and zeros.sum() else math.nan,
    }


class LossModel:
    """DLE: what loss a regression has at given inputs, learned from rows with known answers that it was not trained on: the mean over the
    nearest neighbours, with inputs in standard deviations. `features` are [rows, columns] of numbers, `loss` one number a row."""

    def __init__(self, features: Any, loss: Any) -> None:
        import numpy as np
        from scipy.spatial import cKDTree

        rows = np.asarray(features, dtype=np.float64)
        self._loss = np.asarray(loss, dtype=np.float64)
        if rows.ndim != 2 or len(rows) != len(self._loss) or len(rows) < LEAST_ROWS:
            raise ValueError(f"a table of inputs with as many losses is needed, of {LEAST_ROWS} rows at least")
        self._centre = rows.mean(axis=0)
        self._spread = np.where(rows.std(axis=0) > 0, rows.std(axis=0), 1.0)
        self._neighbours = NEIGHBOURS  # few: what they vary averages out over the window, what they are too far away does not
        self._tree = cKDTree((rows - self._centre) / self._spread)

    def predict(self, features: Any) -> npt.NDArray[np.float64]:
        """The expected loss of each row."""
        found: npt.NDArray[np.float64] = self._near(features).mean(axis=1)
        return found

    def estimate(self, features: Any, *, measure: str = "mae") -> Estimate:
        """The mean loss of these rows: `mae` if the losses are absolute errors, `mse` if they are squared ones."""
        losses = self._near(features)
        value = float(losses.mean())
        # A row's own loss spreads as its neighbours' losses do; and what was learned is a sample itself.
        error = math.sqrt(float(losses.var(axis=1).sum()) / len(losses) ** 2 + float(self._loss.var()) / len(self._loss))
        low, high = max(0.0, value - Z95 * error), value + Z95 * error
        words = (
            f"Estimated without labels (DLE): {measure.upper()} {value:.4g} (95 %: {low:.4g} to {high:.4g}). "
            "It holds while only the inputs change."
        )
        return Estimate(measure=measure, value=value, low=low, high=high, rows=len(losses), words=words)

    def _near(self, features: Any) -> npt.NDArray[np.float64]:
        import numpy as np

        scaled = (np.asarray(features, dtype=np.float64) - self._centre) / self._spread
        losses: npt.NDArray[np.float64] = self._loss[self._tree.query(scaled, k=self._neighbours)[1]]
        return losses
