"""What a client's calls are run against, and how what they do is told."""

import json
import os
import shutil
import tempfile
import traceback
import urllib.request
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import models
from server import Server, ended, free_port
from suite import SAMPLES, program

# One row of each of these models, and more of them than a batch of clients sends.
IRIS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3], [5.9, 3.0, 4.2, 1.5]]
SPECIES = ["setosa", "virginica", "versicolor"]
FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
ADMIN_KEY = "conformance-operator-key-0123456789abcdef"


class Site:
    """A running server with every protocol switched on, and what its answers have to be."""

    def __enter__(self) -> "Site":
        self.closing = ExitStack()
        self.scratch = Path(self.closing.enter_context(tempfile.TemporaryDirectory(prefix="safeserve-conformance-")))
        repository = self.scratch / "models"
        shutil.copytree(SAMPLES, repository)
        models.echo(repository / "echo", 4)
        keys = self.scratch / "operators"
        keys.write_text(f"conformance {ADMIN_KEY}\n")
        self.grpc_port, self.admin_port = free_port(), free_port()
        settings = [
            f"grpc.bind=127.0.0.1:{self.grpc_port}",
            f"admin.bind=127.0.0.1:{self.admin_port}",
            f"admin.keys={keys}",
            "models.default_model=iris",
        ]
        self.server = Server([program()], repository, settings, self.scratch)
        self.closing.enter_context(ended(self.server))
        self.http = f"127.0.0.1:{self.server.port}"
        self.grpc = f"127.0.0.1:{self.grpc_port}"
        self.probabilities = self.predict("iris", IRIS)
        return self

    def __exit__(self, *reason: object) -> None:
        self.closing.__exit__(*reason)

    def predict(self, model: str, rows: list) -> list:
        """What the plainest of all clients gets."""
        body = json.dumps({"instances": rows}).encode()
        with urllib.request.urlopen(f"http://{self.http}/v1/models/{model}:predict", body, 10) as answer:
            return json.load(answer)["predictions"]


@dataclass
class Row:
    client: str
    call: str
    state: str
    note: str = ""


@dataclass
class Call:
    client: str
    name: str
    function: Callable[[Site], None]

    def run(self, site: Site) -> Row:
        try:
            self.function(site)
        except Exception as error:  # Whatever went wrong, the client did not get what it wants.
            where = traceback.extract_tb(error.__traceback__)
            line = next((frame.line for frame in reversed(where) if "conformance" in frame.filename), "")
            note = f"{type(error).__name__}: {error} at `{line}`"
            return Row(self.client, self.name, "FAIL", " ".join(note.split())[:400])
        return Row(self.client, self.name, "pass")


calls: list[Call] = []


def call(client: str, name: str) -> Callable[[Callable[[Site], None]], Callable[[Site], None]]:
    """Registers what is tried with a client's call; it fails by raising."""

    def register(function: Callable[[Site], None]) -> Callable[[Site], None]:
        calls.append(Call(client, name, function))
        return function

    return register


def equal(given: object, expected: object) -> None:
    assert given == expected, f"got {given!r}, expected {expected!r}"


def refused(call: Callable[[], object], kind: type[Exception], *words: str) -> Exception:
    """The error that a call has to end with: of this kind, and with these words in it."""
    try:
        answer = call()
    except kind as error:
        for word in words:
            assert word in str(error), f"{word!r} is not in {error}"
        return error
    raise AssertionError(f"answered instead of refused: {str(answer)[:200]}")
