"""What the server has, by its own names and by those of each framework.

Written from src/model/layers.rs and src/model/activations.rs by

    UPDATE_TABLES=1 cargo test --lib model::layers

which without UPDATE_TABLES holds this file to them.
"""

LAYERS: dict[str, tuple[str, ...]] = {
    "dense": ("weight", "kernel", "bias"),
    "normalization": ("mean", "mean_", "variance", "scale", "scale_"),
    "rescaling": (),
    "batch_normalization": (
        "weight",
        "gamma",
        "bias",
        "beta",
        "running_mean",
        "moving_mean",
        "running_var",
        "moving_variance",
    ),
    "layer_normalization": ("weight", "gamma", "bias", "beta"),
    "unit_normalization": (),
    "activation": (),
    "prelu": ("weight", "alpha"),
    "dropout": (),
    "flatten": (),
    "reshape": (),
    "concatenate": (),
    "add": (),
    "multiply": (),
    "average": (),
    "maximum": (),
    "minimum": (),
    "subtract": (),
    "embedding": ("weight", "embeddings"),
    "mean_pooling": (),
}
"""Types of layers of family `sequential`, each with the names of its tensors after the layer's and a dot."""

ACTIVATIONS = (
    "linear",
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "selu",
    "celu",
    "sigmoid",
    "hard_sigmoid",
    "tanh",
    "hard_tanh",
    "softplus",
    "softsign",
    "gelu",
    "gelu_tanh",
    "silu",
    "mish",
    "hard_swish",
    "softmax",
    "log_softmax",
)
"""Functions of family `sequential`."""

KERAS_LAYERS = (
    "InputLayer",
    "Dense",
    "Normalization",
    "Rescaling",
    "BatchNormalization",
    "LayerNormalization",
    "UnitNormalization",
    "Activation",
    "ReLU",
    "LeakyReLU",
    "ELU",
    "Softmax",
    "PReLU",
    "Dropout",
    "GaussianDropout",
    "GaussianNoise",
    "AlphaDropout",
    "Flatten",
    "Reshape",
    "Concatenate",
    "Add",
    "Multiply",
    "Average",
    "Maximum",
    "Minimum",
    "Subtract",
)
"""Classes of Keras."""

KERAS_FUNCTION_LAYERS = (
    "Activation",
    "ReLU",
    "LeakyReLU",
    "ELU",
    "Softmax",
)
"""Classes of Keras that are nothing but functions, and so can be another layer's activation."""

KERAS_ACTIVATIONS = (
    "linear",
    "relu",
    "relu6",
    "leaky_relu",
    "elu",
    "selu",
    "celu",
    "sigmoid",
    "hard_sigmoid",
    "tanh",
    "hard_tanh",
    "softplus",
    "softsign",
    "gelu",
    "silu",
    "swish",
    "mish",
    "hard_silu",
    "hard_swish",
    "exponential",
    "softmax",
    "log_softmax",
)
"""Functions by Keras' names, with Keras' default parameters."""

TORCH_MODULES = {
    "Linear": "dense",
    "BatchNorm1d": "batch_normalization",
    "LayerNorm": "layer_normalization",
    "PReLU": "prelu",
    "Identity": "dropout",
    "Dropout": "dropout",
    "Dropout1d": "dropout",
    "Dropout2d": "dropout",
    "Dropout3d": "dropout",
    "AlphaDropout": "dropout",
    "FeatureAlphaDropout": "dropout",
    "Flatten": "flatten",
    "Unflatten": "reshape",
}
"""The type of layer that a module of `torch.nn` becomes."""

TORCH_ACTIVATIONS = {
    "ReLU": "relu",
    "ReLU6": "relu6",
    "LeakyReLU": "leaky_relu",
    "ELU": "elu",
    "SELU": "selu",
    "CELU": "celu",
    "Sigmoid": "sigmoid",
    "Hardsigmoid": "hardsigmoid",
    "Tanh": "tanh",
    "Hardtanh": "hardtanh",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "GELU": "gelu",
    "SiLU": "silu",
    "Mish": "mish",
    "Hardswish": "hardswish",
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
}
"""The function that a module of `torch.nn` is."""

TORCH_FUNCTIONS = {
    "relu": "relu",
    "relu6": "relu6",
    "leaky_relu": "leaky_relu",
    "elu": "elu",
    "selu": "selu",
    "celu": "celu",
    "sigmoid": "sigmoid",
    "hardsigmoid": "hard_sigmoid",
    "tanh": "tanh",
    "hardtanh": "hard_tanh",
    "softplus": "softplus",
    "softsign": "softsign",
    "gelu": "gelu",
    "silu": "silu",
    "mish": "mish",
    "hardswish": "hard_swish",
    "softmax": "softmax",
    "log_softmax": "log_softmax",
}
"""The server's name for a function of `torch.nn.functional`."""

TORCH_PARAMETERS: dict[str, dict[str, tuple[str, float]]] = {
    "leaky_relu": {"negative_slope": ("alpha", 0.01)},
    "elu": {"alpha": ("alpha", 1.0)},
    "celu": {"alpha": ("alpha", 1.0)},
    "hardtanh": {"min_val": ("min", -1.0), "max_val": ("max", 1.0)},
}
"""The parameters of such a function in PyTorch's order: the server's name, and the default of both."""

SKLEARN_ACTIVATIONS = {
    "identity": "linear",
    "relu": "relu",
    "logistic": "sigmoid",
    "tanh": "tanh",
    "softmax": "softmax",
}
"""The server's name for a function of scikit-learn's perceptrons."""
