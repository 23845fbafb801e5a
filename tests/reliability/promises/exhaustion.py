"""Promise 5: a machine that has no more files or memory to give costs requests, not the server."""

import resource
import selectors
import socket
import threading
import time

import models
from server import Server, wait_until
from suite import Test, test
from wire import Lost, exchange, get, post, predict

IRIS = predict("iris", [[5.8, 2.7, 5.1, 1.9]])


def cpu_share(server: Server, seconds: float) -> float:
    """Cores used, over a while."""
    before, began = server.cpu_seconds(), time.monotonic()
    time.sleep(seconds)
    return (server.cpu_seconds() - before) / (time.monotonic() - began)


def open_many(server: Server, count: int) -> list[socket.socket]:
    """Clients that connect all at once. Whether the server takes them is its business."""
    clients = []
    for _ in range(count):
        client = socket.socket()
        client.setblocking(False)
        client.connect_ex(server.address)
        clients.append(client)
    return clients


def answers_again(server: Server) -> bool:
    try:
        return exchange(server.address, IRIS, 2).status == 200
    except (Lost, OSError):
        return False


@test(5)
def a_burst_of_connections_is_taken_at_once(t: Test) -> None:
    """1,000 clients that connect in one moment are all answered before the second that a lost one waits."""
    with t.server() as server:
        began = time.monotonic()
        waiting = selectors.EpollSelector()
        for client in open_many(server, t.times(1000)):
            waiting.register(client, selectors.EVENT_WRITE)
        seconds, problems = [], []
        while waiting.get_map() and time.monotonic() - began < 10:
            for key, events in waiting.select(0.1):
                client = key.fileobj
                if events & selectors.EVENT_WRITE:
                    client.send(get("/v2/health/live"))
                    waiting.modify(client, selectors.EVENT_READ)
                    continue
                if not client.recv(1 << 12).startswith(b"HTTP/1.1 200 "):
                    problems.append("no answer")
                seconds.append(time.monotonic() - began)
                waiting.unregister(client)
                client.close()
        t.none("clients without an answer", problems + [None] * len(waiting.get_map()), t.times(1000))
        t.none("clients that waited for a second try", [s for s in seconds if s > 0.95])
        for key in list(waiting.get_map().values()):
            key.fileobj.close()


@test(5)
def few_files_limit_connections_not_the_server(t: Test) -> None:
    """64 files and 200 connections: refused or waiting, the server idle meanwhile, back within 2 s."""
    with t.server(wrap=("prlimit", "--nofile=64")) as server:
        clients = open_many(server, 200)
        share = cpu_share(server, 1)
        t.hold("the process lives with them", "yes", server.process.poll() is None)
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
        first = [server.connect(5) for _ in range(4)]
        clients = open_many(server, 200)
        share = cpu_share(server, 1)
        t.equal("served of those that were there", [client.ask(IRIS).status for client in first], [200] * 4)
        t.at_most("cores used meanwhile", share, 0.5)
        for client in [*clients, *first]:
            client.close()
        t.at_most("answers again after", wait_until(lambda: answers_again(server), 10, "an answer"), 2, "s")
        errors = server.value("safeserve_accept_errors_total")
        # Forty a second while there is none.
        t.hold(f"failed accepts: {errors:.0f}", "1 to 200: there was no file, and no spinning", 1 <= errors <= 200)


@test(5)
def little_memory_refuses_bodies_and_does_not_abort(t: Test) -> None:
    """128 MB of address space beyond what it needs, under large bodies: 200 and 503, never an abort."""
    features = 1900
    repository = t.models(wide=lambda folder: models.dense(folder, features, 8, 1, 1))
    row = "[" + ",".join(["0"] * features) + "]"
    large = post("/v1/models/wide:predict", '{"instances":[' + ",".join([row] * 1500) + "]}")
    small = predict("wide", [[0] * features])
    # The default where the limit is set before the start.
    settings = ("limits.max_inflight_body_bytes=67108864",)
    with t.server(*settings, models=repository) as server:
        # What it needs: every thread has met a request, and has its arena.
        ask_side_by_side(server, small, 64)
        ask_side_by_side(server, large, 2)
        needed = server.status("VmSize")
        resource.prlimit(server.pid, resource.RLIMIT_AS, (needed + 128_000_000,) * 2)
        statuses = ask_side_by_side(server, large, 48)
        t.hold(f"statuses: {statuses}", "200 and 503", set(statuses) <= {200, 503} and 200 in statuses)
        t.hold("some refused", "503", 503 in statuses)
        t.hold("the process lives", "yes", server.process.poll() is None)
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
