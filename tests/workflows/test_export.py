"""Models of Keras, PyTorch and scikit-learn, trained, exported, served and asked over HTTP: 100 rows that
they were not trained on are answered as the framework answers them."""

import json
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import joblib
import keras
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import ROOT, post
from keras import layers
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import LinearSVC, LinearSVR
from server import wait_until
from torch import nn
from wire import get

from safeserve_export import export_keras, export_sklearn, export_torch

HELD_OUT = 100
DATA = {
    "iris": load_iris,
    "wine": load_wine,
    "breast-cancer": load_breast_cancer,
    "digits": load_digits,
    "diabetes": load_diabetes,
}


def split(name):
    """Rows to train on and 100 held out, F32, and the targets of both."""
    rows, targets = DATA[name](return_X_y=True)
    classes = None if name == "diabetes" else targets
    parts = train_test_split(rows.astype(np.float32), targets, test_size=HELD_OUT, random_state=0, stratify=classes)
    assert len(parts[1]) == HELD_OUT
    return parts


def served(server, model, inputs):
    """What the server answers to these rows: each output of floats, by name."""
    tensors = [
        {"name": name, "datatype": "FP32", "shape": list(rows.shape), "data": rows.ravel().tolist()}
        for name, rows in inputs.items()
    ]
    status, answer = post(server, f"/v2/models/{model}/infer", {"inputs": tensors})
    assert status == 200, answer
    floats = [output for output in answer["outputs"] if output["datatype"] == "FP32"]
    return {output["name"]: np.array(output["data"]).reshape(output["shape"]) for output in floats}


def assert_equal(answers, expected, regression=False):
    """Within 1e-5: absolute for probabilities and scores of that order, relative for regressions."""
    expected = np.asarray(expected, dtype=np.float64)
    assert answers.shape == expected.shape and len(answers) == HELD_OUT
    allowed = 1e-5 * np.abs(expected) if regression else np.full(expected.shape, 1e-5)
    off = np.abs(answers - expected)
    assert (off <= allowed).all(), f"off by {off.max()}, allowed {allowed[off > allowed][:3]}"
    # Answers that are all the same would show nothing.
    assert np.ptp(expected, axis=0).max() > 1e-2


def example_is_answered(server, exported):
    status, answer = post(server, f"/v1/models/{exported.name}:predict", (exported.path / "example.json").read_text())
    assert status == 200 and len(answer["predictions"]) == 2, answer


