"""Cases of the family "sequential", against PyTorch.

PyTorch runs in 64 bits over the 32-bit weights and inputs: its outputs are right to the last bit
of F32, and stored as F64.
"""

import copy

import numpy as np
import torch
from case import ROWS, Json, Tensors, random, wide, write
from torch import nn


def randomised(module: nn.Module, seed: int = 0) -> nn.Module:
    """Gives every weight and statistic a value that shows whether it was used."""
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in module.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.1)
    return module.eval()


def ask(module: nn.Module, rows: np.ndarray) -> np.ndarray:
    """The module's answers, computed in 64 bits."""
    with torch.inference_mode():
        return copy.deepcopy(module).double()(torch.from_numpy(rows).double()).numpy()


def sequential(layers: list[Json], *shape: int) -> Json:
    """A sequential model with the single input `features`."""
    inputs = [{"name": "features", "shape": list(shape), "datatype": "FP32"}]
    return {"model_type": "sequential", "inputs": inputs, "layers": layers}


def torch_case(
    case: str,
    module: nn.Module,
    layers: list[Json],
    rows: np.ndarray,
    weights: Tensors | None = None,
) -> None:
    """A model of one input, whose layers are in the order of `module`.

    `weights` says under which names and in which layout to store those of a module that has its
    values already; without it they are made up and stored as PyTorch does.
    """
    if weights is None:
        module = module if isinstance(module, nn.Sequential) else nn.Sequential(module)
        weights = randomised(module).state_dict()
    config = sequential(layers, *rows.shape[1:])
    write(case, config, weights, {"features": rows}, {"output": ask(module, rows)})


ACTIVATIONS: dict[str, tuple[nn.Module, Json]] = {
    "relu": (nn.ReLU(), {}),
    "relu6": (nn.ReLU6(), {}),
    "leaky_relu": (nn.LeakyReLU(0.01), {"alpha": 0.01}),
    "elu": (nn.ELU(0.7), {"alpha": 0.7}),
    "selu": (nn.SELU(), {}),
    "celu": (nn.CELU(1.3), {"alpha": 1.3}),
    "sigmoid": (nn.Sigmoid(), {}),
    "hard_sigmoid": (nn.Hardsigmoid(), {"alpha": 1 / 6, "beta": 0.5}),
    "tanh": (nn.Tanh(), {}),
    "hard_tanh": (nn.Hardtanh(-2, 0.5), {"min": -2, "max": 0.5}),
    "softplus": (nn.Softplus(threshold=1000), {}),  # PyTorch's own turns linear at 20, off by 2e-9
    "softsign": (nn.Softsign(), {}),
    "gelu": (nn.GELU(), {}),
    "gelu_tanh": (nn.GELU("tanh"), {}),
    "silu": (nn.SiLU(), {}),
    "mish": (nn.Mish(), {}),
    "hard_swish": (nn.Hardswish(), {}),
    "softmax": (nn.Softmax(-1), {}),
    "log_softmax": (nn.LogSoftmax(-1), {}),
    "linear": (nn.Identity(), {}),
}


def activation_cases() -> None:
    for function, (module, parameters) in ACTIVATIONS.items():
        layer = {"type": "activation", "function": function, **parameters}
        torch_case(f"activation-{function}", module, [layer], wide())
    torch_case("activation-prelu-shared", nn.PReLU(), [{"type": "prelu"}], wide())
    torch_case("activation-prelu", nn.PReLU(8), [{"type": "prelu"}], wide())
    # Softmax over the last axis only, though a row has two.
    torch_case(
        "activation-softmax-last-axis",
        nn.Sequential(nn.Unflatten(-1, (2, 4)), nn.Softmax(-1)),
        [{"type": "reshape", "shape": [2, 4]}, {"type": "activation", "function": "softmax"}],
        random(ROWS, 8),
    )


class Standardise(nn.Module):
    """(x - mean) / scale, by feature."""

    def __init__(self, mean: np.ndarray, scale: np.ndarray) -> None:
        super().__init__()
        self.register_buffer("mean", torch.from_numpy(mean))
        self.register_buffer("scale", torch.from_numpy(scale))

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return (rows - self.mean) / self.scale


