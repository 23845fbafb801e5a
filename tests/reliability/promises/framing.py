"""Promise 1: bytes that two readers could understand in two ways are refused, and desynchronise no one."""

import time

from promises.malformed import GOOD, V1
from suite import Test, test
from wire import Connection, Lost, get, post, request, split

BODY = GOOD[V1].encode()
# A server that sees this as a request of its own has been smuggled it.
SMUGGLED = b"GET /v2/models/iris HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY)


def attacks() -> dict[str, bytes]:
    """Each is followed by what must never be answered."""

    def framed(*headers: str, body: bytes = BODY) -> bytes:
        return request("POST", V1, body, *headers)

    length = f"Content-Length: {len(BODY)}"
    te = "Transfer-Encoding: chunked"
    return {
        "CL.TE": framed(length, te, body=b"0\r\n\r\n"),
        "TE.CL": framed(te, "Content-Length: 4", body=CHUNKED),
        "two lengths": framed(length, "Content-Length: 4"),
        "two lengths in one": framed(f"{length}, {len(BODY)}0"),
        "length with a sign": framed(f"Content-Length: +{len(BODY)}"),
        "negative length": framed("Content-Length: -1"),
        "length in hex": framed("Content-Length: 0x10"),
        "length of 2^64": framed("Content-Length: 18446744073709551616"),
        "empty length": framed("Content-Length:"),
        "TE gzip, chunked": framed("Transfer-Encoding: gzip, chunked", body=CHUNKED),
        "TE twice": framed(te, te, body=CHUNKED),
        "TE xchunked": framed("Transfer-Encoding: xchunked", body=CHUNKED),
        "TE identity": framed("Transfer-Encoding: identity", length),
        "TE after a tab": framed("Transfer-Encoding:\tchunked", length, body=CHUNKED),
        "blank before the colon": framed("Transfer-Encoding : chunked", length),
        "folded header": framed(length, "X: a\r\n b"),
        "bare LF": f"POST {V1} HTTP/1.1\nHost: a\n{length}\nTransfer-Encoding: chunked\n\n".encode() + BODY,
        "NUL in a header": framed(length, "X: a\0b"),
        "CR in a header": framed(length, "X: a\rContent-Length: 0"),
        "chunk size of 17 digits": framed(te, body=b"1" + b"0" * 16 + b"\r\n" + BODY),
        "chunk size with a sign": framed(te, body=b"+%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n"),
        "chunk size in 0x": framed(te, body=b"0x%x\r\n" % len(BODY) + BODY + b"\r\n0\r\n\r\n"),
        "chunk without its CRLF": framed(te, body=b"%x\r\n" % len(BODY) + BODY + b"XX0\r\n\r\n"),
        "chunk with a bare LF": framed(te, body=b"%x\n" % len(BODY) + BODY + b"\n0\n\n"),
        "no host": f"POST {V1} HTTP/1.1\r\n{length}\r\n\r\n".encode() + BODY,
        "two hosts": framed("Host: b", length),
        "HTTP/1.0 with chunks": f"POST {V1} HTTP/1.0\r\nHost: a\r\n{te}\r\n\r\n".encode() + CHUNKED,
        "HTTP/0.9": b"GET /v2/health/live\r\n",
        "HTTP/2's preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        "101 headers": framed(length, *[f"X-{number}: y" for number in range(100)]),
        "70 KB of header": framed(length, "X: " + "y" * 70_000),
    }


def everything(connection: Connection, seconds: float) -> bytes:
    """What comes until the end of the connection, which has to be there in time."""
    connection.socket.settimeout(seconds)
    received = bytearray()
    while True:
        try:
            more = connection.socket.recv(1 << 16)
        except TimeoutError:
            raise Lost(f"open after {seconds} s, having said {bytes(received[:80])!r}") from None
        except OSError:
            return bytes(received)
        if not more:
            return bytes(received)
        received += more


def answers(received: bytes) -> list[int]:
    statuses = []
    while received:
        found = split(received)
        if found is None:
            raise Lost(f"half an answer: {received[:80]!r}")
        statuses.append(found[0].status)
        received = received[found[1] :]
    return statuses


