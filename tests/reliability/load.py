"""A load generator: keep-alive clients, one request at a time each, in a process of its own.

Every request ends in a sample: when it was sent, when its answer was whole, and what it was. A
request that was sent whole and got no whole answer is `lost`; a connection that no one took is
`refused`. Nothing is sent again.
"""

import errno
import multiprocessing
import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple

from wire import RETRY_AFTER, Address, Answer, Lost, split

# Forked, so that the functions of a test need no pickling and no module of their own.
FORK = multiprocessing.get_context("fork")
LOST, REFUSED = 0, -1
REFUSED_PAUSE = 0.01
# Appended to the problem of a connection on which nothing was answered yet.
NEW_CONNECTION = ", on a new connection"


class Sample(NamedTuple):
    sent: float
    ended: float
    status: int
    problem: str | None
    retry_after: bool

    @property
    def seconds(self) -> float:
        return self.ended - self.sent


def share(seconds: list[float], part: float) -> float:
    """The time within which this part of the samples ended."""
    return sorted(seconds)[min(len(seconds) - 1, int(part * len(seconds)))] if seconds else float("nan")


class Samples(list):
    def of(self, *statuses: int) -> "Samples":
        return Samples(sample for sample in self if sample.status in statuses)

    def between(self, begin: float, end: float) -> "Samples":
        return Samples(sample for sample in self if begin <= sample.ended < end)

    def seconds(self) -> list[float]:
        return [sample.seconds for sample in self]

    def p99(self) -> float:
        return share(self.seconds(), 0.99)

    def statuses(self) -> dict[int, int]:
        counts: dict[int, int] = {}
        for sample in self:
            counts[sample.status] = counts.get(sample.status, 0) + 1
        return counts

    def problems(self) -> list[str]:
        return [sample.problem for sample in self if sample.problem]


@dataclass
class Client:
    number: int
    socket: "socket.socket | None" = None
    out: memoryview | None = None
    received: bytearray = field(default_factory=bytearray)
    expected: object = None
    sent: float = 0
    count: int = 0
    deadline: float = 0
    events: int = 0
    # Whether an answer came on this connection.
    answered: bool = False


