"""What the tests of the commands have in common: the program, and a running server."""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests" / "reliability"), str(ROOT / "python" / "src")]

# TensorFlow and triton, which PyTorch imports where it finds it, each bring an LLVM, and the second that is
# loaded aborts the process. Nothing here needs triton.
sys.modules["triton"] = None

from server import Server, end_all  # noqa: E402


@pytest.fixture(scope="session")
def program() -> str:
    """The path of the program under test."""
    return os.environ["SAFESERVE"]


@pytest.fixture(scope="session")
def run(program: str) -> Callable[..., subprocess.CompletedProcess]:
    """Runs a command of the program to its end and gives what it printed; `code` is the exit code that
    it must have."""

    def run(*arguments: object, code: int = 0, **options: object) -> subprocess.CompletedProcess:
        options = {"text": True, "capture_output": True, "timeout": 300} | options
        done = subprocess.run([program, *map(str, arguments)], **options)
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run


@pytest.fixture
def serve(program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Starts servers on directories of models, and ends them after the test."""

    def serve(models: Path, *settings: str) -> Server:
        return Server([program], models, list(settings), tmp_path_factory.mktemp("log"))

    yield serve
    end_all()


def post(server: Server, path: str, body: object, media_type: str = "application/json") -> tuple[int, object]:
    """Posts JSON, or text of another type; gives the status and the answer, read if it is JSON."""
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    address = f"http://127.0.0.1:{server.port}{path}"
    request = urllib.request.Request(address, data=data, headers={"Content-Type": media_type})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            status, text, kind = response.status, response.read().decode(), response.headers["Content-Type"]
    except urllib.error.HTTPError as error:
        status, text, kind = error.code, error.read().decode(), error.headers["Content-Type"]
    return status, json.loads(text) if kind.startswith("application/json") else text
