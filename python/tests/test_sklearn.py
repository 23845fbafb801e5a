"""Each estimator and scaler of scikit-learn that the server has, and the reasons of those that it has not."""

import numpy as np
import pytest
from exporting import config_of, kinds, nothing_in
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_linnerud
from sklearn.decomposition import PCA
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import (
    ElasticNet,
    ElasticNetCV,
    HuberRegressor,
    Lasso,
    LassoCV,
    LinearRegression,
    LogisticRegression,
    LogisticRegressionCV,
    Perceptron,
    Ridge,
    RidgeClassifier,
    RidgeClassifierCV,
    RidgeCV,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, RobustScaler, StandardScaler
from sklearn.svm import LinearSVC, LinearSVR

from safeserve_export import ExportError, UnsupportedError, export_sklearn, from_sklearn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning", "ignore::FutureWarning")

REGRESSORS = [
    LinearRegression(),
    LinearRegression(fit_intercept=False),
    Ridge(),
    RidgeCV(),
    Lasso(),
    LassoCV(),
    ElasticNet(),
    ElasticNetCV(),
    HuberRegressor(max_iter=1000),
    SGDRegressor(),
    LinearSVR(),
    MLPRegressor(hidden_layer_sizes=[12, 7], max_iter=100),
]

CLASSIFIERS = [
    LogisticRegression(max_iter=2000),
    LogisticRegression(fit_intercept=False, max_iter=2000),
    LogisticRegressionCV(Cs=3, max_iter=2000),
    LinearSVC(),
    SGDClassifier(),
    SGDClassifier(loss="log_loss"),
    RidgeClassifier(),
    RidgeClassifierCV(),
    Perceptron(),
    MLPClassifier(hidden_layer_sizes=[12, 7], max_iter=100),
]

SCALERS = [
    StandardScaler(),
    StandardScaler(with_mean=False),
    StandardScaler(with_std=False),
    StandardScaler(with_mean=False, with_std=False),
    MinMaxScaler(),
    MinMaxScaler((-3, 5)),
    MaxAbsScaler(),
    RobustScaler(),
    RobustScaler(with_centering=False),
    RobustScaler(with_scaling=False),
]


def seeded(estimator):
    if "random_state" in estimator.get_params():
        estimator.set_params(random_state=0)
    return estimator


@pytest.mark.parametrize("estimator", REGRESSORS, ids=str)
def test_each_regressor_is_exported(estimator, tmp_path):
    pipeline = make_pipeline(StandardScaler(), seeded(estimator)).fit(*load_diabetes(return_X_y=True))
    config = config_of(export_sklearn(pipeline, tmp_path / "m"))
    assert config["task"] == "regression" and config["outputs"][0]["name"] == "prediction"


@pytest.mark.parametrize("data", [load_breast_cancer, load_iris], ids=["binary", "multiclass"])
@pytest.mark.parametrize("estimator", CLASSIFIERS, ids=str)
def test_each_classifier_is_exported(estimator, data, tmp_path):
    rows, classes = data(return_X_y=True)
    names = np.array(["nobody", "anybody", "somebody"])[classes]
    pipeline = make_pipeline(StandardScaler(), seeded(estimator)).fit(rows, names)
    exported = export_sklearn(pipeline, tmp_path / "m", check_rows=rows)
    config = config_of(exported)
    assert config["labels"] == sorted(set(names))
    knows = hasattr(pipeline, "predict_proba") and not (isinstance(estimator, SGDClassifier) and data is load_iris)
    assert config["outputs"][0]["name"] == ("probabilities" if knows else "scores")
    binary = "binary-classification" if knows else {"type": "binary-classification", "threshold": 0}
    assert config["task"] == ("multiclass-classification" if data is load_iris else binary)


@pytest.mark.parametrize("scaler", SCALERS, ids=str)
@pytest.mark.parametrize("is_last", [True, False])
def test_each_scaler_is_exported(scaler, is_last, tmp_path):
    rows, targets = load_diabetes(return_X_y=True)
    # Large and close together, with a column that is constant.
    rows = np.column_stack([rows * 10 + 1000, np.full(len(rows), 7.0)])
    pipeline = (
        scaler if is_last else make_pipeline(scaler, MLPRegressor(hidden_layer_sizes=[5], max_iter=50, random_state=0))
    ).fit(rows, targets)
    assert kinds(export_sklearn(pipeline, tmp_path / "m", check_rows=rows))[0] == "normalization"


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_each_activation_of_a_perceptron_is_exported(activation, tmp_path):
    rows, classes = load_iris(return_X_y=True)
    perceptron = MLPClassifier(hidden_layer_sizes=[9, 8], activation=activation, max_iter=50, random_state=0).fit(
        rows, classes
    )
    config_of(export_sklearn(perceptron, tmp_path / "m", check_rows=rows))


def test_nothing_of_the_lists_is_left_out():
    tried = {type(estimator).__name__ for estimator in (*REGRESSORS, *CLASSIFIERS, *SCALERS)}
    assert tried == {*from_sklearn.MODELS, *from_sklearn.SCALERS}


def test_pipelines_in_pipelines_and_steps_that_pass_through(tmp_path):
    inner = Pipeline([("scale", MinMaxScaler()), ("skip", "passthrough"), ("robust", RobustScaler())])
    pipeline = Pipeline([("first", inner), ("last", make_pipeline(StandardScaler(), LogisticRegression()))])
    exported = export_sklearn(pipeline.fit(*load_iris(return_X_y=True)), tmp_path / "m")
    names = [layer["name"] for layer in config_of(exported)["layers"]]
    assert names == ["first.scale", "first.robust", "last.standardscaler", "last.logisticregression"]


def test_names_come_from_the_table_and_the_classes_and_may_be_given(tmp_path):
    rows, classes = load_iris(return_X_y=True, as_frame=True)
    pipeline = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, classes)
    config = config_of(export_sklearn(pipeline, tmp_path / "m", check_rows=rows))
    assert config["feature_names"] == list(rows.columns) and config["labels"] == ["0", "1", "2"]
    given = {
        "labels": ["a", "b", "c"],
        "feature_names": list("wxyz"),
        "description": "Irises.",
        "task": "none",
    }
    with pytest.raises(ExportError, match="labels: only classifiers have labels, the task is 'none'"):
        export_sklearn(pipeline, tmp_path / "m", **given)
    del given["task"]
    config = config_of(export_sklearn(pipeline, tmp_path / "m", **given))
    assert {key: config[key] for key in given} == given


