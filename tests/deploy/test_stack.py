"""The compose stack under a steady load: replacement, a crash, a freeze, and what Prometheus makes of them."""

import time
from collections.abc import Iterator

import pytest

import dashboard
from engine import docker, inspect
from server import wait_until
from stack import REPLICAS, Stack, compose_command, failures, steady, wait_for

REQUESTS_A_SECOND = 200
LOAD_SECONDS = 60
# What HAProxy's checks need to notice: `inter` times `fall`.
NOTICED_SECONDS = 0.5


@pytest.fixture(scope="module")
def stack(samples_image: str) -> Iterator[Stack]:
    command = compose_command()
    if command is None:
        pytest.skip("no docker compose")
    with Stack(command, samples_image) as running:
        yield running


def test_replacing_all_replicas_fails_nothing(stack: Stack) -> None:
    before = {replica: stack.container(replica) for replica in REPLICAS}
    started = time.monotonic()
    with steady(stack, REQUESTS_A_SECOND) as stop:
        for replica in REPLICAS:
            stack.compose("up", "--detach", "--no-build", "--no-deps", "--force-recreate", replica)
            wait_until(lambda: stack.is_healthy(replica), 30, f"the new {replica} is healthy")
            # The next one goes when clients reach this one, whose counts begin anew.
            rows = f'safeserve_rows_total{{instance="{replica}:8081", model="iris"}}'
            young = f'process_start_time_seconds{{instance="{replica}:8081"}} > {time.time() - 30:.0f}'
            wait_until(lambda: stack.value(f"{rows} > 50 and on (instance) {young}") > 0, 30, f"{replica} has clients")
        wait_for(started + LOAD_SECONDS)
        samples = stop()
    assert not failures(samples), failures(samples)[:3]
    assert len(samples) > 0.9 * REQUESTS_A_SECOND * LOAD_SECONDS
    after = {replica: stack.container(replica) for replica in REPLICAS}
    assert not set(before.values()) & set(after.values())


def test_a_killed_replica_fails_nothing_after_a_second_and_an_alert_names_it(stack: Stack) -> None:
    with steady(stack, REQUESTS_A_SECOND) as stop:
        killed = time.monotonic()
        docker("kill", "--signal", "KILL", stack.container("replica-2"))
        wait_until(
            lambda: stack.is_firing("SafeserveReplicaDown", instance="replica-2:8081"), 90, "an alert names replica-2"
        )
        assert not stack.is_firing("SafeserveReplicaDown", instance="replica-1:8081")
        samples = stop()
    assert samples[-1].ended > killed + 5
    assert not failures(samples, killed + 1), failures(samples, killed + 1)[:3]
    assert inspect(stack.container("replica-2"))["State"]["ExitCode"] == 137
    stack.compose("up", "--detach", "--no-build", "--no-deps", "replica-2")
    wait_until(lambda: not stack.is_firing("SafeserveReplicaDown"), 60, "the alert ends")


def test_a_paused_replica_fails_nothing_once_it_is_noticed(stack: Stack) -> None:
    container = stack.container("replica-3")
    with steady(stack, REQUESTS_A_SECOND) as stop:
        paused = time.monotonic()
        docker("pause", container)
        try:
            wait_for(paused + 10)
            samples = stop()
        finally:
            docker("unpause", container)
    assert not failures(samples, paused + NOTICED_SECONDS), failures(samples, paused + NOTICED_SECONDS)[:3]
    # What it held when it froze was asked of another one.
    assert max(samples.seconds()) < 3
    wait_until(lambda: len(stack.query("up == 1")) == len(REPLICAS), 60, "it is scraped again")


def test_prometheus_answers_on_what_it_scraped(stack: Stack) -> None:
    assert {series["metric"]["instance"] for series in stack.query("up == 1")} == {f"{one}:8081" for one in REPLICAS}
    with steady(stack, REQUESTS_A_SECOND) as stop:
        # Scraped every 5 s: a rate over 20 s has its samples when these have passed.
        wait_for(time.monotonic() + 30)
        asked = stack.value('sum(rate(safeserve_requests_total{model="iris",code="200"}[20s]))')
        stop()
    assert 0.8 * REQUESTS_A_SECOND < asked < 1.2 * REQUESTS_A_SECOND
    groups = stack.api("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["type"] for rule in rules} == {"recording", "alerting"}
    assert not [rule for rule in rules if rule["health"] != "ok" or rule.get("lastError")]


def test_every_query_of_the_dashboard_gives_series(stack: Stack) -> None:
    with steady(stack, REQUESTS_A_SECOND) as stop:

        def silent() -> list[tuple[str, str]]:
            return [(panel, query) for panel, query in dashboard.queries() if not stack.query(query)]

        # Rates need two scrapes of every replica under load.
        wait_until(lambda: not silent(), 120, f"every query gives series: {silent()}")
        stop()
