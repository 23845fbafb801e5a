"""What a case of tests/golden/layers/ consists of.

`config.json` and `model.safetensors` are a model as the server takes it; `golden.safetensors` holds
`input.<name>` and `output.<name>`, what the original framework answers.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

FOLDER = Path(__file__).parent / "layers"
ROWS = 16

Tensors = Mapping[str, np.ndarray | torch.Tensor]
Json = dict[str, Any]


def write(case: str, config: Json, weights: Tensors, inputs: Tensors, outputs: Tensors) -> None:
    golden = {f"input.{name}": torch.tensor(rows) for name, rows in inputs.items()}
    golden |= {f"output.{name}": torch.tensor(rows) for name, rows in outputs.items()}
    for name, tensor in golden.items():
        assert tensor.isfinite().all(), (case, name)
    folder = FOLDER / case
    folder.mkdir()
    (folder / "config.json").write_text(pretty(config))
    save_file(
        {name: torch.as_tensor(weight).contiguous() for name, weight in weights.items()},
        folder / "model.safetensors",
    )
    save_file(golden, folder / "golden.safetensors")


def pretty(config: Json) -> str:
    """JSON with a line for each layer of the sequential family, indented for Keras."""
    if config.get("model_type") != "sequential":
        return json.dumps(config, indent=1) + "\n"
    lines = []
    for key, value in config.items():
        if key == "layers":
            layers = ",\n".join(f"    {json.dumps(layer)}" for layer in value)
            lines.append(f'  "layers": [\n{layers}\n  ]')
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def random(*shape: int, seed: int = 0) -> np.ndarray:
    """Normally distributed, times 3 so that both ends of the activations are met."""
    return (3 * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def wide() -> np.ndarray:
    """Rows [16, 8]: zeros of both signs, tiny numbers, knees, up to 90, then a grid of -8..8."""
    sizes = np.array([0, 1e-38, 1e-8, 1e-3, 0.5, 1, 2.5, 3, 6, 9, 17, 20, 50, 88, 90])
    grid = np.linspace(-8, 8, ROWS * 8 - 2 * len(sizes))
    return np.concatenate([sizes, -sizes, grid]).astype(np.float32).reshape(ROWS, 8)
