"""The faults that `faulty.py` plants between a client and the server."""

import os
import re
import socket
import subprocess
import threading
import time

from wire import LENGTH, Answer


def shut(one: socket.socket, how: int) -> None:
    try:
        one.shutdown(how)
    except OSError:
        pass


class Plain:
    """No fault. The others change one thing each."""

    # After those of the test, which they override.
    FLAGS: tuple[str, ...] = ()

    def __init__(self, fault: str):
        self.fault = fault
        self.count = 0
        self.kept: list[object] = []
        self.other: Answer | None = None
        self.lock = threading.Lock()

    def every(self, times: int) -> bool:
        with self.lock:
            self.count += 1
            return self.count % times == 0

    def start(self) -> None:
        """Once, at the start."""

    def up(self, data: bytes) -> bytes:
        """What goes to the server instead of what a client sent."""
        return data

    def down(self, answer: Answer) -> Answer | None:
        """What goes to the client instead of an answer; None is the end of the connection."""
        return answer

    def client_left(self, server: socket.socket) -> None:
        """What a client's end does to its connection to the server."""
        shut(server, socket.SHUT_WR)

    def server_left(self, client: socket.socket) -> None:
        shut(client, socket.SHUT_RDWR)

    def signalled(self, process: subprocess.Popen, number: int) -> None:
        process.send_signal(number)

    def exit_code(self, code: int) -> int:
        return code


def with_body(answer: Answer, body: bytes) -> Answer:
    length = b"\r\ncontent-length: %d\r\n" % len(body)
    return Answer(LENGTH.sub(length, answer.head), body)


def is_page(answer: Answer) -> bool:
    return answer.body.startswith(b"# HELP")


def is_prediction(answer: Answer) -> bool:
    return answer.status == 200 and (b'"predictions"' in answer.body or b'"outputs":[{' in answer.body)


class Internal(Plain):
    """A twentieth of all refusals become a 500."""

    def down(self, answer):
        if 400 <= answer.status < 500 and self.every(20):
            return Answer(answer.head.replace(b" 4", b" 5", 1), answer.body)
        return answer


class Failing(Plain):
    """A hundredth of all predictions become a 500."""

    def down(self, answer):
        if is_prediction(answer) and self.every(100):
            return Answer(answer.head.replace(b"200 OK", b"500 No", 1), answer.body)
        return answer


class PlainText(Plain):
    def down(self, answer):
        if answer.status >= 400:
            return with_body(Answer(answer.head.replace(b"application/json", b"text/plain"), b""), b"no")
        return answer


class Slow(Plain):
    """Refusals take 150 ms longer."""

    def down(self, answer):
        if answer.status >= 400:
            time.sleep(0.15)
        return answer


class Dies(Plain):
    def down(self, answer):
        if answer.status == 400 and self.every(20):
            os._exit(1)
        return answer


class LeaksMemory(Plain):
    def down(self, answer):
        if answer.status != 503:
            self.kept.append(bytearray(os.urandom(256)) * 1000)
        return answer


class Trickles(Plain):
    """A leak of the size that a forgotten header has."""

    def down(self, answer):
        self.kept.append(bytes(answer.head) + os.urandom(1500))
        return answer


class LeaksFiles(Plain):
    """One for each thousandth answer."""

    def down(self, answer):
        if self.every(1000):
            self.kept.append(os.open("/dev/null", os.O_RDONLY))
        return answer


class LeaksThreads(Plain):
    def down(self, answer):
        if self.every(1000):
            threading.Thread(target=threading.Event().wait, daemon=True).start()
        return answer


class Tires(Plain):
    """Each answer takes longer than the one before it."""

    def down(self, answer):
        self.every(1)
        time.sleep(self.count / 400_000)
        return answer


class Smuggles(Plain):
    """Believes a `Transfer-Encoding` next to a length, as RFC 7230 allowed."""

    def up(self, data):
        if b"ransfer-Encoding: chunked" in data:
            data = re.sub(rb"Content-Length: [^\r]*\r\n", b"", data)
        return data


