"""Cases of the family "keras": what Keras 3 and Keras 2 (tf_keras) write and answer, in F32.

The variables of Keras 2 are named as it does, `dense/kernel:0`.
"""

import json
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tf_keras
from case import ROWS, Json, random, wide, write


def keras_case(
    case: str, model: Any, *rows: np.ndarray, change: Callable[[Json], Json] | None = None
) -> None:
    """A model as Keras writes it; `change` is applied to the config alone."""
    rng = np.random.default_rng(0)
    variables = {getattr(v, "path", v.name): v for v in model.weights}
    for name, variable in variables.items():
        if "variance" in name:
            variable.assign(rng.uniform(0.1, 2.0, variable.shape))
        elif "count" not in name:
            variable.assign(rng.standard_normal(variable.shape) * 0.5)
    for layer in model.layers:
        if layer.__class__.__name__ == "Normalization" and layer.input_mean is None:
            layer.finalize_state()

    config = json.loads(model.to_json())
    layers = config["config"]["layers"]
    input_names = [
        layer["config"]["name"] for layer in layers if layer["class_name"] == "InputLayer"
    ]
    answers = model(list(rows) if len(rows) > 1 else rows[0], training=False)
    answers = answers if isinstance(answers, list) else [answers]
    names = model.output_names if len(answers) > 1 else ["output"]
    write(
        case,
        change(config) if change else config,
        {name: np.asarray(variable) for name, variable in variables.items()},
        dict(zip(input_names, rows, strict=True)),
        {name: np.asarray(answer) for name, answer in zip(names, answers, strict=True)},
    )
    keras.utils.clear_session()
    tf_keras.backend.clear_session()


def stack(framework: Any, *layers: Any, shape: tuple[int, ...] = (5,)) -> Any:
    return framework.Sequential([framework.Input(shape, name="features"), *layers])


def keras_cases() -> None:
    from keras import layers

    rows, image = random(ROWS, 5), random(ROWS, 2, 3)
    keras_case(
        "keras-dense",
        stack(keras, layers.Dense(4, activation="relu"), layers.Dense(2, use_bias=False)),
        rows,
    )
    keras_case(
        "keras-dense-activation-object",
        stack(
            keras, layers.Dense(4, activation=layers.LeakyReLU(negative_slope=0.1)), layers.Dense(2)
        ),
        rows,
    )
    # Built without an Input: Keras adds an InputLayer under a name of its own.
    model = keras.Sequential([layers.Dense(4, activation="tanh"), layers.Dense(2)])
    model.build((None, 5))
    keras_case("keras-sequential-built", model, rows)

    features = keras.Input((8,), name="features")
    functions = "relu relu6 leaky_relu elu selu celu sigmoid hard_sigmoid tanh "
    functions += "softplus softsign gelu silu mish hard_silu softmax log_softmax linear"
    outputs = [
        layers.Activation(function, name=f"as_{function}")(features)
        for function in functions.split()
    ]
    keras_case("keras-activation", keras.Model(features, outputs), wide())
    features = keras.Input((8,), name="features")
    outputs = [
        layers.ReLU(name="relu")(features),
        layers.ReLU(max_value=6, name="relu6")(features),
        layers.ReLU(max_value=4, negative_slope=0.25, name="relu_all")(features),
        layers.LeakyReLU(name="leaky_relu")(features),
        layers.PReLU(name="prelu")(features),
        layers.ELU(alpha=0.7, name="elu")(features),
        layers.Softmax(name="softmax")(features),
    ]
    keras_case("keras-activation-layers", keras.Model(features, outputs), wide())

    hard_tanh = layers.Dense(4, activation="hard_tanh")
    keras_case("keras-hard-tanh", stack(keras, hard_tanh), rows)

    keras_case("keras-batch-normalization", stack(keras, layers.BatchNormalization()), rows)
    keras_case(
        "keras-batch-normalization-no-affine",
        stack(keras, layers.BatchNormalization(center=False, scale=False, epsilon=1e-2)),
        rows,
    )
    keras_case("keras-layer-normalization", stack(keras, layers.LayerNormalization()), rows)
    keras_case("keras-unit-normalization", stack(keras, layers.UnitNormalization()), rows)
    keras_case("keras-normalization", stack(keras, layers.Normalization(), layers.Dense(2)), rows)
    fixed = layers.Normalization(
        mean=[1.0, -2.0, 0.5, 0.0, 3.0], variance=[4.0, 0.25, 1.0, 9.0, 0.01]
    )
    keras_case("keras-normalization-fixed", stack(keras, fixed), rows)
    keras_case("keras-rescaling", stack(keras, layers.Rescaling(1 / 16, offset=-0.5)), rows)
    keras_case("keras-dropout", stack(keras, layers.Dense(3), layers.Dropout(0.5)), rows)
    keras_case(
        "keras-flatten-reshape",
        stack(
            keras,
            layers.Flatten(),
            layers.Dense(6),
            layers.Reshape((3, 2)),
            layers.Flatten(),
            shape=(2, 3),
        ),
        image,
    )

    features = keras.Input((5,), name="features")
    branches = [layers.Dense(4, name=name)(features) for name in "abc"]
    merges = [layers.Concatenate, layers.Add, layers.Multiply, layers.Average, layers.Maximum]
    outputs = [merge(name=merge.__name__.lower())(branches) for merge in merges]
    keras_case("keras-merge", keras.Model(features, outputs), rows)
    features = keras.Input((5,), name="features")
    branches = [layers.Dense(4, name=name)(features) for name in "ab"]
    merges = [layers.Minimum, layers.Subtract]
    outputs = [merge(name=merge.__name__.lower())(branches) for merge in merges]
    keras_case("keras-merge-two", keras.Model(features, outputs), rows)

    keras_case("keras-two-inputs", two_inputs(keras), random(ROWS, 4), random(ROWS, 2, seed=1))
    keras_case("keras-shared-layer", shared_layer(keras), rows)


