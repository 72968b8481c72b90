"""The tests of drift that the field knows, on raw columns: the same statistics as Evidently's, by the same definitions.

Monitoring itself judges by effect size against a learned null (see `report`). These are for people who compare, who have thresholds of
their own, or who have the data at hand. Each returns the statistic that is named, or the p-value where the test is one of significance.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from drivetrain.monitoring.drift.classifier import fit, hashed, score
from drivetrain.profiles.distance import jensen_shannon

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Values = npt.NDArray[Any]

FEW_VALUES = 20
MOST_VECTORS = 1_000
LEAST_STD = 0.001
"""What a constant column is divided by, as Evidently does."""
_ZERO_SHARE = 1e-4


def wasserstein(reference: Values, live: Values) -> float:
    """∫ |F − G| in standard deviations of the reference (threshold 0.1). Two sorts and one pass.

    With u the merged sample in order, the integral is Σ |F(u_i) − G(u_i)| (u_{i+1} − u_i) (Ramdas, García Trillos and Cuturi, Entropy 19,
    2017, equation 7).
    """
    import numpy as np

    x, y = np.sort(np.asarray(reference, dtype=np.float64)), np.sort(np.asarray(live, dtype=np.float64))
    std = max(float(np.std(x)), LEAST_STD)
    if len(x) == len(y):
        return float(np.abs(x - y).mean()) / std
    both = np.sort(np.concatenate([x, y]), kind="stable")
    f = np.searchsorted(x, both[:-1], side="right") / len(x)
    g = np.searchsorted(y, both[:-1], side="right") / len(y)
    return float(np.abs(f - g) @ np.diff(both)) / std


def ks(reference: Values, live: Values) -> float:
    """The p-value of the two-sided two-sample Kolmogorov–Smirnov test (threshold 0.05)."""
    from scipy.stats import ks_2samp

    return float(ks_2samp(reference, live).pvalue)


def js(reference: Values, live: Values) -> float:
    """The Jensen–Shannon distance of the binned columns (threshold 0.1)."""
    import numpy as np

    before, now = binned(reference, live)
    return jensen_shannon(np.asarray(before), np.asarray(now))


def psi(reference: Values, live: Values) -> float:
    """The population stability index, Σ (p − q) log(p/q) over the bins (threshold 0.1); empty bins count as a small share."""
    import numpy as np

    before, now = (_filled(shares) for shares in binned(reference, live))
    return float(np.sum((before - now) * np.log(before / now)))


def chi_square(reference: Values, live: Values) -> float:
    """The p-value of Pearson's chi-square test of live counts against the reference's shares (threshold 0.05)."""
    import numpy as np
    from scipy.stats import chisquare

    before, now = counts(reference, live)
    expected = before * (len(live) / len(reference))
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(chisquare(now, expected).pvalue)


def z(reference: Values, live: Values) -> float:
    """The p-value of the two-sided z-test of two proportions, of a column of two values (threshold 0.05)."""
    import numpy as np

    before, now = counts(reference, live)
    if len(before) == 1:
        return 1.0
    n, m = len(reference), len(live)
    first, second = 1 - before[0] / n, 1 - now[0] / m
    pooled = (first * n + second * m) / (n + m)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = (first - second) / np.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return math.erfc(abs(float(value)) / math.sqrt(2))


def total_variation(reference: Values, live: Values) -> float:
    """Half the sum of the differences of the shares: Evidently's statistic before its permutation test."""
    import numpy as np

    before, now = counts(reference, live)
    return float(np.abs(before / before.sum() - now / now.sum()).sum() / 2)


