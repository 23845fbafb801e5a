"""Promise 6: a stop under load loses nothing, is seen at once, and ends in time."""

import signal
import socket
import time

import load
import models
from promises.overload import same, slow_model
from server import wait_until
from suite import Test, test
from wire import exchange, get, post

DELAY_SECONDS, TIMEOUT_SECONDS = 1.5, 3
SETTINGS = (
    f"server.drain_delay_ms={DELAY_SECONDS * 1000:.0f}",
    f"server.drain_timeout_ms={TIMEOUT_SECONDS * 1000:.0f}",
)
READINESS = get("/v2/health/ready")


@test(6)
def sigterm_under_load_loses_nothing(t: Test) -> None:
    """SIGTERM with 24 clients and 3 stalled ones: 0 lost, ready is 503 within 1 s, exit code 0 in time."""
    repository = slow_model(t)
    lost, sent, not_ready, codes, took, refused_early = [], 0, [], [], [], []
    for _ in range(t.times(3)):
        with t.server(*SETTINGS, models=repository) as server:
            stalled = []
            for part in (b"", b"GET / HTTP/1.1\r\n", post("/v1/models/slow:predict", b" " * 500)[:200]):
                stalled.append(socket.create_connection(server.address))
                stalled[-1].sendall(part)
            with load.Load(server.address, same, clients=24) as clients:
                wait_until(lambda: clients.answered.value > 100, 20, "clients are answered")
                signalled = time.monotonic()
                server.signal(signal.SIGTERM)
                wait_until(lambda: server.ask(READINESS).status == 503, 5, "ready is 503")
                not_ready.append(time.monotonic() - signalled)
                assert exchange(server.address, get("/v2/health/live"), 2).status == 200
                codes.append(server.wait(DELAY_SECONDS + TIMEOUT_SECONDS + 5))
                took.append(time.monotonic() - signalled)
                samples = clients.stop()
            for one in stalled:
                one.close()
            sent += len(samples) - len(samples.of(load.REFUSED))
            lost += [sample for sample in samples if sample.status not in (200, load.REFUSED)]
            refused = [sample.sent for sample in samples.of(load.REFUSED)]
            refused_early += [at for at in refused if at < signalled + DELAY_SECONDS * 0.95]
    t.none("requests lost or refused", lost, sent)
    t.none("connections refused within the drain delay", refused_early)
    t.at_most("ready is 503 after", max(not_ready), 1, "s")
    t.equal("exit codes", set(codes), {0})
    t.at_most(
        f"ended after (delay {DELAY_SECONDS:g} s, timeout {TIMEOUT_SECONDS:g} s)",
        max(took), DELAY_SECONDS + TIMEOUT_SECONDS + 1, "s",
    )  # fmt: skip


@test(6)
def a_second_signal_ends_at_once(t: Test) -> None:
    """A second SIGTERM during the drain ends the process at once, with exit code 130."""
    with t.server("server.drain_delay_ms=60000") as server:
        server.signal(signal.SIGTERM)
        wait_until(lambda: server.ask(READINESS).status == 503, 5, "ready is 503")
        started = time.monotonic()
        server.signal(signal.SIGTERM)
        t.equal("exit code", server.wait(5), 130)
        t.at_most("ended after", time.monotonic() - started, 0.5, "s")


@test(6)
def sigterm_while_models_load_ends_at_once(t: Test) -> None:
    """SIGTERM at any moment of the start ends the process within 2 s with 0, or before it catches signals."""
    repository = t.models(large=lambda folder: models.dense(folder, 4096, 4096, 2, 4096))
    # The first start may wait for memory that the system has to find.
    starts = []
    for _ in range(3):
        began = time.monotonic()
        with t.server(models=repository):
            starts.append(time.monotonic() - began)
    start = min(starts)
    codes, slowest, loading = [], 0.0, 0
    rounds = t.times(16)
    for part in range(rounds):
        with t.server("server.drain_delay_ms=0", models=repository, wait=False) as server:
            # The moments are spread over the start; nothing is waited for.
            time.sleep(start * part / rounds)
            loading += not is_listening(server.port)
            signalled = time.monotonic()
            server.signal(signal.SIGINT if part % 2 else signal.SIGTERM)
            codes.append(server.wait(12))
            slowest = max(slowest, time.monotonic() - signalled)
    # In its first milliseconds, before it could act, a process dies of the signal itself.
    t.hold(f"exit codes: {sorted(set(codes))}", "0, or the signal's own", set(codes) <= {0, -2, -15} and 0 in codes)
    t.hold(f"stopped before it listened: {loading} of {rounds}", "> a quarter: while models load", loading > rounds / 4)
    t.at_most("slowest end", slowest, 2, "s", f"; a start takes {start * 1000:.0f} ms")


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