def test_several_targets_and_several_labels(tmp_path):
    rows, targets = load_linnerud(return_X_y=True)
    for estimator in (
        LinearRegression(),
        Ridge(),
        MLPRegressor(hidden_layer_sizes=[5], max_iter=50, random_state=0),
    ):
        config = config_of(
            export_sklearn(make_pipeline(StandardScaler(), estimator).fit(rows, targets), tmp_path / "m")
        )
        assert config["task"] == "regression"
    labels = (targets > targets.mean(axis=0)).astype(int)
    config = config_of(
        export_sklearn(
            MLPClassifier(hidden_layer_sizes=[5], max_iter=50, random_state=0).fit(rows, labels),
            tmp_path / "m",
        )
    )
    assert "task" not in config


def test_what_a_search_has_found_is_exported(tmp_path):
    search = GridSearchCV(make_pipeline(StandardScaler(), Ridge()), {"ridge__alpha": [0.1, 1]})
    with pytest.raises(ExportError, match="GridSearchCV has no best_estimator_; call fit first"):
        export_sklearn(search, tmp_path / "m")
    config_of(export_sklearn(search.fit(*load_diabetes(return_X_y=True)), tmp_path / "m"))


def test_arrays_in_fortran_order_and_sparse_ones(tmp_path):
    rows, classes = load_iris(return_X_y=True)
    estimator = MLPClassifier(hidden_layer_sizes=[9], max_iter=50, random_state=0, solver="lbfgs").fit(rows, classes)
    estimator.coefs_ = [np.asfortranarray(kernel) for kernel in estimator.coefs_]
    assert not estimator.coefs_[0].flags.c_contiguous
    config_of(export_sklearn(estimator, tmp_path / "m"))
    config_of(export_sklearn(SGDClassifier(random_state=0).fit(rows, classes).sparsify(), tmp_path / "m"))


