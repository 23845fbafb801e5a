"""Promise 4: a client that leaves frees all that it held: sockets, files, its place in the queue."""

import load
import models
from server import wait_until
from suite import Test, test
from wire import Connection, predict


@test(4)
def clients_that_leave_leave_nothing(t: Test) -> None:
    """3,000 connections broken off at every point: gauges at 0, files back, the neighbours all right."""
    row = predict("echo", [[1, 2, 3, 4]])
    half = len(row) - 10
    with t.server(models=t.echo()) as server:
        server.ask(row)
        files, threads = server.files(), server.threads()
        rounds = t.times(3000)

        def request(client: int, count: int) -> tuple[bytes, object]:
            return predict("echo", [[client, count, 0, 0.5]]), [float(client), float(count), 0.0, 0.5]

        def check(expected: object, answer) -> str | None:
            return None if answer.json()["predictions"] == [expected] else f"{expected}: {answer.body!r}"

        with load.Load(server.address, request, clients=4, check=check, rate=1000) as neighbours:
            for number in range(rounds):
                kind = number % 6
                connection = Connection(server.address, 5)
                if kind == 0:
                    connection.close()
                elif kind == 1:
                    connection.send(row[:20])
                    connection.reset()
                elif kind == 2:
                    connection.send(row[:half])
                    connection.close()
                elif kind == 3:
                    connection.send(row)
                    connection.reset()
                elif kind == 4:
                    connection.send(row * 20)
                    connection.reset()
                else:
                    connection.ask(row)
                    connection.send(row)
                    connection.close()
            samples = neighbours.stop()
        took = wait_until(lambda: server.value("safeserve_connections_open") <= 1, 3, "connections back to 0")
        t.at_most(f"{rounds:,} disconnects: gauges at 0 after", took, 3, "s")
        metrics = server.metrics()
        # The scrape itself is in flight.
        t.equal("requests in flight besides the scrape", metrics.sum("safeserve_http_requests_in_flight") - 1, 0)
        t.equal("queued rows", metrics.sum("safeserve_queued_rows"), 0)
        t.at_most("files more than before", server.files() - files, 2)
        t.at_most("threads more than before", server.threads() - threads, 0)
        wrong = [sample for sample in samples if sample.status != 200 or sample.problem]
        t.none("neighbours' answers lost or wrong", wrong, len(samples))


@test(4)
def rows_of_clients_that_left_are_not_computed(t: Test) -> None:
    """Rows that wait when their client leaves are never computed, and are counted as cancelled."""
    rows, asked = 128, 40
    # Some 40 ms a pass: long compared with the time in which 40 clients leave.
    repository = t.models(slow=lambda folder: models.dense(folder, 64, 2048, 4, 1))
    request = predict("slow", [[0.5] * 64] * rows)
    settings = ("scheduler.workers=1", f"scheduler.max_batch_rows={rows}", "scheduler.max_batch_ms=1000")
    with t.server(*settings, models=repository) as server:
        clients = [server.connect() for _ in range(asked)]
        for client in clients:
            client.send(request)
        # As soon as some are computed all the others wait, and a pass has just begun.
        wait_until(lambda: server.value("safeserve_queued_rows", model="slow") >= asked / 2 * rows, 10, "a queue")
        before = server.value("safeserve_rows_total", model="slow")
        wait_until(lambda: server.value("safeserve_rows_total", model="slow") > before, 10, "rows are computed")
        # From the end of the queue to its head, so that the two meet once: whose row is computed has
        # not left, but for one.
        for client in reversed(clients):
            client.reset()
        wait_until(lambda: server.value("safeserve_queued_rows", model="slow") == 0, 3, "an empty queue")
        wait_until(lambda: server.value("safeserve_connections_open") <= 1, 3, "no connections")
        metrics = server.metrics()
        computed = metrics.sum("safeserve_rows_total", model="slow") / rows
        cancelled = metrics.sum("safeserve_rejections_total", model="slow", reason="cancelled")
        answered = metrics.sum("safeserve_requests_total", model="slow", code="200")
        t.hold(f"cancelled: {cancelled:.0f} of {asked}", "> a quarter: they did wait", cancelled > asked / 4)
        # One is in the worker's hands when its client leaves.
        t.at_most("requests computed", computed, asked - cancelled + 1, note=f", answered {answered:.0f}")
        left = metrics.sum("safeserve_requests_total", model="slow", code="499")
        t.equal("sent = answered + left", answered + left, asked)


@test(4)
def a_client_that_half_closes_is_answered(t: Test) -> None:
    """Who sends a request and closes its own direction still gets the answer, if it waits for it."""
    import socket

    with t.server(models=t.echo()) as server:
        got = []
        for _ in range(50):
            with server.connect(5) as connection:
                connection.send(predict("echo", [[1, 2, 3, 4]]))
                connection.socket.shutdown(socket.SHUT_WR)
                got.append(connection.read().status)
        t.equal("answers of 50", got.count(200), 50)
