"""A network in the words of the server's family `sequential`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .errors import ExportError
from .model import Array, Ending, Json, Meaning, Model, Samples
from .names import ACTIVATIONS, LAYERS

NOTICED = 2.0**-22
"""Deviations by which the rounding of a mean may move a feature: a few units in the last place of 1."""


class Network:
    """Layers with their weights, in running order. Each layer names what goes into it, and each weight has
    its layer's name before its own: weights that layers share are stored once for each."""

    def __init__(self, inputs: Mapping[str, tuple[int, ...]]) -> None:
        self.inputs = dict(inputs)
        self.layers: list[Json] = []
        self.weights: dict[str, Array] = {}
        self._names = set(inputs)

    def add(
        self,
        kind: str,
        name: str,
        inputs: Sequence[str],
        weights: Mapping[str, Array] | None = None,
        **keys: Any,
    ) -> str:
        """Adds a layer of this type, with this name if it is free; gives the name that it has."""
        name = self._free(name)
        assert kind in LAYERS, f"the server has no layer {kind!r}"
        assert set(weights or ()) <= set(LAYERS[kind]), f"{kind} has other weights than {list(weights or ())}"
        self.layers.append({"type": kind, "name": name, "inputs": list(inputs), **keys})
        for role, values in (weights or {}).items():
            self.weights[f"{name}.{role}"] = _stored(f"{name}.{role}", values)
        return name

    def dense(self, name: str, source: str, weight: Array, bias: Array | None, **keys: Any) -> str:
        """x · weightᵀ + bias; `weight` is [outputs, inputs]."""
        weights = {"weight": weight}
        if bias is not None:
            weights["bias"] = bias
        if bias is None:
            keys = {"use_bias": False, **keys}
        return self.add("dense", name, [source], weights, units=len(weight), **keys)

    def standardise(self, name: str, source: str, mean: Array, scale: Array) -> str:
        """(x - mean) / scale, one of each a column; the server never folds it into another layer."""
        high = mean.astype(np.float32).astype(np.float64)
        low = mean - high
        if (np.abs(low) > NOTICED * np.abs(scale)).any():
            # A mean that is large next to the deviation has too few digits in 32 bits: the rest is subtracted
            # separately.
            source = self.add(
                "normalization", f"{name}.coarse", [source], {"mean_": high, "scale_": np.ones_like(high)}
            )
            high = low
        return self.add("normalization", name, [source], {"mean_": high, "scale_": scale})

    def rescale(self, name: str, source: str, scale: Any = 1.0, offset: Any = 0.0) -> str:
        """x · scale + offset: each a number, or one a column."""
        keys = {
            key: _single(name, values)
            for key, values, neutral in (("scale", scale, 1.0), ("offset", offset, 0.0))
            if np.ndim(values) > 0 or values != neutral
        }
        return self.add("rescaling", name, [source], **keys)

    def activation(self, name: str, source: str, function: str, **parameters: float) -> str:
        assert function in ACTIVATIONS, f"the server has no function {function!r}"
        return self.add("activation", name, [source], None, function=function, **parameters)

    def model(
        self,
        outputs: Mapping[str | None, str],
        meaning: Meaning,
        ending: Ending,
        samples: Samples,
        answers: Sequence[Array],
    ) -> Model:
        """The model of this network. `outputs` gives each output the layer that computes it; one that has no
        name (`None`) gets the one that its task gives it, or `scores` for a classifier's that is none."""
        keys = meaning.keys(self.inputs, ending)
        named = {name or _output_name(keys.get("task"), ending): layer for name, layer in outputs.items()}
        config = {
            "model_type": "sequential",
            **keys,
            "inputs": [{"name": name, "shape": list(shape)} for name, shape in self.inputs.items()],
            "layers": self.layers,
            "outputs": [{"name": name, "layer": layer} for name, layer in named.items()],
        }
        return Model(config, self.weights, samples.inputs, dict(zip(named, answers, strict=True)), samples.example)

    def _free(self, wanted: str) -> str:
        name, count = wanted, 1
        while name in self._names:
            count += 1
            name = f"{wanted}_{count}"
        self._names.add(name)
        return name


def _output_name(task: Any, ending: Ending) -> str:
    kind = task.get("type") if isinstance(task, Mapping) else task
    if kind is None or kind == "none":
        return "output"
    if kind == "regression":
        return "prediction"
    # What is no probability should not be called one.
    return "probabilities" if ending.function is not None else "scores"


def _stored(name: str, values: Array) -> Array:
    """A weight as it is stored: F64, F32 or F16, finite."""
    array = np.asarray(values)
    if array.dtype not in (np.float64, np.float32, np.float16):
        array = array.astype(np.float64)
    with np.errstate(over="ignore"):
        if not np.isfinite(array.astype(np.float32)).all():
            raise ExportError(f"weight {name!r} holds NaN, an infinity, or a number too large for 32 bits")
    return array


def _single(name: str, values: Any) -> Any:
    array = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore"):
        if not np.isfinite(array.astype(np.float32)).all():
            raise ExportError(f"layer {name!r} rescales by NaN, an infinity, or a number too large for 32 bits")
    return array.tolist()
