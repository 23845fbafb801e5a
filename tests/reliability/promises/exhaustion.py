"""Promise 5: a machine that has no more files or memory to give costs requests, not the server."""

import resource
import threading
import time

import models
from server import Server, wait_until
from suite import Test, test
from wire import Connection, Lost, exchange, post, predict

IRIS = predict("iris", [[5.8, 2.7, 5.1, 1.9]])


def cpu_share(server: Server, seconds: float) -> float:
    """Cores used, over a while."""
    before, began = server.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (server.cpu_seconds() - before) / (time.monotonic() - began)


def open_many(server: Server, count: int) -> list[Connection]:
    return [Connection(server.address, 5) for _ in range(count)]


def answers_again(server: Server) -> bool:
    try:
        return exchange(server.address, IRIS, 2).status == 200
    except (Lost, OSError):
        return False


@test(5)
def few_files_limit_connections_not_the_server(t: Test) -> None:
    """64 files and 200 connections: refused or waiting, the server idle meanwhile, back within 2 s."""
    with t.server(wrap=("prlimit", "--nofile=64")) as server:
        clients = open_many(server, 200)
        share = cpu_share(server, 1)
        t.equal("alive beside them", server.process.poll(), None)
        t.at_most("cores used meanwhile", share, 0.5)
        for client in clients:
            client.close()
        t.at_most("answers again after", wait_until(lambda: answers_again(server), 10, "an answer"), 2, "s")
        refused = server.value("safeserve_connections_refused_total")
        t.hold(f"refused: {refused:.0f}", "> 0", refused > 0)


@test(5)
def no_file_left_stops_accepting_for_a_while_only(t: Test) -> None:
    """The limit of files taken away from a running server: no busy loop, no crash, back within 2 s."""
    with t.server() as server:
        exchange(server.address, IRIS)
        # What counts are numbers of files, and these are given from below.
        resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (server.files() + 8, 20_000))
        clients = open_many(server, 200)
        served = 0
        for client in clients[:4]:
            served += client.ask(IRIS).status == 200
        share = cpu_share(server, 1)
        t.equal("served of the first 4", served, 4)
        t.at_most("cores used meanwhile", share, 0.5)
        for client in clients:
            client.close()
        t.at_most("answers again after", wait_until(lambda: answers_again(server), 10, "an answer"), 2, "s")
        errors = server.value("safeserve_accept_errors_total")
        # Ten a second while there is none.
        t.hold(f"failed accepts: {errors:.0f}", "1 to 50: there was no file, and no spinning", 1 <= errors <= 50)


@test(5)
def little_memory_refuses_bodies_and_does_not_abort(t: Test) -> None:
    """128 MB of address space beyond what it needs, under large bodies: 200 and 503, never an abort."""
    features = 1900
    repository = t.models(wide=lambda folder: models.dense(folder, features, 8, 1, 1))
    row = "[" + ",".join(["0"] * features) + "]"
    large = post("/v1/models/wide:predict", '{"instances":[' + ",".join([row] * 1000) + "]}")
    small = predict("wide", [[0] * features])
    # Memory for bodies has to fit the machine: it is a third of what there is here, since a body and
    # the rows that are read from it take up to three times its text.
    settings = ("limits.max_inflight_body_bytes=33554432",)
    with t.server(*settings, models=repository) as server:
        # What it needs: every thread has met a request, and has its arena.
        ask_side_by_side(server, small, 64)
        ask_side_by_side(server, large, 2)
        needed = server.status("VmSize")
        resource.prlimit(server.pid, resource.RLIMIT_AS, (needed + 128_000_000,) * 2)
        statuses = ask_side_by_side(server, large, 48)
        t.hold(f"statuses: {statuses}", "200 and 503", set(statuses) <= {200, 503} and 200 in statuses)
        t.hold("some refused", "503", 503 in statuses)
        t.equal("still the same process", server.process.poll(), None)
        t.equal("served after it", server.ask(small).status, 200)


def ask_side_by_side(server: Server, data: bytes, count: int) -> dict[object, int]:
    statuses: dict[object, int] = {}
    lock = threading.Lock()

    def one() -> None:
        try:
            with server.connect(20) as connection:
                try:
                    connection.send(data)
                except OSError:
                    pass  # Refused before its end.
                status: object = connection.read().status
        except (Lost, OSError) as error:
            status = str(error)
        with lock:
            statuses[status] = statuses.get(status, 0) + 1

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return statuses
