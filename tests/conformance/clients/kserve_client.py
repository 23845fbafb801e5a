"""KServe's own clients, REST in both versions and gRPC."""

import asyncio

import httpx
import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig

from calls import IRIS, SPECIES, Site, call, equal, refused

CLIENT = "kserve"


def request(binary: bool = False, model: str = "iris") -> InferRequest:
    tensor = InferInput("features", [len(IRIS), 4], "FP32")
    tensor.set_data_from_numpy(np.array(IRIS, np.float32), binary_data=binary)
    return InferRequest(model_name=model, infer_inputs=[tensor])


def rest(protocol: str) -> InferenceRESTClient:
    return InferenceRESTClient(RESTConfig(protocol=protocol, timeout=10))


def same(site: Site, answer) -> None:
    found = {output.name: output for output in answer.outputs}
    equal(found["probabilities"].as_numpy().tolist(), np.array(site.probabilities, np.float32).tolist())
    labels = found["label"].as_numpy().tolist()
    equal([label.decode() if isinstance(label, bytes) else label for label in labels], SPECIES)


@call(CLIENT, "REST V1: infer, is_server_live, is_model_ready")
def version_1(site: Site) -> None:
    async def ask() -> None:
        one, base = rest("v1"), f"http://{site.http}"
        answer = await one.infer(base, {"instances": IRIS}, model_name="iris")
        equal(answer, {"predictions": site.probabilities})
        assert await one.is_server_live(base)
        assert await one.is_model_ready(base, "iris")

    asyncio.run(ask())
    unknown = lambda: asyncio.run(rest("v1").is_model_ready(f"http://{site.http}", "nobody"))  # noqa: E731
    refused(unknown, httpx.HTTPStatusError, "404")


@call(CLIENT, "REST V1: explain is refused")
def explain(site: Site) -> None:
    async def ask() -> object:
        return await rest("v1").explain(f"http://{site.http}", "iris", {"instances": IRIS})

    refused(lambda: asyncio.run(ask()), httpx.HTTPStatusError, "501")


@call(CLIENT, "REST V2: infer in JSON and binary, is_server_live, is_server_ready, is_model_ready")
def version_2(site: Site) -> None:
    async def ask() -> None:
        one, base = rest("v2"), f"http://{site.http}"
        for binary in (False, True):
            same(site, await one.infer(base, request(binary), model_name="iris"))
        assert await one.is_server_live(base) and await one.is_server_ready(base)
        assert await one.is_model_ready(base, "iris")
        assert not await one.is_model_ready(base, "nobody")

    asyncio.run(ask())


@call(CLIENT, "REST: errors")
def errors(site: Site) -> None:
    async def ask(model: str, rows: list) -> object:
        return await rest("v1").infer(f"http://{site.http}", {"instances": rows}, model_name=model)

    refused(lambda: asyncio.run(ask("nobody", IRIS)), httpx.HTTPStatusError, "404")
    refused(lambda: asyncio.run(ask("iris", [[1]])), httpx.HTTPStatusError, "400")


@call(CLIENT, "gRPC: infer, is_server_live, is_server_ready, is_model_ready")
def grpc(site: Site) -> None:
    async def ask() -> None:
        one = InferenceGRPCClient(site.grpc, timeout=10)
        same(site, await one.infer(request()))
        assert await one.is_server_live() and await one.is_server_ready()
        assert await one.is_model_ready("iris")
        await one.close()

    asyncio.run(ask())
