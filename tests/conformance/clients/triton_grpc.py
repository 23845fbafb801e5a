"""tritonclient's gRPC client."""

import queue

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from calls import IRIS, SPECIES, Site, call, equal, refused

CLIENT = "tritonclient.grpc"


def client(site: Site) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(site.grpc)


def features(rows: list = IRIS, datatype: str = "FP32", kind: type = np.float32) -> list:
    tensor = triton.InferInput("features", [len(rows), len(rows[0])], datatype)
    tensor.set_data_from_numpy(np.array(rows, kind))
    return [tensor]


def same(site: Site, result: triton.InferResult) -> None:
    given = result.as_numpy("probabilities")
    equal(given.dtype, np.float32)
    equal(given.tolist(), np.array(site.probabilities, np.float32).tolist())


@call(CLIENT, "is_server_live, is_server_ready, is_model_ready")
def health(site: Site) -> None:
    one = client(site)
    assert one.is_server_live() and one.is_server_ready()
    assert one.is_model_ready("iris") and one.is_model_ready("iris", "1")
    unknown = refused(lambda: one.is_model_ready("nobody"), InferenceServerException, "nobody")
    equal(unknown.status(), "StatusCode.NOT_FOUND")


@call(CLIENT, "get_server_metadata, get_model_metadata, get_model_config")
def metadata(site: Site) -> None:
    one = client(site)
    equal(one.get_server_metadata().name, "safeserve")
    model = one.get_model_metadata("iris", as_json=True)
    equal(model["inputs"], [{"name": "features", "datatype": "FP32", "shape": ["-1", "4"]}])
    assert one.get_model_config("iris").config.max_batch_size > 0


@call(CLIENT, "get_model_repository_index, get_inference_statistics")
def index(site: Site) -> None:
    one = client(site)
    entries = {entry.name: entry for entry in one.get_model_repository_index().models}
    equal(entries["iris"].state, "READY")
    count = lambda: one.get_inference_statistics("iris").model_stats[0].inference_count  # noqa: E731
    before = count()
    one.infer("iris", features())
    equal(count(), before + len(IRIS))


@call(CLIENT, "infer")
def infer(site: Site) -> None:
    result = client(site).infer("iris", features(), request_id="order 66", timeout=5_000_000)
    same(site, result)
    equal(result.get_response().id, "order 66")
    equal(result.as_numpy("class_id").dtype, np.int64)
    equal([name.decode() for name in result.as_numpy("label")], SPECIES)


@call(CLIENT, "infer with named outputs, class_count, FP16, compression")
def options(site: Site) -> None:
    one = client(site)
    outputs = [triton.InferRequestedOutput("probabilities")]
    result = one.infer("iris", features(), outputs=outputs, compression_algorithm="gzip")
    same(site, result)
    assert result.as_numpy("label") is None
    outputs = [triton.InferRequestedOutput("probabilities", class_count=1)]
    found = one.infer("iris", features(), outputs=outputs).as_numpy("probabilities")
    equal([entry.decode().split(":")[2] for entry in found[:, 0]], SPECIES)
    result = one.infer("iris", features(datatype="FP16", kind=np.float16))
    expected = site.predict("iris", np.array(IRIS, np.float16).astype(np.float32).tolist())
    equal(result.as_numpy("probabilities").tolist(), np.array(expected, np.float32).tolist())


@call(CLIENT, "async_infer, and cancelling it")
def asynchronous(site: Site) -> None:
    answers: queue.Queue = queue.Queue()
    one = client(site)
    for _ in range(4):
        one.async_infer("iris", features(), lambda result, error: answers.put((result, error)))
    for _ in range(4):
        result, error = answers.get(timeout=10)
        assert error is None, error
        same(site, result)
    one.async_infer("iris", features(), lambda result, error: answers.put((result, error))).cancel()
    answers.get(timeout=10)
    assert one.is_server_live()


@call(CLIENT, "start_stream, async_stream_infer: a bad request among good ones")
def stream(site: Site) -> None:
    answers: queue.Queue = queue.Queue()
    one = client(site)
    one.start_stream(lambda result, error: answers.put((result, error)))
    one.async_stream_infer("iris", features(), request_id="1")
    one.async_stream_infer("nobody", features(), request_id="2")
    one.async_stream_infer("iris", features(), request_id="3")
    found = [answers.get(timeout=10) for _ in range(3)]
    one.stop_stream()
    errors = [error for _, error in found if error is not None]
    equal(len(errors), 1)
    assert "nobody" in str(errors[0]), errors[0]
    for result, error in found:
        if error is None:
            same(site, result)


@call(CLIENT, "client_timeout; a timeout that cannot be met")
def timeout(site: Site) -> None:
    one = client(site)
    same(site, one.infer("iris", features(), client_timeout=10))
    # In microseconds: it has passed when the request is read.
    late = refused(lambda: one.infer("iris", features(), timeout=1), InferenceServerException)
    equal(late.status(), "StatusCode.DEADLINE_EXCEEDED")


@call(CLIENT, "errors: model, version, input, shape, datatype, not finite")
def errors(site: Site) -> None:
    one = client(site)

    def status(ask, *words: str) -> str:
        return refused(ask, InferenceServerException, *words).status()

    equal(status(lambda: one.infer("nobody", features()), "iris"), "StatusCode.NOT_FOUND")
    equal(status(lambda: one.infer("iris", features(), "7"), "7"), "StatusCode.NOT_FOUND")
    for bad in (
        features([[1.0, 2.0]]),
        features(datatype="FP64", kind=np.float64),
        features([[1, 2, 3, np.nan]]),
    ):
        equal(status(lambda: one.infer("iris", bad)), "StatusCode.INVALID_ARGUMENT")


@call(CLIENT, "load_model, unload_model: refused where clients are")
def loading(site: Site) -> None:
    refused(lambda: client(site).load_model("iris"), InferenceServerException)
    refused(lambda: client(site).unload_model("iris"), InferenceServerException)
    assert client(site).is_model_ready("iris")
