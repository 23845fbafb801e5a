"""Trains the diabetes sample: regression with PyTorch, features normalised in the network.

Run: python models/diabetes/train.py
"""

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from sklearn.datasets import load_diabetes
from sklearn.metrics import mean_absolute_error, r2_score
from sklearn.model_selection import train_test_split
from torch import nn

FOLDER = Path(__file__).parent
# The layers are in the order of `network`, so their names are the indices that PyTorch gives them.
CONFIG = """\
{
  "model_type": "sequential",
  "description": "Progression of diabetes after one year, from ten measurements at its start.",
  "task": "regression",
  "feature_names": ["age", "sex", "bmi", "blood_pressure", "total_cholesterol", "ldl", "hdl",
                    "cholesterol_ratio", "log_triglycerides", "glucose"],
  "inputs": [{"name": "features", "shape": [10], "datatype": "FP32"}],
  "layers": [
    {"type": "normalization"},
    {"type": "dense", "units": 32},
    {"type": "activation", "function": "relu"},
    {"type": "dense", "units": 16},
    {"type": "activation", "function": "relu"},
    {"type": "dense", "units": 1}
  ]
}
"""


class Normalization(nn.Module):
    """Shifts and scales each feature to mean 0 and variance 1."""

    def __init__(self, mean: torch.Tensor, variance: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return (rows - self.mean) / self.variance.sqrt()


def network() -> nn.Sequential:
    """The untrained network; its `state_dict` names the tensors `0.mean` to `5.bias`."""
    return nn.Sequential(
        Normalization(torch.zeros(10), torch.ones(10)),
        nn.Linear(10, 32),
        nn.ReLU(),
        nn.Linear(32, 16),
        nn.ReLU(),
        nn.Linear(16, 1),
    )


def split() -> list[np.ndarray]:
    """Rows to train on, held-out rows, and the targets of both."""
    rows, targets = load_diabetes(return_X_y=True, scaled=False)
    return train_test_split(
        rows.astype(np.float32), targets.astype(np.float32), test_size=0.2, random_state=0
    )


def train(rows: torch.Tensor, targets: torch.Tensor) -> nn.Sequential:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = network()
    model[0].mean.copy_(rows.mean(0))
    model[0].variance.copy_(rows.var(0, correction=0))
    # Starting at the mean target spares the network the way there.
    nn.init.constant_(model[-1].bias, targets.mean().item())
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.1)
    for _ in range(40):
        for batch in torch.randperm(len(rows)).split(32):
            optimizer.zero_grad()
            nn.functional.mse_loss(model(rows[batch])[:, 0], targets[batch]).backward()
            optimizer.step()
    return model.eval()


def save(model: nn.Sequential, folder: Path) -> None:
    """Writes CONFIG and the tensors under PyTorch's own names."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(CONFIG)
    save_file(model.state_dict(), folder / "model.safetensors")


def main() -> None:
    rows, held_out, targets, held_out_targets = split()
    model = train(torch.from_numpy(rows), torch.from_numpy(targets))
    save(model, FOLDER / "1")
    # In the shortest digits that name the same 32-bit numbers.
    example = {"instances": [[float(str(value)) for value in row] for row in held_out[:2]]}
    (FOLDER / "example.json").write_text(json.dumps(example) + "\n")
    with torch.inference_mode():
        answers = model(torch.from_numpy(held_out))[:, 0].numpy()
    r2 = r2_score(held_out_targets, answers)
    error = mean_absolute_error(held_out_targets, answers)
    print(f"held-out R2 {r2:.4f}, mean absolute error {error:.1f} ({len(held_out)} rows)")


if __name__ == "__main__":
    main()