def domain_auc(reference: Sequence[str], live: Sequence[str]) -> float:
    """How well a classifier tells texts of the two apart: the area under its ROC curve on the half that it has not seen (threshold 0.55).
    Evidently's own classifier, which takes scikit-learn (drivetrain[mlflow])."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import SGDClassifier
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline

    texts, truth = [*reference, *live], [0] * len(reference) + [1] * len(live)
    seen, unseen, known, asked = train_test_split(texts, truth, test_size=0.5, random_state=42, shuffle=True)
    words = TfidfVectorizer(sublinear_tf=True, max_df=0.5, stop_words="english")
    model = make_pipeline(words, SGDClassifier(alpha=1e-4, max_iter=50, penalty="l1", loss="modified_huber", random_state=42))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # fifty rounds and no more, as there
        model.fit(seen, known)
    return auc(_array(asked), model.predict_proba(unseen)[:, 1])


def hashed_domain_auc(reference: Sequence[str], live: Sequence[str], *, seed: int = 0) -> float:
    """As `domain_auc`, with a classifier that takes nothing but NumPy: words in up to 2¹⁶ hashed features into a logistic regression by
    stochastic gradient descent."""
    import numpy as np

    random = np.random.default_rng(seed)
    texts = [*reference, *live]
    truth = np.array([0] * len(reference) + [1] * len(live))
    order = random.permutation(len(texts))
    half = len(texts) // 2
    vectors = [hashed(text) for text in texts]
    weights = fit([vectors[i] for i in order[:half]], truth[order[:half]], seed=seed)
    return auc(truth[order[half:]], np.array([score(weights, vectors[i]) for i in order[half:]]))


def _array(values: Sequence[int]) -> Values:
    import numpy as np

    return np.asarray(values)


def auc(truth: Values, scores: Values) -> float:
    """The area under the ROC curve: the share of pairs in the right order (Mann and Whitney 1947), ties counted half."""
    from scipy.stats import rankdata

    ones = int(truth.sum())
    zeros = len(truth) - ones
    if not ones or not zeros:
        return math.nan
    return float((rankdata(scores)[truth == 1].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def mmd(reference: Values, live: Values, *, permutations: int = 200, seed: int = 0) -> tuple[float, float]:
    """The unbiased squared maximum mean discrepancy of two sets of vectors, [n, d] and [m, d], with a Gaussian kernel as wide as the
    median distance from one set to the other, and its p-value by permutation (Gretton et al., JMLR 13, 2012, equation 3). Of more than
    a thousand vectors a side, a thousand are drawn."""
    import numpy as np
    from scipy.spatial.distance import cdist

    random = np.random.default_rng(seed)
    x, y = (np.asarray(side, dtype=np.float64) for side in (reference, live))
    x, y = (side[random.choice(len(side), MOST_VECTORS, replace=False)] if len(side) > MOST_VECTORS else side for side in (x, y))
    n, m = len(x), len(y)
    both = np.concatenate([x, y])
    width = float(np.median(cdist(x, y))) or 1.0
    kernel = np.exp(-cdist(both, both, "sqeuclidean") / width**2)
    np.fill_diagonal(kernel, 0.0)

    def statistic(order: npt.NDArray[np.intp]) -> float:
        a, b = order[:n], order[n:]
        within = kernel[np.ix_(a, a)].sum() / (n * (n - 1)) + kernel[np.ix_(b, b)].sum() / (m * (m - 1))
        return float(within - 2 * kernel[np.ix_(a, b)].mean())

    seen = statistic(np.arange(n + m))
    beyond = sum(statistic(random.permutation(n + m)) >= seen for _ in range(permutations))
    return seen, (beyond + 1) / (permutations + 1)


def counts(reference: Values, live: Values) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """How often each value is in either column, the values in order."""
    import numpy as np

    if reference.dtype.kind not in "biuf":
        return _text_counts(reference, live)
    names, codes = np.unique(np.concatenate([reference, live]), return_inverse=True)
    return np.bincount(codes[: len(reference)], minlength=len(names)), np.bincount(codes[len(reference) :], minlength=len(names))


def _text_counts(reference: Values, live: Values) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    import numpy as np
    import polars as pl

    before, now = ({row[0]: row[1] for row in pl.Series(column.tolist()).value_counts().rows()} for column in (reference, live))
    names = sorted({*before, *now}, key=str)
    return np.array([before.get(name, 0) for name in names]), np.array([now.get(name, 0) for name in names])


def binned(reference: Values, live: Values) -> tuple[Values, Values]:
    """The shares of the bins of both: of values, where there are few or they are no numbers; else of Sturges' bins of the whole range."""
    import numpy as np

    if reference.dtype.kind not in "iuf" or _few(reference):
        before, now = counts(reference, live)
        return before / len(reference), now / len(live)
    low, high = min(reference.min(), live.min()), max(reference.max(), live.max())
    bins = math.ceil(math.log2(len(reference) + len(live)) + 1)
    edges = np.linspace(low, high, bins + 1)
    return np.histogram(reference, edges)[0] / len(reference), np.histogram(live, edges)[0] / len(live)


def _few(values: Values) -> bool:
    """Whether there are at most `FEW_VALUES` different ones. Most columns show more in their first thousand."""
    import numpy as np

    return len(np.unique(values[:1000])) <= FEW_VALUES and len(np.unique(values)) <= FEW_VALUES


def _filled(shares: Values) -> Values:
    import numpy as np

    least = float(shares[shares > 0].min())
    return np.where(shares == 0, least / 1e6 if least <= _ZERO_SHARE else _ZERO_SHARE, shares)


NUMERIC: dict[str, tuple[Callable[[Values, Values], float], float]] = {
    "wasserstein": (wasserstein, 0.1),
    "ks": (ks, 0.05),
    "jensenshannon": (js, 0.1),
    "psi": (psi, 0.1),
}
"""Name → test and threshold."""
CATEGORICAL: dict[str, tuple[Callable[[Values, Values], float], float]] = {
    "jensenshannon": (js, 0.1),
    "psi": (psi, 0.1),
    "chisquare": (chi_square, 0.05),
    "z": (z, 0.05),
    "TVD": (total_variation, 0.1),
}
SIGNIFICANCE = frozenset({"ks", "chisquare", "z"})
