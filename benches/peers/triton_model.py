"""ONNX Runtime in Triton's Python backend, the only backend in the wheel that brings Triton."""

import numpy as np
import triton_python_backend_utils as triton
from sessions import session


class TritonPythonModel:
    def initialize(self, args: dict) -> None:
        self.session = session(args["model_name"])
        self.input = self.session.get_inputs()[0].name

    def execute(self, requests: list) -> list:
        rows = [triton.get_input_tensor_by_name(r, self.input).as_numpy() for r in requests]
        (answers,) = self.session.run(None, {self.input: np.concatenate(rows)})
        ends = np.cumsum([len(part) for part in rows])[:-1]
        return [
            triton.InferenceResponse([triton.Tensor("probabilities", part)])
            for part in np.split(answers, ends)
        ]
