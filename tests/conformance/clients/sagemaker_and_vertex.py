"""The contracts of SageMaker's and Vertex AI's containers, as the platforms call them."""

import httpx

from calls import FEATURES, IRIS, Site, call, equal
from server import Server, ended, free_port, wait_until
from suite import SAMPLES, program


@call("SageMaker", "/ping, /invocations with JSON, CSV, JSON lines")
def sagemaker(site: Site) -> None:
    with httpx.Client(base_url=f"http://{site.http}", timeout=10) as one:
        equal(one.get("/ping").status_code, 200)
        equal(one.post("/invocations", json={"instances": IRIS}).json(), {"predictions": site.probabilities})
        text = "\n".join(",".join(map(str, row)) for row in IRIS)
        answer = one.post("/invocations", content=text, headers={"Content-Type": "text/csv", "Accept": "text/csv"})
        equal(answer.status_code, 200)
        equal(len(answer.text.strip().splitlines()) >= len(IRIS), True)
        lines = "\n".join(str(row) for row in IRIS)
        answer = one.post("/invocations", content=lines, headers={"Content-Type": "application/jsonlines"})
        equal(answer.status_code, 200)


@call("Vertex AI", "AIP_HTTP_PORT, AIP_HEALTH_ROUTE, AIP_PREDICT_ROUTE")
def vertex(site: Site) -> None:
    import os

    port = free_port()
    contract = {"AIP_HTTP_PORT": str(port), "AIP_HEALTH_ROUTE": "/alive", "AIP_PREDICT_ROUTE": "/score"}
    os.environ.update(contract)
    try:
        # `Server` binds a port of its own, which comes before the platform's.
        one = Server([program()], SAMPLES, ["models.default_model=iris"], site.scratch, port=port)
    finally:
        for name in contract:
            del os.environ[name]
    with ended(one), httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
        wait_until(lambda: client.get("/alive").status_code == 200, 10, "the health route")
        body = {"instances": IRIS, "parameters": {}}
        equal(client.post("/score", json=body).json()["predictions"], site.probabilities)
        named = {"instances": [dict(zip(FEATURES, row)) for row in IRIS]}
        equal(client.post("/score", json=named).json()["predictions"], site.probabilities)
