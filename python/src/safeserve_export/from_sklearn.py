"""scikit-learn: pipelines of scalers and linear models or perceptrons."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import NO_COUNTERPART, ExportError, Fault, UnsupportedError
from .model import Array, Ending, Meaning, Model, Rows, Samples
from .names import SKLEARN_ACTIVATIONS
from .network import Network

INPUT = "features"

REGRESSORS = (
    "LinearRegression",
    "Ridge",
    "RidgeCV",
    "Lasso",
    "LassoCV",
    "ElasticNet",
    "ElasticNetCV",
    "HuberRegressor",
    "SGDRegressor",
    "LinearSVR",
)
"""Estimators that predict `X @ coef_.T + intercept_`."""

DECISIONS = ("LinearSVC", "SGDClassifier", "RidgeClassifier", "RidgeClassifierCV", "Perceptron")
"""Classifiers by `X @ coef_.T + intercept_`, of whose scores the highest, or the sign of one, decides."""

LOGISTIC = ("LogisticRegression", "LogisticRegressionCV")
PERCEPTRONS = ("MLPClassifier", "MLPRegressor")
SCALERS = ("StandardScaler", "MinMaxScaler", "MaxAbsScaler", "RobustScaler")
MODELS = (*REGRESSORS, *DECISIONS, *LOGISTIC, *PERCEPTRONS)
SEARCHES = ("GridSearchCV", "RandomizedSearchCV", "HalvingGridSearchCV", "HalvingRandomSearchCV")

LAST = ("identity", "logistic", "softmax")
"""Functions of a perceptron's last layer, by scikit-learn's names."""


@dataclass(frozen=True)
class Step:
    """A step of a pipeline, those of pipelines in it among them."""

    name: str
    estimator: Any

    @property
    def kind(self) -> str:
        return type(self.estimator).__name__


def read(estimator: Any, meaning: Meaning, example: Rows | None, check_rows: Rows | None) -> Model:
    """The estimator as a network, and what it answers to the rows."""
    original = _found_by_search(estimator)
    steps = _steps(original)
    faults = [
        Fault(step.name, step.kind, reason)
        for index, step in enumerate(steps)
        if (reason := _fault(step, is_last=index + 1 == len(steps))) is not None
    ]
    if faults:
        raise UnsupportedError(type(estimator).__name__, faults, (*SCALERS, *MODELS))
    features = _features(original, steps)
    if meaning.feature_names is None:
        names = next((names for step in steps if (names := _feature_names(step.estimator)) is not None), None)
        meaning = Meaning(meaning.task, meaning.labels, names, meaning.description)
    network = Network({INPUT: (features,)})
    samples = Samples.of(network.inputs, example, check_rows, _around(steps))
    value = INPUT
    for step in steps[:-1]:
        value = _scale(network, step, value)
    value, ending, ask = _end(network, steps[-1], value)
    rows = samples.inputs[INPUT].astype(np.float64)
    with warnings.catch_warnings():
        # The rows are an array also where the estimator was fitted to a table with names.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        answers = np.asarray(ask(original, rows), dtype=np.float64).reshape(len(rows), *ending.shape)
    return network.model({None: value}, meaning, ending, samples, [answers])


def _found_by_search(estimator: Any) -> Any:
    """What a search over parameters has found, or the estimator itself."""
    if type(estimator).__name__ not in SEARCHES or not _is_sklearns(estimator):
        return estimator
    if not hasattr(estimator, "best_estimator_"):
        raise ExportError(f"{type(estimator).__name__} has no best_estimator_; call fit first, with refit=True")
    return estimator.best_estimator_


def _steps(estimator: Any, name: str = "") -> list[Step]:
    if type(estimator).__name__ != "Pipeline" or not _is_sklearns(estimator):
        return [Step(name or type(estimator).__name__.lower(), estimator)]
    prefix = f"{name}." if name else ""
    steps = [
        step
        for part, inner in estimator.steps
        if inner is not None and inner != "passthrough"
        for step in _steps(inner, f"{prefix}{part}")
    ]
    if not steps:
        raise ExportError("the pipeline has no step that computes anything")
    return steps


def _is_sklearns(estimator: Any) -> bool:
    return type(estimator).__module__.split(".")[0] == "sklearn"


def _fault(step: Step, is_last: bool) -> str | None:
    """Why a step cannot be exported, or None if it can."""
    estimator, kind = step.estimator, step.kind
    if not _is_sklearns(estimator):
        return f"a class of {type(estimator).__module__!r}, not of scikit-learn"
    if kind not in (*SCALERS, *MODELS):
        return NO_COUNTERPART
    if kind not in SCALERS and not is_last:
        return "only the last step may predict"
    if not _is_fitted(estimator):
        return "is not fitted; call fit first"
    if getattr(estimator, "clip", False):
        return "clip=True: the server has no layer that clips; use clip=False"
    binarizer = getattr(estimator, "_label_binarizer", None)
    if kind in DECISIONS and getattr(binarizer, "y_type_", "").startswith("multilabel"):
        return "several labels at once; only one class a row is supported"
    if kind in PERCEPTRONS and estimator.out_activation_ not in LAST:
        return f"ends in {estimator.out_activation_!r}; only {', '.join(map(repr, LAST))} are supported"
    if kind in LOGISTIC and len(estimator.classes_) > 2:
        scheme = getattr(estimator, "multi_class", "auto")
        if scheme == "ovr" or estimator.solver == "liblinear":
            return "one-vs-rest probabilities, sigmoids divided by their sum; use another solver and no multi_class"
    if kind in LOGISTIC and len(estimator.classes_) == 2 and getattr(estimator, "multi_class", "") == "multinomial":
        return "multi_class='multinomial' for two classes; leave multi_class out"
    return None


def _is_fitted(estimator: Any) -> bool:
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    try:
        check_is_fitted(estimator)
    except NotFittedError:
        return False
    return True


def _features(original: Any, steps: list[Step]) -> int:
    for estimator in (steps[0].estimator, original):
        count = getattr(estimator, "n_features_in_", None)
        if count is not None:
            return int(count)
    raise ExportError(f"{steps[0].name}: does not say how many features it takes (n_features_in_)")


def _feature_names(estimator: Any) -> list[str] | None:
    names = getattr(estimator, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def _affine(step: Step) -> tuple[Array, Array]:
    """What a scaler subtracts, then divides by, for each feature."""
    scaler = step.estimator
    count = int(scaler.n_features_in_)
    nothing, unit = np.zeros(count), np.ones(count)

    def or_else(values: Any, default: Array) -> Array:
        return default if values is None else np.asarray(values, dtype=np.float64)

    if step.kind == "MinMaxScaler":
        # x · scale_ + min_; the offset first, so that large numbers close together keep their digits.
        return -scaler.min_ / scaler.scale_, 1 / scaler.scale_
    if step.kind == "MaxAbsScaler":
        return nothing, or_else(scaler.scale_, unit)
    center = scaler.center_ if step.kind == "RobustScaler" else scaler.mean_ if scaler.with_mean else None
    return or_else(center, nothing), or_else(scaler.scale_, unit)


def _around(steps: list[Step]) -> tuple[Array, Array] | None:
    """Mean and deviation of the rows that a pipeline was fitted to, if it begins with a scaler."""
    return _affine(steps[0]) if steps[0].kind in SCALERS else None


def _scale(network: Network, step: Step, source: str) -> str:
    mean, scale = _affine(step)
    return network.standardise(step.name, source, mean, scale)


Ask = Callable[[Any, Array], Any]


def _end(network: Network, step: Step, source: str) -> tuple[str, Ending, Ask]:
    """Adds the last step. Gives its layer, what is known of its output, and how the estimator is asked."""
    if step.kind in SCALERS:
        shape = network.inputs[INPUT]
        return _scale(network, step, source), Ending(shape), lambda estimator, rows: estimator.transform(rows)
    if step.kind in PERCEPTRONS:
        return _perceptron(network, step, source)
    estimator = step.estimator
    weight = _dense(estimator.coef_)
    bias = np.broadcast_to(np.atleast_1d(estimator.intercept_), len(weight)).astype(np.float64)
    shape = (len(weight),)
    if step.kind in REGRESSORS:
        layer = network.dense(step.name, source, weight, bias)
        return layer, Ending(shape, task="regression"), lambda estimator, rows: estimator.predict(rows)
    is_binary = len(weight) == 1
    is_sure = step.kind in LOGISTIC or (step.kind == "SGDClassifier" and estimator.loss == "log_loss" and is_binary)
    if is_sure:
        function = "sigmoid" if is_binary else "softmax"
        layer = network.dense(step.name, source, weight, bias, activation=function)
        return layer, _classes(estimator, shape, function), _probabilities(is_binary)
    layer = network.dense(step.name, source, weight, bias)
    return layer, _classes(estimator, shape, None), lambda estimator, rows: estimator.decision_function(rows)


def _dense(coefficients: Any) -> Array:
    """`coef_` as [outputs, features]; `sparsify()` may have made it sparse."""
    if hasattr(coefficients, "toarray"):
        coefficients = coefficients.toarray()
    return np.atleast_2d(np.asarray(coefficients, dtype=np.float64))


def _classes(estimator: Any, shape: tuple[int, ...], function: str | None) -> Ending:
    task: Any = "multiclass-classification"
    if shape == (1,):
        # Without probabilities the sign decides.
        task = "binary-classification" if function else {"type": "binary-classification", "threshold": 0}
    return Ending(shape, function, task, list(estimator.classes_))


def _probabilities(is_binary: bool) -> Ask:
    if is_binary:
        return lambda estimator, rows: estimator.predict_proba(rows)[:, 1:]
    return lambda estimator, rows: estimator.predict_proba(rows)


def _perceptron(network: Network, step: Step, source: str) -> tuple[str, Ending, Ask]:
    mlp = step.estimator
    value, last = source, len(mlp.coefs_) - 1
    functions = [SKLEARN_ACTIVATIONS[name] for name in (*[mlp.activation] * last, mlp.out_activation_)]
    for index, (kernel, bias, function) in enumerate(zip(mlp.coefs_, mlp.intercepts_, functions)):
        # Stored as scikit-learn has it, [inputs, outputs], but for the order of the memory.
        value = network.add(
            "dense",
            f"{step.name}.{index}",
            [value],
            {"kernel": kernel, "bias": bias},
            units=kernel.shape[1],
            activation=function,
        )
    shape = (int(mlp.n_outputs_),)
    if step.kind == "MLPRegressor":
        return value, Ending(shape, task="regression"), lambda estimator, rows: estimator.predict(rows)
    function = functions[-1]
    if function == "sigmoid" and shape != (1,):
        # Several labels at once: a probability for each, and no class of a row.
        return value, Ending(shape, function, "none"), _probabilities(is_binary=False)
    return value, _classes(mlp, shape, function), _probabilities(is_binary=shape == (1,))