class NoChunks(Plain):
    """Knows bodies of a length only."""

    def up(self, data):
        return re.sub(rb"(?i)transfer-encoding: chunked", b"X: y", data)


class Reorders(Plain):
    """Holds each tenth answer back until after the next one."""

    def down(self, answer):
        with self.lock:
            kept, self.other = self.other, None
        if kept is not None:
            return Answer(b"", answer.head + answer.body + kept.head + kept.body)
        if is_prediction(answer) and self.every(10):
            self.other = answer
            return Answer(b"", b"")
        return answer


class Mixes(Plain):
    """Every fiftieth prediction is the one before it, whosever that was."""

    def down(self, answer):
        if is_prediction(answer):
            with self.lock:
                before, self.other = self.other, answer
            if before is not None and self.every(50):
                return before
        return answer


class Loses(Plain):
    def down(self, answer):
        return None if is_prediction(answer) and self.every(50) else answer


class WrongBits(Plain):
    """Every fiftieth prediction's last digit is another one, by more than rounding hides."""

    def down(self, answer):
        if is_prediction(answer) and self.every(50):
            found = list(re.finditer(rb"\.\d*?(\d)[\],e]", answer.body))
            if found:
                at = found[-1].start(1)
                digit = b"%d" % ((answer.body[at] - 48 + 5) % 10)
                return Answer(answer.head, answer.body[:at] + digit + answer.body[at + 1 :])
        return answer


class Nulls(Plain):
    def down(self, answer):
        if is_prediction(answer):
            return with_body(answer, answer.body.replace(b"0.0", b"null"))
        return answer


class Hoards(Plain):
    """Keeps all that clients send."""

    def up(self, data):
        self.kept.append(bytes(data))
        return data


class Patient(Plain):
    """Ends no connection by itself."""

    def server_left(self, client):
        self.kept.append(client)


class LeaksConnections(Plain):
    """Does not notice that clients left."""

    def client_left(self, server):
        self.kept.append(server)


class HangsUp(Plain):
    """Takes a client that has said all for one that has gone."""

    def client_left(self, server):
        shut(server, socket.SHUT_RDWR)


class NoRetryAfter(Plain):
    def down(self, answer):
        return Answer(re.sub(rb"retry-after: [^\r]*\r\n", b"", answer.head), answer.body)


class SlowLiveness(Plain):
    def down(self, answer):
        if answer.body.startswith(b'{"live"'):
            time.sleep(1.5)
        return answer


class Collapses(Plain):
    """Turns every second answer of an overloaded server into a refusal."""

    def __init__(self, fault):
        super().__init__(fault)
        self.overloaded_at = 0.0

    def down(self, answer):
        if answer.status == 503:
            self.other, self.overloaded_at = answer, time.monotonic()
        elif is_prediction(answer) and time.monotonic() - self.overloaded_at < 0.05 and self.every(2):
            return self.other
        return answer


class Late(Plain):
    def down(self, answer):
        if is_prediction(answer):
            time.sleep(0.2)
        return answer


class ForgetsDeadlines(Plain):
    def up(self, data):
        return re.sub(rb"X-Request-Timeout-Ms: [^\r]*\r\n", b"", data)


class Unsupervised(Plain):
    """Nothing watches for hangs."""

    FLAGS = tuple(
        flag
        for setting in ("scheduler.hang_timeout_ms", "scheduler.stall_timeout_ms", "models.load_timeout_ms")
        for flag in ("--set", f"{setting}=0")
    )


class Abrupt(Plain):
    """Ends at the first signal, even if clients wait."""

    def signalled(self, process, number):
        process.kill()
        os._exit(0)


class StaysReady(Plain):
    def down(self, answer):
        if answer.status == 503 and b'"ready"' in answer.body:
            return with_body(Answer(answer.head.replace(b"503 Service Unavailable", b"200 OK"), b""), b'{"ready":true}')
        return answer


