"""Promises 3, 4 and 9: forward passes that panic or hang, and loads that do, planted in a build that has such models."""

import json
import os
import shutil
from pathlib import Path
from time import monotonic

import models
from load import Load
from server import Server, wait_until
from suite import SAMPLES, Test, test
from wire import Answer, Connection, get, post, predict

# What `src/model/families/faults.rs` takes for orders.
PANICS, HANGS = 666, 667
PANICS_IN_PREPARE, HANGS_IN_PREPARE, IS_REFUSED = 668, 669, 670
ONE_SECOND = "1000"


def breakable(folder: Path, load: str | None = None, prepare: bool = False) -> None:
    folder.mkdir(parents=True)
    config = {"model_type": "faults", "prepare": prepare} | ({"load": load} if load else {})
    (folder / "config.json").write_text(json.dumps(config))
    models.write_safetensors(folder / "model.safetensors", {})


def ask_breakable(client: int, count: int) -> tuple[bytes, object]:
    value = PANICS if client == 0 else client * 1000 + count % 1000 + 0.5
    return predict("breakable", [[value]]), value


def is_its_own(value: object, answer: Answer) -> str | None:
    if value == PANICS:
        return None if answer.status == 500 else f"{answer.status} for a row that panics"
    if answer.status != 200 or answer.json() != {"predictions": [[value]]}:
        return f"{answer.status} for {value}: {answer.body[:80]!r}"
    return None


@test(3, plants_faults=True)
def a_row_that_panics_fails_its_own_request_only(t: Test) -> None:
    """1,000 forward passes that panic, with 31 clients in the same batches: 500 for those, right answers for these."""
    repository = t.models(breakable=breakable)
    with t.server("scheduler.inline_cost_us=0", "log.level=error", models=repository) as server:
        with Connection(server.address) as connection:
            connection.ask(predict("breakable", [[1]]))
            connection.ask(predict("breakable", [[PANICS]]))
        threads, memory = server.lasting_threads(), server.resident_bytes()
        panics = t.times(1000)
        with Load(server.address, ask_breakable, 32, is_its_own) as load:
            done = lambda: server.value("safeserve_panics_total", model="breakable") > panics  # noqa: E731
            wait_until(done, 60, f"{panics} panics")
            samples = load.stop()
        t.none("wrong or failed answers", samples.problems(), len(samples))
        t.hold(f"statuses: {samples.statuses()}", "200 and 500", set(samples.statuses()) == {200, 500})
        t.at_most("threads more than before", server.lasting_threads() - threads, 0)
        t.at_most("memory growth", server.resident_bytes() - memory, 20e6, "B")
        started = monotonic()
        answer = server.ask(predict("breakable", [[7]]))
        t.hold(f"after it: {answer.body.decode()}", "[[7.0]]", answer.json() == {"predictions": [[7.0]]})
        t.at_most("in", monotonic() - started, 0.1, "s")


def ask_preparing(client: int, count: int) -> tuple[bytes, object]:
    orders = {0: PANICS_IN_PREPARE, 1: IS_REFUSED}
    value = orders.get(client, client * 1000 + count % 1000 + 0.5)
    return predict("breakable", [[value], [value]]), value


def is_prepared(value: object, answer: Answer) -> str | None:
    if value == PANICS_IN_PREPARE:
        return None if answer.status == 500 else f"{answer.status} for a row that panics"
    if value == IS_REFUSED:
        is_named = answer.status == 400 and answer.json().get("code") == "invalid_row" and "row 0" in answer.json()["error"]
        return None if is_named else f"{answer.status} for a row that cannot be prepared: {answer.body!r}"
    if answer.status != 200 or answer.json() != {"predictions": [[value], [value]]}:
        return f"{answer.status} for {value}: {answer.body[:80]!r}"
    return None


@test(3, plants_faults=True)
def a_row_that_cannot_be_prepared_fails_its_own_request_only(t: Test) -> None:
    """1,000 panics in preparing rows, and as many rows that are refused there, with 30 clients in the same batches."""
    repository = t.models(breakable=lambda folder: breakable(folder, prepare=True))
    settings = ("scheduler.workers=2", "log.level=error", f"scheduler.hang_timeout_ms={ONE_SECOND}")
    with t.server(*settings, models=repository) as server:
        panics = t.times(1000)
        with Load(server.address, ask_preparing, 32, is_prepared) as load:
            done = lambda: server.value("safeserve_panics_total", model="breakable") > panics  # noqa: E731
            wait_until(done, 60, f"{panics} panics")
            samples = load.stop()
        t.none("wrong or failed answers", samples.problems(), len(samples))
        t.hold(f"statuses: {samples.statuses()}", "200, 400 and 500", set(samples.statuses()) == {200, 400, 500})
        with server.connect(10) as hung, server.connect(10) as other:
            started = monotonic()
            hung.send(predict("breakable", [[HANGS_IN_PREPARE]]))
            neighbour = other.ask(predict("breakable", [[1]]))
            t.equal("a neighbour of one that hangs", neighbour.json(), {"predictions": [[1]]})
            t.equal("its own status", hung.read().status, 500)
            t.at_most("after", monotonic() - started, 2.5, "s")
        t.equal("workers replaced", server.value("safeserve_workers_replaced_total"), 1)
        t.equal("queued rows", server.value("safeserve_queued_rows", model="breakable"), 0)
        t.equal("after it", server.ask(predict("breakable", [[7]])).json(), {"predictions": [[7]]})


