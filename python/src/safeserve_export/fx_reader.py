"""A graph of torch.fx to layers.

The graph is run node by node on rows. What depends on no input is a constant, whatever computes it; what does
becomes a layer, or a fault.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from .errors import NO_COUNTERPART, ExportError, Fault, first_line
from .model import Array
from .names import TORCH_ACTIVATIONS, TORCH_FUNCTIONS, TORCH_MODULES, TORCH_PARAMETERS
from .network import Network
from .torch_names import ALIASES, ARITHMETIC, CASTS, DROPOUTS, MODULES, SHAPED, UNCHANGED, arguments


def placeholders(graph: fx.GraphModule) -> list[fx.Node]:
    return [node for node in graph.graph.nodes if node.op == "placeholder"]


def _device(graph: fx.GraphModule) -> tuple[torch.device, torch.dtype]:
    for tensor in (*graph.parameters(), *graph.buffers()):
        if tensor.is_floating_point():
            return tensor.device, tensor.dtype
    return torch.device("cpu"), torch.float32


def tensors(graph: fx.GraphModule, inputs: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    device, dtype = _device(graph)
    # Copies, since a module may write to what it is given (`nn.ReLU(inplace=True)`).
    return {name: torch.from_numpy(rows).to(device, dtype, copy=True) for name, rows in inputs.items()}


def outputs_of(answer: Any) -> dict[str | None, Any]:
    """Outputs by name; a single output has no name."""
    if isinstance(answer, Mapping):
        return {str(name): part for name, part in answer.items()}
    if isinstance(answer, (tuple, list)):
        if len(answer) == 1:
            return {None: answer[0]}
        names = getattr(answer, "_fields", None) or [f"output_{index}" for index in range(len(answer))]
        return dict(zip(names, answer))
    return {None: answer}


@dataclass(frozen=True)
class Value:
    """What a node computes from the inputs: the layer that does so here, and the shape of one row."""

    layer: str
    shape: tuple[int, ...]


class Unsupported(Exception):
    """Why a node has no counterpart."""


class Reader(fx.Interpreter):
    """Runs the graph on rows, and gives each node that depends on them a layer."""

    def __init__(self, graph: fx.GraphModule, shapes: Mapping[str, tuple[int, ...]]) -> None:
        super().__init__(graph, garbage_collect_values=False)
        self.traced = graph
        self.network = Network(shapes)
        self.values: dict[fx.Node, Value] = {}
        self.faults: list[Fault] = []
        self.functions: dict[str, str] = {}
        self.faulty: set[fx.Node] = set()
        self.rows = 0

    def read(self, example: Mapping[str, Array]) -> dict[str | None, fx.Node]:
        """Reads the whole graph; gives the nodes of the outputs."""
        # At least two rows, so that no axis of one number can be mistaken for that of the rows.
        inputs = {name: np.concatenate([rows, rows]) for name, rows in example.items()}
        self.rows = len(next(iter(inputs.values())))
        given = tensors(self.traced, inputs)
        arguments = [given.get(str(node.target), *node.args) for node in placeholders(self.traced)]
        try:
            self.run(*arguments)
        except ExportError:
            raise
        except Exception as error:  # Whatever the user's own `forward` raises.
            raise ExportError(f"the module fails on the example: {first_line(error)}") from error
        [node] = [node for node in self.traced.graph.nodes if node.op == "output"]
        outputs = outputs_of(node.args[0])
        if not self.faults:
            self._check_outputs(outputs)
        return outputs

    def function(self, node: fx.Node) -> str | None:
        """`softmax` or `sigmoid`, if that is what computes a node."""
        found = self.functions.get(self.values[node].layer)
        return found if found in ("softmax", "sigmoid") else None

    def _check_outputs(self, outputs: Mapping[str | None, Any]) -> None:
        for name, node in outputs.items():
            what = "the result" if name is None else f"the output {name!r}"
            if not isinstance(node, fx.Node) or node not in self.values:
                raise ExportError(f"{what} is no tensor that depends on the inputs")
            value = self.values[node]
            if value.layer in self.network.inputs:
                self.values[node] = Value(self.network.add("dropout", "unchanged", [value.layer]), value.shape)

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "placeholder":
            if n.target in self.network.inputs:
                self.values[n] = Value(str(n.target), self.network.inputs[str(n.target)])
            return result
        if n.op == "output":
            return result
        sources = [source for source in n.all_input_nodes if source in self.values or source in self.faulty]
        if not sources or not isinstance(result, (torch.Tensor, tuple, list)):
            # A constant; a number of rows or an extent.
            return result
        if isinstance(result, torch.Size):
            return result
        if any(source in self.faulty for source in sources):
            # Its own fault, if it has one, can only be recognised by its kind.
            self.faulty.add(n)
            if not self._is_known(n):
                self.faults.append(Fault(n.name, self._kind(n), NO_COUNTERPART))
            return result
        try:
            layer = self._layer(n, result)
        except Unsupported as error:
            self.faults.append(Fault(n.name, self._kind(n), str(error)))
            self.faulty.add(n)
            return result
        assert isinstance(result, torch.Tensor)
        value = Value(layer, tuple(result.shape[1:]))
        self.values[n] = value
        if self._is_in_place(n):
            # Later readers of the operand read the result.
            self.values[sources[0]] = value
        return result

    # -- what a node is ---------------------------------------------------------------------------------

    def _kind(self, n: fx.Node) -> str:
        """For people: `nn.Conv1d of self.block.conv`, `torch.einsum`, `Tensor.cumsum`."""
        if n.op == "call_module":
            return f"nn.{type(self._module(n)).__name__} of {n.target}"
        if n.op == "call_method":
            return f"Tensor.{n.target}"
        name = getattr(n.target, "__name__", str(n.target))
        home = str(getattr(n.target, "__module__", None) or "torch")
        home = {"_operator": "operator", "torch._C._nn": "torch.nn.functional"}.get(home, home)
        return f"{home}.{name}"

    def _module(self, n: fx.Node) -> nn.Module:
        module: nn.Module = self.traced.get_submodule(str(n.target))
        return module

    def _name(self, n: fx.Node) -> str:
        """The function's name without the suffix of its variant."""
        name = n.target if isinstance(n.target, str) else getattr(n.target, "__name__", str(n.target))
        name = name.strip("_")
        return ALIASES.get(name, name)

    def _is_known(self, n: fx.Node) -> bool:
        if n.op == "call_module":
            return _class_name(self._module(n)) in MODULES
        name = self._name(n)
        # What is taken out of a faulty tuple is that one's fault.
        return name in (*TORCH_FUNCTIONS, *SHAPED, *DROPOUTS, *UNCHANGED, *CASTS, *ARITHMETIC, "getitem")

    def _is_in_place(self, n: fx.Node) -> bool:
        if n.op == "call_module":
            return bool(getattr(self._module(n), "inplace", False))
        name = n.target if isinstance(n.target, str) else getattr(n.target, "__name__", "")
        is_marked = name.endswith("_") and not name.endswith("__")
        return is_marked or name in ("iadd", "imul", "isub", "itruediv") or n.kwargs.get("inplace") is True

    # -- the layer of a node ----------------------------------------------------------------------------

    def _layer(self, n: fx.Node, result: Any) -> str:
        if not isinstance(result, torch.Tensor):
            raise Unsupported("gives several tensors; " + NO_COUNTERPART)
        if n.op == "call_module":
            layer = self._call_module(n, result)
        else:
            layer = self._call_function(n, result)
        if result.ndim == 0 or len(result) != self.rows:
            raise Unsupported(
                f"gives shape {list(result.shape)} for {self.rows} rows; each row's answer must be its own"
            )
        return layer

    def _call_module(self, n: fx.Node, result: torch.Tensor) -> str:
        module: Any = self._module(n)
        name = str(n.target)
        kind = _class_name(module)
        if kind in TORCH_ACTIVATIONS:
            function = TORCH_ACTIVATIONS[kind]
            given = {key: getattr(module, key) for key in arguments(function) if hasattr(module, key)}
            return self._activation(n, name, function, given)
        layer = TORCH_MODULES.get(kind)
        if layer == "dropout":
            return self._source(n).layer
        if layer in ("flatten", "reshape"):
            return self._reshape(n, name, result)
        if layer == "dense":
            return self.network.dense(name, self._source(n).layer, _numbers(module.weight), _optional(module.bias))
        if layer == "batch_normalization":
            return self._batch_norm(n, name, module)
        if layer == "layer_normalization":
            return self._layer_normalization(
                n, name, list(module.normalized_shape), module.weight, module.bias, module.eps
            )
        if layer == "prelu":
            return self._slopes(n, name, module.weight)
        raise Unsupported(NO_COUNTERPART)

    def _call_function(self, n: fx.Node, result: torch.Tensor) -> str:
        name = self._name(n)
        if name in TORCH_FUNCTIONS:
            return self._activation(n, n.name, name, self._bound(n, arguments(name)))
        if name in DROPOUTS:
            given = self._bound(n, ("p", "training", "inplace"))
            if given.get("training", True):
                raise Unsupported("drops out when evaluating too; give it training=self.training")
            return self._source(n).layer
        if name in UNCHANGED:
            return self._source(n).layer
        if name in CASTS:
            if not result.is_floating_point():
                raise Unsupported(f"casts to {result.dtype}; the server computes in float32")
            return self._source(n).layer
        if name in SHAPED:
            return self._reshape(n, n.name, result)
        if name not in ARITHMETIC:
            raise Unsupported(NO_COUNTERPART)
        method: Callable[[fx.Node, torch.Tensor], str] = getattr(self, f"_{name}")
        return method(n, result)

    def _bound(self, n: fx.Node, names: tuple[str, ...]) -> dict[str, Any]:
        """The arguments after the first, by name, as they were when the graph ran."""
        bound = dict(zip(names, n.args[1:])) | {key: value for key, value in n.kwargs.items() if key != "input"}
        return {key: self._constant(value) if isinstance(value, fx.Node) else value for key, value in bound.items()}

    def _operands(self, n: fx.Node, *names: str) -> list[Any]:
        """Arguments by position or name."""
        given = dict(zip(names, n.args)) | dict(n.kwargs)
        return [given.get(name) for name in names]

    def _constant(self, argument: Any) -> Any:
        """The value of an argument that depends on no input."""
        if not isinstance(argument, fx.Node):
            return argument
        if argument in self.values:
            raise Unsupported(f"takes {argument.name!r}, which depends on the inputs, where only a constant is allowed")
        return self.env[argument]

    def _value(self, argument: Any) -> Value | None:
        """What an argument is that depends on the inputs; None for a constant."""
        return self.values.get(argument) if isinstance(argument, fx.Node) else None

    def _source(self, n: fx.Node) -> Value:
        """The first argument, which must depend on the inputs."""
        first = n.args[0] if n.args else n.kwargs.get("input")
        value = self._value(first)
        if value is None:
            raise Unsupported("its first argument is a constant; it must depend on the inputs")
        return value

    def _check_axis(self, dim: Any, shape: tuple[int, ...]) -> None:
        if dim not in (-1, len(shape)):
            raise Unsupported(f"dim={dim}; only the last axis, -1, is supported, for rows of shape {list(shape)}")

    def _activation(self, n: fx.Node, name: str, function: str, given: Mapping[str, Any]) -> str:
        source = self._source(n)
        if given.get("dtype") not in (None, torch.float32, torch.float64):
            raise Unsupported(f"computes in {given['dtype']}, the server in float32")
        if function in ("softmax", "log_softmax"):
            self._check_axis(given.get("dim"), source.shape)
        if function == "softplus" and float(given.get("threshold", 20)) < 15:
            # From 15 on the straight line beyond the threshold differs by less than a float's last digit.
            raise Unsupported(f"threshold={given['threshold']}; only 20, the default, is supported")
        if function == "softplus" and given.get("beta", 1) != 1:
            return self._softplus(name, source.layer, float(given["beta"]))
        server = TORCH_FUNCTIONS[function]
        if function == "gelu" and given.get("approximate", "none") != "none":
            server = "gelu_tanh"
        known = TORCH_PARAMETERS.get(function, {})
        parameters = {ours: float(given.get(theirs, default)) for theirs, (ours, default) in known.items()}
        layer = self.network.activation(name, source.layer, server, **parameters)
        self.functions[layer] = server
        return layer

    def _softplus(self, name: str, source: str, beta: float) -> str:
        """log(1 + e^(beta x)) / beta."""
        scaled = self.network.rescale(f"{name}.scaled", source, scale=beta)
        bent = self.network.activation(f"{name}.bent", scaled, "softplus")
        return self.network.rescale(name, bent, scale=1 / beta)

    def _reshape(self, n: fx.Node, name: str, result: torch.Tensor) -> str:
        source = self._source(n)
        row = tuple(result.shape[1:])
        if result.ndim == 0 or len(result) != self.rows or np.prod(row) != np.prod(source.shape):
            raise Unsupported(
                f"gives shape {list(result.shape)} for {self.rows} rows of shape {list(source.shape)}; "
                "only what keeps the rows is supported"
            )
        if row == source.shape:
            return source.layer
        if len(row) == 1:
            layer = self.network.add("flatten", name, [source.layer])
        else:
            layer = self.network.add("reshape", name, [source.layer], shape=list(row))
        if self.functions.get(source.layer) == "sigmoid":
            self.functions[layer] = "sigmoid"
        return layer

    def _batch_norm(self, n: fx.Node, name: str, module: Any) -> str:
        source = self._source(n)
        if len(source.shape) != 1:
            raise Unsupported(f"rows of shape {list(source.shape)}; only rows of one axis are supported")
        if module.running_mean is None or module.running_var is None:
            raise Unsupported("track_running_stats=False: rows would depend on each other")
        weights = {"running_mean": _numbers(module.running_mean), "running_var": _numbers(module.running_var)}
        return self.network.add(
            "batch_normalization",
            name,
            [source.layer],
            weights | _affine(module.weight, module.bias),
            epsilon=float(module.eps),
            **_switches(module.weight, module.bias),
        )

    def _layer_normalization(
        self, n: fx.Node, name: str, shape: list[int], weight: Any, bias: Any, epsilon: Any
    ) -> str:
        source = self._source(n)
        if len(shape) != 1:
            raise Unsupported(f"normalized_shape={shape}; only the last axis is supported")
        return self.network.add(
            "layer_normalization",
            name,
            [source.layer],
            _affine(weight, bias),
            epsilon=float(epsilon),
            **_switches(weight, bias),
        )

    def _slopes(self, n: fx.Node, name: str, slopes: Any) -> str:
        source, slopes = self._source(n), _numbers(slopes).reshape(-1)
        if len(slopes) > 1 and len(source.shape) != 1:
            raise Unsupported(
                f"{len(slopes)} slopes for rows of shape {list(source.shape)}; only one slope, or rows of one axis"
            )
        return self.network.add("prelu", name, [source.layer], {"weight": slopes})

    # -- functions by name: one method each, listed in ARITHMETIC ------------------------------------------

    def _linear(self, n: fx.Node, result: torch.Tensor) -> str:
        _, weight, bias = self._operands(n, "input", "weight", "bias")
        weight, bias = self._constant(weight), self._constant(bias)
        return self.network.dense(n.name, self._source(n).layer, _numbers(weight), _optional(bias))

    def _matmul(self, n: fx.Node, result: torch.Tensor) -> str:
        _, other = self._operands(n, "input", "other")
        other = self._constant(n.args[1] if len(n.args) > 1 else other)
        if not isinstance(other, torch.Tensor) or other.ndim != 2:
            raise Unsupported("only the product with a constant matrix is supported")
        return self.network.dense(n.name, self._source(n).layer, _numbers(other).T, None)

    def _layer_norm(self, n: fx.Node, result: torch.Tensor) -> str:
        _, shape, weight, bias, epsilon = self._operands(n, "input", "normalized_shape", "weight", "bias", "eps")
        weight, bias = self._constant(weight), self._constant(bias)
        return self._layer_normalization(n, n.name, list(shape), weight, bias, 1e-5 if epsilon is None else epsilon)

    def _normalize(self, n: fx.Node, result: torch.Tensor) -> str:
        _, p, dim, epsilon = self._operands(n, "input", "p", "dim", "eps")
        source = self._source(n)
        if p not in (None, 2):
            raise Unsupported(f"p={p}; only 2 is supported")
        self._check_axis(1 if dim is None else dim, source.shape)
        epsilon = 1e-12 if epsilon is None else float(epsilon)
        return self.network.add("unit_normalization", n.name, [source.layer], epsilon=epsilon)

    def _prelu(self, n: fx.Node, result: torch.Tensor) -> str:
        _, weight = self._operands(n, "input", "weight")
        return self._slopes(n, n.name, self._constant(weight))

    def _cat(self, n: fx.Node, result: torch.Tensor) -> str:
        tensors, dim = self._operands(n, "tensors", "dim")
        values = [self._value(tensor) for tensor in tensors]
        if any(value is None for value in values):
            raise Unsupported("one of the tensors is a constant; all must depend on the inputs")
        axis = (0 if dim is None else int(dim)) % result.ndim
        if axis == 0:
            raise Unsupported("dim=0 are the rows; only axes of a row are supported")
        return self.network.add("concatenate", n.name, [value.layer for value in values if value], axis=axis - 1)

    def _add(self, n: fx.Node, result: torch.Tensor) -> str:
        return self._sum(n, result, 1)

    def _sub(self, n: fx.Node, result: torch.Tensor) -> str:
        return self._sum(n, result, -1)

    def _sum(self, n: fx.Node, result: torch.Tensor, sign: int) -> str:
        """left + sign · alpha · right."""
        left, right = self._pair(n)
        alpha = n.kwargs.get("alpha", 1)
        if not isinstance(alpha, (int, float)):
            raise Unsupported("alpha is computed; only a number is supported")
        factor, one, two = sign * alpha, self._value(left), self._value(right)
        if one is not None and two is not None:
            self._check_shapes(one, two)
            other = two.layer
            if factor != 1:
                other = self.network.rescale(f"{n.name}.scaled", other, scale=factor)
            return self.network.add("add", n.name, [one.layer, other])
        if one is not None:
            offset: Array = np.asarray(self._columns(right, result, one), dtype=np.float64) * -float(factor)
            if sign == 1 or not one.shape:
                return self.network.rescale(n.name, one.layer, offset=-offset)
            # What is subtracted is often a mean: numbers that are large and close together keep their digits.
            mean = np.broadcast_to(offset, one.shape[-1:])
            return self.network.standardise(n.name, one.layer, mean, np.ones_like(mean))
        assert two is not None
        return self.network.rescale(n.name, two.layer, scale=factor, offset=self._columns(left, result, two))

    def _mul(self, n: fx.Node, result: torch.Tensor) -> str:
        left, right = self._pair(n)
        one, two = self._value(left), self._value(right)
        if one is not None and two is not None:
            self._check_shapes(one, two)
            return self.network.add("multiply", n.name, [one.layer, two.layer])
        source, constant = (one, right) if one is not None else (two, left)
        assert source is not None
        return self.network.rescale(n.name, source.layer, scale=self._columns(constant, result, source))

    def _div(self, n: fx.Node, result: torch.Tensor) -> str:
        left, right = self._pair(n)
        source = self._value(left)
        if self._value(right) is not None or source is None or n.kwargs.get("rounding_mode"):
            raise Unsupported("only the division of a tensor by a constant, not rounded, is supported")
        divisor = np.asarray(self._columns(right, result, source), dtype=np.float64)
        if (divisor == 0).any():
            raise Unsupported("divides by zero")
        return self.network.rescale(n.name, source.layer, scale=1 / divisor)

    def _neg(self, n: fx.Node, result: torch.Tensor) -> str:
        return self.network.rescale(n.name, self._source(n).layer, scale=-1.0)

    def _maximum(self, n: fx.Node, result: torch.Tensor) -> str:
        return self._of_two(n, "maximum")

    def _minimum(self, n: fx.Node, result: torch.Tensor) -> str:
        return self._of_two(n, "minimum")

    def _of_two(self, n: fx.Node, layer: str) -> str:
        left, right = self._pair(n)
        one, two = self._value(left), self._value(right)
        if one is None or two is None:
            raise Unsupported(f"only the {layer} of two tensors that depend on the inputs is supported")
        self._check_shapes(one, two)
        return self.network.add(layer, n.name, [one.layer, two.layer])

    def _pair(self, n: fx.Node) -> tuple[Any, Any]:
        given = [*n.args, *(n.kwargs[key] for key in ("input", "other") if key in n.kwargs)]
        if len(given) != 2:
            raise Unsupported(f"expected two operands, got {len(given)}")
        return given[0], given[1]

    def _check_shapes(self, one: Value, two: Value) -> None:
        if one.shape != two.shape:
            raise Unsupported(
                f"operands of different shapes, {list(one.shape)} and {list(two.shape)}; only rows of one shape"
            )

    def _columns(self, argument: Any, result: torch.Tensor, source: Value) -> Any:
        """A constant operand: a number, or one a column of the last axis."""
        constant = self._constant(argument)
        values = _numbers(constant) if isinstance(constant, torch.Tensor) else np.asarray(constant, dtype=np.float64)
        if tuple(result.shape[1:]) != source.shape:
            raise Unsupported(f"a constant of shape {list(values.shape)} makes rows of another shape")
        columns = source.shape[-1] if source.shape else 1
        if values.size == 1:
            return float(values.reshape(()))
        if values.size == columns and values.shape[-1] == columns and source.shape:
            return values.reshape(-1).astype(np.float64)
        raise Unsupported(
            f"a constant of shape {list(values.shape)}; only a number or one a column, [{columns}], is supported"
        )


def _class_name(module: nn.Module) -> str:
    """The name of the module's class, of a parametrized one that of the original."""
    kind = type(module)
    if nn.utils.parametrize.is_parametrized(module):
        kind = kind.__mro__[1]
    return kind.__name__ if kind.__module__.startswith("torch.") else ""


def _numbers(tensor: Any) -> Array:
    values: Array = tensor.detach().cpu().numpy()
    return values


def _optional(tensor: Any) -> Array | None:
    return None if tensor is None else _numbers(tensor)


def _affine(weight: Any, bias: Any) -> dict[str, Array]:
    return {name: _numbers(tensor) for name, tensor in (("weight", weight), ("bias", bias)) if tensor is not None}


def _switches(weight: Any, bias: Any) -> dict[str, bool]:
    """The keys that say that a scale or a shift is not there."""
    return {key: False for key, tensor in (("scale", weight), ("center", bias)) if tensor is None}
