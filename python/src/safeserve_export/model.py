"""A model as the exporters pass it to the writer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from .errors import ExportError

Array: TypeAlias = npt.NDArray[Any]
Json: TypeAlias = dict[str, Any]
Task: TypeAlias = str | Mapping[str, Any]
Rows: TypeAlias = Any
"""Rows for a model: one array for its only input, a sequence with one an input, or a mapping by name."""

TASKS = ("binary-classification", "multiclass-classification", "regression", "none")

CHECK_ROWS = 100
"""Rows that are made up if too few are given to compare."""


@dataclass(frozen=True)
class Model:
    """What is written: a configuration, its weights, and what the original answers to some rows."""

    config: Json
    weights: Mapping[str, Array]
    inputs: Mapping[str, Array]
    """By input: rows to compare, F32, the rows first."""
    answers: Mapping[str, Array]
    """By output: what the original answers to them."""
    example: Mapping[str, Array]
    """By input: one or two rows for `example.json`."""


@dataclass(frozen=True)
class Ending:
    """What is known of a model's first output before anybody says what it means."""

    shape: tuple[int, ...]
    """Of one row."""
    function: str | None = None
    """`softmax` or `sigmoid`, if that is what computes it."""
    task: Task | None = None
    """What the framework itself says that it means."""
    labels: Sequence[object] | None = None
    """What the framework itself calls the classes."""

    @property
    def numbers(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True)
class Meaning:
    """What the numbers of a model mean: the keys that all families share."""

    task: Task | None = None
    labels: Sequence[object] | None = None
    feature_names: Sequence[object] | None = None
    description: str | None = None

    def keys(self, inputs: Mapping[str, tuple[int, ...]], ending: Ending) -> Json:
        """The keys of `config.json`, for inputs of these shapes (of one row) and this output."""
        labels = self.labels if self.labels is not None else ending.labels
        task = self._task(ending, labels)
        keys: Json = {"task": task} if task != "none" else {}
        if labels is not None:
            keys["labels"] = _names("labels", labels, _classes(task, ending))
        if self.feature_names is not None:
            keys["feature_names"] = _names("feature_names", self.feature_names, _features(inputs))
        if self.description is not None:
            keys["description"] = self.description
        return keys

    def _task(self, ending: Ending, labels: Sequence[object] | None) -> Task:
        if self.task is not None:
            return _known(self.task)
        if ending.task is not None:
            return ending.task
        numbers, function = ending.numbers, ending.function
        if numbers == 1 and function == "sigmoid":
            return "binary-classification"
        if len(ending.shape) == 1 and numbers > 1 and function == "softmax":
            return "multiclass-classification"
        if labels is None:
            return "none"
        if numbers == 1 and len(labels) == 2:
            # Neither a sigmoid nor a softmax: a logit, whose sign decides.
            return {"type": "binary-classification", "threshold": 0}
        if len(ending.shape) == 1 and numbers == len(labels):
            return "multiclass-classification"
        raise ExportError(
            f"labels: {len(labels)} names do not tell what an output of shape {list(ending.shape)} "
            "means; give the task too"
        )


def _known(task: Task) -> Task:
    kind = task if isinstance(task, str) else task.get("type")
    if kind not in TASKS:
        raise ExportError(f"task: expected one of {', '.join(TASKS)}, got {kind!r}")
    if isinstance(task, str):
        return task
    unknown = [key for key in task if key not in ("type", "threshold")]
    if unknown or ("threshold" in task and kind != "binary-classification"):
        raise ExportError(
            f"task: expected {{'type': 'binary-classification', 'threshold': NUMBER}} or a name, got {dict(task)!r}"
        )
    return dict(task)


def _classes(task: Task, ending: Ending) -> int:
    kind = task if isinstance(task, str) else task["type"]
    if kind not in TASKS[:2]:
        raise ExportError(
            f"labels: only classifiers have labels, the task is {kind!r}; expected "
            "'binary-classification' or 'multiclass-classification'"
        )
    return 2 if kind == "binary-classification" else ending.numbers


