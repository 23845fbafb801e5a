"""Promises 3 and 4: every answer is the one to its request, and the same bits in any company."""

import json
import random
import struct
import time

import load
import models
from suite import Test, test
from wire import Answer, Connection, post

ODD_IDS = [
    "plain",
    'quote"quote',
    "back\\slash",
    "ünïcode",
    "a/b?c=d&e",
    "{}",
    "tab\tand\nline",
    "\u2028",
    "' OR 1=1",
    "",
]


@test(4)
def answers_belong_to_their_requests(t: Test) -> None:
    """32 clients with unique ids and rows: no answer is lost, doubled, or another's."""
    generator = random.Random(11)
    offset = generator.randrange(1000)

    def request(client: int, count: int) -> tuple[bytes, object]:
        id = f"{client}-{count}-{ODD_IDS[count % len(ODD_IDS)]}"
        rows = [[client, count, row, offset + 0.5] for row in range(1 + count % 7)]
        if count % 2:
            tensor = {"name": "x", "datatype": "FP32", "shape": [len(rows), 4], "data": sum(rows, [])}
            body, path = {"id": id, "inputs": [tensor]}, "/v2/models/echo/infer"
        else:
            body, path = {"instances": rows}, "/v1/models/echo:predict"
        header = f"X-Request-Id: {client}.{count}"
        return post(path, json.dumps(body), header), (id if count % 2 else None, f"{client}.{count}", rows)

    def check(expected: tuple, answer: Answer) -> str | None:
        id, request_id, rows = expected
        if answer.status != 200:
            return f"{answer.status} {answer.body[:80]!r}"
        body = answer.json()
        if answer.header("x-request-id") != request_id:
            return f"id {answer.header('x-request-id')} instead of {request_id}"
        if id is None:
            got = body["predictions"]
        else:
            if body.get("id", "") != id:
                return f"id {body.get('id')!r} instead of {id!r}"
            flat = body["outputs"][0]["data"]
            got = [flat[at : at + 4] for at in range(0, len(flat), 4)]
        return None if got == rows else f"{got} instead of {rows}"

    # All go through the queue, so that they share batches.
    with t.server("scheduler.inline_cost_us=0", models=t.echo()) as server:
        with load.Load(server.address, request, clients=32, check=check) as clients:
            time.sleep(max(1.5, 12 * t.scale))
            samples = clients.stop()
        problems = samples.problems()
        t.none("answers lost or another's", problems, len(samples))
        counted = server.value("safeserve_requests_total", model="echo")
        t.equal("counted less sent", counted - len(samples), 0)
        batches = server.value("safeserve_batches_total", model="echo")
        t.hold(f"requests a batch: {len(samples) / batches:.2f}", "> 1: they shared", len(samples) > batches)


@test(3)
def rows_have_the_same_bits_in_any_company(t: Test) -> None:
    """Each row of 1 to 64 in a request has exactly the bits that it has alone."""
    features, outputs = 48, 17
    repository = t.models(net=lambda folder: models.dense(folder, features, 200, 2, outputs))
    generator = random.Random(12)
    rows = [[generator.gauss(0, 1) for _ in range(features)] for _ in range(64)]
    with t.server(models=repository) as server, server.connect() as connection:
        alone = [ask(connection, [row])[0] for row in rows]
        t.hold(f"distinct answers: {len(set(alone))}", "= 64: a real product", len(set(alone)) == 64)
        different, compared = [], 0
        for count in range(1, 65):
            start = generator.randrange(64)
            chosen = [(start + place) % 64 for place in range(count)]
            got = ask(connection, [rows[index] for index in chosen])
            for index, bits in zip(chosen, got, strict=True):
                compared += 1
                if bits != alone[index]:
                    different.append(f"row {index} among {count}")
        t.none("rows with other bits", different, compared)


@test(3)
def neighbours_in_a_batch_change_no_bit(t: Test) -> None:
    """12 clients with poison rows in the same batches: every answer has the bits that it has alone."""
    features = 64
    repository = t.models(net=lambda folder: models.dense(folder, features, 1024, 3, 9))
    generator = random.Random(13)
    rows = [[generator.gauss(0, 1) for _ in range(features)] for _ in range(24)]
    bodies = [post("/v1/models/net:predict", json.dumps({"instances": [row]})) for row in rows]
    # Finite, but its products are not: refused with 422, and only it.
    poison = post("/v1/models/net:predict", json.dumps({"instances": [[3e38] * features]}))
    with t.server("scheduler.workers=1", models=repository) as server:
        with server.connect() as connection:
            alone = [ask(connection, [row])[0] for row in rows]
            poisoned = connection.ask(poison).status
        t.equal("the poison row alone gets", poisoned, 422)

        def request(client: int, count: int) -> tuple[bytes, object]:
            if client >= 12:
                return poison, None
            index = (client + 5 * count) % len(rows)
            return bodies[index], alone[index]

        def check(expected: object, answer: Answer) -> str | None:
            if expected is None:
                return None if answer.status == 422 else f"poison: {answer.status}"
            if answer.status != 200:
                return f"{answer.status} {answer.body[:80]!r}"
            return None if bits_of(answer)[0] == expected else "other bits than alone"

        before = server.metrics()
        with load.Load(server.address, request, clients=16, check=check) as clients:
            time.sleep(max(1.5, 10 * t.scale))
            samples = clients.stop()
        after = server.metrics()
        computed = after.sum("safeserve_rows_total") - before.sum("safeserve_rows_total")
        batches = after.sum("safeserve_batches_total") - before.sum("safeserve_batches_total")
        t.none("answers with other bits, or lost", samples.problems(), len(samples))
        t.hold(f"rows a batch: {computed / batches:.1f}", ">= 2: they shared", computed >= 2 * batches)
        poisons = len(samples.of(422))
        t.hold(f"poison rows among them: {poisons}", "> 0", poisons > 0)


def ask(connection: Connection, rows: list[list[float]]) -> list[bytes]:
    answer = connection.ask(post("/v1/models/net:predict", json.dumps({"instances": rows})))
    assert answer.status == 200, answer.body[:200]
    return bits_of(answer)


def bits_of(answer: Answer) -> list[bytes]:
    """Each row's floats as they are in memory. The text is the shortest that gives them back."""
    return [struct.pack(f"<{len(row)}f", *row) for row in answer.json()["predictions"]]
