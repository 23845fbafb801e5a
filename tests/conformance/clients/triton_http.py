"""tritonclient's HTTP client: binary tensors unless told otherwise."""

import asyncio

import numpy as np
import tritonclient.http as triton
import tritonclient.http.aio as triton_aio
from tritonclient.utils import InferenceServerException

from calls import IRIS, SPECIES, Site, call, equal, refused

CLIENT = "tritonclient.http"


def client(site: Site) -> triton.InferenceServerClient:
    return triton.InferenceServerClient(site.http)


def features(rows: list = IRIS, binary: bool = True, datatype: str = "FP32", kind: type = np.float32) -> list:
    tensor = triton.InferInput("features", [len(rows), len(rows[0])], datatype)
    tensor.set_data_from_numpy(np.array(rows, kind), binary_data=binary)
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
    assert not one.is_model_ready("nobody") and not one.is_model_ready("iris", "7")


@call(CLIENT, "get_server_metadata, get_model_metadata, get_model_config")
def metadata(site: Site) -> None:
    one = client(site)
    server = one.get_server_metadata()
    equal(server["name"], "safeserve")
    assert {"binary_tensor_data", "classification", "statistics", "model_configuration"} <= set(server["extensions"])
    model = one.get_model_metadata("iris")
    equal(model["inputs"], [{"name": "features", "datatype": "FP32", "shape": [-1, 4]}])
    config = one.get_model_config("iris")
    equal(config["input"][0]["data_type"], "TYPE_FP32")
    assert config["max_batch_size"] > 0


@call(CLIENT, "get_model_repository_index")
def index(site: Site) -> None:
    entries = {entry["name"]: entry for entry in client(site).get_model_repository_index()}
    equal(entries["iris"]["state"], "READY")


@call(CLIENT, "get_inference_statistics")
def statistics(site: Site) -> None:
    one = client(site)
    count = lambda: one.get_inference_statistics("iris")["model_stats"][0]["inference_count"]  # noqa: E731
    before = count()
    one.infer("iris", features())
    equal(count(), before + len(IRIS))
    names = {entry["name"] for entry in one.get_inference_statistics()["model_stats"]}
    assert {"iris", "digits"} <= names


@call(CLIENT, "infer with its defaults: binary in, all outputs binary")
def binary(site: Site) -> None:
    result = client(site).infer("iris", features())
    same(site, result)
    equal(result.as_numpy("class_id").dtype, np.int64)
    equal([name.decode() for name in result.as_numpy("label")], SPECIES)


@call(CLIENT, "infer with JSON in and out")
def json_only(site: Site) -> None:
    outputs = [triton.InferRequestedOutput("probabilities", binary_data=False)]
    same(site, client(site).infer("iris", features(binary=False), outputs=outputs))


@call(CLIENT, "infer with binary and JSON outputs mixed")
def mixed(site: Site) -> None:
    outputs = [
        triton.InferRequestedOutput("label", binary_data=False),
        triton.InferRequestedOutput("probabilities", binary_data=True),
    ]
    result = client(site).infer("iris", features(binary=False), outputs=outputs)
    same(site, result)
    equal(result.as_numpy("label").tolist(), SPECIES)
    assert result.as_numpy("class_id") is None


@call(CLIENT, "infer with FP16 in binary")
def halves(site: Site) -> None:
    result = client(site).infer("iris", features(datatype="FP16", kind=np.float16))
    expected = site.predict("iris", np.array(IRIS, np.float16).astype(np.float32).tolist())
    equal(result.as_numpy("probabilities").tolist(), np.array(expected, np.float32).tolist())


@call(CLIENT, "infer with request_id, priority, timeout, headers, version")
def options(site: Site) -> None:
    result = client(site).infer(
        "iris", features(), "1", request_id="order 66", timeout=5_000_000, headers={"X-Request-Id": "mine"}
    )
    equal(result.get_response()["id"], "order 66")
    equal(result.get_response()["model_version"], "1")


