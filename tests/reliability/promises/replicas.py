"""Promise 7: replicas behind a load balancer hide a restart, a crash and a freeze.

The balancer is HAProxy with deploy/compose/haproxy.cfg, as it is meant to be deployed. It checks every
250 ms and takes a replica out after two failures.
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import load
import server
import tools
from server import Server, free_port, wait_until
from suite import ROOT, Test, test
from wire import Answer, Lost, exchange, get, post

CONFIGURATION = ROOT / "deploy" / "compose" / "haproxy.cfg"
REQUESTS_A_SECOND = 800
# What a check needs to notice (2 x 250 ms), and the 1 s after which a silent replica's request is
# sent to another one.
NOTICED_SECONDS = 1.5
SETTINGS = ("server.drain_delay_ms=1500", "server.drain_timeout_ms=3000")


class Cluster:
    """Three replicas and HAProxy before them."""

    def __init__(self, t: Test, stack: ExitStack, settings: tuple[str, ...], configuration: Path):
        self.t, self.stack, self.settings, self.models = t, stack, settings, t.echo()
        program = tools.haproxy()
        self.replicas = [self.start() for _ in range(3)]
        self.address = ("127.0.0.1", free_port())
        environment = {f"REPLICA_{n + 1}": f"127.0.0.1:{one.port}" for n, one in enumerate(self.replicas)}
        environment["LISTEN"] = f"127.0.0.1:{self.address[1]}"
        environment["OPERATIONS"] = f"127.0.0.1:{free_port()}"
        self.log = (t.scratch / "haproxy.log").open("wb")
        command = [program, "-db", "-f", str(configuration)]
        self.haproxy = server.start(command, env=os.environ | environment, stdout=self.log, stderr=self.log)
        wait_until(self.answers, 10, "HAProxy answers")

    def start(self, port: int | None = None) -> Server:
        return self.stack.enter_context(self.t.server(*self.settings, models=self.models, port=port))

    def answers(self) -> bool:
        assert self.haproxy.poll() is None, (self.t.scratch / "haproxy.log").read_text()[-500:]
        try:
            return exchange(self.address, get("/v2/health/ready"), 2).status == 200
        except (OSError, Lost):
            return False

    @contextmanager
    def load(self) -> Iterator[load.Load]:
        def request(client: int, count: int) -> tuple[bytes, object]:
            row = [float(client), float(count), 0.5, 0.0]
            return post("/v1/models/echo:predict", json.dumps({"instances": [row]})), row

        def check(row: object, answer: Answer) -> str | None:
            if answer.status != 200:
                return f"{answer.status} {answer.body[:60]!r}"
            return None if answer.json()["predictions"] == [row] else f"{answer.body!r} instead of {row}"

        clients = load.Load(self.address, request, clients=32, check=check, rate=REQUESTS_A_SECOND, timeout=8)
        with clients:
            wait_until(lambda: clients.answered.value > REQUESTS_A_SECOND / 2, 10, "clients are answered")
            yield clients


@contextmanager
def cluster(
    t: Test, settings: tuple[str, ...] = SETTINGS, configuration: Path = CONFIGURATION
) -> Iterator[Cluster]:
    with ExitStack() as stack:
        one = Cluster(t, stack, settings, configuration)
        try:
            yield one
        finally:
            server.end(one.haproxy)
            one.log.close()


def failures(samples: load.Samples) -> list[load.Sample]:
    return [sample for sample in samples if sample.status != 200 or sample.problem]


def rate(samples: load.Samples) -> float:
    return len(samples) / (samples[-1].ended - samples[0].sent)


@test(7)
def a_rolling_restart_fails_nothing(t: Test) -> None:
    """Three replicas restarted one after the other at 800 requests a second: 0 failed."""
    with cluster(t) as one, one.load() as clients:
        codes = []
        for number, replica in enumerate(one.replicas):
            replica.signal(signal.SIGTERM)
            codes.append(replica.wait(10))
            one.replicas[number] = one.start(port=replica.port)
            # The next one goes when this one has answered some of the clients.
            wait_until(lambda: one.replicas[number].value("safeserve_rows_total") > 50, 10, "it has clients again")
        samples = clients.stop()
    t.none("failed requests", failures(samples), len(samples))
    t.equal("exit codes", set(codes), {0})
    t.at_least("requests a second", rate(samples), 0.9 * REQUESTS_A_SECOND, "/s")
    t.at_most("slowest answer", max(samples.seconds()), 1, "s")


@test(7)
def a_killed_replica_fails_nothing_after_a_second(t: Test) -> None:
    """kill -9 of one of three: failures within the first second only, and at most one a connection."""
    with cluster(t) as one, one.load() as clients:
        killed = time.monotonic()
        one.replicas[0].kill()
        answered = clients.answered.value
        wait_until(lambda: clients.answered.value > answered + 3 * REQUESTS_A_SECOND, 15, "three more seconds")
        samples = clients.stop()
    failed = failures(samples)
    t.none("failed later than 1 s after", [s for s in failed if s.ended > killed + 1], len(samples))
    t.at_most("failed within the first second", len(failed), 32)
    t.at_least("requests a second", rate(samples), 0.9 * REQUESTS_A_SECOND, "/s")


@test(7)
def a_frozen_replica_fails_nothing_after_the_check(t: Test) -> None:
    """SIGSTOP of one of three: nothing fails or waits later than 1.5 s after; SIGCONT brings it back."""
    with cluster(t) as one, one.load() as clients:
        frozen = time.monotonic()
        one.replicas[0].signal(signal.SIGSTOP)
        answered = clients.answered.value
        wait_until(lambda: clients.answered.value > answered + 3 * REQUESTS_A_SECOND, 20, "three more seconds")
        one.replicas[0].signal(signal.SIGCONT)
        before = one.replicas[0].value("safeserve_rows_total")
        back = wait_until(
            lambda: one.replicas[0].value("safeserve_rows_total") > before + 50, 10, "it has clients again"
        )
        samples = clients.stop()
    failed = failures(samples)
    t.none("failed later than 1.5 s after", [s for s in failed if s.ended > frozen + NOTICED_SECONDS], len(samples))
    t.none("failed at all", failed, len(samples))
    slow = [s for s in samples if s.sent > frozen + NOTICED_SECONDS and s.seconds > 0.5]
    t.none("slower than 0.5 s when sent later than that", slow)
    t.at_most("back in use after", back, 5, "s")