class EndsWithOne(Plain):
    def exit_code(self, code):
        return 1


class Deaf(Plain):
    """Hears a first signal only, and takes its time over that."""

    def signalled(self, process, number):
        if not self.kept:
            self.kept.append(number)
            threading.Timer(2.5, process.send_signal, (number,)).start()


class Stubborn(Plain):
    """Hears no signal."""

    def signalled(self, process, number):
        pass


class Miscounts(Plain):
    def down(self, answer):
        if is_page(answer):

            def more(found: re.Match) -> bytes:
                return found[1] + b"%d" % (int(found[2]) + (int(found[2]) > 5))

            return with_body(answer, re.sub(rb'(\nsafeserve_rows_total\{model="iris",[^ ]* )(\d+)', more, answer.body))
        return answer


class CountsNames(Plain):
    """A series for each path."""

    def up(self, data):
        self.kept.append(data.split(b" ", 2)[1][:40] if data.count(b" ") >= 2 else b"")
        return data

    def down(self, answer):
        if is_page(answer):
            paths = {re.sub(rb"[^\w/.-]", b"_", path) for path in self.kept}
            lines = b"".join(b'paths_total{path="%s"} 1\n' % path for path in paths)
            return with_body(answer, answer.body + lines)
        return answer


class TornPages(Plain):
    def down(self, answer):
        if is_page(answer) and self.every(20):
            return with_body(answer, answer.body[: len(answer.body) // 2])
        return answer


class BadPage(Plain):
    """What Prometheus' own conventions forbid."""

    def down(self, answer):
        if is_page(answer):
            page = answer.body.replace(b"safeserve_rows_total", b"safeserve_rows")
            return with_body(answer, page)
        return answer


class Spins(Plain):
    def start(self):
        def spin() -> None:
            while True:
                pass

        threading.Thread(target=spin, daemon=True).start()


class Aborts(Plain):
    """Ends when it is given much, as a failed allocation would end it."""

    def up(self, data):
        self.count += len(data)
        if self.count > 40_000_000:
            os.abort()
        return data


class SilentDrops(Plain):
    def down(self, answer):
        if is_page(answer):
            return with_body(answer, re.sub(rb"(\nsafeserve_log_lines_dropped_total) \d+", rb"\1 0", answer.body))
        return answer


class BlockingLog(Plain):
    """Writes a line for each answer itself, and waits until it is written."""

    def down(self, answer):
        os.write(2, b"x" * 400 + b"\n")
        return answer


class WallClock(Plain):
    """Holds deadlines by the clock on the wall: what it jumps over has expired."""

    def clock(self) -> str:
        file = os.environ.get("FAKETIME_TIMESTAMP_FILE")
        return open(file).read() if file else ""

    def up(self, data):
        self.other = self.clock()
        return data

    def down(self, answer):
        if is_prediction(answer) and self.clock() != self.other:
            return Answer(answer.head.replace(b"200 OK", b"504 Timeout"), answer.body)
        return answer


class Litters(Plain):
    """Leaves a file where it works, as a lock or a socket would be."""

    def start(self):
        open("lock", "w").close()


class StartsSlowly(Plain):
    """Clears up first what the one before it left."""

    def start(self):
        time.sleep(6)


class ClosesIdle(Plain):
    """Closes a connection that was idle for a second just when it is asked again."""

    def __init__(self, fault):
        super().__init__(fault)
        # Each connection is read by a thread of its own.
        self.connection = threading.local()

    def up(self, data):
        now = time.monotonic()
        idle = now - getattr(self.connection, "asked_at", now)
        self.connection.asked_at = now
        if idle > 1:
            raise ConnectionError("idle for too long")
        return data


class Backlog(Plain):
    """Lets few connections wait, and takes its time between them."""


def kinds() -> dict[str, type[Plain]]:
    return {kind.__name__: kind for kind in Plain.__subclasses__()} | {"none": Plain}
