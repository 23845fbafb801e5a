"""Promise 1, at night: what large bodies leave behind, a hundred times over."""

import json
import statistics
from collections.abc import Callable

import models
from promises.bodies import CHUNK, MIB, counts, send_until_answered, side_by_side
from server import Server, wait_until
from suite import Test, test
from wire import Lost, post

# What stays moves from burst to burst; the middle of ten moves less.
MEDIAN_OF = 10
ENDLESS = b"%x\r\n" % (64 << 10) + b" " * (64 << 10) + b"\r\n"


def growth(t: Test, server: Server, attack: Callable[[], None]) -> tuple[float, float]:
    """How much more memory the process has after 100 attacks than after 20, and how much after 20."""
    resident: list[int] = []
    first = max(MEDIAN_OF, t.times(20))
    for _ in range(max(first + MEDIAN_OF, t.times(100))):
        attack()
        wait_until(lambda: server.value("safeserve_connections_open") <= 1, 20, "connections are gone")
        resident.append(server.resident_bytes())
    early = statistics.median(resident[first - MEDIAN_OF : first])
    return statistics.median(resident[-MEDIAN_OF:]) - early, early


@test(1, nightly=True, seconds=600)
def a_hundred_refused_bodies_leave_nothing(t: Test) -> None:
    """100 times 300,000 chunks of one byte and a body without end: the last 80 leave less than 1 MiB."""
    statuses: list[int] = []
    with t.server("log.level=warn") as server:

        def attack() -> None:
            for data, times in ((CHUNK * 1000, 300), (ENDLESS, 10_000)):
                try:
                    statuses.append(send_until_answered(server.connect(15), data, times).status)
                except Lost as error:
                    # A client that goes on writing after a refusal may lose it to the reset.
                    statuses.append(0 if "reset" in str(error) else -1)

        grown, early = growth(t, server, attack)
        t.hold(f"statuses: {counts(statuses)}", "400 and 413, or reset (0)", set(statuses) <= {0, 400, 413})
        t.at_most("memory growth from repeat 20 on", grown, MIB, "B", f", {early / 1e6:.1f} MB before")
        t.equal("alive after it", server.is_alive(), True)


@test(1, nightly=True, seconds=900)
def a_hundred_bursts_of_large_bodies_leave_nothing(t: Test) -> None:
    """100 times 8 bodies of 15 MB at once, answered or refused: the last 80 leave less than 1 MiB."""
    features = 1900
    repository = t.models(wide=lambda folder: models.dense(folder, features, 8, 1, 1))
    row = "[" + ",".join(["0"] * features) + "]"
    body = post("/v1/models/wide:predict", '{"instances":[' + ",".join([row] * 4000) + "]}")
    small = post("/v1/models/wide:predict", json.dumps({"instances": [[0] * features]}))
    statuses: list[int] = []
    with t.server(f"limits.max_inflight_body_bytes={64 * MIB}", "log.level=warn", models=repository) as server:

        def send() -> None:
            try:
                with server.connect(20) as connection:
                    try:
                        connection.send(body)
                    except OSError:
                        pass  # Refused before its end.
                    statuses.append(connection.read().status)
            except (Lost, OSError) as error:
                statuses.append(0 if "reset" in str(error) else -1)

        grown, early = growth(t, server, lambda: side_by_side(send, 8))
        t.hold(f"statuses: {counts(statuses)}", "200, 503, or reset (0)", set(statuses) <= {0, 200, 503})
        known = "a megabyte or two once in the arenas of threads"
        t.at_most("memory growth from repeat 20 on", grown, MIB, "B", f", {early / 1e6:.1f} MB before", known)
        # Leaks grow with bodies and rows; the allocator's own behaviour does not.
        t.at_most("the same, at the very most", grown, 5 * MIB, "B")
        t.equal("served after it", server.ask(small).status, 200)
