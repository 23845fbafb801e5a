"""Writes what the original frameworks answer for the sample models to tests/golden/models/.

Each model is read back from its files under models/, by the framework that trained it, and asked
for held-out rows. `<name>-<version>.safetensors` then holds `input.<name>` [rows, features] F32 and
`output.<name>` [rows, outputs] in the precision that the framework computes in.

Run after models/*/train.py: python tests/golden/models.py
"""

import json
import runpy
from pathlib import Path
from typing import Any

import keras
import numpy as np
import safetensors.numpy
import safetensors.torch
import torch
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

MODELS = Path(__file__).parents[2] / "models"
FOLDER = Path(__file__).parent / "models"
ROWS = 64  # at most, of those held out


def script(name: str) -> dict[str, Any]:
    """What models/<name>/train.py defines."""
    return runpy.run_path(str(MODELS / name / "train.py"))


def keras_model(folder: Path) -> keras.Model:
    config = json.loads((folder / "config.json").read_text())
    for ours in ("description", "task", "labels", "feature_names"):
        config.pop(ours, None)
    model = keras.models.model_from_json(json.dumps(config))
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    # A Sequential prefixes its name to the paths when it is written by hand, not when read back.
    weights = {path.removeprefix(f"{model.name}/"): weight for path, weight in weights.items()}
    for variable in model.weights:
        variable.assign(weights.pop(variable.path))
    assert not weights, f"{folder}: Keras has no place for {list(weights)}"
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.finalize_state()
    return model


def torch_model(folder: Path, network: torch.nn.Sequential) -> torch.nn.Sequential:
    network.load_state_dict(safetensors.torch.load_file(folder / "model.safetensors"))
    return network.eval()


def sklearn_model(folder: Path) -> Pipeline:
    """A fitted StandardScaler and MLPClassifier (relu, softmax)."""
    weights = safetensors.numpy.load_file(folder / "model.safetensors")
    scaler, mlp = StandardScaler(), MLPClassifier()
    scaler.mean_, scaler.scale_ = weights["scaler.mean_"], weights["scaler.scale_"]
    mlp.coefs_ = [weights["mlp.coefs_.0"], weights["mlp.coefs_.1"]]
    mlp.intercepts_ = [weights["mlp.intercepts_.0"], weights["mlp.intercepts_.1"]]
    mlp.n_layers_, mlp.out_activation_ = 3, "softmax"
    mlp.n_outputs_ = len(mlp.intercepts_[-1])
    return make_pipeline(scaler, mlp)


def ask_torch(model: torch.nn.Sequential, rows: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        return model(torch.from_numpy(rows)).numpy()


def corners_and_between() -> np.ndarray:
    """The eight rows of zeros and ones, then random rows between them."""
    corners = np.array(list(np.ndindex(2, 2, 2)), np.float32)
    return np.concatenate([corners, np.random.default_rng(0).random((32, 3), np.float32)])


def write(
    model: str, input_name: str, rows: np.ndarray, output_name: str, answers: np.ndarray
) -> None:
    tensors = {f"input.{input_name}": rows, f"output.{output_name}": answers}
    for name, tensor in tensors.items():
        assert tensor.ndim == 2 and len(tensor) >= 32 and np.isfinite(tensor).all(), (model, name)
    safetensors.numpy.save_file(tensors, FOLDER / f"{model}.safetensors")


def main() -> None:
    FOLDER.mkdir(exist_ok=True)

    rows = corners_and_between()
    answers = keras_model(MODELS / "hello-keras").predict(rows, verbose=0)
    write("hello-keras-1", "features", rows, "probabilities", answers)

    rows = script("breast-cancer")["split"]()[1][:ROWS]
    answers = keras_model(MODELS / "breast-cancer/1").predict(rows, verbose=0)
    write("breast-cancer-1", "features", rows, "probabilities", answers)

    # The server takes 32-bit features, so scikit-learn is given the same numbers, in its 64 bits.
    rows = script("iris")["split"]()[1][:ROWS].astype(np.float32)
    answers = sklearn_model(MODELS / "iris/1").predict_proba(rows.astype(np.float64))
    write("iris-1", "features", rows, "probabilities", answers)

    diabetes = script("diabetes")
    rows = diabetes["split"]()[1][:ROWS]
    answers = ask_torch(torch_model(MODELS / "diabetes/1", diabetes["network"]()), rows)
    write("diabetes-1", "features", rows, "prediction", answers)

    digits = script("digits")
    rows = digits["split"]()[1][:ROWS]
    for version in digits["EPOCHS"]:
        answers = ask_torch(torch_model(MODELS / "digits" / version, digits["network"]()), rows)
        write(f"digits-{version}", "pixels", rows, "probabilities", answers)


if __name__ == "__main__":
    main()
