"""Trains the iris sample: scikit-learn's StandardScaler and MLPClassifier.

Run: python models/iris/train.py
"""

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file
from sklearn.datasets import load_iris
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

FOLDER = Path(__file__).parent
CONFIG = """\
{
  "model_type": "sequential",
  "description": "Species of an iris from four lengths in centimetres.",
  "task": "multiclass-classification",
  "labels": ["setosa", "versicolor", "virginica"],
  "feature_names": ["sepal_length", "sepal_width", "petal_length", "petal_width"],
  "inputs": [{"name": "features", "shape": [4], "datatype": "FP32"}],
  "layers": [
    {"type": "normalization", "name": "scaler",
     "weights": {"mean": "scaler.mean_", "scale": "scaler.scale_"}},
    {"type": "dense", "name": "hidden", "units": 16, "activation": "relu",
     "kernel_layout": "in_out", "weights": {"kernel": "mlp.coefs_.0", "bias": "mlp.intercepts_.0"}},
    {"type": "dense", "name": "output", "units": 3, "activation": "softmax",
     "kernel_layout": "in_out", "weights": {"kernel": "mlp.coefs_.1", "bias": "mlp.intercepts_.1"}}
  ]
}
"""


def split() -> list[np.ndarray]:
    """Rows to train on, held-out rows, and the classes of both."""
    rows, classes = load_iris(return_X_y=True)
    return train_test_split(rows, classes, test_size=0.3, random_state=0, stratify=classes)


def train(rows: np.ndarray, classes: np.ndarray) -> Pipeline:
    mlp = MLPClassifier([16], solver="lbfgs", alpha=0.1, max_iter=1000, random_state=0)
    return make_pipeline(StandardScaler(), mlp).fit(rows, classes)


def save(model: Pipeline, folder: Path) -> None:
    """Writes the scaler and the layers under scikit-learn's names, in its 64 bits."""
    scaler, mlp = model[0], model[1]
    weights = {"scaler.mean_": scaler.mean_, "scaler.scale_": scaler.scale_}
    for layer, (kernel, bias) in enumerate(zip(mlp.coefs_, mlp.intercepts_, strict=True)):
        # safetensors wants rows in C order; lbfgs leaves views of one long vector.
        weights[f"mlp.coefs_.{layer}"] = np.ascontiguousarray(kernel)
        weights[f"mlp.intercepts_.{layer}"] = np.ascontiguousarray(bias)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(CONFIG)
    save_file(weights, folder / "model.safetensors")


def main() -> None:
    rows, held_out, classes, held_out_classes = split()
    model = train(rows, classes)
    save(model, FOLDER / "1")
    example = {"instances": held_out[1:3].tolist()}  # a virginica and a setosa
    (FOLDER / "example.json").write_text(json.dumps(example) + "\n")
    accuracy = model.score(held_out, held_out_classes)
    print(f"held-out accuracy {accuracy:.4f} ({len(held_out)} rows)")


if __name__ == "__main__":
    main()
