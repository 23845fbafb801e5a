"""ONNX files of the frameworks' own exporters: imported, served, and equal to what the framework answers."""

import json
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from conftest import post

ROWS = 100
TOLERANCE = 1e-5


def digits() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.data.astype(np.float32) / 16, data.target


def iris() -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import load_iris

    data = load_iris()
    return data.data.astype(np.float32), data.target


def held_out(x: np.ndarray) -> np.ndarray:
    """As many rows, drawn from all of the data and moved a little, so that none was trained on."""
    random = np.random.default_rng(7)
    chosen = x[random.integers(0, len(x), ROWS)]
    return (chosen + random.normal(0, 0.05, chosen.shape)).astype(np.float32)


def answers(server, model: str, rows: np.ndarray, output: str) -> np.ndarray:
    """What the server answers to rows of a model with one input."""
    metadata = json.loads(server_get(server, f"/v2/models/{model}"))
    name = metadata["inputs"][0]["name"]
    tensor = {"name": name, "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
    status, answer = post(server, f"/v2/models/{model}/infer", {"inputs": [tensor]})
    assert status == 200, answer
    given = {output["name"]: output for output in answer["outputs"]}[output]
    return np.array(given["data"]).reshape(given["shape"])


def server_get(server, path: str) -> bytes:
    import urllib.request

    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=30) as response:
        return response.read()


def check(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.shape == expected.shape
    assert len(actual) == ROWS
    np.testing.assert_allclose(actual, expected, rtol=TOLERANCE, atol=TOLERANCE)


def outputs(file: Path) -> list[str]:
    return [output.name for output in onnx.load(file, load_external_data=False).graph.output]


def test_keras_through_tf2onnx(run, serve, tmp_path: Path) -> None:
    import keras
    import tensorflow as tf
    import tf2onnx

    x, y = digits()
    keras.utils.set_random_seed(3)
    image = keras.Input((8, 8), name="image")
    flat = keras.layers.Flatten()(image)
    hidden = keras.layers.Dense(32, activation="relu")(flat)
    hidden = keras.layers.BatchNormalization()(hidden)
    skip = keras.layers.Dense(32, activation="tanh")(flat)
    hidden = keras.layers.Add()([hidden, skip])
    hidden = keras.layers.LayerNormalization()(hidden)
    model = keras.Model(image, keras.layers.Dense(10, activation="softmax")(hidden))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x.reshape(-1, 8, 8), y, epochs=2, verbose=0)
    file = tmp_path / "digits.onnx"
    signature = (tf.TensorSpec((None, 8, 8), tf.float32, name="image"),)
    function = tf.function(lambda image: model(image, training=False), input_signature=signature)
    tf2onnx.convert.from_function(function, signature, output_path=str(file))

    run("import", file, "--out", tmp_path / "models" / "digits", "--task", "multiclass-classification")
    rows = held_out(x).reshape(-1, 8, 8)
    expected = model.predict(rows, verbose=0)
    server = serve(tmp_path / "models")
    check(answers(server, "digits", rows, outputs(file)[0]), expected)


def torch_network():
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(64, 48)
            self.norm = nn.BatchNorm1d(48)
            self.second = nn.Linear(48, 48)
            self.layer_norm = nn.LayerNorm(48)
            self.slope = nn.PReLU()
            self.head = nn.Linear(96, 10)

        def forward(self, x):
            x = x.flatten(1)
            hidden = nn.functional.gelu(self.norm(self.first(x)))
            skip = hidden + nn.functional.silu(self.second(hidden))
            both = torch.cat([self.layer_norm(skip), self.slope(hidden)], dim=1)
            return torch.softmax(self.head(both) * 0.5 - 0.1, dim=-1)

    torch.manual_seed(5)
    network = Network()
    x, y = digits()
    inputs, labels = torch.from_numpy(x).reshape(-1, 8, 8), torch.from_numpy(y)
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        nn.functional.nll_loss(network(inputs).clamp_min(1e-9).log(), labels).backward()
        optimizer.step()
    return network.eval()


