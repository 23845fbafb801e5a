"""Promise 1, at night: more mutations than Python can send."""

import suite
from suite import Driver, Test, test


@test(1, nightly=True, seconds=3600)
def a_million_mutations_are_answered_or_refused(t: Test) -> None:
    """10^6 seeded mutations of bodies and heads get 200 or a 4xx in JSON, and leak no memory."""
    count = t.times(1_000_000)
    # Until then buffers, arenas of threads and connections come that stay.
    warm_up = max(1, count // 20)
    with t.server("log.level=warn") as server:
        parts = [Driver(server.address, "mutate", suite.seed, 0, warm_up).result()]
        if not parts[0]["problems"]:
            before = server.resident_bytes()
            parts.append(Driver(server.address, "mutate", suite.seed, warm_up, count - warm_up).result())
        asked = sum(part["asked"] for part in parts)
        problems = [problem for part in parts for problem in part["problems"]]
        # First, for of a server that died nothing else can be asked.
        t.none("answers other than 200 and a 4xx in JSON", problems, asked, f", seed {suite.seed}")
        t.equal("alive after it", server.is_alive(), True)
        if len(parts) == 2:
            grown = server.resident_bytes() - before
            t.at_most(f"memory growth after the first {warm_up:,}", grown, 10e6, "B")
    statuses: dict[str, int] = {}
    for part in parts:
        for status, times in part["statuses"].items():
            statuses[status] = statuses.get(status, 0) + times
    good = statuses.get("200", 0)
    t.hold(f"still good: {good:,}", "some, not all", 0 < good < asked)
    shown = ", ".join(f"{status}: {times:,}" for status, times in sorted(statuses.items()))
    t.hold(f"statuses: {shown}", "200 and 4xx", all(status == "200" or status[0] == "4" for status in statuses))
    silent = sum(part["silent"] for part in parts)
    t.at_most("heads without an end that got no answer, of all", silent / asked, 0.05, "%")
