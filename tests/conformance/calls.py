"""What a client's calls are run against, and how what they do is told."""

import json
import shutil
import tempfile
import traceback
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path

import models
from server import Server, ended, free_port
from suite import SAMPLES, program

# One row of each of these models, and more of them than a batch of clients sends.
IRIS = [[5.1, 3.5, 1.4, 0.2], [6.7, 3.0, 5.2, 2.3], [5.9, 3.0, 4.2, 1.5]]
SPECIES = ["setosa", "virginica", "versicolor"]
FEATURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
ADMIN_KEY = "conformance-operator-key-0123456789abcdef"


@dataclass
class Site:
    """Where a running server is, and what its answers have to be."""

    http: str
    grpc: str
    admin_port: int
    scratch: Path

    @cached_property
    def probabilities(self) -> list:
        return self.predict("iris", IRIS)

    def predict(self, model: str, rows: list) -> list:
        """What the plainest of all clients gets."""
        body = json.dumps({"instances": rows}).encode()
        with urllib.request.urlopen(f"http://{self.http}/v1/models/{model}:predict", body, 10) as answer:
            return json.load(answer)["predictions"]

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @staticmethod
    def from_json(text: str) -> "Site":
        fields = json.loads(text)
        return Site(**fields | {"scratch": Path(fields["scratch"])})


@contextmanager
def site() -> Iterator[Site]:
    """A server with every protocol switched on."""
    with tempfile.TemporaryDirectory(prefix="safeserve-conformance-") as folder:
        scratch = Path(folder)
        repository = scratch / "models"
        shutil.copytree(SAMPLES, repository)
        models.echo(repository / "echo", 4)
        keys = scratch / "operators"
        keys.write_text(f"conformance {ADMIN_KEY}\n")
        grpc_port, admin_port = free_port(), free_port()
        settings = [
            f"grpc.bind=127.0.0.1:{grpc_port}",
            f"admin.bind=127.0.0.1:{admin_port}",
            f"admin.keys={keys}",
            "models.default_model=iris",
        ]
        server = Server([program()], repository, settings, scratch)
        with ended(server):
            yield Site(f"127.0.0.1:{server.port}", f"127.0.0.1:{grpc_port}", admin_port, scratch)


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
