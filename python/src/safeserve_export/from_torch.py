"""PyTorch: modules that torch.fx can trace, as family `sequential`."""

from __future__ import annotations

import copy
import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from .errors import ExportError, UnsupportedError, first_line
from .fx_reader import Reader, outputs_of, placeholders, tensors
from .model import Array, Ending, Meaning, Model, Rows, Samples, by_input
from .torch_names import SUPPORTED

BATCH_ROWS = 256
"""Rows that the module is asked at a time."""


def read(module: nn.Module, meaning: Meaning, example: Rows, check_rows: Rows | None) -> Model:
    """The module as a network, and what it answers to the rows."""
    # What `torch.compile` gives.
    module = getattr(module, "_orig_mod", module)
    if isinstance(module, torch.jit.ScriptModule):
        raise ExportError(f"{type(module).__name__} is TorchScript; export the nn.Module that it was made of")
    if not isinstance(module, nn.Module):
        raise ExportError(f"expected a torch.nn.Module, got {type(module).__name__}")
    with _evaluating(module), torch.no_grad():
        # One of PyTorch's own layers is not traced into, and so needs something around it.
        root = nn.Sequential(module) if Tracer().is_leaf_module(module, "") else module
        given = _by_argument(root, example)
        graph = _trace(root, given)
        shapes = _shapes(graph, given)
        shown = by_input(_arrays(given, list(shapes)), shapes, "example")
        reader = Reader(graph, shapes)
        outputs = reader.read(shown)
        if reader.faults:
            raise UnsupportedError(type(module).__name__, reader.faults, SUPPORTED)
        compared = None if check_rows is None else _arrays(check_rows, list(shapes))
        samples = Samples.of(shapes, shown, compared)
        answers = _ask(graph, samples.inputs)
    first = next(iter(outputs.values()))
    ending = Ending(reader.values[first].shape, reader.function(first))
    layers = {name: reader.values[node].layer for name, node in outputs.items()}
    return reader.network.model(layers, meaning, ending, samples, answers)


@contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """The module as it computes when serving; afterwards each part is back in its former mode."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, training in modes:
            part.training = training


class Tracer(fx.Tracer):
    """Traces into everything but PyTorch's own layers, also where these have parametrizations."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return nn.utils.parametrize.is_parametrized(m) or super().is_leaf_module(m, module_qualified_name)


def _by_argument(module: nn.Module, example: Rows) -> dict[str, Any]:
    """The example by the names of `forward`'s arguments."""
    parameters = list(inspect.signature(module.forward).parameters.values())
    if any(parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) for parameter in parameters):
        raise ExportError("forward takes *args or **kwargs; give its inputs names of their own")
    names = [parameter.name for parameter in parameters]
    if isinstance(example, Mapping):
        given = {str(name): values for name, values in example.items()}
    elif isinstance(example, tuple):
        if len(example) > len(names):
            raise ExportError(f"example: forward takes {', '.join(names)}; got {len(example)} inputs")
        given = dict(zip(names, example))
    else:
        given = dict(zip(names, [example]))
    required = {parameter.name for parameter in parameters if parameter.default is parameter.empty}
    if not given or required - given.keys() or given.keys() - set(names):
        raise ExportError(
            f"example: forward takes {', '.join(names) or 'nothing'}; got {', '.join(given) or 'nothing'}"
        )
    return given


def _trace(module: nn.Module, given: Mapping[str, Any]) -> fx.GraphModule:
    """The module's graph over parameters of 32 or 64 bits: narrower ones are widened, in a copy. Arguments
    that are not given have their defaults."""
    if any(tensor.dtype in (torch.float16, torch.bfloat16) for tensor in module.state_dict().values()):
        module = copy.deepcopy(module).float()
    parameters = inspect.signature(module.forward).parameters
    defaults = {name: parameter.default for name, parameter in parameters.items() if name not in given}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            graph = Tracer().trace(module, concrete_args=defaults or None)
    except Exception as error:  # Whatever the user's own `forward` raises when it meets proxies.
        hint = "; forward may have no if, for or while over tensors" if isinstance(error, fx.proxy.TraceError) else ""
        raise ExportError(f"{type(module).__name__} cannot be traced by torch.fx: {first_line(error)}{hint}") from error
    traced = fx.GraphModule(module, graph)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced


def _shapes(graph: fx.GraphModule, given: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """By input of the module, the shape of one row."""
    used = {str(node.target) for node in placeholders(graph) if node.users}
    shapes = {}
    for name, values in given.items():
        if name not in used:
            raise ExportError(f"example: {name!r} has no part in what forward computes; leave it out")
        shape = tuple(np.shape(_array(values)))
        if not shape:
            raise ExportError(f"example: {name}: expected rows, got one number")
        shapes[name] = shape[1:]
    return shapes


def _arrays(rows: Rows, names: list[str]) -> Rows:
    """The same rows as arrays."""
    if isinstance(rows, Mapping):
        return {str(name): _array(values) for name, values in rows.items()}
    if isinstance(rows, tuple):
        return dict(zip(names, map(_array, rows))) if len(rows) == len(names) else rows
    return _array(rows)


def _array(values: Any) -> Any:
    if not isinstance(values, torch.Tensor):
        return values
    values = values.detach().cpu()
    if not values.is_floating_point():
        raise ExportError(f"example: expected floating-point numbers, got {values.dtype}; the server takes only these")
    return values.float().numpy()


def _ask(graph: fx.GraphModule, inputs: Mapping[str, Array]) -> list[Array]:
    """What the module answers, each output in one array."""
    count = len(next(iter(inputs.values())))
    parts: list[list[Array]] = []
    for start in range(0, count, BATCH_ROWS):
        rows = tensors(graph, {name: values[start : start + BATCH_ROWS] for name, values in inputs.items()})
        length = len(next(iter(rows.values())))
        try:
            answer = list(outputs_of(graph(**rows)).values())
        except Exception as error:  # Whatever the user's own `forward` raises.
            raise ExportError(f"the module fails on {length} rows to compare: {first_line(error)}") from error
        if any(len(part) != length for part in answer):
            raise ExportError(f"the module gives another number of rows than the {length} that it got")
        parts.append([part.detach().cpu().numpy() for part in answer])
    return [np.concatenate(outputs) for outputs in zip(*parts, strict=True)]