@pytest.mark.parametrize("exporter", ["dynamo", "torchscript"])
def test_pytorch_through_torch_onnx(run, serve, tmp_path: Path, exporter: str) -> None:
    import torch

    network = torch_network()
    example = torch.zeros(2, 8, 8)
    file = tmp_path / "digits.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = {"input_names": ["image"], "output_names": ["probabilities"]}
        if exporter == "dynamo":
            rows = torch.export.Dim("rows")
            torch.onnx.export(network, (example,), str(file), dynamo=True, dynamic_shapes=({0: rows},), **names)
        else:
            axes = {"image": {0: "rows"}}
            torch.onnx.export(network, (example,), str(file), dynamo=False, dynamic_axes=axes, **names)

    labels = ",".join(map(str, range(10)))
    run("import", file, "--out", tmp_path / "models" / "digits", "--labels", labels)
    x, _ = digits()
    rows = held_out(x).reshape(-1, 8, 8)
    with torch.no_grad():
        expected = network(torch.from_numpy(rows)).numpy()
    server = serve(tmp_path / "models")
    check(answers(server, "digits", rows, "probabilities"), expected)
    status, answer = post(server, "/v1/models/digits:predict", {"instances": rows[:1].tolist()})
    assert status == 200 and len(answer["predictions"]) == 1


def estimators() -> dict:
    from sklearn.linear_model import LinearRegression, LogisticRegression
    from sklearn.neural_network import MLPClassifier, MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, StandardScaler

    return {
        "mlp": make_pipeline(StandardScaler(), MLPClassifier(hidden_layer_sizes=(16,), max_iter=300, random_state=1)),
        "logistic": make_pipeline(MinMaxScaler(), LogisticRegression()),
        "two": make_pipeline(StandardScaler(), MLPClassifier(hidden_layer_sizes=(8,), max_iter=300, random_state=1)),
        "linear": make_pipeline(StandardScaler(), LinearRegression()),
        "regressor": make_pipeline(StandardScaler(), MLPRegressor(hidden_layer_sizes=(8,), max_iter=300, random_state=1)),
    }


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "zipmap"),
    [(name, zipmap) for name in ["mlp", "logistic", "two"] for zipmap in [False, True]]
    # Only classifiers have maps.
    + [("linear", False), ("regressor", False)],
)
def test_scikit_learn_through_skl2onnx(run, serve, tmp_path: Path, name: str, zipmap: bool) -> None:
    from skl2onnx import to_onnx

    estimator = estimators()[name]
    x, y = iris()
    target = {"two": y == 0, "linear": x.sum(1) + y, "regressor": x.sum(1) + y}.get(name, np.array(["a", "b", "c"])[y])
    estimator.fit(x, target)
    is_classifier = hasattr(estimator, "predict_proba")
    options = {"zipmap": zipmap} if is_classifier else None
    model = to_onnx(estimator, x[:1], options=options)
    file = tmp_path / "iris.onnx"
    onnx.save(model, file)

    done = run("import", file, "--out", tmp_path / "models" / "iris")
    rows = held_out(x)
    server = serve(tmp_path / "models")
    if not is_classifier:
        expected = estimator.predict(rows).reshape(-1, 1)
        check(answers(server, "iris", rows, outputs(file)[0]), expected)
        return
    assert "is left out" in done.stdout
    check(answers(server, "iris", rows, outputs(file)[1]), estimator.predict_proba(rows))
    labels = [str(label if isinstance(label, str) else int(label)) for label in estimator.classes_.tolist()]
    _, answer = post(server, "/v1/models/iris:classify", {"examples": [{"X": rows[0].tolist()}]})
    assert [label for label, _ in answer["results"][0]] == labels


def saved(tmp_path: Path, nodes: list, initializers: dict, opset: int = 20, dims=("N", 4), out=("N", 2)) -> Path:
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, out)],
        [numpy_helper.from_array(value, name) for name, value in initializers.items()],
    )
    file = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)]), file)
    return file


def refused(run, tmp_path: Path, file: Path, *flags: str) -> str:
    done = run("import", file, "--out", tmp_path / "models" / "refused", *flags, code=1)
    # Nothing is left behind, not even hidden.
    assert not list((tmp_path / "models").iterdir()) if (tmp_path / "models").exists() else True
    assert done.stdout == ""
    return done.stderr


