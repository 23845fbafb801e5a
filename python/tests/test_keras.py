"""Each layer, activation and form of Keras that the server has; and those that it has not, by name."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
from exporting import config_of, nothing_in, wide
from keras import layers

from safeserve_export import ExportError, UnsupportedError, export_keras, from_keras, names


def randomised(model):
    """The model with other weights than those that it is made with, zeros and ones among them."""
    random = np.random.default_rng(0)
    for variable in model.weights:
        if variable.name == "count":
            continue
        values = (
            random.uniform(0.1, 2, variable.shape)
            if "variance" in variable.name
            else random.normal(size=variable.shape)
        )
        variable.assign(values * 0.5)
    for layer in model.layers:
        if isinstance(layer, layers.Normalization) and layer.input_mean is None:
            layer.finalize_state()
    return model


def stack(*parts, shape=(6,)):
    return randomised(keras.Sequential([keras.Input(shape, name="features"), *parts]))


def adapted(**options):
    layer = layers.Normalization(**options)
    layer.adapt(np.random.default_rng(0).normal(1000, 0.5, (50, 6)).astype(np.float32))
    return layer


LAYERS = {
    "Dense": lambda: [layers.Dense(3)],
    "Dense without bias": lambda: [layers.Dense(3, use_bias=False)],
    "Dense over rows of two axes": lambda: [layers.Reshape((2, 3)), layers.Dense(4)],
    "Dense with a layer as activation": lambda: [layers.Dense(3, activation=layers.LeakyReLU(0.1))],
    "Dense with a softmax layer as activation": lambda: [layers.Dense(3, activation=layers.Softmax())],
    "Normalization": lambda: [layers.Normalization()],
    "Normalization, fixed": lambda: [layers.Normalization(mean=np.arange(6.0), variance=np.arange(1.0, 7))],
    "Rescaling": lambda: [layers.Rescaling(1 / 16, offset=-0.5)],
    "Rescaling by column": lambda: [layers.Rescaling(np.arange(6.0), offset=np.arange(6.0) - 3)],
    "BatchNormalization": lambda: [layers.BatchNormalization()],
    "BatchNormalization, bare": lambda: [layers.BatchNormalization(scale=False, center=False, epsilon=0.01)],
    "LayerNormalization": lambda: [layers.LayerNormalization()],
    "LayerNormalization, bare": lambda: [layers.LayerNormalization(scale=False, center=False)],
    "UnitNormalization": lambda: [layers.UnitNormalization()],
    "Activation": lambda: [layers.Activation("relu")],
    "ReLU": lambda: [layers.ReLU(max_value=4, negative_slope=0.25)],
    "LeakyReLU": lambda: [layers.LeakyReLU()],
    "PReLU": lambda: [layers.PReLU()],
    "ELU": lambda: [layers.ELU(alpha=0.7)],
    "Softmax": lambda: [layers.Softmax()],
    "Softmax along the last of three axes": lambda: [layers.Reshape((2, 3)), layers.Softmax(axis=2)],
    "Dropout": lambda: [layers.Dropout(0.5), layers.Dense(2)],
    "GaussianDropout": lambda: [layers.GaussianDropout(0.5), layers.Dense(2)],
    "GaussianNoise": lambda: [layers.GaussianNoise(0.5), layers.Dense(2)],
    "AlphaDropout": lambda: [layers.AlphaDropout(0.5), layers.Dense(2)],
    "Flatten": lambda: [layers.Reshape((3, 2)), layers.Flatten(), layers.Dense(2)],
    "Flatten, channels_first, of one axis": lambda: [layers.Flatten(data_format="channels_first")],
    "Reshape": lambda: [layers.Reshape((-1, 2))],
}


@pytest.mark.parametrize("case", LAYERS)
def test_each_layer_is_exported(case, tmp_path):
    model = stack(*LAYERS[case]())
    exported = export_keras(model, tmp_path / "m", check_rows=wide(6))
    written = {layer["class_name"] for layer in config_of(exported)["config"]["layers"]}
    assert case.split(",")[0].split(" ")[0] in written


def merges():
    features = keras.Input((4,), name="features")
    branches = [layers.Dense(4, name=name)(features) for name in "abc"]
    kinds = (layers.Concatenate, layers.Add, layers.Multiply, layers.Average, layers.Maximum, layers.Minimum)
    outputs = [merge(name=merge.__name__.lower())(branches) for merge in kinds]
    return keras.Model(features, [*outputs, layers.Subtract(name="subtract")(branches[:2])])


def test_each_merge_is_exported(tmp_path):
    exported = export_keras(randomised(merges()), tmp_path / "m")
    assert len(config_of(exported)["config"]["output_layers"]) == 7


def test_no_layer_of_the_list_is_left_out():
    tried = {type(part).__name__ for make in LAYERS.values() for part in make()}
    tried |= {type(layer).__name__ for layer in merges().layers}
    assert tried == set(names.KERAS_LAYERS)


@pytest.mark.parametrize("function", names.KERAS_ACTIVATIONS)
@pytest.mark.parametrize("place", ["dense", "activation"])
def test_each_activation_is_exported(function, place, tmp_path):
    part = layers.Dense(3, activation=function) if place == "dense" else layers.Activation(function)
    rows = wide(6) if place == "activation" else wide(6) / 8
    config_of(export_keras(stack(part), tmp_path / "m", check_rows=rows))


@pytest.mark.parametrize(
    "operation",
    ["relu", "relu6", "sigmoid", "tanh", "softplus", "softsign", "silu", "selu", "softmax", "log_softmax"],
)
def test_each_operation_that_is_an_activation_becomes_one(operation, tmp_path):
    assert len(from_keras.OPERATIONS) == 10
    features = keras.Input((6,))
    model = keras.Model(features, getattr(keras.ops, operation)(features))
    config = config_of(export_keras(model, tmp_path / "m", check_rows=wide(6)))
    assert config["config"]["layers"][-1]["config"]["activation"] == operation


def test_operators_between_tensors_become_layers(tmp_path):
    features = keras.Input((6,))
    hidden = layers.Dense(6)(features)
    model = keras.Model(features, keras.ops.maximum((hidden + features) * hidden, keras.ops.minimum(hidden - features, features)))
    config_of(export_keras(randomised(model), tmp_path / "m"))


def test_a_graph_of_two_inputs_a_short_cut_and_two_outputs(tmp_path):
    person, place = keras.Input((4,), name="person"), keras.Input((2,), name="place")
    x = layers.Concatenate()([adapted_four()(person), place])
    x = layers.Add()([x, layers.Dropout(0.3)(layers.Dense(6, activation="tanh")(x))])
    kind, size = layers.Dense(3, activation="softmax", name="kind")(x), layers.Dense(1, name="size")(x)
    model = keras.Model([person, place], [kind, size])
    rows = {"person": np.random.rand(20, 4), "place": np.random.rand(20, 2)}
    exported = export_keras(
        model, tmp_path / "m", labels="abc", check_rows=rows, example=[rows["person"], rows["place"]]
    )
    assert config_of(exported)["task"] == "multiclass-classification"
    assert 'output "kind"' in exported.report and 'output "size"' in exported.report


def adapted_four():
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(1).normal(5, 2, (50, 4)).astype(np.float32))
    return layer


def test_inputs_and_outputs_in_dictionaries_keep_their_places(tmp_path):
    # The names sort in another order than the layers.
    b, a = keras.Input((2,), name="b"), keras.Input((3,), name="a")
    model = randomised(
        keras.Model({"b": b, "a": a}, {"z": layers.Dense(1, name="first")(b), "y": layers.Dense(2, name="second")(a)})
    )
    exported = export_keras(model, tmp_path / "m", check_rows={"a": wide(3), "b": wide(2)})
    config_of(exported)
    assert 'output "first"' in exported.report and 'output "second"' in exported.report


def test_a_layer_that_is_applied_twice(tmp_path):
    features = keras.Input((5,), name="features")
    shared = layers.Dense(5, activation="tanh", name="shared")
    once = shared(features)
    model = keras.Model(features, layers.Concatenate()([once, shared(layers.BatchNormalization()(once))]))
    config_of(export_keras(randomised(model), tmp_path / "m"))


def test_large_numbers_close_together_are_made_up_around_what_a_normalization_knows(tmp_path):
    model = keras.Sequential([keras.Input((6,)), adapted(), layers.Dense(2)])
    exported = export_keras(model, tmp_path / "m")
    config_of(exported)
    assert (
        "999" in (exported.path / "example.json").read_text() or "1000" in (exported.path / "example.json").read_text()
    )


def test_a_sequential_that_was_built_later_and_one_of_a_fixed_batch(tmp_path):
    model = keras.Sequential([layers.Dense(4, activation="tanh"), layers.Dense(2)])
    model.build((None, 5))
    config_of(export_keras(model, tmp_path / "later"))
    model = keras.Sequential([keras.Input((5,), batch_size=7), layers.Dense(2)])
    config = config_of(export_keras(model, tmp_path / "fixed"))
    assert config["config"]["layers"][0]["config"]["batch_shape"] == [None, 5]


def test_a_model_of_64_bits(tmp_path):
    model = keras.Sequential([keras.Input((5,), dtype="float64"), layers.Dense(2, dtype="float64")])
    config_of(export_keras(model, tmp_path / "m"))


@pytest.mark.parametrize(
    ("last", "labels", "task"),
    [
        (layers.Dense(1, activation="sigmoid"), None, "binary-classification"),
        (layers.Dense(1, activation="sigmoid"), ["no", "yes"], "binary-classification"),
        (layers.Dense(3, activation="softmax"), None, "multiclass-classification"),
        (layers.Dense(1), None, None),
        (layers.Dense(1), ["no", "yes"], {"type": "binary-classification", "threshold": 0}),
        (layers.Dense(3), ["a", "b", "c"], "multiclass-classification"),
        (layers.Dense(2, activation="sigmoid"), None, None),
        (layers.Activation("softmax"), None, "multiclass-classification"),
        (layers.Softmax(), None, "multiclass-classification"),
    ],
)
def test_the_task_is_what_the_last_layer_says(last, labels, task, tmp_path):
    config = config_of(export_keras(stack(type(last).from_config(last.get_config())), tmp_path / "m", labels=labels))
    assert config.get("task") == task
    assert config.get("labels") == labels


def one(part, shape=(6,)):
    return lambda: keras.Sequential([keras.Input(shape), part()])


class Own(layers.Layer):
    def call(self, x):
        return x


class OwnDense(layers.Dense):
    pass


FAULTS = {
    "LSTM": (one(lambda: layers.LSTM(2), (3, 2)), "the server has no such thing"),
    "Conv1D": (one(lambda: layers.Conv1D(2, 2), (3, 2)), "the server has no such thing"),
    "Lambda": (one(lambda: layers.Lambda(lambda x: x)), "the server has no such thing"),
    "SpatialDropout1D": (one(lambda: layers.SpatialDropout1D(0.5), (3, 2)), "the server has no such thing"),
    "Own": (one(Own), "not of Keras"),
    "OwnDense": (one(lambda: OwnDense(2)), "not of Keras"),
    "Sequential": (
        lambda: keras.Sequential([keras.Input((2,)), keras.Sequential([layers.Dense(2)])]),
        "a model inside a model",
    ),
    "Dense": (
        one(lambda: layers.Dense(2, activation="sparsemax")),
        "activation 'sparsemax'; expected one of linear",
    ),
    "Activation": (one(lambda: layers.Activation(lambda x: x)), "a function of one's own"),
    "BatchNormalization": (
        one(lambda: layers.BatchNormalization(axis=1), (3, 2)),
        "axis=1; only the last one",
    ),
    "LayerNormalization": (
        one(lambda: layers.LayerNormalization(axis=[1, 2]), (3, 2)),
        "axis=[1, 2]; only the last",
    ),
    "Softmax": (one(lambda: layers.Softmax(axis=1), (3, 2)), "axis=1; only the last one, -1"),
    "Normalization": (one(lambda: layers.Normalization(invert=True, mean=0.0, variance=1.0)), "invert=True"),
    "ReLU": (one(lambda: layers.ReLU(threshold=1.0)), "threshold=1.0; only 0"),
    "PReLU": (one(lambda: layers.PReLU(shared_axes=[1]), (3, 2)), "shared_axes=[1]; only None"),
    "Flatten": (
        one(lambda: layers.Flatten(data_format="channels_first"), (3, 2)),
        "data_format='channels_first'",
    ),
    "InputLayer": (one(lambda: layers.Dense(2), (None, 2)), "is not fixed"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_layer_that_the_server_has_not_is_named_with_the_reason(kind, tmp_path):
    make, reason = FAULTS[kind]
    with pytest.raises(UnsupportedError) as caught:
        export_keras(make(), tmp_path / "models" / "m")
    [fault] = caught.value.faults
    assert fault.kind == kind and reason in fault.reason
    assert f"({kind}): " in str(caught.value) and repr(fault.place) in str(caught.value)
    assert nothing_in(tmp_path / "models")


def test_a_normalization_over_everything_and_integers_are_refused(tmp_path):
    layer = layers.Normalization(axis=None, mean=0.0, variance=1.0)
    with pytest.raises(UnsupportedError, match="axis="):
        export_keras(keras.Sequential([keras.Input((6,)), layer]), tmp_path / "m")
    with pytest.raises(UnsupportedError, match="dtype 'int32'; only floats"):
        export_keras(keras.Sequential([keras.Input((6,), dtype="int32"), layers.Rescaling(0.5)]), tmp_path / "m")
    features = keras.Input((2, 3))
    with pytest.raises(UnsupportedError, match="axis=0, the rows"):
        export_keras(keras.Model(features, layers.Concatenate(axis=0)([features, features])), tmp_path / "m")
    narrow = keras.Input((2, 1))
    with pytest.raises(UnsupportedError, match=r"inputs of different shapes, \[None, 2, 3\] and \[None, 2, 1\]"):
        export_keras(keras.Model([features, narrow], layers.Add()([features, narrow])), tmp_path / "m")
    with pytest.raises(UnsupportedError, match="use the layer Rescaling"):
        export_keras(keras.Model(features, features * 2), tmp_path / "m")
    with pytest.raises(UnsupportedError, match="an operation of keras.ops, not a layer"):
        export_keras(keras.Model(features, keras.ops.abs(features)), tmp_path / "m")


def test_what_computes_in_half_precision_is_refused_with_a_hint(tmp_path):
    model = keras.Sequential([keras.Input((6,)), layers.Dense(2, dtype="mixed_float16")])
    with pytest.raises(UnsupportedError, match="computes in float16, the server in float32; build the model with"):
        export_keras(model, tmp_path / "m")


def test_all_layers_that_the_server_has_not_are_named_at_once_and_nothing_is_written(tmp_path):
    features = keras.Input((8, 4))
    x = layers.Conv1D(2, 3, name="conv")(features)
    y = layers.LSTM(3, name="memory")(features)
    x = layers.Dense(2, activation="sparsemax", name="last")(layers.Flatten()(x))
    with pytest.raises(UnsupportedError) as caught:
        export_keras(keras.Model(features, [x, y]), tmp_path / "models" / "m")
    assert {fault.place for fault in caught.value.faults} == {"conv", "memory", "last"}
    message = str(caught.value)
    assert "3 parts cannot be exported:" in message
    assert "'conv' (Conv1D): the server has no such thing" in message
    assert message.endswith(f"the server has: {', '.join(names.KERAS_LAYERS)}")
    assert nothing_in(tmp_path / "models")


class Subclass(keras.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (Subclass, "is a subclass of keras.Model: what it computes is Python code"),
        (lambda: keras.Sequential([layers.Dense(2)]), "is not built, its input's shape is not known"),
        (lambda: "model.keras", "expected a keras.Sequential or a functional keras.Model, got str"),
    ],
)
def test_what_is_no_graph_of_layers_is_refused(make, reason, tmp_path):
    with pytest.raises(ExportError, match=reason):
        export_keras(make(), tmp_path / "m")
