"""Promise 10: who is slow, or does nothing, is cut off, and the others notice nothing."""

import random
import select
import socket
import time

import load
from server import wait_until
from suite import Test, test
from wire import get, post, predict

V1 = "/v1/models/iris:predict"
# A fifth of the default limits (10 s), so that the test takes seconds. They scale as one: what is
# cut within 1.5 x the limit here is cut within 15 s of the default's 10 s.
LIMIT_SECONDS = 2
LIMITS = (
    f"limits.header_timeout_ms={LIMIT_SECONDS * 1000}",
    f"limits.body_timeout_ms={LIMIT_SECONDS * 1000}",
    f"limits.write_timeout_ms={LIMIT_SECONDS * 1000}",
)


def neighbours(server) -> load.Load:
    request = predict("iris", [[5.8, 2.7, 5.1, 1.9]])
    return load.Load(server.address, lambda client, count: (request, None), clients=4, rate=400)


@test(10)
def slow_senders_are_cut_and_no_one_else_notices(t: Test) -> None:
    """300 clients that dribble are all cut within 1.5 x the limit; the others' p99 does not move."""
    head = get("/v2/health/live", "X: " + "y" * 5000)
    body = post(V1, b" " * 5000)
    with t.server(*LIMITS) as server:
        files = server.files()
        with neighbours(server) as others:
            quiet_from = time.monotonic()
            wait_until(lambda: others.answered.value > 400, 20, "the neighbours ask")
            quiet_to = time.monotonic()
            clients, chance = {}, random.Random(9)
            for number in range(t.times(300)):
                one = socket.create_connection(server.address)
                # A third each: no byte at all, a head, a body.
                data = (b"", head, body)[number % 3]
                at = len(data) if not data else (1 if data is head else data.index(b"\r\n\r\n") + 4)
                one.setblocking(False)
                one.send(data[:at])
                clients[one] = [time.monotonic(), data, at]
            opened = time.monotonic()
            lasted = []
            while clients and time.monotonic() < opened + 5 * LIMIT_SECONDS:
                readable, _, _ = select.select(list(clients), [], [], 0.05)
                for one in readable:
                    try:
                        more = one.recv(1 << 12)
                    except OSError:
                        more = b""
                    if not more:
                        lasted.append(time.monotonic() - clients.pop(one)[0])
                        one.close()
                # Each writes a byte every second or so.
                for one in chance.sample(list(clients), len(clients) // 20):
                    begun, data, at = clients[one]
                    if at < len(data):
                        try:
                            one.send(data[at : at + 1])
                        except OSError:
                            continue
                        clients[one][2] = at + 1
            left = len(clients)
            slow_to = time.monotonic()
            for one in clients:
                one.close()
            samples = others.stop()
        t.equal(f"open after 5 x the limit of {LIMIT_SECONDS} s (default 10 s)", left, 0)
        longest = max(lasted, default=0)
        t.at_most("longest of all, in limits", longest / LIMIT_SECONDS, 1.5, "x", f" = {longest:.2f} s")
        earliest = min(lasted, default=0)
        t.at_least("shortest of all, in limits", earliest / LIMIT_SECONDS, 0.95, "x")
        t.none("neighbours' requests not answered with 200", [s for s in samples if s.status != 200], len(samples))
        quiet = samples.between(quiet_from, quiet_to).p99()
        during = samples.between(quiet_to, slow_to).p99()
        t.at_most("neighbours' p99", during, max(2 * quiet, 0.01), "s", f", {quiet * 1000:.1f} ms before")
        wait_until(lambda: server.value("safeserve_connections_open") <= 1, 5, "connections are gone")
        t.at_most("files more than before", server.files() - files, 2)


@test(10)
def who_does_not_read_is_cut(t: Test) -> None:
    """A client that stops reading its answers is cut at the limit and its memory is freed."""
    with t.server(*LIMITS) as server:
        slow = []
        for _ in range(20):
            one = socket.socket()
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.connect(server.address)
            one.setblocking(False)
            try:
                while one.send(get("/metrics") * 100):
                    pass
            except BlockingIOError:
                slow.append(one)
        started = time.monotonic()
        wait_until(lambda: server.value("safeserve_connections_open") <= 1, 5 * LIMIT_SECONDS, "all are cut")
        t.at_most("all 20 cut, in limits", (time.monotonic() - started) / LIMIT_SECONDS, 1.5, "x")
        t.equal("counted as such", server.value("safeserve_connections_closed_total", reason="write_timeout"), 20)
        for one in slow:
            one.close()


@test(10)
def idle_connections_are_closed_at_their_limit(t: Test) -> None:
    """A kept connection is closed at the idle limit, not before it and not at another limit."""
    limit = 1.5
    with t.server(f"limits.idle_timeout_ms={limit * 1000:.0f}", "limits.header_timeout_ms=60000") as server:
        lasted = []
        clients = [server.connect(10) for _ in range(20)]
        for client in clients:
            answer = client.ask(get("/v2/health/live"))
            assert answer.status == 200 and not answer.closes
        began = time.monotonic()
        for client in clients:
            client.is_closed(max(0.01, began + 3 * limit - time.monotonic()))
            lasted.append(time.monotonic() - began)
        t.at_least("first closed, in limits", min(lasted) / limit, 0.95, "x")
        t.at_most("last closed, in limits", max(lasted) / limit, 1.3, "x", f" = {max(lasted):.2f} s")
        # Used within its limit, a connection stays.
        with server.connect(10) as client:
            answers = 0
            ends = time.monotonic() + 2 * limit
            while time.monotonic() < ends:
                answers += client.ask(get("/v2/health/live")).status == 200
                assert not client.is_closed(limit / 3)
                client.socket.settimeout(10)
            t.at_least("answers of one that asks three times a limit", answers, 5)