class Load:
    """Clients that ask `request(client, count)` and hold `check(expected, answer)` against it.

    `request` gives the bytes and what is expected; `check` says what is wrong, or None.
    `rate`: requests a second of all clients together, else as fast as answers come.
    `nice`: how far it gives way to the server where both want a core.
    `pause`: seconds that a client waits after a 503 or 504.
    """

    def __init__(
        self,
        address: Address,
        request: Callable[[int, int], tuple[bytes, object]],
        clients: int,
        check: Callable[[object, Answer], str | None] = lambda _expected, _answer: None,
        rate: float | None = None,
        pause: float = 0,
        timeout: float = 30,
        nice: int = 0,
    ):
        self.address, self.request, self.check = address, request, check
        self.rate, self.pause, self.timeout = rate, pause, timeout
        self.clients, self.nice = clients, nice
        self.answered = FORK.Value("L", 0)
        self.mine, theirs = FORK.Pipe()
        self.process = FORK.Process(target=self._run, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()

    def stop(self) -> Samples:
        """Lets each client have the answer that it waits for, and gives all samples."""
        self.mine.send(None)
        if not self.mine.poll(self.timeout + 10):
            self.process.kill()
            raise AssertionError("the load generator does not end")
        samples = self.mine.recv()
        self.process.join()
        return Samples(Sample(*sample) for sample in samples)

    def __enter__(self) -> "Load":
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.is_alive():
            self.process.kill()
            self.process.join()

    # In the process of its own.

    def _run(self, pipe) -> None:
        os.nice(self.nice)
        stopping = threading.Event()

        def listen() -> None:
            try:
                pipe.recv()
            except EOFError:
                os._exit(1)
            stopping.set()

        threading.Thread(target=listen, daemon=True).start()
        self.selector = selectors.EpollSelector()
        self.samples: list[tuple] = []
        self.paused: list[tuple[float, int]] = []
        self.all = [Client(number) for number in range(self.clients)]
        self.idle = deque(self.all)
        next_send = time.monotonic()
        last_check = next_send
        while True:
            now = time.monotonic()
            while self.paused and self.paused[0][0] <= now:
                self.idle.append(self.all[heappop(self.paused)[1]])
            if stopping.is_set():
                if len(self.idle) + len(self.paused) == len(self.all):
                    break
            elif self.rate is None:
                while self.idle:
                    self._begin(self.idle.popleft())
            else:
                # A generator that fell behind does not catch up in a burst.
                next_send = max(next_send, now - 0.05)
                while self.idle and next_send <= now:
                    self._begin(self.idle.popleft())
                    next_send += 1 / self.rate
            if now - last_check > 0.2:
                last_check = now
                for client in self.all:
                    if client.out is not None and now > client.deadline:
                        self._end(client, LOST, f"no answer in {self.timeout} s")
            for key, _ in self.selector.select(0.002 if self.rate or self.paused else 0.02):
                self._step(key.data)
        for client in self.all:
            self._close(client)
        pipe.send(self.samples)

    def _begin(self, client: Client) -> None:
        data, client.expected = self.request(client.number, client.count)
        client.count += 1
        client.out = memoryview(data)
        client.received.clear()
        client.sent = time.monotonic()
        client.deadline = client.sent + self.timeout
        if client.socket is None:
            client.socket, client.answered = socket.socket(), False
            client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            client.socket.setblocking(False)
            code = client.socket.connect_ex(self.address)
            if code not in (0, errno.EINPROGRESS):
                self._end(client, REFUSED, os.strerror(code))
                return
            self.selector.register(client.socket, selectors.EVENT_WRITE, client)
            client.events = selectors.EVENT_WRITE
            return
        self._step(client)

    def _step(self, client: Client) -> None:
        if client.out is None:
            # Idle, and something came: the end of the connection.
            self._close(client)
            return
        try:
            if client.out:
                client.out = client.out[client.socket.send(client.out) :]
                self._watch(client, selectors.EVENT_WRITE if client.out else selectors.EVENT_READ)
                if client.out:
                    return
                # The answer takes a while; the next event brings it.
                return
            more = client.socket.recv(1 << 16)
        except BlockingIOError:
            if client.out:
                self._watch(client, selectors.EVENT_WRITE)
            return
        except OSError as error:
            where = "" if client.answered else NEW_CONNECTION
            self._end(client, REFUSED if isinstance(error, ConnectionRefusedError) else LOST, f"{error}{where}")
            return
        if not more:
            self._end(client, LOST, f"closed after {len(client.received)} bytes of an answer")
            return
        client.received += more
        try:
            found = split(client.received)
        except Lost as error:
            self._end(client, LOST, str(error))
            return
        if found:
            answer, length = found
            problem = "more than the answer" if length < len(client.received) else self.check(client.expected, answer)
            self._end(client, answer.status, problem, answer)

    def _end(self, client: Client, status: int, problem: str | None, answer: Answer | None = None) -> None:
        now = time.monotonic()
        has_retry = answer is not None and RETRY_AFTER.search(answer.head) is not None
        self.samples.append((client.sent, now, status, problem, has_retry))
        client.out = None
        if answer is None or answer.closes:
            self._close(client)
        if answer is not None:
            client.answered = True
            self.answered.value += 1
        pause = REFUSED_PAUSE if status == REFUSED else self.pause if status in (503, 504) else 0
        if pause:
            heappush(self.paused, (now + pause, client.number))
        else:
            self.idle.append(client)

    def _watch(self, client: Client, events: int) -> None:
        if events != client.events:
            self.selector.modify(client.socket, events, client)
            client.events = events

    def _close(self, client: Client) -> None:
        if client.socket is not None:
            if client.events:
                self.selector.unregister(client.socket)
            client.socket.close()
            client.socket, client.events = None, 0