@call(CLIENT, "infer with request and response compression, gzip and deflate")
def compression(site: Site) -> None:
    rows = IRIS * 300
    for algorithm in ("gzip", "deflate"):
        result = client(site).infer(
            "iris", features(rows), request_compression_algorithm=algorithm, response_compression_algorithm=algorithm
        )
        equal(result.as_numpy("probabilities")[:3].tolist(), np.array(site.probabilities, np.float32).tolist())


@call(CLIENT, "infer with class_count")
def classes(site: Site) -> None:
    for binary_data in (True, False):
        outputs = [triton.InferRequestedOutput("probabilities", binary_data=binary_data, class_count=2)]
        found = client(site).infer("iris", features(), outputs=outputs).as_numpy("probabilities")
        equal(found.shape, (3, 2))
        first = [entry.decode() if isinstance(entry, bytes) else entry for entry in found[:, 0]]
        equal([entry.split(":")[2] for entry in first], SPECIES)


@call(CLIENT, "async_infer; the aio client's infer")
def asynchronous(site: Site) -> None:
    pending = [client(site).async_infer("iris", features()) for _ in range(4)]
    for one in pending:
        same(site, one.get_result(timeout=10))

    async def ask() -> triton.InferResult:
        async with triton_aio.InferenceServerClient(site.http) as one:
            return await one.infer("iris", features())

    same(site, asyncio.run(ask()))


@call(CLIENT, "generate_request_body, parse_response_body")
def bodies(site: Site) -> None:
    import urllib.request

    body, length = triton.InferenceServerClient.generate_request_body(features())
    request = urllib.request.Request(f"http://{site.http}/v2/models/iris/infer", body)
    if length is not None:
        request.add_header("Inference-Header-Content-Length", str(length))
    with urllib.request.urlopen(request, timeout=10) as answer:
        header = answer.headers["Inference-Header-Content-Length"]
        result = triton.InferenceServerClient.parse_response_body(answer.read(), header_length=int(header))
    same(site, result)


@call(CLIENT, "errors: model, version, input, shape, datatype, not finite, output")
def errors(site: Site) -> None:
    one = client(site)
    kind = InferenceServerException
    refused(lambda: one.infer("nobody", features()), kind, "[404]", "iris")
    refused(lambda: one.infer("iris", features(), "7"), kind, "[404]", "7")
    refused(lambda: one.infer("iris", features([[1.0, 2.0]])), kind, "[400]", "4")
    refused(lambda: one.infer("iris", features(datatype="FP64", kind=np.float64)), kind, "[400]", "FP32")
    refused(lambda: one.infer("iris", features([[1, 2, 3, np.nan]])), kind, "[400]", "finite")
    unknown = [triton.InferRequestedOutput("nothing")]
    refused(lambda: one.infer("iris", features(), outputs=unknown), kind, "[400]", "nothing")
    other = triton.InferInput("other", [1, 4], "FP32")
    other.set_data_from_numpy(np.zeros((1, 4), np.float32))
    refused(lambda: one.infer("iris", [other]), kind, "[400]", "features")


@call(CLIENT, "load_model, unload_model: refused where clients are")
def loading(site: Site) -> None:
    refused(lambda: client(site).load_model("iris"), InferenceServerException)
    refused(lambda: client(site).unload_model("iris"), InferenceServerException)
    assert client(site).is_model_ready("iris")


@call(CLIENT, "load_model, unload_model on the operators' listener")
def operators(site: Site) -> None:
    from calls import ADMIN_KEY

    one = triton.InferenceServerClient(f"127.0.0.1:{site.admin_port}")
    key = {"Authorization": f"Bearer {ADMIN_KEY}"}
    one.unload_model("diabetes", headers=key)
    assert not client(site).is_model_ready("diabetes")
    one.load_model("diabetes", headers=key)
    assert client(site).is_model_ready("diabetes")


@call(CLIENT, "shared memory, trace and log settings: refused in words")
def refusals(site: Site) -> None:
    one = client(site)
    for ask in (one.get_system_shared_memory_status, one.get_trace_settings, one.get_log_settings):
        refused(ask, InferenceServerException)
