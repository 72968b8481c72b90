"""Search with Optuna: `python -m drivetrain.training.sweeps.suggest PARENT`.

Short-lived, so that nobody else ever imports it. Standard input is a `Work` as JSON, standard output an `Answer`.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from typing import TYPE_CHECKING

import msgspec

from drivetrain.store.child import end_with
from drivetrain.training.sweeps.model import Answer, Dimension, Work

if TYPE_CHECKING:
    import optuna

LEAST = 5
"""So many results are needed before a model of them says more than chance."""


def main() -> None:
    if len(sys.argv) > 1:
        threading.Thread(target=end_with, args=(int(sys.argv[1]),), daemon=True).start()
    work = msgspec.json.decode(sys.stdin.buffer.read(), type=Work)
    sys.stdout.buffer.write(msgspec.json.encode(run(work)))


def run(work: Work) -> Answer:
    try:
        import optuna
    except ModuleNotFoundError as error:
        return Answer(missing=error.name or "optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(n_startup_trials=LEAST, seed=work.seed, constant_liar=True)
    study = optuna.create_study(direction="maximize" if work.maximize else "minimize", sampler=sampler)
    space = {one.name: _distribution(one) for one in work.dimensions}
    kinds = {one.name: one.kind for one in work.dimensions}
    for told in work.trials:
        at = {name: told.at[name] if kinds[name] == "number" else int(told.at[name]) for name in space if name in told.at}
        if told.value is None:
            state, values = optuna.trial.TrialState.RUNNING, None
        else:
            state, values = optuna.trial.TrialState.COMPLETE, [told.value]
        within = {name: space[name] for name in at}
        study.add_trial(optuna.trial.create_trial(params=at, distributions=within, state=state, values=values))
    if work.what == "importance":
        return Answer(values=_importance(study))
    trial = study.ask(space)
    return Answer(values={name: float(value) for name, value in trial.params.items()})


def _importance(study: optuna.Study) -> dict[str, float]:
    """By a forest of trees that predicts the results (fANOVA), or without scikit-learn by how the best tenth differs from the rest."""
    import optuna

    evaluator: optuna.importance.BaseImportanceEvaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    if importlib.util.find_spec("sklearn") is None:
        evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    return {name: float(share) for name, share in optuna.importance.get_param_importances(study, evaluator=evaluator).items()}


def _distribution(one: Dimension) -> optuna.distributions.BaseDistribution:
    from optuna import distributions

    if one.kind == "choice":
        return distributions.CategoricalDistribution(list(range(one.choices)))
    if one.kind == "integer":
        return distributions.IntDistribution(int(one.low), int(one.high))
    return distributions.FloatDistribution(one.low, one.high)


if __name__ == "__main__":
    main()
