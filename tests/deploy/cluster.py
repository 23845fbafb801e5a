"""As much of a cluster's API as Helm asks for before it renders: which kinds there are, and objects by their paths."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from manifests import Object, Objects


def answers(known: Objects, there: Objects) -> dict[str, Object]:
    """By path: the kinds of the objects that are known, and the objects that are there, all in namespaces."""
    resources: dict[str, set[str]] = {"v1": set()}
    for item in [*known, *there]:
        resources.setdefault(item["apiVersion"], set()).add(item["kind"])
    groups = [
        {"name": name.partition("/")[0], "versions": [{"groupVersion": name, "version": name.partition("/")[2]}]}
        for name in resources
        if "/" in name
    ]
    paths = {
        "/version": {"major": "1", "minor": "36", "gitVersion": "v1.36.0"},
        "/api": {"kind": "APIVersions", "versions": ["v1"]},
        "/apis": {"kind": "APIGroupList", "groups": groups},
    }
    for name, kinds in resources.items():
        listed = [{"name": plural(kind), "kind": kind, "namespaced": True, "verbs": ["get"]} for kind in kinds]
        paths[root(name)] = {"kind": "APIResourceList", "groupVersion": name, "resources": listed}
    for item in there:
        place = f"namespaces/{item['metadata']['namespace']}/{plural(item['kind'])}/{item['metadata']['name']}"
        paths[f"{root(item['apiVersion'])}/{place}"] = item
    return paths


def root(version: str) -> str:
    return f"/apis/{version}" if "/" in version else f"/api/{version}"


def plural(kind: str) -> str:
    return kind.lower().removesuffix("y") + ("ies" if kind.endswith("y") else "s")


@contextmanager
def cluster(known: Objects, there: Objects) -> Iterator[str]:
    """The address of such an API."""
    paths = answers(known, there)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = paths.get(self.path.partition("?")[0])
            body = json.dumps(found or {"kind": "Status", "status": "Failure", "reason": "NotFound", "code": 404})
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Nothing: who asks what is of no interest."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
