"""Trains the smallest sample: two rows, two classes, three Dense layers of Keras.

Run: python models/hello-keras/train.py
"""

import json
from pathlib import Path

import keras
import numpy as np
from keras import layers
from safetensors.numpy import save_file

FOLDER = Path(__file__).parent
ROWS = np.array([[1, 0, 1], [1, 1, 0]], np.float32)
CLASSES = np.array([[0], [1]], np.float32)


def train() -> keras.Model:
    """Fits the network to the two rows until it is sure of both."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((3,), name="features"),
            layers.Dense(10, activation="sigmoid"),
            layers.Dense(10, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.5), loss="binary_crossentropy")
    model.fit(ROWS, CLASSES, epochs=300, shuffle=False, verbose=0)
    return model


def save(model: keras.Model, folder: Path) -> None:
    """Writes what Keras calls the model, and its weights by Keras' own names."""
    ours = {
        "description": "Three Dense layers fitted to two rows.",
        "task": {"type": "binary-classification", "threshold": 0.5},
        "labels": ["class 0", "class 1"],
    }
    config = ours | json.loads(model.to_json())
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file({w.path: np.asarray(w) for w in model.weights}, folder / "model.safetensors")


def main() -> None:
    model = train()
    save(model, FOLDER)
    example = {"instances": [[1, 1, 1]]}
    (FOLDER / "example.json").write_text(json.dumps(example) + "\n")
    for row in [*ROWS.tolist(), *example["instances"]]:
        [[probability]] = model.predict(np.array([row], np.float32), verbose=0)
        print(f"{row} -> {probability:.4f}, class {int(probability > 0.5)}")


if __name__ == "__main__":
    main()
