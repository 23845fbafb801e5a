"""TensorFlow Serving's REST API, as its documentation calls it: there is no client but `requests`."""

import base64

import requests

from calls import FEATURES, IRIS, SPECIES, Site, call, equal

CLIENT = "requests"


def post(site: Site, path: str, body: object) -> requests.Response:
    return requests.post(f"http://{site.http}/v1/models/{path}", json=body, timeout=10)


@call(CLIENT, "TensorFlow Serving: predict by rows, by columns, of a version")
def predict(site: Site) -> None:
    equal(post(site, "iris:predict", {"instances": IRIS}).json(), {"predictions": site.probabilities})
    equal(post(site, "iris:predict", {"inputs": IRIS}).json(), {"outputs": site.probabilities})
    named = {"signature_name": "serving_default", "instances": [{"features": row} for row in IRIS]}
    equal(post(site, "iris/versions/1:predict", named).json(), {"predictions": site.probabilities})


@call(CLIENT, "TensorFlow Serving: classify, regress")
def examples(site: Site) -> None:
    rows = [dict(zip(FEATURES, row)) for row in IRIS]
    results = post(site, "iris:classify", {"examples": rows}).json()["results"]
    equal([max(row, key=lambda pair: pair[1])[0] for row in results], SPECIES)
    ten = {"examples": [{"features": [0.01] * 10}]}
    answer = post(site, "diabetes:regress", ten).json()["results"]
    equal(answer, [row[0] for row in site.predict("diabetes", [[0.01] * 10])])


@call(CLIENT, "TensorFlow Serving: status, metadata")
def status(site: Site) -> None:
    model = requests.get(f"http://{site.http}/v1/models/iris", timeout=10).json()
    equal(model["model_version_status"][0]["state"], "AVAILABLE")
    equal(model["model_version_status"][0]["version"], "1")
    metadata = requests.get(f"http://{site.http}/v1/models/iris/metadata", timeout=10).json()
    signature = metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]
    equal(signature["inputs"]["features"]["dtype"], "DT_FLOAT")


@call(CLIENT, "TensorFlow Serving: errors")
def errors(site: Site) -> None:
    for path, body, expected in (
        ("nobody:predict", {"instances": IRIS}, 404),
        ("iris/versions/7:predict", {"instances": IRIS}, 404),
        ("iris:predict", {"instances": IRIS, "inputs": IRIS}, 400),
        ("iris:predict", {}, 400),
        ("iris:predict", {"instances": [[1, 2]]}, 400),
        ("iris:predict", {"instances": [{"b64": base64.b64encode(b"x").decode()}]}, 400),
        ("iris:regress", {"examples": [{}]}, 400),
    ):
        answer = post(site, path, body)
        equal(answer.status_code, expected)
        assert answer.json()["error"], answer.text


@call(CLIENT, "compressed bodies and answers")
def compressed(site: Site) -> None:
    import gzip
    import json

    body = gzip.compress(json.dumps({"instances": IRIS * 300}).encode())
    headers = {"Content-Encoding": "gzip", "Accept-Encoding": "gzip"}
    answer = requests.post(f"http://{site.http}/v1/models/iris:predict", body, headers=headers, timeout=10)
    equal(answer.headers["Content-Encoding"], "gzip")
    equal(answer.json()["predictions"][:3], site.probabilities)