class Normalize(nn.Module):
    """Rows of length 1."""

    def __init__(self, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return nn.functional.normalize(rows, dim=-1, eps=self.epsilon)


class Rescaling(nn.Module):
    """x / 16 - 0.5"""

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        return rows * 0.0625 - 0.5


def layer_cases() -> None:
    rows = random(ROWS, 5)
    dense, square = randomised(nn.Linear(5, 3)), randomised(nn.Linear(5, 5))

    torch_case("dense", nn.Linear(5, 3), [{"type": "dense", "units": 3}], rows)
    # Half of these rows are shorter than epsilon; one is zeros.
    short = random(ROWS, 2, 3) * np.linspace(0, 1, ROWS, dtype=np.float32)[:, None, None]
    normalization = {"type": "unit_normalization", "epsilon": 2.0}
    torch_case("unit_normalization", Normalize(2.0), [normalization], short)
    torch_case(
        "dense-no-bias", nn.Linear(5, 3, bias=False), [{"type": "dense", "use_bias": False}], rows
    )
    for function in ("relu", "softmax"):
        module = nn.Sequential(nn.Linear(5, 3), ACTIVATIONS[function][0])
        torch_case(
            f"dense-{function}",
            module,
            [{"type": "dense", "units": 3, "activation": function}],
            rows,
        )
    torch_case(
        "dense-leaky_relu",
        nn.Sequential(nn.Linear(5, 3), nn.LeakyReLU(0.2)),
        [{"type": "dense", "units": 3, "activation": {"type": "leaky_relu", "alpha": 0.2}}],
        rows,
    )
    kernel, bias = dense.weight.detach(), dense.bias.detach()
    for case, kernel_name, bias_name in (
        ("dense-keras-slash", "hidden/kernel", "hidden/bias"),
        ("dense-keras-colon", "hidden/kernel:0", "hidden/bias:0"),
        ("dense-keras-dot", "hidden.kernel", "hidden.bias"),
    ):
        weights = {kernel_name: kernel.T, bias_name: bias}
        torch_case(case, dense, [{"type": "dense", "name": "hidden", "units": 3}], rows, weights)
    # A square kernel under names that say nothing: only `kernel_layout` tells which way it lies.
    kernel, bias = square.weight.detach(), square.bias.detach()
    for layout, stored in (("in_out", kernel.T), ("out_in", kernel)):
        names = {"kernel": "w", "bias": "b"}
        layer = {"type": "dense", "units": 5, "kernel_layout": layout, "weights": names}
        torch_case(f"dense-square-{layout}", square, [layer], rows, {"w": stored, "b": bias})

    # Two variances lie under epsilon squared: there the divisor is epsilon itself, 1e-7.
    mean = np.array([0.5, -2.0, 0.0, 0.0, 3.0], np.float32)
    variance = np.array([4.0, 0.25, 1e-20, 0.0, 300.0], np.float32)
    near = rows * np.array([1, 1, 1e-7, 1e-7, 1], np.float32)
    module = Standardise(mean, np.maximum(np.sqrt(variance.astype(np.float64)), 1e-7))
    weights = {"0.mean": mean, "0.variance": variance}
    torch_case("normalization", module, [{"type": "normalization"}], near, weights)
    weights = {"0/mean": mean, "0/variance": variance, "0/count": np.array(0)}
    torch_case("normalization-keras", module, [{"type": "normalization"}], near, weights)
    scale = np.array([2.0, 0.3, 1e-3, 1.0, 17.0])
    weights = {"0.mean_": mean.astype(np.float64), "0.scale_": scale}
    module = Standardise(mean, scale)
    torch_case("normalization-scale", module, [{"type": "normalization"}], rows, weights)

    torch_case(
        "rescaling", Rescaling(), [{"type": "rescaling", "scale": 0.0625, "offset": -0.5}], rows
    )

    batch = {"type": "batch_normalization", "epsilon": 1e-3}
    torch_case("batch_normalization", nn.BatchNorm1d(5, eps=1e-3), [batch], rows)
    plain = batch | {"center": False, "scale": False}
    torch_case(
        "batch_normalization-no-affine", nn.BatchNorm1d(5, eps=1e-3, affine=False), [plain], rows
    )
    module = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))
    layers = [
        {"type": "dense", "units": 4},
        {"type": "batch_normalization", "epsilon": 1e-5},
        {"type": "activation", "function": "relu"},
        {"type": "dense", "units": 2},
    ]
    torch_case("batch_normalization-folded", module, layers, rows)

    layer = {"type": "layer_normalization", "epsilon": 1e-5}
    torch_case("layer_normalization", nn.LayerNorm(5), [layer], rows)
    plain = layer | {"center": False, "scale": False}
    torch_case(
        "layer_normalization-no-affine", nn.LayerNorm(5, elementwise_affine=False), [plain], rows
    )

    torch_case("dropout", nn.Dropout(0.5), [{"type": "dropout", "rate": 0.5}], rows)
    image = random(ROWS, 2, 3)
    torch_case("flatten", nn.Flatten(), [{"type": "flatten"}], image)
    torch_case(
        "reshape", nn.Unflatten(-1, (3, 2)), [{"type": "reshape", "shape": [3, 2]}], random(ROWS, 6)
    )


