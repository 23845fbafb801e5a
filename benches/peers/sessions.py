"""ONNX Runtime as the servers use it: one thread a session, as many sessions as cores."""

import os
from pathlib import Path

import numpy as np
import onnxruntime
import orjson

NETWORKS = Path(os.environ.get("PEERS_NETWORKS", "."))


def session(name: str, threads: int = 1) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(NETWORKS / f"{name}.onnx", options, ["CPUExecutionProvider"])


def decode(body: bytes) -> np.ndarray:
    """The rows of an Open Inference Protocol request."""
    tensor = orjson.loads(body)["inputs"][0]
    return np.array(tensor["data"], np.float32).reshape(tensor["shape"])


def encode(name: str, rows: np.ndarray) -> bytes:
    """The answer of the same protocol."""
    output = {
        "name": "probabilities",
        "datatype": "FP32",
        "shape": rows.shape,
        "data": rows.ravel(),
    }
    answer = {"model_name": name, "model_version": "1", "outputs": [output]}
    return orjson.dumps(answer, option=orjson.OPT_SERIALIZE_NUMPY)
