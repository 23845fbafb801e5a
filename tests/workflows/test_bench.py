"""`safeserve bench` as who sizes a deployment runs it; its counts are held against the server's own."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from server import Server, free_port

MODELS = ROOT / "models"


def url(server: Server) -> str:
    return f"http://127.0.0.1:{server.port}"


@pytest.mark.parametrize("protocol", ["v2", "v2-binary", "v1"])
def test_its_counts_are_the_servers(run: Callable, serve: Callable, protocol: str) -> None:
    server = serve(MODELS)
    flags = ["--url", url(server), "--connections", "1,4", "--duration", "1", "--protocol", protocol]
    done = run("bench", "iris", *flags, "--rows", 3, "--json")
    report = json.loads(done.stdout)
    assert [step["connections"] for step in report["steps"]] == [1, 4]
    for step in report["steps"]:
        assert step["errors"] == 0 and step["requests"] == step["correct"] > 100
        assert step["server"]["requests"] == step["requests"]
    sent = report["unmeasured_requests"] + sum(step["requests"] for step in report["steps"])
    assert server.value("safeserve_requests_total", model="iris") == sent
    assert server.value("safeserve_rows_total", model="iris") == 3 * sent


def test_a_rate_is_kept(run: Callable, serve: Callable) -> None:
    server = serve(MODELS)
    flags = ["--url", url(server), "--connections", "4", "--duration", "2", "--rate", "200"]
    (step,) = json.loads(run("bench", "iris", *flags, "--json").stdout)["steps"]
    assert (step["requests"], step["correct"], step["unsent"]) == (400, 400, 0)


def test_bodies_of_a_file_are_sent(run: Callable, serve: Callable, tmp_path: Path) -> None:
    server = serve(MODELS)
    data = tmp_path / "bodies.ndjson"
    data.write_text('{"instances": [[5.1, 3.5, 1.4, 0.2]]}\n{"instances": [[1, 2, 3, 4], [5, 6, 7, 8]]}\n')
    flags = ["--url", url(server), "--protocol", "v1", "--data", data, "--connections", "1"]
    flags += ["--warm-up", "0", "--requests", "10", "--json"]
    report = json.loads(run("bench", "iris", *flags).stdout)
    assert report["steps"][0]["correct"] == 10
    # The first request is one row; then the two take turns.
    assert server.value("safeserve_rows_total", model="iris") == 1 + 5 * 3


def test_overload_is_an_error_and_counted_apart(run: Callable, serve: Callable) -> None:
    server = serve(MODELS, "scheduler.max_queued_rows=4", "scheduler.inline_cost_us=0", "limits.max_request_rows=4", "scheduler.max_batch_rows=4")
    flags = ["--url", url(server), "--connections", "64", "--rows", 4, "--duration", "1", "--json"]
    (step,) = json.loads(run("bench", "digits", *flags, code=1).stdout)["steps"]
    assert set(step["errors_by_kind"]) == {"overloaded_503"}
    assert step["errors"] == step["errors_by_kind"]["overloaded_503"] > 0
    assert step["requests"] == step["correct"] + step["errors"] == step["server"]["requests"]


def test_an_unknown_model_is_named_with_those_that_there_are(run: Callable, serve: Callable) -> None:
    done = run("bench", "rose", "--url", url(serve(MODELS)), code=1)
    assert 'there is no model "rose"' in done.stderr and "iris" in done.stderr


def test_a_server_that_is_not_there(run: Callable) -> None:
    started = time.monotonic()
    done = run("bench", "iris", "--url", f"http://127.0.0.1:{free_port()}", code=1)
    assert "refused" in done.stderr and "--url" in done.stderr
    assert time.monotonic() - started < 5


def test_a_key_comes_from_a_file(run: Callable, serve: Callable, tmp_path: Path) -> None:
    keys, key, wrong = tmp_path / "keys", tmp_path / "key", tmp_path / "wrong"
    keys.write_text("me 0123456789abcdef\n")
    key.write_text("0123456789abcdef\n")
    wrong.write_text("fedcba9876543210\n")
    server = serve(MODELS, f"server.api_keys={keys}")
    flags = ["--url", url(server), "--connections", "2", "--requests", "20", "--warm-up", "0", "--json"]
    for without in ([], ["--api-key-file", wrong]):
        done = run("bench", "iris", *flags, *without, code=1)
        assert "asks for a key" in done.stderr and "--api-key-file FILE" in done.stderr
    for file in (key, keys):
        (step,) = json.loads(run("bench", "iris", *flags, "--api-key-file", file).stdout)["steps"]
        assert (step["correct"], step["errors"]) == (20, 0)


def test_bad_arguments(run: Callable, tmp_path: Path) -> None:
    for flags in (["--connections", "0"], ["--rate", "-1"], ["--url", "ftp://a"], ["--data", tmp_path / "none"]):
        assert run("bench", "iris", *flags, code=2).stderr
