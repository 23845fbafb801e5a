"""Promise 1: no body, however it comes, takes more memory or time than the limits say."""

import json
import socket
import threading
import time
from collections.abc import Callable

import models
from server import Server
from suite import Test, test
from wire import Connection, Lost, post, request, split

MIB = 1 << 20
CHUNK = b"1\r\n0\r\n"


@test(1)
def one_byte_chunks_are_cut_off(t: Test) -> None:
    """300,000 chunks of one byte get a 4xx within 15 s, and no memory worth a word."""
    with t.server() as server:
        server.forget_peak()
        before = server.resident_bytes()
        started = time.monotonic()
        answer = send_until_answered(server.connect(15), CHUNK * 1000, 300)
        t.equal("300,000 chunks of one byte get", (answer.status, answer.json()["code"]), (400, "too_many_chunks"))
        t.at_most("answered after", time.monotonic() - started, 15, "s")
        t.at_most("peak memory growth", server.peak_bytes() - before, 20e6, "B")


@test(1)
def an_endless_body_is_cut_at_its_limit(t: Test) -> None:
    """A chunked body without an end gets 413 once it is over the limit."""
    with t.server() as server:
        server.forget_peak()
        before = server.resident_bytes()
        chunk = b"%x\r\n" % (64 << 10) + b" " * (64 << 10) + b"\r\n"
        answer = send_until_answered(server.connect(15), chunk, 10_000)
        t.equal("a body without end gets", answer.status, 413)
        # The buffer doubles as it grows, and the old one is there while it is copied.
        t.at_most("peak memory growth", server.peak_bytes() - before, 3 * 16 * MIB, "B")


def send_until_answered(connection: Connection, data: bytes, times: int):
    """Sends a chunked body piece by piece, until its end or until an answer comes."""
    with connection:
        connection.send(request("POST", "/v1/models/iris:predict", b"", "Transfer-Encoding: chunked"))
        connection.socket.setblocking(False)
        left = memoryview(data)
        while times:
            try:
                connection.received += connection.socket.recv(1 << 16)
                if split(connection.received):
                    break
            except BlockingIOError:
                pass
            try:
                left = left[connection.socket.send(left) :]
            except BlockingIOError:
                time.sleep(0.0005)
            except OSError:
                break
            if not left:
                left, times = memoryview(data), times - 1
        connection.socket.settimeout(15)
        return connection.read()


@test(1)
def a_declared_length_over_the_limit_is_refused_at_once(t: Test) -> None:
    """10^10 bytes declared get 413 within 100 ms, before any of them is sent."""
    with t.server() as server:
        slowest, statuses = 0.0, set()
        for length in (16 * MIB + 1, 64 * MIB, 10**10, 2**63):
            for path in ("/v1/models/iris:predict", "/v2/models/iris/infer"):
                with server.connect(5) as connection:
                    started = time.monotonic()
                    statuses.add(connection.ask(request("POST", path, b"", f"Content-Length: {length}")).status)
                    slowest = max(slowest, time.monotonic() - started)
        t.equal("statuses", statuses, {413})
        t.at_most("slowest refusal", slowest, 0.1, "s")


def push(t: Test, server: Server, framing: str, piece: bytes) -> list[int]:
    """32 clients that push 64 MB each at once; the statuses, 0 for a reset."""
    statuses: list[int] = []

    def one() -> None:
        with server.connect(20) as connection:
            try:
                connection.send(request("POST", "/v1/models/iris:predict", b"", framing))
                for _ in range(64):
                    connection.send(piece)
            except OSError:
                pass  # Refused before its end.
            try:
                statuses.append(connection.read().status)
            except Lost as error:
                # A client that goes on writing after a refusal may lose it to the reset.
                statuses.append(0 if "reset" in str(error) else -1)

    side_by_side(one, t.times(32))
    return statuses


def side_by_side(function: Callable[[], None], count: int) -> None:
    threads = [threading.Thread(target=function) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def counts(statuses: list[int]) -> dict[int, int]:
    return {status: statuses.count(status) for status in sorted(set(statuses))}


@test(1)
def bodies_over_the_limit_take_no_memory(t: Test) -> None:
    """32 clients that push 64 MB each at once get 413, and peak memory grows by less than 150 MB."""
    with t.server() as server:
        before = server.resident_bytes()
        server.forget_peak()
        found = counts(push(t, server, f"Content-Length: {64 * MIB}", b"0," * (MIB // 2)))
        t.hold(f"statuses: {found}", "413, or reset (0)", set(found) <= {0, 413} and 413 in found)
        t.at_most("peak memory growth", server.peak_bytes() - before, 150e6, "B")
        t.equal("alive after it", server.is_alive(), True)


@test(1)
def bodies_of_no_length_stay_within_the_budget(t: Test) -> None:
    """The same without a declared length: nothing tells before 16 MiB each, so the budget of all bodies counts."""
    budget = 64 * MIB
    with t.server(f"limits.max_inflight_body_bytes={budget}") as server:
        before = server.resident_bytes()
        server.forget_peak()
        piece = b"%x\r\n" % MIB + b"0," * (MIB // 2) + b"\r\n"
        found = counts(push(t, server, "Transfer-Encoding: chunked", piece))
        t.hold(f"statuses: {found}", "413, 503, or reset (0)", set(found) <= {0, 413, 503} and len(found) > 0)
        growth = (server.peak_bytes() - before) / budget
        t.at_most("peak memory growth, in budgets", growth, 1.25, "x")
        t.equal("alive after it", server.is_alive(), True)


@test(1)
def large_bodies_side_by_side_stay_within_the_budget(t: Test) -> None:
    """32 bodies of 15 MB at once, three times: 200 or 503, and memory bounded by the budget of 64 MiB."""
    features = 1900
    repository = t.models(wide=lambda folder: models.dense(folder, features, 8, 1, 1))
    # Two bytes a number: the text that takes the most memory for its length once it is decoded.
    row = "[" + ",".join(["0"] * features) + "]"
    body = post("/v1/models/wide:predict", '{"instances":[' + ",".join([row] * 4000) + "]}")
    budget = 64 * MIB
    with t.server(f"limits.max_inflight_body_bytes={budget}", models=repository) as server:
        problems: list[str] = []
        statuses: list[int] = []

        def send() -> None:
            try:
                with server.connect(20) as connection:
                    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                    # The refusal comes before the end of the body; so the writing may fail.
                    try:
                        connection.send(body)
                    except OSError:
                        pass
                    answer = connection.read()
                statuses.append(answer.status)
                if answer.status == 503 and not answer.header("retry-after"):
                    problems.append("503 without Retry-After")
                if answer.status not in (200, 503):
                    problems.append(f"{answer.status} {answer.body[:80]!r}")
            except (Lost, OSError) as error:
                problems.append(str(error))

        before = server.resident_bytes()
        server.forget_peak()
        for _ in range(3):
            side_by_side(send, 32)
        t.none("answers other than 200 and 503", problems, 3 * 32)
        t.hold(f"statuses: {counts(statuses)}", "some 200", 200 in statuses)
        grown, kept = server.peak_bytes() - before, server.resident_bytes() - before
        t.at_most("peak memory growth", grown, 1.25 * budget, "B", f", {grown / budget:.2f} x the budget")
        t.at_most("memory kept afterwards", kept, 50e6, "B")
        answer = server.ask(post("/v1/models/wide:predict", json.dumps({"instances": [[0] * features]})))
        t.equal("served after it", answer.status, 200)
