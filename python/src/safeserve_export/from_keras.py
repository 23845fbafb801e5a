"""Keras 3: Sequential and functional models, as family `keras`, which is Keras' own description of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from .errors import NO_COUNTERPART, ExportError, Fault, UnsupportedError, first_line
from .model import Array, Ending, Json, Meaning, Model, Rows, Samples
from .names import KERAS_ACTIVATIONS, KERAS_FUNCTION_LAYERS, KERAS_LAYERS

BATCH_ROWS = 256
"""Rows that the model is asked at a time."""

MERGES = ("Add", "Multiply", "Average", "Maximum", "Minimum", "Subtract")
"""Layers of inputs of one shape."""

OPERATIONS = {
    "Relu": "relu",
    "Relu6": "relu6",
    "Sigmoid": "sigmoid",
    "Tanh": "tanh",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "Silu": "silu",
    "Selu": "selu",
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
}
"""Operations of keras.ops that are an activation without parameters, but for the axis of the last two."""


def read(model: Any, meaning: Meaning, example: Rows | None, check_rows: Rows | None) -> Model:
    """The model as Keras describes it, its weights, and what it answers to the rows."""
    _check_kind(model)
    faults = [
        Fault(operation.name, type(operation).__name__, reason)
        for operation in _operations(model)
        if (reason := _fault(operation)) is not None
    ]
    if faults:
        raise UnsupportedError(f"{type(model).__name__} {model.name!r}", faults, KERAS_LAYERS)
    config = _config(model)
    shapes = {_origin(tensor).name: _row_shape(tensor) for tensor in model.inputs}
    ending = Ending(_row_shape(model.outputs[0]), _function(_origin(model.outputs[0])))
    keys = meaning.keys(shapes, ending)
    samples = Samples.of(shapes, example, check_rows, _around(model))
    names = _output_names(config["config"], keys)
    answers = _ask(model, samples.inputs)
    weights = {
        f"{layer.name}/{variable.name}": _stored(variable) for layer in model.layers for variable in layer.weights
    }
    return Model({**keys, **config}, weights, samples.inputs, dict(zip(names, answers, strict=True)), samples.example)


def _check_kind(model: Any) -> None:
    import keras

    kind = type(model)
    origin = kind.__module__.split(".")[0]
    if origin in ("tf_keras", "tensorflow"):
        raise ExportError(
            f"{kind.__name__} is a model of Keras 2; load its file with Keras 3, or save it as docs/models.md "
            "says under From Keras"
        )
    if not isinstance(model, keras.Model):
        raise ExportError(f"expected a keras.Sequential or a functional keras.Model, got {kind.__name__}")
    if kind is not keras.Sequential and (kind.__name__ != "Functional" or origin != "keras"):
        raise ExportError(
            f"{kind.__name__} {model.name!r} is a subclass of keras.Model: what it computes is Python code, which "
            "the server cannot run; build the network as keras.Sequential or keras.Model(inputs, outputs)"
        )
    if not model.built or not model.inputs:
        raise ExportError(
            f"{kind.__name__} {model.name!r} is not built, its input's shape is not known; begin it with "
            "keras.Input(shape) or call build"
        )


def _operations(model: Any) -> list[Any]:
    """Layers and operations of keras.ops, in running order."""
    return list(_functional(model).operations)


def _functional(model: Any) -> Any:
    """The graph of a model: a Sequential holds one, which knows its inputs before it is called."""
    return getattr(model, "_functional", None) or model


def _origin(tensor: Any) -> Any:
    """The layer or operation that computes a symbolic tensor."""
    return tensor._keras_history.operation


def _row_shape(tensor: Any) -> tuple[int, ...]:
    return tuple(int(extent) for extent in tensor.shape[1:])


def _calls(operation: Any) -> Iterator[list[tuple[int | None, ...]]]:
    """The shapes that go in, for each application."""
    for node in operation._inbound_nodes:
        yield [tuple(tensor.shape) for tensor in node.input_tensors]


def _fault(operation: Any) -> str | None:
    """Why a layer cannot be exported, or None if it can."""
    import keras

    kind = type(operation).__name__
    if isinstance(operation, keras.Model):
        return "a model inside a model; use its layers one by one"
    if not type(operation).__module__.startswith("keras."):
        return f"a class of {type(operation).__module__!r}, not of Keras"
    if not isinstance(operation, keras.layers.Layer):
        return _operation_fault(operation)
    if kind not in KERAS_LAYERS:
        return NO_COUNTERPART
    if operation.compute_dtype not in ("float32", "float64"):
        return (
            f"computes in {operation.compute_dtype}, the server in float32; build the model with the dtype policy "
            "'float32' and give it these weights"
        )
    if getattr(operation, "quantization_mode", None):
        return f"quantized to {operation.quantization_mode}; export the model before it is quantized"
    if getattr(operation, "lora_enabled", False):
        return "enable_lora; export the model without it, or with its kernel set to the sum"
    checks = {
        "InputLayer": _input_fault,
        "Normalization": _normalization_fault,
        "BatchNormalization": _axis_fault,
        "LayerNormalization": _layer_normalization_fault,
        "UnitNormalization": _axis_fault,
        "Softmax": _axis_fault,
        "ReLU": lambda layer: f"threshold={layer.threshold}; only 0 is supported" if layer.threshold else None,
        "PReLU": lambda layer: f"shared_axes={list(layer.shared_axes)}; only None" if layer.shared_axes else None,
        "Flatten": _flatten_fault,
        "Concatenate": _concatenate_fault,
        **dict.fromkeys(MERGES, _merge_fault),
    }
    if kind in checks and (reason := checks[kind](operation)) is not None:
        return reason
    return _activation_fault(operation.get_config().get("activation"))


def _operation_fault(operation: Any) -> str | None:
    kind = type(operation).__name__
    if kind in ("Add", "Multiply", "Maximum", "Minimum", "Subtract"):
        if any(len(shapes) != 2 for shapes in _calls(operation)):
            return "keras.ops with a number or an array; use the layer Rescaling"
        return _merge_fault(operation)
    if kind not in OPERATIONS:
        return "an operation of keras.ops, not a layer; use a layer of keras.layers"
    return _axis_fault(operation) if kind in ("Softmax", "LogSoftmax") else None


def _input_fault(layer: Any) -> str | None:
    shape = layer.batch_shape[1:]
    if any(extent is None for extent in shape):
        return f"shape {list(shape)} is not fixed; the server needs every extent but that of the rows"
    if "float" not in layer.dtype:
        return f"dtype {layer.dtype!r}; only floats are supported"
    return "sparse rows; only dense ones are supported" if getattr(layer, "sparse", False) else None


def _axis_fault(layer: Any) -> str | None:
    """Refuses all axes but the last."""
    said = layer.axis
    axes = list(said) if isinstance(said, (list, tuple)) else [said]
    for [shape, *_] in _calls(layer):
        if len(axes) != 1 or axes[0] not in (-1, len(shape) - 1):
            return f"axis={said}; only the last one, -1, is supported, for an input of shape {list(shape)}"
    return None


def _normalization_fault(layer: Any) -> str | None:
    if layer.invert:
        return "invert=True; only False is supported"
    return _axis_fault(layer)


def _layer_normalization_fault(layer: Any) -> str | None:
    if getattr(layer, "rms_scaling", False):
        return "rms_scaling=True; only False is supported"
    return _axis_fault(layer)


def _flatten_fault(layer: Any) -> str | None:
    if layer.data_format == "channels_first" and any(len(shape) > 2 for [shape] in _calls(layer)):
        return "data_format='channels_first', which moves axes; only 'channels_last' is supported"
    return None


def _concatenate_fault(layer: Any) -> str | None:
    return "axis=0, the rows; only axes of a row are supported" if layer.axis == 0 else None


def _merge_fault(operation: Any) -> str | None:
    for shapes in _calls(operation):
        if len(set(shapes)) > 1:
            given = " and ".join(str(list(shape)) for shape in shapes)
            return f"inputs of different shapes, {given}; only inputs of one shape are supported"
    return None


def _activation_fault(activation: Any) -> str | None:
    if activation is None or activation in KERAS_ACTIVATIONS:
        return None
    if isinstance(activation, dict) and activation.get("class_name") in KERAS_FUNCTION_LAYERS:
        config = activation.get("config", {})
        if config.get("threshold") or config.get("axis", -1) != -1:
            return f"activation {activation['class_name']} with parameters that are not supported: {config}"
        return _activation_fault(config.get("activation"))
    if isinstance(activation, str):
        return f"activation {activation!r}; expected one of {', '.join(KERAS_ACTIVATIONS)}"
    return f"an activation that is a function of one's own; expected one of {', '.join(KERAS_ACTIVATIONS)}"


def _config(model: Any) -> Json:
    """What `to_json` writes, without what only training needs, and with numbers as plain lists."""
    config: Json = json.loads(model.to_json())
    for key in ("compile_config", "build_config"):
        config.pop(key, None)
    originals = {operation.name: operation for operation in _operations(model)}
    for layer in config["config"]["layers"]:
        layer.pop("build_config", None)
        _fix_config(layer, originals.get(layer["config"]["name"]))
    if "input_layers" in config["config"]:
        for key in ("input_layers", "output_layers"):
            config["config"][key] = _references(config["config"][key])
    return config


def _fix_config(layer: Json, original: Any) -> None:
    """Writes a layer so that the server reads it."""
    kind, config = layer["class_name"], layer["config"]
    if kind == "InputLayer":
        # A fixed number of rows is one of training.
        config["batch_shape"] = [None, *config["batch_shape"][1:]]
    elif kind == "Rescaling":
        config["scale"] = np.asarray(original.scale, dtype=np.float64).tolist()
        config["offset"] = np.asarray(original.offset, dtype=np.float64).tolist()
    elif kind == "Normalization" and original.input_mean is not None:
        config["mean"] = np.asarray(original.input_mean, dtype=np.float64).tolist()
        config["variance"] = np.asarray(original.input_variance, dtype=np.float64).tolist()
    elif layer["module"].startswith("keras.src.ops"):
        layer["module"], layer["registered_name"] = "keras.layers", None
        if kind in OPERATIONS:
            layer["class_name"] = "Activation"
            layer["config"] = {"name": config["name"], "activation": OPERATIONS[kind]}


def _references(structure: Any) -> list[Any]:
    """`[[layer, node, tensor], ...]` of a structure of such, in the order of `keras.tree.flatten`."""
    if isinstance(structure, dict):
        return [leaf for key in sorted(structure) for leaf in _references(structure[key])]
    if structure and isinstance(structure[0], str):
        return [structure]
    return [leaf for part in structure for leaf in _references(part)]


def _output_names(config: Json, keys: Json) -> list[str]:
    """The outputs' names, as docs/models.md says: an only one by its task, several by their layers."""
    references = config.get("output_layers", [])
    if len(references) > 1:
        return [layer if node == 0 else f"{layer}:{node}" for layer, node, _ in references]
    task = keys.get("task", "none")
    kind = task if isinstance(task, str) else task["type"]
    return [{"none": "output", "regression": "prediction"}.get(kind, "probabilities")]


