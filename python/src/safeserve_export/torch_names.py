"""What the server supports of PyTorch, by PyTorch's names."""

from __future__ import annotations

from .names import TORCH_ACTIVATIONS, TORCH_FUNCTIONS, TORCH_MODULES, TORCH_PARAMETERS

ARGUMENTS = {
    "softplus": ("beta", "threshold"),
    "gelu": ("approximate",),
    "softmax": ("dim", "_stacklevel", "dtype"),
    "log_softmax": ("dim", "_stacklevel", "dtype"),
}
"""Arguments after the first of functions that take others than their parameters and `inplace`."""


def arguments(function: str) -> tuple[str, ...]:
    """The arguments of a function after the first, in PyTorch's order."""
    return ARGUMENTS.get(function, (*TORCH_PARAMETERS.get(function, ()), "inplace"))


MODULES = (*TORCH_MODULES, *TORCH_ACTIVATIONS)

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
    "min": "minimum",
    "mm": "matmul",
}
"""Names of what is the same function."""

ARITHMETIC = ("linear", "matmul", "prelu", "cat", "add", "sub", "mul", "div", "neg", "maximum", "minimum", "layer_norm", "normalize")
"""Functions that have a method of the reader."""

SUPPORTED = (*MODULES, *sorted({*TORCH_FUNCTIONS, *SHAPED, *ARITHMETIC}))
"""For people: modules, then functions."""
