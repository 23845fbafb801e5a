"""What the server has of PyTorch, by PyTorch's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Function:
    """An activation: the server's name, and its parameters by PyTorch's names with PyTorch's defaults."""

    name: str
    parameters: Mapping[str, tuple[str, float]] = field(default_factory=dict)
    """By PyTorch's name: the server's, and the default."""
    arguments: tuple[str, ...] = ()
    """PyTorch's order of arguments behind the first."""


FUNCTIONS = {
    "relu": Function("relu", arguments=("inplace",)),
    "relu6": Function("relu6", arguments=("inplace",)),
    "leaky_relu": Function("leaky_relu", {"negative_slope": ("alpha", 0.01)}, ("negative_slope", "inplace")),
    "elu": Function("elu", {"alpha": ("alpha", 1.0)}, ("alpha", "inplace")),
    "selu": Function("selu", arguments=("inplace",)),
    "celu": Function("celu", {"alpha": ("alpha", 1.0)}, ("alpha", "inplace")),
    "sigmoid": Function("sigmoid"),
    "hardsigmoid": Function("hard_sigmoid", arguments=("inplace",)),
    "tanh": Function("tanh"),
    "softplus": Function("softplus", arguments=("beta", "threshold")),
    "softsign": Function("softsign"),
    "gelu": Function("gelu", arguments=("approximate",)),
    "silu": Function("silu", arguments=("inplace",)),
    "mish": Function("mish", arguments=("inplace",)),
    "hardswish": Function("hard_swish", arguments=("inplace",)),
    "softmax": Function("softmax", arguments=("dim", "_stacklevel", "dtype")),
    "log_softmax": Function("log_softmax", arguments=("dim", "_stacklevel", "dtype")),
}
"""By the name of PyTorch's function."""

ACTIVATIONS = {
    "ReLU": "relu",
    "ReLU6": "relu6",
    "LeakyReLU": "leaky_relu",
    "ELU": "elu",
    "SELU": "selu",
    "CELU": "celu",
    "Sigmoid": "sigmoid",
    "Hardsigmoid": "hardsigmoid",
    "Tanh": "tanh",
    "Softplus": "softplus",
    "Softsign": "softsign",
    "GELU": "gelu",
    "SiLU": "silu",
    "Mish": "mish",
    "Hardswish": "hardswish",
    "Softmax": "softmax",
    "LogSoftmax": "log_softmax",
}
"""Modules that are one of the functions."""

IDENTITIES = (
    "Identity",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "AlphaDropout",
    "FeatureAlphaDropout",
)
RESHAPES = ("Flatten", "Unflatten")
MODULES = ("Linear", "BatchNorm1d", "LayerNorm", "PReLU", *ACTIVATIONS, *IDENTITIES, *RESHAPES)

DROPOUTS = (
    "dropout",
    "alpha_dropout",
    "feature_dropout",
    "feature_alpha_dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
)
SHAPED = ("flatten", "unflatten", "reshape", "view", "squeeze", "unsqueeze")
UNCHANGED = ("contiguous", "clone", "detach")
CASTS = ("float", "double", "half", "bfloat16", "to", "type")

ALIASES = {
    "iadd": "add",
    "radd": "add",
    "imul": "mul",
    "multiply": "mul",
    "rmul": "mul",
    "subtract": "sub",
    "isub": "sub",
    "divide": "div",
    "true_divide": "div",
    "truediv": "div",
    "itruediv": "div",
    "negative": "neg",
    "concat": "cat",
    "concatenate": "cat",
    "max": "maximum",
    "mm": "matmul",
}
"""Names of what is the same function."""

ARITHMETIC = ("linear", "matmul", "prelu", "cat", "add", "sub", "mul", "div", "neg", "maximum", "layer_norm")
"""Functions that have a method of the reader."""

SUPPORTED = (*MODULES, *sorted({*FUNCTIONS, *SHAPED, *ARITHMETIC}))
"""For people: modules, then functions."""
