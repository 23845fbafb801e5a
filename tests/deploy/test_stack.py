"""The compose stack under a steady load: replacement, a crash, a freeze, and what Prometheus makes of them."""

import time
from collections.abc import Iterator

import pytest

import dashboard
from engine import INTERVAL, Unavailable, docker, inspect
from server import wait_until
from stack import REPLICAS, Stack, compose_command, failures, steady, wait_for

REQUESTS_A_SECOND = 200
LOAD_SECONDS = 60
# What HAProxy's checks need to notice: `inter` times `fall`.
NOTICED_SECONDS = 0.5
# Beyond `timeout server` of haproxy.cfg another replica is asked.
ASKED_AGAIN_SECONDS = 1


@pytest.fixture(scope="module")
def stack(samples_image: str) -> Iterator[Stack]:
    try:
        command = compose_command()
    except Unavailable as reason:
        pytest.skip(str(reason))
    with Stack(command, samples_image) as running:
        yield running


def test_replacing_all_replicas_fails_nothing(stack: Stack) -> None:
    before = dict(stack.containers)
    started = time.monotonic()
    with steady(stack, REQUESTS_A_SECOND) as stop:
        for replica in REPLICAS:
            one = f'instance="{replica}:8081"'
            begun = stack.value(f"process_start_time_seconds{{{one}}}")
            stack.replace(replica)
            wait_until(lambda: stack.is_healthy(replica), 30, f"the new {replica} is healthy", INTERVAL)
            # The next one goes when clients reach this one, which by its kernel began later than a drain takes.
            rows = f'safeserve_rows_total{{{one}, model="iris"}} > 50'
            reached = f"{rows} and on (instance) process_start_time_seconds{{{one}}} > {begun + 3:.3f}"
            wait_until(lambda: stack.query(reached), 30, f"clients reach the new {replica}", INTERVAL)
        wait_for(started + LOAD_SECONDS)
        samples = stop()
    assert not failures(samples), failures(samples)[:3]
    assert samples[-1].ended - samples[0].sent > LOAD_SECONDS - 2
    sent = sorted(sample.sent for sample in samples)
    assert max(later - earlier for earlier, later in zip(sent, sent[1:])) < 1, "it was steady"
    assert not {before[replica] for replica in REPLICAS} & {stack.containers[replica] for replica in REPLICAS}


def test_a_killed_replica_fails_nothing_after_a_second_and_an_alert_names_it(stack: Stack) -> None:
    def is_down(**labels: str) -> bool:
        return stack.is_firing("SafeserveReplicaDown", **labels)

    container = stack.containers["replica-2"]
    try:
        with steady(stack, REQUESTS_A_SECOND) as stop:
            docker("kill", "--signal", "KILL", container)
            killed = time.monotonic()
            wait_until(lambda: is_down(instance="replica-2:8081"), 90, "an alert names replica-2", INTERVAL)
            assert not is_down(instance="replica-1:8081") and not is_down(instance="replica-3:8081")
            samples = stop()
        assert inspect(container)["State"]["ExitCode"] == 137
    finally:
        stack.up("replica-2")
    assert samples[-1].sent > killed + 5
    assert not failures(samples, killed + 1), failures(samples, killed + 1)[:3]
    wait_until(lambda: not is_down(), 60, "the alert ends", INTERVAL)


def test_a_paused_replica_fails_nothing_and_delays_no_one_once_it_is_noticed(stack: Stack) -> None:
    container = stack.containers["replica-3"]
    with steady(stack, REQUESTS_A_SECOND) as stop:
        docker("pause", container)
        paused = time.monotonic()
        try:
            wait_for(paused + 10)
            samples = stop()
        finally:
            docker("unpause", container)
    noticed = paused + NOTICED_SECONDS
    assert not failures(samples, noticed), failures(samples, noticed)[:3]
    # What it held when it froze was asked of another one; what came when that was noticed, with some room for a
    # busy machine, never went there.
    assert max(samples.seconds()) < 3 * ASKED_AGAIN_SECONDS
    later = [sample.seconds for sample in samples if sample.sent > noticed + 0.5]
    assert len(later) > REQUESTS_A_SECOND and max(later) < 0.9 * ASKED_AGAIN_SECONDS
    wait_until(stack.are_all_scraped, 60, "it is scraped again", INTERVAL)


def test_prometheus_answers_on_what_it_scraped(stack: Stack) -> None:
    scraped = {series["metric"]["instance"] for series in stack.query('up{job="safeserve"} == 1')}
    assert scraped == {f"{replica}:8081" for replica in REPLICAS}
    with steady(stack, REQUESTS_A_SECOND) as stop:
        # Scraped every 5 s: a rate over 20 s has its samples when these have passed.
        begun = time.monotonic()
        wait_for(begun + 30)
        asked = stack.value('sum(rate(safeserve_requests_total{model="iris",code="200"}[20s]))')
        ended = time.monotonic()
        samples = stop()
    sent = len(samples.between(begun, ended)) / (ended - begun)
    assert 0.8 * sent < asked < 1.2 * sent
    groups = stack.api("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert {rule["type"] for rule in rules} == {"recording", "alerting"}
    assert not [rule for rule in rules if rule["health"] != "ok" or rule.get("lastError")]


def test_every_query_of_the_dashboard_gives_series(stack: Stack) -> None:
    silent: list[tuple[str, str]] = []

    def all_give() -> bool:
        silent[:] = [(panel, query) for panel, query in dashboard.queries() if not stack.query(query)]
        return not silent

    with steady(stack, REQUESTS_A_SECOND) as stop:
        # Rates need two scrapes of every replica under load.
        try:
            wait_until(all_give, 120, "every query gives series", 5)
        except AssertionError:
            raise AssertionError(f"queries without series: {silent}") from None
        finally:
            stop()
