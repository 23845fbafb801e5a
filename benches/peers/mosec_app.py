"""mosec in front of ONNX Runtime: two processes a model, batches that form by themselves."""

import numpy as np
from mosec import Runtime, Server, Worker
from sessions import decode, encode, session


class Model(Worker):
    name = ""

    def __init__(self) -> None:
        super().__init__()
        self.session = session(self.name)
        self.input = self.session.get_inputs()[0].name

    def deserialize(self, data: bytes) -> np.ndarray:
        return decode(data)

    def forward(self, data: list[np.ndarray]) -> list[np.ndarray]:
        (answers,) = self.session.run(None, {self.input: np.concatenate(data)})
        ends = np.cumsum([len(rows) for rows in data])[:-1]
        return np.split(answers, ends)

    def serialize(self, data: np.ndarray) -> bytes:
        return encode(self.name, data)


class Digits(Model):
    name = "digits"


class Large(Model):
    name = "large"


if __name__ == "__main__":
    server = Server()
    # The shortest wait that mosec has is a millisecond.
    runtimes = {
        f"/v2/models/{model.name}/infer": [Runtime(model, num=2, max_batch_size=64, max_wait_time=1)]
        for model in (Digits, Large)
    }
    server.register_runtime(runtimes)
    server.run()