def two_inputs(framework: Any) -> Any:
    """Two inputs, a short cut round a residual block, one output."""
    layers = framework.layers
    person, place = framework.Input((4,), name="person"), framework.Input((2,), name="place")
    x = layers.Concatenate()([layers.Dense(6, activation="relu")(person), place])
    x = layers.Add()([x, layers.Dropout(0.3)(layers.Dense(8, activation="tanh")(x))])
    return framework.Model([person, place], layers.Dense(1, activation="sigmoid")(x))


def shared_layer(framework: Any) -> Any:
    """One Dense layer called twice: its second answer is node 1 of the same layer."""
    layers = framework.layers
    features = framework.Input((5,), name="features")
    shared = layers.Dense(5, activation="tanh", name="shared")
    once = shared(features)
    twice = shared(layers.BatchNormalization()(once))
    return framework.Model(features, layers.Concatenate()([once, twice]))


def keras2_cases() -> None:
    layers = tf_keras.layers
    rows = random(ROWS, 5)
    keras_case(
        "keras2-sequential",
        stack(tf_keras, layers.Dense(4, activation="relu"), layers.Dropout(0.5), layers.Dense(2)),
        rows,
    )
    model = tf_keras.Sequential(
        [layers.Dense(4, activation="relu", input_shape=(5,)), layers.Dense(2)]
    )
    keras_case("keras2-sequential-2.4", model, rows, change=as_tf_2_4)
    person, place = random(ROWS, 4), random(ROWS, 2, seed=1)
    keras_case("keras2-two-inputs", two_inputs(tf_keras), person, place)
    keras_case("keras2-two-inputs-2.4", two_inputs(tf_keras), person, place, change=as_tf_2_4)
    keras_case("keras2-shared-layer", shared_layer(tf_keras), rows)
    keras_case(
        "keras2-normalization", stack(tf_keras, layers.Normalization(), layers.Dense(2)), rows
    )
    keras_case(
        "keras2-batch-normalization",
        stack(tf_keras, layers.BatchNormalization(), layers.Dense(2)),
        rows,
    )

    # Keras 2 has another hard_sigmoid (0.2 x + 0.5), and its LeakyReLU calls the slope alpha.
    features = tf_keras.Input((8,), name="features")
    functions = "relu relu6 leaky_relu elu selu sigmoid hard_sigmoid tanh "
    functions += "softplus softsign gelu swish mish softmax log_softmax linear"
    outputs = [
        layers.Activation(function, name=f"as_{function}")(features)
        for function in functions.split()
    ]
    outputs += [
        layers.LeakyReLU(name="leaky_relu")(features),
        layers.ReLU(max_value=6, name="relu6")(features),
    ]
    keras_case("keras2-activation", tf_keras.Model(features, outputs), wide())


def as_tf_2_4(value: Any) -> Any:
    """The same as TensorFlow 2.4 wrote it, without modules, registered names and build shapes."""
    if isinstance(value, list):
        return [as_tf_2_4(item) for item in value]
    if not isinstance(value, dict):
        return value
    later = {"module", "registered_name", "build_config", "optional"}
    value = {key: as_tf_2_4(item) for key, item in value.items() if key not in later}
    return value | {"keras_version": "2.4.0"} if "keras_version" in value else value


def main() -> None:
    keras_cases()
    keras2_cases()