def fitted(estimator):
    return estimator.fit(*load_iris(return_X_y=True))


class OwnScaler(StandardScaler):
    pass


FAULTS = {
    "RandomForestClassifier": (lambda: fitted(RandomForestClassifier(3)), "the server has no such thing"),
    "PCA": (lambda: fitted(make_pipeline(PCA(2), Ridge())), "the server has no such thing"),
    "SimpleImputer": (
        lambda: fitted(make_pipeline(SimpleImputer(), Ridge())),
        "the server has no such thing",
    ),
    "ColumnTransformer": (
        lambda: fitted(make_pipeline(ColumnTransformer([("s", StandardScaler(), [0])]), Ridge())),
        "the server has no such thing",
    ),
    "KMeans": (lambda: fitted(KMeans(2)), "the server has no such thing"),
    "MinMaxScaler": (lambda: fitted(make_pipeline(MinMaxScaler(clip=True), Ridge())), "clip=True"),
    "Ridge": (lambda: Ridge(), "is not fitted; call fit first"),
    "OwnScaler": (lambda: fitted(make_pipeline(OwnScaler(), Ridge())), "not of scikit-learn"),
    "MLPRegressor": (
        lambda: MLPRegressor(hidden_layer_sizes=[4], loss="poisson", max_iter=50).fit(*load_diabetes(return_X_y=True)),
        "only 'identity', 'logistic', 'softmax' are supported",
    ),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_step_that_the_server_has_not_is_named_with_the_reason(kind, tmp_path):
    make, reason = FAULTS[kind]
    with pytest.raises(UnsupportedError) as caught:
        export_sklearn(make(), tmp_path / "models" / "m")
    [fault] = caught.value.faults
    assert fault.kind == kind and reason in fault.reason, str(caught.value)
    assert nothing_in(tmp_path / "models")


def test_several_labels_at_once_are_refused(tmp_path):
    rows, targets = load_linnerud(return_X_y=True)
    estimator = RidgeClassifier().fit(rows, (targets > targets.mean(axis=0)).astype(int))
    with pytest.raises(UnsupportedError, match="several labels at once"):
        export_sklearn(estimator, tmp_path / "m")


def test_one_against_the_rest_is_refused(tmp_path):
    estimator = fitted(LogisticRegression(max_iter=1000))
    estimator.multi_class = "ovr"
    with pytest.raises(UnsupportedError, match="one-vs-rest probabilities"):
        export_sklearn(estimator, tmp_path / "m")


def test_all_steps_that_the_server_has_not_are_named_at_once(tmp_path):
    pipeline = make_pipeline(SimpleImputer(), MinMaxScaler(clip=True), PCA(2), RandomForestClassifier(3))
    with pytest.raises(UnsupportedError) as caught:
        export_sklearn(fitted(pipeline), tmp_path / "models" / "m")
    assert [fault.kind for fault in caught.value.faults] == [
        "SimpleImputer",
        "MinMaxScaler",
        "PCA",
        "RandomForestClassifier",
    ]
    known = ", ".join((*from_sklearn.SCALERS, *from_sklearn.MODELS))
    assert str(caught.value).startswith("Pipeline: 4 parts cannot be exported:\n  'simpleimputer' (SimpleImputer): ")
    assert str(caught.value).endswith(f"the server has: {known}")
    assert nothing_in(tmp_path / "models")


def test_a_predictor_in_the_middle_is_refused(tmp_path):
    class Passing(Ridge):
        def transform(self, rows):
            return rows

    Passing.__module__ = "sklearn.linear_model"
    Passing.__name__ = "Ridge"
    with pytest.raises(UnsupportedError, match="only the last step may predict"):
        export_sklearn(fitted(make_pipeline(Passing(), LinearRegression())), tmp_path / "m")


def test_what_is_no_estimator_is_refused(tmp_path):
    with pytest.raises(UnsupportedError, match="a class of 'builtins', not of scikit-learn"):
        export_sklearn("model.joblib", tmp_path / "m")
