"""Models for the tests, written by hand: a safetensors file is a length, JSON and the numbers."""

import json
import math
import random
import struct
from array import array
from pathlib import Path


def write_safetensors(file: Path, tensors: dict[str, tuple[list[int], bytes]]) -> None:
    header, offset = {}, 0
    for name, (shape, data) in tensors.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, data in tensors.values():
            out.write(data)


def write_model(folder: Path, features: int, layers: list[dict], tensors: dict) -> None:
    folder.mkdir(parents=True)
    config = {
        "model_type": "sequential",
        "inputs": [{"name": "x", "shape": [features]}],
        "layers": layers,
    }
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", tensors)


def echo(folder: Path, features: int) -> None:
    """Answers with its input: whose answer it is can be seen by looking."""
    write_model(folder, features, [{"type": "activation", "function": "linear"}], {})


def dense(folder: Path, features: int, width: int, layers: int, outputs: int, seed: int = 1) -> None:
    """Random dense layers with relu between: real products, as slow as they are wide."""
    generator = random.Random(seed)
    sizes = [features, *[width] * layers, outputs]
    network, tensors = [], {}
    for inputs, units in zip(sizes, sizes[1:]):
        bound = math.sqrt(3 / inputs)
        # Repeated past a prime number of values: written fast, and no two rows are alike.
        values = array("f", (generator.uniform(-bound, bound) for _ in range(min(inputs * units, 65_521))))
        whole, rest = divmod(inputs * units, len(values))
        data = values.tobytes() * whole + values[:rest].tobytes()
        tensors[f"{len(network)}.weight"] = ([units, inputs], data)
        network += [{"type": "dense", "use_bias": False}, {"type": "activation", "function": "relu"}]
    write_model(folder, features, network[:-1], tensors)


def steep(folder: Path, features: int) -> None:
    """The echo times 1e30: large numbers in give an answer that is not finite."""
    write_model(folder, features, [{"type": "rescaling", "scale": 1e30}], {})
