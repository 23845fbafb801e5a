"""Exports Keras, PyTorch and scikit-learn models for safeserve.

Each exporter writes a complete model directory, runs it with `safeserve check --compare` and compares its
answers with the original's, before the directory is moved to its place. What cannot be exported is named,
all at once, before anything is written.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from .directory import Exported
from .errors import CheckError, ExportError, Fault, UnsupportedError
from .model import Meaning, Rows, Task

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

__version__ = "0.1.0"

__all__ = [
    "CheckError",
    "ExportError",
    "Exported",
    "Fault",
    "UnsupportedError",
    "export_keras",
    "export_sklearn",
    "export_torch",
]

Path = str | os.PathLike[str]

TOLERANCE = 1e-5


def export_keras(
    model: Any,
    path: Path,
    *,
    labels: Sequence[object] | None = None,
    feature_names: Sequence[object] | None = None,
    task: Task | None = None,
    description: str | None = None,
    example: Rows | None = None,
    check_rows: Rows | None = None,
    check: bool = True,
    tolerance: float = TOLERANCE,
    program: Path | None = None,
) -> Exported:
    """Exports a Sequential or functional model of Keras 3 to `models/NAME`.

    A final softmax makes a multiclass, a final sigmoid of one unit a binary classifier; `task` says
    otherwise. `example` holds rows for `example.json`, `check_rows` those to compare by; either is one
    array, a list with one an input, or a mapping by the inputs' names. Rows that are not given are made up.

    Raises `UnsupportedError` with all layers that cannot be exported, `CheckError` if the exported model
    answers otherwise than this one by more than `tolerance + tolerance * |answer|`, and `ExportError`
    for anything else. Nothing is written then.
    """
    from .directory import publish
    from .from_keras import read

    meaning = Meaning(task, labels, feature_names, description)
    return publish(read(model, meaning, example, check_rows), path, check, tolerance, program)


def export_torch(
    module: torch.nn.Module,
    path: Path,
    example: Rows,
    *,
    labels: Sequence[object] | None = None,
    feature_names: Sequence[object] | None = None,
    task: Task | None = None,
    description: str | None = None,
    check_rows: Rows | None = None,
    check: bool = True,
    tolerance: float = TOLERANCE,
    program: Path | None = None,
) -> Exported:
    """Exports a module of PyTorch that torch.fx can trace to `models/NAME`.

    `example` holds rows as `forward` takes them: a tensor or array, a tuple with one an argument, or a
    mapping by the arguments' names; the server's inputs have these names. The module is exported as it
    computes when evaluating, and left in the mode that it is in.

    The rest is as for `export_keras`.
    """
    from .directory import publish
    from .from_torch import read

    meaning = Meaning(task, labels, feature_names, description)
    return publish(read(module, meaning, example, check_rows), path, check, tolerance, program)


def export_sklearn(
    estimator: Any,
    path: Path,
    *,
    labels: Sequence[object] | None = None,
    feature_names: Sequence[object] | None = None,
    task: Task | None = None,
    description: str | None = None,
    example: Rows | None = None,
    check_rows: Rows | None = None,
    check: bool = True,
    tolerance: float = TOLERANCE,
    program: Path | None = None,
) -> Exported:
    """Exports a fitted estimator of scikit-learn, or a pipeline of scalers and one, to `models/NAME`.

    Labels come from `classes_`, feature names from `feature_names_in_`. The served model answers what
    `predict_proba` does (of a binary classifier the probability of the second class), `decision_function`
    where there is no such method, or `predict` of a regressor.

    The rest is as for `export_keras`.
    """
    from .directory import publish
    from .from_sklearn import read

    meaning = Meaning(task, labels, feature_names, description)
    return publish(read(estimator, meaning, example, check_rows), path, check, tolerance, program)
