"""Promise 7, at night: the same as in `replicas`, at a rate that Python cannot send."""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager

from promises.replicas import Cluster, cluster
from server import wait_until
from suite import Driver, Test, test

AT_LEAST_A_SECOND = 2000
# What is asked for, so that those are answered.
RATE = 2200
CONNECTIONS = 64


def rows(one: Cluster, number: int) -> float:
    return one.replicas[number].value("safeserve_rows_total")


@contextmanager
def loaded(t: Test) -> Iterator[tuple[Cluster, Driver]]:
    with cluster(t) as one:
        driver = Driver(one.address, "load", RATE, CONNECTIONS)
        wait_until(lambda: sum(rows(one, number) for number in range(3)) > RATE, 20, "clients are answered")
        yield one, driver


def restart(one: Cluster, number: int) -> None:
    """Starts a replica that has ended; it is there when it has answered some of the clients."""
    one.replicas[number] = one.start(port=one.replicas[number].port)
    wait_until(lambda: rows(one, number) > 100, 10, "it has clients again")


@test(7, nightly=True, seconds=300)
def rolling_restarts_at_2000_a_second_fail_nothing(t: Test) -> None:
    """Three replicas restarted one after the other, three times, at 2,000 requests a second: 0 failed."""
    codes, times = [], t.times(3)
    with loaded(t) as (one, driver):
        for _ in range(times):
            for number, replica in enumerate(one.replicas):
                replica.signal(signal.SIGTERM)
                codes.append(replica.wait(10))
                restart(one, number)
        result = driver.result()
    t.none("failed requests", result["failures"], result["asked"], f" in {3 * times} restarts")
    t.equal("exit codes", set(codes), {0})
    t.at_least("answers a second", result["answered"] / result["seconds"], AT_LEAST_A_SECOND, "/s")
    t.at_most("slowest answer", result["slowest_seconds"], 1, "s", f", p99 {result['p99_seconds'] * 1000:.1f} ms")


@test(7, nightly=True, seconds=300)
def kills_at_2000_a_second_fail_nothing_after_a_second(t: Test) -> None:
    """kill -9 of one of three, six times, at 2,000 requests a second: failures within the first second only."""
    killed = []
    with loaded(t) as (one, driver):
        for round in range(t.times(6)):
            number = round % 3
            # On the clock that the driver writes its times by.
            killed.append(time.time())
            one.replicas[number].kill()
            other = (number + 1) % 3
            answered = rows(one, other)
            wait_until(lambda: rows(one, other) > answered + RATE, 20, "two more seconds")
            restart(one, number)
        result = driver.result()
    late = [failure for failure in result["failures"] if not any(at <= failure[0] <= at + 1 for at in killed)]
    t.none("failed later than 1 s after", late, result["asked"])
    t.at_most(f"failed within the first second, of {len(killed)}", len(result["failures"]), CONNECTIONS * len(killed))
    t.at_least("answers a second", result["answered"] / result["seconds"], AT_LEAST_A_SECOND, "/s")
