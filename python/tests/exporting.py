"""What the tests of the exporters have in common.

An exporter runs what it exported and compares: an export that returns has passed, with the real program.
`planted` shows that one with other weights does not.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow and triton, which PyTorch imports where it finds it, each bring an LLVM, and the second that is
# loaded aborts the process. Nothing here needs triton.
sys.modules["triton"] = None

from safeserve_export import Exported  # noqa: E402

TOLERANCE = "tolerance 1e-5 + 1e-5 * |expected|"


def config_of(exported: Exported) -> dict[str, Any]:
    """The configuration that was written; the export was compared, in every output."""
    config = json.loads((exported.path / "config.json").read_text())
    lines = exported.report.splitlines()
    assert lines[-1] == f"every answer is as expected, {TOLERANCE}", exported.report
    outputs = config.get("outputs") or config["config"].get("output_layers") or [None]
    assert len(lines) - 1 == len(outputs), exported.report
    return config


def kinds(exported: Exported) -> list[str]:
    """The layers of the family `sequential`: their types, of activations the functions."""
    return [layer.get("function", layer["type"]) for layer in config_of(exported)["layers"]]


def wide(*shape: int, rows: int = 64) -> np.ndarray:
    """Rows that meet both ends of the activations: zero, knees, up to 30 either way."""
    values = np.concatenate(
        [[0, -0.0, 0.5, -0.5, 1, -1, 3, -3, 6, -6], np.linspace(-30, 30, rows * int(np.prod(shape)) - 10)]
    )
    return np.random.default_rng(0).permutation(values).astype(np.float32).reshape(rows, *shape)


def nothing_in(place: Path) -> bool:
    """Whether a directory holds nothing, hidden files among it."""
    return not place.exists() or not list(place.iterdir())
