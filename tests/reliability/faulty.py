"""A server with one planted fault: the real one behind a proxy that spoils something.

    python3 faulty.py FAULT PROGRAM --bind ADDR:PORT ...     the rest are the program's own flags

`self_test.py` runs the tests against it: each has to notice its fault, and none with fault "none".
"""

import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from server import end_with_parent, free_port
from wire import LENGTH, Answer, Lost, split


class Plain:
    """No fault. The others change one thing each."""

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
    """Believes a `Transfer-Encoding` beside a length, as RFC 7230 allowed."""

    def up(self, data):
        if b"ransfer-Encoding: chunked" in data:
            data = re.sub(rb"Content-Length: [^\r]*\r\n", b"", data)
        return data


class NoChunks(Plain):
    """Knows bodies of a length only."""

    def up(self, data):
        return re.sub(rb"(?i)transfer-encoding: chunked", b"X: y", data)


class Reorders(Plain):
    """Holds each tenth answer back behind the next one."""

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
        elif is_prediction(answer) and time.monotonic() - self.overloaded_at < 0.2 and self.every(2):
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


class Abrupt(Plain):
    """Ends at the first signal, whoever waits."""

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


class Backlog(Plain):
    """Lets few connections wait, and takes its time between them."""


def kinds() -> dict[str, type[Plain]]:
    return {kind.__name__: kind for kind in Plain.__subclasses__()} | {"none": Plain}


def shut(one: socket.socket, how: int) -> None:
    try:
        one.shutdown(how)
    except OSError:
        pass


class Proxy:
    def __init__(self, fault: Plain, outer: tuple[str, int], inner: tuple[str, int]):
        self.fault, self.inner = fault, inner
        self.listener = socket.create_server(outer, backlog=1 if isinstance(fault, Backlog) else 1024)

    def run(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                time.sleep(0.1)
                continue
            if isinstance(self.fault, Backlog):
                time.sleep(0.01)
            threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self.inner)
        except OSError:
            client.close()
            return
        for one in (client, server):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        downwards = threading.Thread(target=self.carry_down, args=(server, client), daemon=True)
        downwards.start()
        keeps = False
        try:
            while data := client.recv(1 << 16):
                server.sendall(self.fault.up(data))
            self.fault.client_left(server)
            keeps = server in self.fault.kept
        except ConnectionError:
            if isinstance(self.fault, LeaksConnections):
                self.fault.client_left(server)
                keeps = True
            else:
                # Gone is gone, on both sides.
                server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                shut(server, socket.SHUT_RDWR)
        except OSError:
            pass
        if keeps:
            return
        downwards.join()
        server.close()
        if client not in self.fault.kept:
            client.close()

    def carry_down(self, server: socket.socket, client: socket.socket) -> None:
        received = bytearray()
        try:
            while data := server.recv(1 << 16):
                received += data
                while found := split(received):
                    answer, length = found
                    del received[:length]
                    changed = self.fault.down(answer)
                    if changed is None:
                        shut(client, socket.SHUT_RDWR)
                        shut(server, socket.SHUT_RDWR)
                        return
                    client.sendall(changed.head + changed.body)
        except (OSError, Lost):
            pass
        self.fault.server_left(client)


def main() -> None:
    # For the program, not for Python, whose own waiting a library that shifts clocks would break.
    preload = os.environ.pop("LD_PRELOAD", None)
    if preload:
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"FAULTY_PRELOAD": preload})
    preload = os.environ.get("FAULTY_PRELOAD")
    environment = os.environ | ({"LD_PRELOAD": preload} if preload else {})
    name, program, *flags = sys.argv[1:]
    fault = kinds()[name](name)
    at = flags.index("--bind") + 1
    host, port = flags[at].split(":")
    inner = (host, free_port())
    flags[at] = f"{host}:{inner[1]}"
    process = subprocess.Popen([program, *flags], stdin=subprocess.DEVNULL, env=environment, preexec_fn=end_with_parent)
    waiting: Callable[[int, object], None] = lambda number, _: fault.signalled(process, number)
    signal.signal(signal.SIGTERM, waiting)
    signal.signal(signal.SIGINT, waiting)
    fault.start()
    try:
        proxy = Proxy(fault, (host, int(port)), inner)
        threading.Thread(target=proxy.run, daemon=True).start()
        # Not one long wait: a signal that comes just before it would be handled after it.
        while (code := process.poll()) is None:
            time.sleep(0.01)
    finally:
        process.kill()
    os._exit(fault.exit_code(code))


if __name__ == "__main__":
    main()