def _features(inputs: Mapping[str, tuple[int, ...]]) -> int:
    shapes = list(inputs.values())
    if len(shapes) != 1 or len(shapes[0]) != 1:
        described = ", ".join(f"{name} {list(shape)}" for name, shape in inputs.items())
        raise ExportError(
            f"feature_names: expected a model of one input with one axis after the rows, it has: {described}"
        )
    return shapes[0][0]


def _names(key: str, names: Sequence[object], count: int) -> list[str]:
    texts = [str(name) for name in names]
    if len(texts) != count:
        raise ExportError(f"{key}: expected {count}, got {len(texts)}: {', '.join(texts)}")
    twice = sorted({name for name in texts if texts.count(name) > 1})
    if twice:
        raise ExportError(f"{key}: {twice[0]!r} appears twice; each needs its own")
    return texts


def by_input(rows: Rows, shapes: Mapping[str, tuple[int, ...]], what: str) -> dict[str, Array]:
    """Rows by input as F32, checked against the shapes of one row; `what` names them in errors."""
    if isinstance(rows, Mapping):
        named = {str(name): values for name, values in rows.items()}
    elif len(shapes) > 1 and isinstance(rows, (list, tuple)) and len(rows) == len(shapes):
        named = dict(zip(shapes, rows))
    elif len(shapes) == 1:
        only = rows[0] if isinstance(rows, tuple) and len(rows) == 1 else rows
        named = dict.fromkeys(shapes, only)
    else:
        raise ExportError(f"{what}: expected rows for {len(shapes)} inputs: {', '.join(shapes)}")
    if named.keys() != shapes.keys():
        raise ExportError(f"{what}: expected the inputs {', '.join(shapes)}, got {', '.join(named)}")
    arrays = {name: _rows(named[name], shape, f"{what}: {name}") for name, shape in shapes.items()}
    counts = {len(array) for array in arrays.values()}
    if len(counts) != 1:
        raise ExportError(f"{what}: expected as many rows for each input, got {sorted(counts)}")
    return arrays


def _rows(values: Any, shape: tuple[int, ...], what: str) -> Array:
    try:
        array = np.asarray(values, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise ExportError(f"{what}: expected numbers of shape {['rows', *shape]}: {error}") from error
    if array.shape[1:] != shape or array.ndim != len(shape) + 1 or len(array) == 0:
        expected = ", ".join(["rows", *map(str, shape)])
        raise ExportError(f"{what}: expected shape [{expected}], got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ExportError(f"{what}: expected finite 32-bit numbers, got NaN or an infinity")
    return np.ascontiguousarray(array)


@dataclass(frozen=True)
class Samples:
    """The rows that an export is compared by, and those that it shows as an example."""

    inputs: dict[str, Array]
    example: dict[str, Array]

    @classmethod
    def of(
        cls,
        shapes: Mapping[str, tuple[int, ...]],
        example: Rows | None,
        check_rows: Rows | None,
        around: tuple[Array, Array] | None = None,
    ) -> Samples:
        """The rows given, else as many made up: normally distributed, around a mean and a deviation for
        each feature where they are known."""
        shown = None if example is None else by_input(example, shapes, "example")
        if check_rows is not None:
            inputs = by_input(check_rows, shapes, "check_rows")
        else:
            inputs = _made_up(shapes, around)
            if shown is not None:
                inputs = {name: np.concatenate([shown[name], rows]) for name, rows in inputs.items()}
        source = inputs if shown is None else shown
        return cls(inputs, {name: rows[:2] for name, rows in source.items()})


def _made_up(shapes: Mapping[str, tuple[int, ...]], around: tuple[Array, Array] | None) -> dict[str, Array]:
    random = np.random.default_rng(0)
    rows = {name: random.standard_normal((CHECK_ROWS, *shape)) for name, shape in shapes.items()}
    if around is not None:
        mean, deviation = around
        rows = {name: mean + deviation * values for name, values in rows.items()}
    return {name: values.astype(np.float32) for name, values in rows.items()}
