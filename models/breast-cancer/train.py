"""Trains the breast-cancer sample: a Keras functional model that normalises its own input.

Run: python models/breast-cancer/train.py
"""

import json
from pathlib import Path

import keras
import numpy as np
from keras import layers
from safetensors.numpy import save_file
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import train_test_split

FOLDER = Path(__file__).parent


def split() -> list[np.ndarray]:
    """Rows to train on, held-out rows, and the classes of both."""
    data = load_breast_cancer()
    return train_test_split(
        data.data.astype(np.float32),
        data.target,
        test_size=0.2,
        random_state=0,
        stratify=data.target,
    )


def train(rows: np.ndarray, classes: np.ndarray) -> keras.Model:
    keras.utils.set_random_seed(0)
    normalization = layers.Normalization()
    normalization.adapt(rows)
    features = keras.Input((30,), name="features")
    x = normalization(features)
    # The weight decay keeps the answers away from a certainty that 569 rows cannot back.
    for units in (16, 8):
        x = layers.Dense(units, activation="relu", kernel_regularizer=keras.regularizers.L2(0.01))(
            x
        )
        x = layers.Dropout(0.2)(x)
    probability = layers.Dense(1, activation="sigmoid", name="benign")(x)
    model = keras.Model(features, probability, name="breast_cancer")
    model.compile("adam", loss="binary_crossentropy")
    model.fit(rows, classes, batch_size=32, epochs=60, verbose=0)
    return model


def save(model: keras.Model, folder: Path) -> None:
    """Writes what Keras calls the model, and its weights by Keras' own names."""
    data = load_breast_cancer()
    ours = {
        "description": "Malignant or benign, from 30 measurements of cell nuclei.",
        "task": {"type": "binary-classification", "threshold": 0.5},
        "labels": data.target_names.tolist(),
        "feature_names": [name.replace(" ", "_") for name in data.feature_names],
    }
    config = ours | json.loads(model.to_json())
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({w.path: np.asarray(w) for w in model.weights}, folder / "model.safetensors")


def main() -> None:
    rows, held_out, classes, held_out_classes = split()
    model = train(rows, classes)
    save(model, FOLDER / "1")
    # A malignant and a benign one, in the shortest digits that name the same 32-bit numbers.
    example = {"instances": [[float(str(value)) for value in row] for row in held_out[2:4]]}
    (FOLDER / "example.json").write_text(json.dumps(example) + "\n")
    answers = model.predict(held_out, verbose=0)[:, 0] > 0.5
    print(f"held-out accuracy {np.mean(answers == held_out_classes):.4f} ({len(held_out)} rows)")


if __name__ == "__main__":
    main()
