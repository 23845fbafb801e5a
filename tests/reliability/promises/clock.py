"""Promise 4: the clock on the wall is for the log only: deadlines and limits do not see it jump."""

import os
import time

import tools
from promises.overload import INSTANCES, ROWS, SETTINGS, slow_model
from server import wait_until
from suite import Test, test
from wire import get, predict


@test(4)
def a_jump_of_the_clock_changes_no_deadline(t: Test) -> None:
    """The wall clock jumps a year ahead and back: no request expires early, or stays for ever."""
    library = tools.libfaketime()
    clock = t.scratch / "clock"
    clock.write_text("+0")
    environment = {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        # Only the wall clock, as when an administrator or NTP sets it.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    allowed = predict("slow", INSTANCES, "X-Request-Timeout-Ms: 5000")
    with t.server(
        *SETTINGS, "limits.header_timeout_ms=1000", models=slow_model(t), env=os.environ | environment
    ) as server:
        years, statuses = set(), []
        for jump in ("+1y", "-1y", "+0", "+30d", "-3d"):
            # In flight while the clock jumps: one that is computed, others that wait, half a head.
            half = server.connect()
            half.send(b"GET /v2/health/live HTTP/1.1\r\n")
            connections = [server.connect() for _ in range(14)]
            for connection in connections:
                connection.send(allowed)
            wait_until(lambda: server.value("safeserve_queued_rows") >= 4 * ROWS, 5, "a queue")
            clock.write_text(jump)
            statuses += [connection.read().status for connection in connections]
            answer = server.ask(get("/v2/health/live"))
            years.add(answer.header("date").split()[3])
            half.send(b"Host: a\r\n\r\n")
            statuses.append(half.read().status)
            statuses.append(server.ask(allowed).status)
        t.hold(f"years that the server saw: {sorted(years)}", ">= 3: its clock did jump", len(years) >= 3)
        t.none("requests not answered with 200", [status for status in statuses if status != 200], len(statuses))
        with server.connect() as connection:
            started = time.monotonic()
            closed = connection.is_closed(5)
            lasted = time.monotonic() - started
        t.hold(f"a silent connection is cut after {lasted:.2f} s", "0.95 to 1.5 s", closed and 0.95 <= lasted <= 1.5)