def wine_sequential(rows, classes):
    keras.utils.set_random_seed(0)
    scale = layers.Normalization()
    scale.adapt(rows)
    model = keras.Sequential(
        [
            keras.Input((13,), name="features"),
            scale,
            layers.Dense(16, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(rows, classes, epochs=40, verbose=0)
    return model


def cancer_graph(rows, classes):
    """A functional graph: Normalization, a batch normalisation, a short cut, a sigmoid."""
    keras.utils.set_random_seed(1)
    scale = layers.Normalization()
    scale.adapt(rows)
    features = keras.Input((30,), name="features")
    hidden = layers.Dense(16, activation="gelu")(scale(features))
    bent = layers.BatchNormalization()(layers.Dense(16, activation="tanh")(hidden))
    joined = layers.Concatenate()([layers.Add()([hidden, bent]), scale(features)])
    model = keras.Model(features, layers.Dense(1, activation="sigmoid")(joined))
    model.compile("adam", "binary_crossentropy")
    model.fit(rows, classes, epochs=10, verbose=0)
    return model


def diabetes_graph(rows, targets):
    keras.utils.set_random_seed(2)
    features = keras.Input((10,), name="features")
    hidden = layers.Dense(24, activation="silu")(layers.Rescaling(20.0)(features))
    model = keras.Model(features, layers.Dense(1)(layers.LayerNormalization()(hidden + layers.Dense(24)(hidden))))
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.fit(rows, targets, epochs=40, verbose=0)
    return model


@pytest.mark.parametrize(
    ("data", "train", "output"),
    [
        ("wine", wine_sequential, "probabilities"),
        ("breast-cancer", cancer_graph, "probabilities"),
        ("diabetes", diabetes_graph, "prediction"),
    ],
)
def test_keras_to_endpoint(data, train, output, serve, tmp_path):
    rows, held_out, targets, _ = split(data)
    model = train(rows, targets)
    task = "regression" if output == "prediction" else None
    exported = export_keras(model, tmp_path / "models" / data, task=task, example=rows[:2], check_rows=held_out)
    server = serve(tmp_path / "models")
    answers = served(server, data, {"features": held_out})
    assert_equal(answers[output], model.predict(held_out, verbose=0), regression=output == "prediction")
    example_is_answered(server, exported)


class Residual(nn.Module):
    """A skip connection round a block, after a standardisation by buffers."""

    def __init__(self, rows, outputs):
        super().__init__()
        self.register_buffer("mean", rows.mean(0))
        self.register_buffer("deviation", rows.std(0) + 1e-3)
        self.first = nn.Linear(rows.shape[1], 24)
        self.block = nn.Sequential(nn.BatchNorm1d(24), nn.ReLU(), nn.Sequential(nn.Linear(24, 24), nn.Dropout(0.2)))
        self.norm = nn.LayerNorm(24)
        self.last = nn.Linear(24, outputs)

    def forward(self, features):
        hidden = F.gelu(self.first((features - self.mean) / self.deviation))
        return self.last(self.norm(hidden + self.block(hidden)))


def trained(module, loss, rows, targets, epochs=60):
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(module.parameters(), 0.01)
    module.train()
    for _ in range(epochs):
        optimizer.zero_grad()
        loss(module(rows), targets).backward()
        optimizer.step()
    return module


def ask(module, rows):
    with torch.no_grad():
        return module.eval()(torch.from_numpy(rows)).numpy()


def digits_sequential(rows, classes):
    torch.manual_seed(0)
    body = nn.Sequential(
        nn.BatchNorm1d(64), nn.Linear(64, 48), nn.PReLU(), nn.Dropout(0.1), nn.Sequential(nn.Linear(48, 10))
    )
    trained(body, nn.CrossEntropyLoss(), rows, classes)
    return nn.Sequential(body, nn.Softmax(-1))


def cancer_residual(rows, classes):
    torch.manual_seed(1)
    logits = trained(Residual(rows, 1), nn.BCEWithLogitsLoss(), rows, classes[:, None].float())
    return nn.Sequential(logits, nn.Sigmoid())


def diabetes_residual(rows, targets):
    torch.manual_seed(2)
    # A mean of some 150 is where the answers lie.
    module = Residual(rows, 1)
    nn.init.constant_(module.last.bias, 150)
    return trained(module, nn.MSELoss(), rows, targets[:, None].float(), epochs=150)


@pytest.mark.parametrize(
    ("data", "train", "keywords", "output"),
    [
        ("digits", digits_sequential, {"labels": range(10)}, "probabilities"),
        ("breast-cancer", cancer_residual, {"labels": ["malignant", "benign"]}, "probabilities"),
        ("diabetes", diabetes_residual, {"task": "regression"}, "prediction"),
    ],
)
def test_pytorch_to_endpoint(data, train, keywords, output, serve, tmp_path):
    rows, held_out, targets, _ = split(data)
    module = train(torch.from_numpy(rows), torch.from_numpy(targets))
    module.train()
    exported = export_torch(
        module, tmp_path / "models" / data, torch.from_numpy(rows[:2]), check_rows=held_out, **keywords
    )
    assert module.training
    [name] = {spec["name"] for spec in json.loads((exported.path / "config.json").read_text())["inputs"]}
    server = serve(tmp_path / "models")
    answers = served(server, data, {name: held_out})
    assert_equal(answers[output], ask(module, held_out), regression=output == "prediction")
    example_is_answered(server, exported)


ESTIMATORS = {
    "linear-regression": ("diabetes", LinearRegression()),
    "ridge": ("diabetes", make_pipeline(StandardScaler(), Ridge())),
    "mlp-regressor": (
        "diabetes",
        make_pipeline(MinMaxScaler(), MLPRegressor(hidden_layer_sizes=[20], max_iter=300, random_state=0)),
    ),
    "linear-svr": (
        "diabetes",
        make_pipeline(StandardScaler(), LinearSVR(C=100, random_state=0, max_iter=20000)),
    ),
    "logistic-binary": ("breast-cancer", make_pipeline(StandardScaler(), LogisticRegression())),
    "logistic-multinomial": ("iris", LogisticRegression(max_iter=1000)),
    "mlp-classifier": (
        "digits",
        make_pipeline(MinMaxScaler(), MLPClassifier(hidden_layer_sizes=[30], max_iter=100, random_state=0)),
    ),
    "mlp-binary": (
        "breast-cancer",
        make_pipeline(StandardScaler(), MLPClassifier(hidden_layer_sizes=[10], max_iter=300, random_state=0)),
    ),
    "linear-svc": ("wine", make_pipeline(make_pipeline(StandardScaler()), LinearSVC(random_state=0))),
    "linear-svc-binary": (
        "breast-cancer",
        make_pipeline(StandardScaler(with_mean=False), LinearSVC(random_state=0, max_iter=20000)),
    ),
    "standard-scaler": ("wine", StandardScaler()),
    "min-max-scaler": ("wine", MinMaxScaler()),
}


@pytest.fixture(scope="module")
def fitted():
    """Each estimator, fitted, with its 100 held-out rows."""
    found = {}
    for name, (data, estimator) in ESTIMATORS.items():
        rows, held_out, targets, _ = split(data)
        found[name] = (estimator.fit(rows.astype(np.float64), targets), held_out)
    return found


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scikit_learn_to_endpoint(fitted, serve, tmp_path):
    exported = {
        name: export_sklearn(estimator, tmp_path / "models" / name, check_rows=held_out)
        for name, (estimator, held_out) in fitted.items()
    }
    server = serve(tmp_path / "models")
    for name, (estimator, held_out) in fitted.items():
        rows = held_out.astype(np.float64)
        answers = served(server, name, {"features": held_out})
        if "probabilities" in answers:
            expected, output = estimator.predict_proba(rows), "probabilities"
            expected = expected[:, 1:] if expected.shape[1] == 2 else expected
        elif "scores" in answers:
            expected, output = estimator.decision_function(rows).reshape(HELD_OUT, -1), "scores"
        elif "prediction" in answers:
            expected, output = estimator.predict(rows).reshape(HELD_OUT, -1), "prediction"
        else:
            expected, output = estimator.transform(rows), "output"
        assert_equal(answers[output], expected, regression=output == "prediction")
        example_is_answered(server, exported[name])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_classes_are_those_of_the_estimator(fitted, serve, tmp_path):
    for name in (
        "logistic-binary",
        "logistic-multinomial",
        "linear-svc",
        "linear-svc-binary",
        "mlp-classifier",
    ):
        estimator, held_out = fitted[name]
        export_sklearn(estimator, tmp_path / "models" / name)
    server = serve(tmp_path / "models")
    for name in sorted(os.listdir(tmp_path / "models")):
        estimator, held_out = fitted[name]
        tensor = {
            "name": "features",
            "datatype": "FP32",
            "shape": list(held_out.shape),
            "data": held_out.ravel().tolist(),
        }
        status, answer = post(server, f"/v2/models/{name}/infer", {"inputs": [tensor], "outputs": [{"name": "label"}]})
        assert status == 200, answer
        assert answer["outputs"][0]["data"] == [str(label) for label in estimator.predict(held_out.astype(np.float64))]


def test_a_file_to_endpoint_by_the_command(serve, tmp_path):
    rows, held_out, classes, _ = split("wine")
    model = wine_sequential(rows, classes)
    model.save(tmp_path / "model.keras")
    names = load_wine().feature_names
    command = [
        sys.executable,
        "-m",
        "safeserve_export",
        "model.keras",
        "models/wine",
        "--labels",
        "a,b,c",
        "--feature-names",
        ",".join(names),
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "python" / "src")}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=300)
    server = serve(tmp_path / "models")
    assert_equal(served(server, "wine", {"features": held_out})["probabilities"], model.predict(held_out, verbose=0))
    # By the features' names, with the classes' labels.
    row = dict(zip(names, held_out[0].tolist()))
    status, answer = post(server, "/v1/models/wine:classify", {"examples": [row]})
    assert status == 200 and [label for label, _ in answer["results"][0]] == ["a", "b", "c"], answer


def test_a_running_server_takes_each_version_up_and_never_sees_half_of_one(serve, tmp_path):
    rows, held_out, targets, _ = split("diabetes")
    models = tmp_path / "models"
    estimators = [make_pipeline(StandardScaler(), Ridge(alpha)).fit(rows, targets) for alpha in (0.1, 1, 10, 100)]
    export_sklearn(estimators[0], models / "diabetes")
    # Files are looked at all the time, and loaded as soon as they are seen.
    server = serve(models, "models.poll_interval_ms=1000", "models.settle_ms=0")
    looks, faults, ended = [], [], threading.Event()

    def watch():
        while not ended.is_set():
            looks.append(post(server, "/v2/repository/index", {}))
            time.sleep(0.002)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        for version, estimator in enumerate(estimators[1:], 2):
            exported = export_sklearn(estimator, models / "diabetes", check_rows=held_out)
            assert exported.version == version
            ready = get(f"/v2/models/diabetes/versions/{version}/ready")
            wait_until(lambda: server.ask(ready).status == 200, 30, f"version {version} is taken up")
            expected = estimator.predict(held_out).reshape(HELD_OUT, 1)
            assert_equal(served(server, "diabetes", {"features": held_out})["prediction"], expected, regression=True)
    finally:
        ended.set()
        watching.join()
    assert looks
    for status, index in looks:
        assert status == 200, index
        faults += [entry for entry in index if entry["reason"] not in ("", "its files are being read")]
    assert not faults, faults[:3]
    # What the directory was made under is gone, and nothing was refused.
    assert os.listdir(models) == ["diabetes"]
    assert server.value("safeserve_models", state="unavailable") == 0


def test_the_page_runs_unchanged(serve, tmp_path):
    """docs/exporting.md: its Python blocks in their order, what they print, then its shell blocks."""
    page = (ROOT / "docs" / "exporting.md").read_text()
    blocks = re.findall(r"```(\w+)\n(.*?)```", page, flags=re.DOTALL)
    script = "\n".join(text for language, text in blocks if language == "python")
    programs = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "python" / "src"), "PATH": programs}
    run = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run([sys.executable, "-c", script], **run)
    assert done.returncode == 0, done.stderr
    printed = done.stdout
    message = next(text for language, text in blocks if language == "text" and "cannot be exported" in text)
    assert message in printed
    assert "models/wine/1 1\n" in printed and "models/wine/2 2\n" in printed
    assert "every answer is as expected" in printed
    assert not (tmp_path / "models" / "bad").exists()

    rows, _, classes, _ = split("wine")
    wine_sequential(rows, classes).save(tmp_path / "model.keras")
    joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, classes), tmp_path / "model.joblib")
    np.save(tmp_path / "rows.npy", rows)
    (tmp_path / "safeserve").symlink_to(os.path.abspath(os.environ["SAFESERVE"]))
    server = serve(tmp_path / "models")
    shell = "".join(text for language, text in blocks if language == "sh").replace(
        "127.0.0.1:8080", f"127.0.0.1:{server.port}"
    )
    done = subprocess.run(["bash", "-euc", shell], **run)
    assert done.returncode == 0, done.stderr
    assert '{"predictions":[[' in done.stdout
    for name in ("name", "other"):
        assert f"version 1 of {name}\n" in done.stdout