def test_all_missing_operators_are_named_at_once_with_how_often_they_occur(run, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"]),
        helper.make_node("Hardmax", ["a"], ["b"]),
        helper.make_node("Hardmax", ["b"], ["c"]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Mystery", ["d"], ["y"], domain="com.example"),
        # Nothing needs it, so it does not matter.
        helper.make_node("Loop", ["x"], ["unused"]),
    ]
    file = saved(tmp_path, nodes, {"w": np.zeros((1, 1), np.float32)})
    message = refused(run, tmp_path, file)
    assert "lacks operators of this model: Conv (1), Hardmax (2), com.example.Mystery (1);" in message


def test_what_does_not_fit_is_refused_with_the_node(run, tmp_path: Path) -> None:
    weight = np.zeros((3, 2), np.float32)
    for nodes, initializers, expected in [
        (
            [helper.make_node("Gemm", ["x", "w"], ["y"], name="dense")],
            {"w": weight},
            'node "dense" (Gemm): x: expected 3 features in the last axis, as the weight has, got shape [4]',
        ),
        (
            [helper.make_node("Softmax", ["x"], ["y"], name="s", axis=0)],
            {},
            'node "s" (Softmax): axis 0 is that of the rows, which never mix',
        ),
        (
            [helper.make_node("Reshape", ["x", "shape"], ["y"], name="r")],
            {"shape": np.array([-1, 2])},
            'node "r" (Reshape): its shape gives each row 2 numbers, and a row has 4: rows would mix',
        ),
        (
            [helper.make_node("Gemm", ["x", "w"], ["y"], name="g", transA=1)],
            {"w": weight},
            'node "g" (Gemm): attribute "transA": only 0 is supported, got 1',
        ),
        (
            [helper.make_node("MatMul", ["x", "missing"], ["y"], name="m")],
            {},
            'node "m" (MatMul): there is no value "missing" before it',
        ),
    ]:
        assert expected in refused(run, tmp_path, saved(tmp_path, nodes, initializers))


def test_files_that_are_no_models_are_refused(run, tmp_path: Path) -> None:
    relu = [helper.make_node("Relu", ["x"], ["y"])]
    old = saved(tmp_path, relu, {}, opset=6)
    assert "version 7 or newer, the file has 6" in refused(run, tmp_path, old)
    named = saved(tmp_path, relu, {}, dims=("N", "features"), out=("N", "features"))
    assert "--dimension features=EXTENT" in refused(run, tmp_path, named)
    run("import", named, "--out", tmp_path / "other" / "named", "--dimension", "features=4")
    assert 'there is no output "z"; the model has "y"' in refused(run, tmp_path, named, "--output", "z")

    half = tmp_path / "half.onnx"
    half.write_bytes(saved(tmp_path, relu, {}).read_bytes()[:-7])
    assert "expected an ONNX model" in refused(run, tmp_path, half)
    text = tmp_path / "text.onnx"
    text.write_text("not a model")
    assert "expected an ONNX model" in refused(run, tmp_path, text)
    assert "No such file" in refused(run, tmp_path, tmp_path / "nowhere.onnx")
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "config.json").write_text("{}")
    good = saved(tmp_path, relu, {})
    assert "model without versions" in run("import", good, "--out", plain, code=1).stderr


def test_external_data_may_not_leave_the_directory(run, tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    weight = np.arange(8, dtype=np.float32).reshape(4, 2)
    file = saved(folder, [helper.make_node("MatMul", ["x", "w"], ["y"])], {"w": weight})
    model = onnx.load(file)
    onnx.save(model, file, save_as_external_data=True, location="weights.bin", size_threshold=0)
    run("import", file, "--out", tmp_path / "other" / "external")

    weights = (folder / "weights.bin").read_bytes()
    (tmp_path / "weights.bin").write_bytes(weights)
    model = onnx.load(file, load_external_data=False)
    for location in ["../weights.bin", str(tmp_path / "weights.bin")]:
        model.graph.initializer[0].external_data[0].value = location
        file.write_bytes(model.SerializeToString())
        assert "expected a file of the model's own directory" in refused(run, tmp_path, file)
    model.graph.initializer[0].external_data[0].value = "weights.bin"
    file.write_bytes(model.SerializeToString())
    (folder / "weights.bin").write_bytes(weights[:-1])
    assert "the file has 31" in refused(run, tmp_path, file)


def test_the_next_import_is_the_next_version(run, serve, tmp_path: Path) -> None:
    for factor in [1, 2]:
        node = [helper.make_node("Mul", ["x", "f"], ["y"])]
        file = saved(tmp_path, node, {"f": np.float32([factor])}, out=("N", 4))
        run("import", file, "--out", tmp_path / "models" / "scaled", "--feature-names", "a,b,c,d")
    server = serve(tmp_path / "models")
    status, answer = post(server, "/v1/models/scaled:predict", {"instances": [{"a": 1, "b": 2, "c": 3, "d": 4}]})
    assert (status, answer) == (200, {"predictions": [[2.0, 4.0, 6.0, 8.0]]})
    status, answer = post(server, "/v1/models/scaled/versions/1:predict", {"instances": [[1, 2, 3, 4]]})
    assert (status, answer) == (200, {"predictions": [[1.0, 2.0, 3.0, 4.0]]})