def storage_cases() -> None:
    """Weights stored in other widths: the golden uses the numbers that were really stored."""
    rows = random(ROWS, 5)
    for name, dtype in (("f64", torch.float64), ("f16", torch.float16), ("bf16", torch.bfloat16)):
        module = randomised(nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 2))).to(dtype)
        layers = [{"type": "dense", "activation": "relu"}, {"type": "dense", "name": "2"}]
        answers = ask(module, rows)
        config, weights = sequential(layers, 5), module.state_dict()
        write(f"storage-{name}", config, weights, {"features": rows}, {"output": answers})


class Merge(nn.Module):
    """Three branches over one input, merged as `merge` says."""

    def __init__(self, merge: str) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 4), nn.Linear(5, 4), nn.Linear(5, 4)
        self.merge = merge

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        branches = torch.stack([self.a(x), self.b(x), self.c(x)])
        match self.merge:
            case "concatenate":
                return torch.cat(list(branches), dim=-1)
            case "add":
                return branches.sum(0)
            case "multiply":
                return branches.prod(0)
            case "average":
                return branches.mean(0)
            case _:
                return branches.amax(0)


class WideAndDeep(nn.Module):
    """Two inputs; the second one takes a short cut; a score and a class answer."""

    def __init__(self) -> None:
        super().__init__()
        self.deep, self.join = nn.Linear(4, 6), nn.Linear(8, 5)
        self.score, self.classes = nn.Linear(5, 1), nn.Linear(5, 3)

    def forward(
        self, person: torch.Tensor, place: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        joined = torch.cat([torch.relu(self.deep(person)), place], dim=-1)
        hidden = torch.tanh(self.join(joined))
        return self.score(hidden), torch.softmax(self.classes(hidden), dim=-1)


def dag_cases() -> None:
    rows = random(ROWS, 5)
    for merge in ("concatenate", "add", "multiply", "average", "maximum"):
        module = randomised(Merge(merge))
        layers = [
            {"type": "dense", "name": name, "units": 4, "inputs": ["features"]} for name in "abc"
        ]
        layers.append({"type": merge, "inputs": ["a", "b", "c"]})
        write(
            merge,
            sequential(layers, 5),
            module.state_dict(),
            {"features": rows},
            {"output": ask(module, rows)},
        )

    module = randomised(WideAndDeep())
    person, place = random(ROWS, 4), random(ROWS, 2, seed=1)
    with torch.inference_mode():
        inputs = torch.from_numpy(person).double(), torch.from_numpy(place).double()
        score, classes = copy.deepcopy(module).double()(*inputs)
    config = {
        "model_type": "sequential",
        "inputs": [
            {"name": "person", "shape": [4], "datatype": "FP32"},
            {"name": "place", "shape": [2], "datatype": "FP32"},
        ],
        "layers": [
            {"type": "dense", "name": "deep", "activation": "relu", "inputs": ["person"]},
            {"type": "concatenate", "name": "both", "inputs": ["deep", "place"], "axis": -1},
            {"type": "dense", "name": "join", "activation": "tanh"},
            {"type": "dense", "name": "score"},
            {"type": "dense", "name": "classes", "activation": "softmax", "inputs": ["join"]},
        ],
        "outputs": [
            {"name": "score", "layer": "score"},
            {"name": "probabilities", "layer": "classes"},
        ],
    }
    outputs = {"score": score.numpy(), "probabilities": classes.numpy()}
    write(
        "two-inputs-two-outputs",
        config,
        module.state_dict(),
        {"person": person, "place": place},
        outputs,
    )


def main() -> None:
    activation_cases()
    layer_cases()
    storage_cases()
    dag_cases()