@test(4, plants_faults=True)
def a_worker_that_hangs_is_replaced(t: Test) -> None:
    """Both workers hang, one after the other: their requests get 500 at the limit of 1 s, and all others are answered."""
    repository = t.models(breakable=breakable)
    settings = ("scheduler.workers=2", "scheduler.inline_cost_us=0", f"scheduler.hang_timeout_ms={ONE_SECOND}")
    with t.server(*settings, models=repository) as server:
        for number in (1, 2):
            with server.connect(10) as hung, server.connect(10) as other:
                started = monotonic()
                hung.send(predict("breakable", [[HANGS]]))
                busy = lambda: server.value("safeserve_batches_total", model="breakable") >= 2 * number - 1  # noqa: E731
                wait_until(busy, 5, "the batch is taken")
                neighbour = other.ask(predict("breakable", [[number]]))
                t.equal("its neighbour", neighbour.json(), {"predictions": [[number]]})
                t.equal("its own status", hung.read().status, 500)
                t.at_most("after", monotonic() - started, 2.5, "s")
            t.equal("workers replaced", server.value("safeserve_workers_replaced_total"), number)
        both = [server.connect(5) for _ in range(8)]
        for number, client in enumerate(both):
            client.send(predict("breakable", [[number]]))
        found = [client.read().json() for client in both]
        t.equal("after both", found, [{"predictions": [[number]]} for number in range(8)])
        t.equal("alive", server.is_alive(), True)


@test(4, plants_faults=True)
def a_thread_of_connections_that_hangs_is_seen(t: Test) -> None:
    """A cheap forward pass hangs on the thread that serves connections: live says 503 after the limit of 1 s."""
    repository = t.models(breakable=breakable)
    settings = ("server.io_threads=2", "scheduler.inline_cost_us=1000000", f"scheduler.stall_timeout_ms={ONE_SECOND}")
    with t.server(*settings, models=repository) as server:
        # On the other thread than the next, for each takes the thread that has fewer.
        with server.connect(5) as watcher, server.connect(5) as hung:
            before = watcher.ask(get("/v2/health/live")).status
            hung.send(predict("breakable", [[HANGS]]))
            started = monotonic()
            wait_until(lambda: watcher.ask(get("/v2/health/live")).status == 503, 5, "live is 503")
            t.equal("live before", before, 200)
            t.at_most("503 after", monotonic() - started, 2.5, "s")
            t.at_least("and not before", monotonic() - started, 1, "s")


@test(9, plants_faults=True)
def a_load_that_hangs_or_panics_delays_no_other(t: Test) -> None:
    """A load that does not end, at the start and while serving: it is unavailable after 1 s, the others serve and come."""
    repository = t.models(
        breakable=breakable, hangs=lambda folder: breakable(folder, "hangs"), panics=lambda folder: breakable(folder, "panics")
    )
    settings = (f"models.load_timeout_ms={ONE_SECOND}", "models.settle_ms=1", "models.poll_interval_ms=100")
    with t.server(*settings, models=repository) as server:
        reasons = index(server)
        t.hold(f"hangs: {reasons['hangs'][1]}", "names the limit", "models.load_timeout_ms" in reasons["hangs"][1])
        t.hold(f"panics: {reasons['panics'][1]}", "says so", "panicked" in reasons["panics"][1])
        t.equal("their neighbour", server.ask(predict("breakable", [[1]])).status, 200)
        # A new version that hangs, in place of one that serves.
        other = t.scratch / "other"
        breakable(other, "hangs")
        os.replace(other / "config.json", repository / "breakable" / "config.json")
        noted = lambda: "models.load_timeout_ms" in index(server)["breakable"][1]  # noqa: E731
        t.at_most("noted after", wait_until(noted, 10, "the new files are late"), 3, "s")
        t.equal("the version before goes on", server.ask(predict("breakable", [[2]])).status, 200)
        shutil.copytree(SAMPLES / "iris", repository / "iris")
        come = lambda: index(server).get("iris", ("", ""))[0] == "READY"  # noqa: E731
        t.at_most("another model comes after", wait_until(come, 10, "iris is ready"), 3, "s")
        t.equal("ready", server.is_ready(), True)
        t.equal("exit code", server.stop(), 0)


def index(server: Server) -> dict[str, tuple[str, str]]:
    entries = server.ask(post("/v2/repository/index", "")).json()
    return {entry["name"]: (entry["state"], entry["reason"]) for entry in entries}
