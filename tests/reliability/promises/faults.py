"""Promise 4: a network that delays, splits, cuts and resets gives right answers or none, and no leaks."""

import json
import random
import threading

from proxy import Fault, Proxy
from server import wait_until
from suite import Test, test
from wire import Connection, Lost, post

RUNS = 500
SIDE_BY_SIDE = 10


def some_fault(chance: random.Random) -> Fault:
    kind = chance.choice(["none", "delay", "bytes", "pieces", "end", "end", "end"])
    if kind == "delay":
        return Fault(delay_seconds=chance.uniform(0.001, 0.02))
    if kind == "bytes":
        return Fault(piece_bytes=1)
    if kind == "pieces":
        return Fault(piece_bytes=chance.randint(2, 40), delay_seconds=0.001)
    if kind == "end":
        return Fault(end_after=chance.randint(1, 400), end=chance.choice(["reset", "close", "half"]))
    return Fault()


@test(4)
def a_bad_network_gives_right_answers_or_none(t: Test) -> None:
    """500 connections with delays, one-byte writes, resets and half closes: 0 wrong answers, 0 leaks."""
    chance = random.Random(34)
    runs = t.times(RUNS)
    faults = [(some_fault(chance), some_fault(chance)) for _ in range(runs)]
    limits = ("limits.header_timeout_ms=3000", "limits.body_timeout_ms=3000")
    with t.server(*limits, models=t.echo()) as server:
        server.ask(post("/v1/models/echo:predict", '{"instances":[[1,2,3,4]]}'))
        files, threads = server.files(), server.threads()
        proxy = Proxy(server.address, faults)
        numbers, lock = iter(range(runs)), threading.Lock()
        right, none, wrong = [], [], []

        def clients() -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                try:
                    ask_twice(number)
                except (Lost, OSError):
                    none.append(number)

        def ask_twice(number: int) -> None:
            with Connection(proxy.address, 5) as connection:
                for again in range(2):
                    rows = [[number, again, row, 0.5] for row in range(3)]
                    answer = connection.ask(
                        post(
                            "/v1/models/echo:predict",
                            json.dumps({"instances": rows}),
                            f"X-Request-Id: {number}.{again}",
                        )
                    )
                    # A request cut by the network may get 400 or 408; an answer is the one to it.
                    if answer.status == 200:
                        same = (
                            answer.json()["predictions"] == rows
                            and answer.header("x-request-id") == f"{number}.{again}"
                        )
                        (right if same else wrong).append(answer.body)
                    elif answer.status not in (400, 408) or answer.refusal():
                        wrong.append(f"{answer.status} {answer.body!r}")
                    if answer.closes:
                        return

        workers = [threading.Thread(target=clients) for _ in range(SIDE_BY_SIDE)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        proxy.close()
        t.none("wrong answers", wrong, runs)
        t.hold(
            f"right: {len(right)}, none: {len(none)}", "both: faults did and did not hit", bool(right) and bool(none)
        )
        wait_until(lambda: server.value("safeserve_connections_open") <= 1, 5, "connections back to 0")
        metrics = server.metrics()
        t.equal("requests in flight besides the scrape", metrics.sum("safeserve_http_requests_in_flight") - 1, 0)
        t.equal("queued rows", metrics.sum("safeserve_queued_rows"), 0)
        t.at_most("files more than before", server.files() - files, 2)
        t.at_most("threads more than before", server.threads() - threads, 0)
        t.equal("panics", metrics.sum("safeserve_handler_panics_total") + metrics.sum("safeserve_panics_total"), 0)