@test(1)
def ambiguous_framing_is_refused_and_closed(t: Test) -> None:
    """Each attack gets one 4xx at most, then the connection ends; what follows is never answered."""
    table = attacks()
    with t.server() as server:
        problems, slowest, silent = [], 0.0, 0
        for name, data in table.items():
            with server.connect(5) as connection:
                started = time.monotonic()
                try:
                    connection.send(data + SMUGGLED * 2)
                    statuses = answers(everything(connection, 5))
                except (Lost, OSError) as error:
                    problems.append(f"{name}: {error}")
                    continue
                slowest = max(slowest, time.monotonic() - started)
            silent += not statuses
            if len(statuses) > 1 or any(not 400 <= status < 500 for status in statuses):
                problems.append(f"{name}: {statuses}")
        t.none("attacks that got through", problems, len(table))
        t.at_most("slowest end", slowest, 1.5, "s")
        t.equal("ended without a word", silent, 0)
        t.equal("alive after it", server.is_alive(), True)


@test(1)
def good_framing_is_served(t: Test) -> None:
    """The refusals are not of everything: chunks, trailers, extensions and split writes are served."""
    te = "Transfer-Encoding: chunked"
    size = b"%x" % len(BODY)
    good = {
        "length": post(V1, BODY),
        "chunked": request("POST", V1, CHUNKED, te),
        "many chunks": request("POST", V1, b"".join(b"1\r\n%c\r\n" % byte for byte in BODY) + b"0\r\n\r\n", te),
        "extension": request("POST", V1, size + b";a=b\r\n" + BODY + b"\r\n0\r\n\r\n", te),
        "trailer": request("POST", V1, size + b"\r\n" + BODY + b"\r\n0\r\nX: y\r\n\r\n", te),
        "capital hex": request("POST", V1, size.upper() + b"\r\n" + BODY + b"\r\n0\r\n\r\n", te.upper()),
        "leading zeros": request("POST", V1, b"000" + CHUNKED, te),
    }
    with t.server() as server:
        problems = []
        for name, data in good.items():
            with server.connect(5) as connection:
                answer = connection.ask(data)
                again = connection.ask(post(V1, BODY))
                if answer.status != 200 or again.status != 200 or answer.body != again.body:
                    problems.append(f"{name}: {answer.status}, then {again.status}")
        with server.connect(5) as connection:
            for byte in post(V1, BODY):
                connection.send(bytes([byte]))
            if connection.read().status != 200:
                problems.append("one byte at a time")
        t.none("good requests not served", problems, len(good) + 1)


@test(1)
def pipelined_requests_are_answered_in_order(t: Test) -> None:
    """40 requests sent at once on one connection are answered in their order, with their own answers."""
    with t.server(models=t.echo(1)) as server:
        with server.connect(5) as connection:
            connection.send(
                b"".join(
                    post("/v1/models/echo:predict", f'{{"instances":[[{n}]]}}', f"X-Request-Id: {n}") for n in range(40)
                )
            )
            got = []
            for _ in range(40):
                answer = connection.read()
                got.append((answer.header("x-request-id"), answer.json()["predictions"][0][0]))
        wrong = [pair for n, pair in enumerate(got) if pair != (str(n), float(n))]
        t.none("answers out of order", wrong, 40)
        # A client that sends for ever and reads nothing is held back, not remembered.
        before = server.resident_bytes()
        flood = get("/metrics") * 1000
        with server.connect(3) as connection:
            connection.socket.setblocking(False)
            sent, ends = 0, time.monotonic() + 1.5
            while time.monotonic() < ends and sent < 200e6:
                try:
                    sent += connection.socket.send(flood)
                except BlockingIOError:
                    time.sleep(0.01)
                except OSError:
                    break
            grown = server.resident_bytes() - before
        t.at_most("memory of a client that reads nothing", grown, 20e6, "B", f" after {sent / 1e6:.1f} MB sent")
        t.equal("alive after it", server.is_alive(), True)