def _function(operation: Any) -> str | None:
    """`softmax` or `sigmoid`, if that is what an operation ends with."""
    kind = type(operation).__name__
    name = operation.get_config().get("activation") if hasattr(operation, "get_config") else None
    if isinstance(name, dict):
        name = name.get("class_name")
    found = {"Softmax": "softmax", "Sigmoid": "sigmoid"}.get(str(name if name is not None else kind), name)
    return found if found in ("softmax", "sigmoid") else None


def _stored(variable: Any) -> Array:
    import keras

    array = np.asarray(keras.ops.convert_to_numpy(variable))
    if array.dtype.kind == "f" or array.dtype.kind in "iu":
        return array
    # bfloat16, which NumPy has no name for.
    return array.astype(np.float32)


def _around(model: Any) -> tuple[Array, Array] | None:
    """Mean and deviation of a model's only input, if a Normalization is the first thing that it meets."""
    if len(model.inputs) != 1:
        return None
    [tensor] = model.inputs
    for layer in model.layers:
        is_first = any(node.input_tensors and node.input_tensors[0] is tensor for node in layer._inbound_nodes)
        if type(layer).__name__ == "Normalization" and is_first and layer.mean is not None:
            mean, variance = _stored(layer.mean), _stored(layer.variance)
            return mean.reshape(mean.shape[1:]), np.sqrt(variance.reshape(variance.shape[1:]))
    return None


def _ask(model: Any, inputs: dict[str, Array]) -> list[Array]:
    """What the model answers, each output in one array."""
    import keras

    count = len(next(iter(inputs.values())))
    structure = _functional(model)._inputs_struct
    parts: list[list[Array]] = []
    for start in range(0, count, BATCH_ROWS):
        rows = [keras.ops.convert_to_tensor(values[start : start + BATCH_ROWS]) for values in inputs.values()]
        try:
            answer = model(keras.tree.pack_sequence_as(structure, rows), training=False)
        except Exception as error:  # Whatever a backend raises: the user's model does not run.
            raise ExportError(f"{model.name!r} fails on the rows to compare: {first_line(error)}") from error
        flat = keras.tree.flatten(answer)
        parts.append([np.asarray(keras.ops.convert_to_numpy(part)) for part in flat])
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
