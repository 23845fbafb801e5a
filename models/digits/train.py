"""Trains the digits sample with PyTorch, in two versions.

Run: python models/digits/train.py
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn

FOLDER = Path(__file__).parent
# The layers are in the order of `network`, so their names are the indices that PyTorch gives them.
CONFIG = """\
{
  "model_type": "sequential",
  "description": "Handwritten digit from 8x8 pixels, row by row, each 0 (white) to 16 (black).",
  "task": "multiclass-classification",
  "labels": ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"],
  "inputs": [{"name": "pixels", "shape": [64], "datatype": "FP32"}],
  "layers": [
    {"type": "dense", "units": 256},
    {"type": "activation", "function": "relu"},
    {"type": "dense", "units": 128},
    {"type": "activation", "function": "relu"},
    {"type": "dense", "units": 10},
    {"type": "activation", "function": "softmax"}
  ]
}
"""
# Version 2 sees the training rows longer, and each time moved by up to one pixel.
EPOCHS = {"1": 4, "2": 60}
SHIFTED = {"1": False, "2": True}


def network() -> nn.Sequential:
    """The untrained network; its `state_dict` names the tensors `0.weight` to `4.bias`."""
    return nn.Sequential(
        nn.Linear(64, 256),
        nn.ReLU(),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Linear(128, 10),
        nn.Softmax(dim=-1),
    )


def split() -> list[np.ndarray]:
    """Rows to train on, held-out rows, and the classes of both."""
    rows, classes = load_digits(return_X_y=True)
    return train_test_split(
        rows.astype(np.float32), classes, test_size=0.2, random_state=0, stratify=classes
    )


def shift(rows: torch.Tensor) -> torch.Tensor:
    """Moves all images of a batch by the same random -1..=1 pixels down and across."""
    down, across = torch.randint(-1, 2, (2,)).tolist()
    images = nn.functional.pad(rows.view(-1, 8, 8), (1, 1, 1, 1))
    return images[:, 1 - down : 9 - down, 1 - across : 9 - across].reshape(-1, 64)


def train(rows: torch.Tensor, classes: torch.Tensor, epochs: int, shifted: bool) -> nn.Sequential:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = network()
    logits = model[:-1]
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1)
    loss = nn.CrossEntropyLoss(label_smoothing=0.05)
    for _ in range(epochs):
        for batch in torch.randperm(len(rows)).split(32):
            seen = shift(rows[batch]) if shifted else rows[batch]
            optimizer.zero_grad()
            loss(logits(seen), classes[batch]).backward()
            optimizer.step()
    return model.eval()


def save(model: nn.Sequential, folder: Path) -> None:
    """Writes CONFIG and the tensors under PyTorch's own names."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(CONFIG)
    save_file(model.state_dict(), folder / "model.safetensors")


def main() -> None:
    rows, held_out, classes, held_out_classes = split()
    example = {"instances": held_out[:1].astype(int).tolist()}
    (FOLDER / "example.json").write_text(json.dumps(example) + "\n")
    for version, epochs in EPOCHS.items():
        model = train(torch.from_numpy(rows), torch.from_numpy(classes), epochs, SHIFTED[version])
        save(model, FOLDER / version)
        with torch.inference_mode():
            answers = model(torch.from_numpy(held_out)).argmax(1).numpy()
        accuracy = np.mean(answers == held_out_classes)
        print(f"version {version}: held-out accuracy {accuracy:.4f} ({len(held_out)} rows)")


if __name__ == "__main__":
    main()
