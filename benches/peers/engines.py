"""Times ONNX Runtime or OpenVINO as benches/peers/curve.rs times our engine.

`engines.py NETWORKS NAME ROWS,ROWS` prints `{engine: {threads: {rows: [median, least]}}}` in
microseconds; engines that are not installed are left out.
"""

import json
import os
import sys
import time
from pathlib import Path

from networks import sample_rows

LENGTH = 0.5
THREADS = (1, 2)


def measure(run) -> list[float]:
    for length in (LENGTH / 5, LENGTH):
        times = []
        end = time.perf_counter() + length
        while (started := time.perf_counter()) < end:
            run()
            times.append(time.perf_counter() - started)
    times.sort()
    return [times[len(times) // 2] * 1e6, times[0] * 1e6]


def onnx_runtime(name: str, threads: int):
    from sessions import session

    model = session(name, threads)
    given = model.get_inputs()[0]

    def prepare(rows: int):
        import onnxruntime

        # Bound input and output: nothing is copied or allocated a run.
        x = sample_rows(rows, given.shape[1])
        binding = model.io_binding()
        value = onnxruntime.OrtValue.ortvalue_from_numpy(x)
        binding.bind_ortvalue_input(given.name, value)
        columns = model.get_outputs()[0].shape[1]
        output = onnxruntime.OrtValue.ortvalue_from_shape_and_type([rows, columns], x.dtype)
        binding.bind_ortvalue_output("probabilities", output)
        return lambda: model.run_with_iobinding(binding)

    return prepare


def openvino(name: str, threads: int):
    from openvino import Core, Tensor

    core = Core()
    # It would take bfloat16 where the processor has it; everyone here computes in float32.
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "NUM_STREAMS": 1,
        "INFERENCE_PRECISION_HINT": "f32",
        "ENABLE_CPU_PINNING": False,
    }
    path = Path(os.environ["PEERS_NETWORKS"]) / f"{name}.onnx"

    def prepare(rows: int):
        model = core.read_model(path)
        columns = model.inputs[0].partial_shape[1].get_length()
        # Compiled for these rows alone, the best that it can do.
        model.reshape([rows, columns])
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        request.set_input_tensor(Tensor(sample_rows(rows, columns), shared_memory=True))
        return request.infer

    return prepare


def main() -> None:
    networks, name, rows = sys.argv[1:4]
    os.environ["PEERS_NETWORKS"] = networks
    results = {}
    for engine, make in (("ONNX Runtime", onnx_runtime), ("OpenVINO", openvino)):
        try:
            results[engine] = {
                threads: {int(n): measure(prepare(int(n))) for n in rows.split(",")}
                for threads in THREADS
                for prepare in [make(name, threads)]
            }
        except ImportError:
            continue
    print(json.dumps(results))


if __name__ == "__main__":
    main()
