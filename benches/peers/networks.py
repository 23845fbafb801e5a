"""The benchmark's networks as ONNX files: the same weights that safeserve loads."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file

# Where `cargo bench --bench load -- --write-networks` puts each network's model.
DIRECTORIES = {"digits": "small/digits", "large": "large/large"}
OPERATORS = {"relu": "Relu", "softmax": "Softmax"}


def export(networks: Path) -> None:
    """Writes `<name>.onnx` next to the networks."""
    for name, directory in DIRECTORIES.items():
        onnx.save(to_onnx(networks / directory), networks / f"{name}.onnx")


def to_onnx(directory: Path) -> onnx.ModelProto:
    """A sequential model of dense layers, rows of any number."""
    config = json.loads((directory / "config.json").read_text())
    weights = load_file(directory / "model.safetensors")
    given = config["inputs"][0]
    nodes, constants = [], []
    value = given["name"]

    def add(operator: str, *operands: str, **attributes: int) -> None:
        nonlocal value
        output = f"v{len(nodes)}"
        nodes.append(helper.make_node(operator, [value, *operands], [output], **attributes))
        value = output

    for index, layer in enumerate(config["layers"]):
        function = layer.get("function") or layer.get("activation")
        if layer["type"] == "dense":
            names = [f"{index}.weight", f"{index}.bias"]
            constants += [numpy_helper.from_array(weights[name], name) for name in names]
            columns = weights[names[0]].shape[0]
            add("Gemm", *names, transB=1)
        if function:
            add(OPERATORS[function], **({"axis": -1} if function == "softmax" else {}))
    nodes[-1].output[0] = "probabilities"
    graph = helper.make_graph(
        nodes,
        "network",
        [helper.make_tensor_value_info(given["name"], TensorProto.FLOAT, ["rows", *given["shape"]])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", columns])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def sample_rows(rows: int, columns: int) -> np.ndarray:
    """The numbers that the benchmark sends."""
    numbers = np.arange(rows * columns) * 37 % 101 / 6.3125
    return numbers.astype(np.float32).reshape(rows, columns)
