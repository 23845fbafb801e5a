"""Promise 4: whatever becomes of the log, requests do not notice."""

import os
import time
from contextlib import ExitStack

import load
from server import Server
from suite import Test, test
from wire import predict


IRIS = predict("iris", [[5.8, 2.7, 5.1, 1.9]])
# At this level every request writes a line.
SETTINGS = ("log.level=debug",)
# More lines than wait in the log's queue (8,192) and in a pipe (64 kB): only then it is full.
FILLING = 9_000
REQUESTS = 5_000
BLOCKS = 10


def alternate(servers: list[Server], count: int) -> list[tuple[float, int]]:
    """The p99 and the failures of each server.

    Each is asked in turn, so that what else the machine does meets all alike; and the p99 is the
    least of ten, since that only adds, for a while and to one, and a log that is waited for to each.
    """
    times: list[list[list[float]]] = [[[] for _ in range(BLOCKS)] for _ in servers]
    failed = [0] * len(servers)
    connections = [server.connect() for server in servers]
    for number in range(-FILLING, count):
        for place, connection in enumerate(connections):
            started = time.monotonic()
            failed[place] += connection.ask(IRIS).status != 200
            if number >= 0:
                times[place][number * BLOCKS // count].append(time.monotonic() - started)
    return [(min(load.share(block, 0.99) for block in blocks), lost) for blocks, lost in zip(times, failed)]


@test(4)
def a_log_that_cannot_be_written_costs_lines_only(t: Test) -> None:
    """Log to a full disk, to a pipe that no one reads, or closed: all 200, times unchanged, drops counted."""
    reader, writer = os.pipe()
    with ExitStack() as stack, open("/dev/full", "wb") as full:

        def start(**outputs: object) -> Server:
            return stack.enter_context(t.server(*SETTINGS, **outputs))

        stack.callback(os.close, reader)
        written = start()
        on_full = start(stderr=full, stdout=full)
        on_pipe = start(stderr=writer)
        os.close(writer)
        closed = stack.enter_context(t.server(*SETTINGS, wrap=("sh", "-c", 'exec "$0" "$@" >&- 2>&-')))
        servers = [written, on_full, on_pipe, closed]
        names = ["a file", "a full disk", "a full pipe", "nowhere (closed)"]
        asked = t.times(REQUESTS)
        measured = alternate(servers, asked)
        usual = measured[0][0]
        for name, server, (p99, failed) in zip(names, servers, measured):
            t.equal(f"{name}: not 200 of {FILLING + asked:,}", failed, 0)
            if server is not written:
                t.at_most(
                    f"{name}: p99 to that of a log in a file", p99 / usual, 1.5, "x", f" of {usual * 1000:.2f} ms"
                )
        dropped = {name: server.value("safeserve_log_lines_dropped_total") for name, server in zip(names, servers)}
        t.equal("a file: lines dropped", dropped["a file"], 0)
        for name in ("a full disk", "a full pipe"):
            t.hold(f"{name}: lines dropped {dropped[name]:.0f}", "> 0", dropped[name] > 0)
        # A line for each request at least.
        lines = written.log.read_bytes().count(b"\n")
        t.at_least("a file: lines written", lines, FILLING + asked)
        for name, server in zip(names[1:], servers[1:]):
            t.equal(f"{name}: exit code", server.stop(), 0)
