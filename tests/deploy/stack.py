"""deploy/compose unchanged, in containers of the tests: replicas, balancer, Prometheus."""

import json
import os
import secrets
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import engine
import load
from engine import INTERVAL, PREFIX, ROOT, inspect, is_answered
from server import free_port, wait_until
from wire import Answer, post

FILE = ROOT / "deploy" / "compose" / "compose.yaml"
REPLICAS = ("replica-1", "replica-2", "replica-3")
# Grafana is no package of Debian's; what it would draw is asked of Prometheus.
SERVICES = (*REPLICAS, "balancer", "prometheus")


def compose_command() -> list[str]:
    """Compose as Docker's plugin, or the program of before, from Debian if it is not there.

    Raises Unavailable if neither is available."""
    if engine.call("compose", "version").returncode == 0:
        return ["docker", "compose"]
    return [engine.installed("docker-compose", "docker-compose")]


class Stack:
    """The stack, up until it is left."""

    def __init__(self, command: list[str], image: str):
        images = engine.component_images()
        self.project = f"{PREFIX}-{secrets.token_hex(4)}"
        self.command = [*command, "--project-name", self.project, "--file", str(FILE)]
        self.address = ("127.0.0.1", free_port())
        self.prometheus = ("127.0.0.1", free_port())
        self.containers: dict[str, str] = {}
        self.environment = os.environ | {
            "SAFESERVE_IMAGE": image,
            "HAPROXY_IMAGE": images["haproxy"],
            "PROMETHEUS_IMAGE": images["prometheus"],
            "PORT": str(self.address[1]),
            "PROMETHEUS_PORT": str(self.prometheus[1]),
            "BALANCER_PORT": str(free_port()),
        }

    def __enter__(self) -> "Stack":
        try:
            self.up(*SERVICES)
            wait_until(lambda: is_answered(self.address), 60, "the balancer answers", INTERVAL)
            wait_until(lambda: is_answered(self.prometheus, "/-/ready"), 60, "Prometheus answers", INTERVAL)
            wait_until(self.are_all_scraped, 60, "each replica is scraped", INTERVAL)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.compose("down", "--volumes", "--timeout", "1")

    def compose(self, *arguments: str) -> str:
        command = [*self.command, *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=180, check=False)
        assert done.returncode == 0, f"compose {' '.join(arguments)}:\n{done.stdout}{done.stderr}"[-3000:]
        return done.stdout.strip()

    def up(self, *services: str) -> None:
        """Starts services, or recreates them if their container is gone or not as it should be."""
        self.compose("up", "--detach", "--no-build", "--no-deps", *services)
        self.take_names(services)

    def replace(self, service: str) -> None:
        """Stops a service as compose does, and starts a new container for it."""
        self.compose("up", "--detach", "--no-build", "--no-deps", "--force-recreate", service)
        self.take_names((service,))

    def take_names(self, services: Iterable[str]) -> None:
        for service in services:
            self.containers[service] = self.compose("ps", "--quiet", service)

    def is_healthy(self, service: str) -> bool:
        return inspect(self.containers[service])["State"]["Health"]["Status"] == "healthy"

    def are_all_scraped(self) -> bool:
        return len(self.query('up{job="safeserve"} == 1')) == len(REPLICAS)

    # Prometheus.

    def api(self, path: str, **parameters: str) -> dict:
        host, port = self.prometheus
        url = f"http://{host}:{port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            body = json.load(answer)
        assert body["status"] == "success", body
        return body["data"]

    def query(self, expression: str) -> list[dict]:
        """The series of an expression now."""
        data = self.api("query", query=expression)
        return data["result"] if data["resultType"] in ("vector", "matrix") else [data["result"]]

    def value(self, expression: str) -> float:
        """The value of an expression that gives one series; 0 if it gives none."""
        found = self.query(expression)
        assert len(found) <= 1, f"{expression}: {found}"
        return float(found[0]["value"][1]) if found else 0

    def is_firing(self, alert: str, **labels: str) -> bool:
        wanted = labels | {"alertname": alert}
        return any(
            one["state"] == "firing" and wanted.items() <= one["labels"].items() for one in self.api("alerts")["alerts"]
        )


def request(client: int, count: int) -> tuple[bytes, object]:
    row = [(client % 7) + 4.5, 2.0 + count % 11 / 10, 1.4, 0.2]
    return post("/v1/models/iris:predict", json.dumps({"instances": [row]})), None


def check(_: object, answer: Answer) -> str | None:
    if answer.status != 200 or len(answer.json()["predictions"][0]) != 3:
        return f"{answer.status} {answer.body[:80]!r}"
    return None


@contextmanager
def steady(stack: Stack, rate: float) -> Iterator[Callable[[], load.Samples]]:
    """A steady load through the balancer; what is given ends it and gives every sample."""
    with load.Load(stack.address, request, clients=16, check=check, rate=rate, timeout=8) as clients:
        wait_until(lambda: clients.answered.value > rate / 2, 10, "clients are answered")
        yield clients.stop


def failures(samples: load.Samples, after: float = 0) -> list[load.Sample]:
    """What was sent after a moment of the monotonic clock and got no good answer."""
    return [sample for sample in samples if sample.problem and sample.sent >= after]


def wait_for(moment: float) -> None:
    """Waits until a moment of the monotonic clock."""
    wait_until(lambda: time.monotonic() >= moment, max(0, moment - time.monotonic()) + 5, "its time", INTERVAL)
