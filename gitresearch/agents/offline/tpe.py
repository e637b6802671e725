"""Settings that optuna's TPE expects to be good, asked for over the history of the lineage.

Optuna holds no state of ours: the trials are replayed into a study in memory each time (2,000 in 0.3 s), so git stays
the only memory. Multivariate TPE with a constant liar (Bergstra et al. 2011; Watanabe 2023) is optuna's own default.
"""

import warnings
from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial

from gitresearch.agents.offline.domain import Choice
from gitresearch.agents.offline.history import Values
from gitresearch.agents.offline.levers import Lever
from gitresearch.agents.offline.literals import Value

optuna.logging.set_verbosity(optuna.logging.WARNING)
MOST = 400  # trials that are replayed: the estimator's own cost grows with them and its advice doesn't


def suggest(
    levers: Mapping[str, Lever], tried: Sequence[tuple[Values, float | None]], count: int, seed: int
) -> list[dict[str, Value]]:
    """So many whole settings of the levers. `tried` holds losses (smaller is better), None for what is pending."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(multivariate=True, constant_liar=True, n_startup_trials=8, seed=seed)
        study = optuna.create_study(sampler=sampler)
    space = {key: _distribution(lever) for key, lever in levers.items()}
    study.add_trials(_frozen(levers, space, values, loss) for values, loss in tried[-MOST:])
    asked = [study.ask(space).params for _ in range(count)]
    return [{key: _value(levers[key], params[key]) for key in levers} for params in asked]


def _distribution(lever: Lever) -> BaseDistribution:
    if isinstance(lever.domain, Choice):
        return CategoricalDistribution(range(len(lever.domain.options)))
    return FloatDistribution(0.0, 1.0)


def _frozen(
    levers: Mapping[str, Lever], space: dict[str, BaseDistribution], values: Values, loss: float | None
) -> FrozenTrial:
    params = {key: _param(lever, values.get(key, lever.value)) for key, lever in levers.items()}
    if loss is None:
        return create_trial(state=TrialState.RUNNING, params=params, distributions=space)
    return create_trial(params=params, distributions=space, value=loss)


def _param(lever: Lever, value: Value) -> float | int:
    domain = lever.domain
    if isinstance(domain, Choice):
        same = [i for i, option in enumerate(domain.options) if option == value and type(option) is type(value)]
        return same[0] if same else 0
    return min(1.0, max(0.0, domain.place(value)))


def _value(lever: Lever, param: float) -> Value:
    return lever.domain.options[int(param)] if isinstance(lever.domain, Choice) else lever.domain.value(param)
