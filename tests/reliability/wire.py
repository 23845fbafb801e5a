"""HTTP/1.1 as bytes on sockets: what a library would tidy up has to reach the server as it is."""

import json
import re
import socket
import struct
from dataclasses import dataclass

Address = tuple[str, int]

LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)
RETRY_AFTER = re.compile(rb"\r\nretry-after: *([1-9]\d*)\r\n", re.IGNORECASE)
HEAD_BYTES = 64 << 10


class Lost(Exception):
    """The connection ended before a whole answer had come."""


@dataclass
class Answer:
    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head[9:12])

    def header(self, name: str) -> str | None:
        found = re.search(rb"\r\n" + name.encode() + rb": *([^\r]*)\r\n", self.head, re.IGNORECASE)
        return found and found[1].decode("latin-1")

    @property
    def closes(self) -> bool:
        return CLOSE.search(self.head) is not None

    def json(self) -> object:
        return json.loads(self.body, parse_constant=lambda token: f"not JSON: {token}")

    def refusal(self) -> str | None:
        """What is wrong with this as a refusal of ours; None if nothing is."""
        if self.header("content-type") != "application/json":
            return f"content-type {self.header('content-type')}"
        try:
            body = self.json()
        except ValueError as error:
            return f"no JSON: {error}: {self.body[:80]!r}"
        if not isinstance(body, dict) or not body.get("error") or not body.get("code"):
            return f"no error and code: {self.body[:80]!r}"
        return None


def split(received: bytes | bytearray) -> tuple[Answer, int] | None:
    """The first answer of what came, and its length; None as long as it is not whole."""
    end = received.find(b"\r\n\r\n")
    if end < 0:
        if len(received) > HEAD_BYTES:
            raise Lost("a head without an end")
        return None
    head = bytes(received[: end + 4])
    if not head.startswith(b"HTTP/1.1 "):
        raise Lost(f"no HTTP/1.1: {head[:40]!r}")
    length = LENGTH.search(head)
    if length is None:
        raise Lost(f"no content-length: {head[:200]!r}")
    whole = end + 4 + int(length[1])
    if len(received) < whole:
        return None
    return Answer(head, bytes(received[end + 4 : whole])), whole


class Connection:
    """One client. Reads answers one after the other, so pipelining is possible."""

    def __init__(self, address: Address, timeout: float = 10):
        self.socket = socket.create_connection(address, timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = bytearray()

    def __enter__(self) -> "Connection":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def read(self) -> Answer:
        while True:
            found = split(self.received)
            if found:
                answer, length = found
                del self.received[:length]
                return answer
            try:
                more = self.socket.recv(1 << 16)
            except TimeoutError:
                raise Lost(f"no answer in {self.socket.gettimeout()} s") from None
            except OSError as error:
                raise Lost(f"{error}") from None
            if not more:
                raise Lost(f"closed after {len(self.received)} bytes")
            self.received += more

    def ask(self, request: bytes) -> Answer:
        self.send(request)
        return self.read()

    def is_closed(self, within: float) -> bool:
        """Whether the server ends the connection in this time, with whatever it says before."""
        self.socket.settimeout(within)
        try:
            while self.socket.recv(1 << 16):
                pass
            return True
        except TimeoutError:
            return False
        except OSError:
            return True

    def reset(self) -> None:
        """Leaves as a process that died does: with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        self.socket.close()


def get(path: str, *headers: str) -> bytes:
    return request("GET", path, b"", *headers)


def post(path: str, body: bytes | str, *headers: str) -> bytes:
    body = body.encode() if isinstance(body, str) else body
    return request("POST", path, body, f"Content-Length: {len(body)}", *headers)


def request(method: str, path: str, body: bytes, *headers: str) -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"{method} {path} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode("latin-1") + body


def exchange(address: Address, data: bytes, timeout: float = 10) -> Answer:
    with Connection(address, timeout) as connection:
        return connection.ask(data)


def predict(model: str, rows: list[list[float]], *headers: str) -> bytes:
    return post(f"/v1/models/{model}:predict", json.dumps({"instances": rows}), *headers)
