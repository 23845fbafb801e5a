"""A server process under test: starting, watching and ending it."""

import ctypes
import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from wire import Address, Connection, Lost, exchange, get

START_SECONDS = 30
SERIES = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)",?')

LIBC = ctypes.CDLL(None)

# Everything that was started and has not been waited for: ended by its id when the run ends.
running: set[subprocess.Popen] = set()


def end_with_parent() -> None:
    """Has the system end this process with the one that started it, however that ends (PR_SET_PDEATHSIG)."""
    LIBC.prctl(1, signal.SIGKILL)


def start(command: list[str], **options: object) -> subprocess.Popen:
    options = {"stdin": subprocess.DEVNULL} | options
    process = subprocess.Popen(command, preexec_fn=end_with_parent, **options)
    running.add(process)
    return process


def end(process: subprocess.Popen, ask: signal.Signals | None = None, seconds: float = 10) -> int:
    """Asks a process to end, ends it if it does not, and gives its exit code."""
    try:
        if ask is not None and process.poll() is None:
            process.send_signal(ask)
        elif ask is None:
            process.kill()
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return -signal.SIGKILL
    finally:
        running.discard(process)


def end_all() -> None:
    for process in list(running):
        end(process)


def free_port() -> int:
    """A port below those that the system gives to outgoing connections, which would collide with it."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def wait_until(holds: Callable[[], object], seconds: float, what: str, interval: float = 0.002) -> float:
    """Polls until something holds; how long that took. Not holding in time is a failure."""
    started = time.monotonic()
    while not holds():
        if time.monotonic() - started > seconds:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(interval)
    return time.monotonic() - started


class Metrics(dict):
    """One scrape: (name, labels) to value."""

    @staticmethod
    def parse(page: str) -> "Metrics":
        metrics = Metrics()
        for line in page.splitlines():
            if line.startswith("#") or not line:
                continue
            found = SERIES.match(line)
            assert found, f"no series: {line!r}"
            labels = frozenset(LABEL.findall(found[2] or ""))
            key = (found[1], labels)
            assert key not in metrics, f"twice: {line!r}"
            metrics[key] = float(found[3])
        return metrics

    def sum(self, name: str, **labels: str) -> float:
        wanted = set(labels.items())
        found = [value for (series, have), value in self.items() if series == name and wanted <= have]
        assert found, f"no series {name} {labels}"
        return sum(found)


class Server:
    """One running server. `command` is the program; flags are added to it."""

    def __init__(
        self,
        command: list[str],
        models: Path,
        settings: list[str],
        scratch: Path,
        port: int | None = None,
        wait: bool = True,
        **options: object,
    ):
        self.port = port or free_port()
        self.address: Address = ("127.0.0.1", self.port)
        flags = ["--bind", f"127.0.0.1:{self.port}", "--models", str(models)]
        for setting in settings:
            flags += ["--set", setting]
        self.log = scratch / f"{self.port}.log"
        with self.log.open("wb") as log:
            outputs = {"stdout": subprocess.DEVNULL, "stderr": log} | options
            self.process = start([*command, *flags], **outputs)
        if wait:
            try:
                self.wait_ready()
            except BaseException:
                end(self.process)
                raise

    @property
    def pid(self) -> int:
        return self.process.pid

    def wait_ready(self) -> float:
        return wait_until(lambda: self.has_ended() or self.is_ready(), START_SECONDS, "ready")

    def has_ended(self) -> bool:
        if self.process.poll() is not None:
            raise AssertionError(f"ended with {self.process.returncode}: {self.log.read_text()[-600:]}")
        return False

    def is_ready(self) -> bool:
        try:
            return exchange(self.address, get("/v2/health/ready"), 2).status == 200
        except (OSError, Lost):
            return False

    def is_alive(self) -> bool:
        return self.process.poll() is None and exchange(self.address, get("/v2/health/live"), 5).status == 200

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, seconds: float) -> int:
        """The exit code. A server that takes longer is killed and counts as a failure."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {seconds:g} s") from None
        finally:
            end(self.process)

    def stop(self) -> int:
        return end(self.process, signal.SIGINT)

    def kill(self) -> None:
        end(self.process)

    def connect(self, timeout: float = 10) -> Connection:
        return Connection(self.address, timeout)

    def ask(self, data: bytes, timeout: float = 10):
        return exchange(self.address, data, timeout)

    def metrics(self) -> Metrics:
        answer = exchange(self.address, get("/metrics"), 10)
        assert answer.status == 200, answer.head
        return Metrics.parse(answer.body.decode())

    def value(self, name: str, **labels: str) -> float:
        return self.metrics().sum(name, **labels)

    def status(self, field: str) -> int:
        """A number of /proc/PID/status; memory in bytes."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = re.search(rf"^{field}:\s+(\d+)( kB)?", text, re.MULTILINE)
        return int(found[1]) * (1024 if found[2] else 1)

    def resident_bytes(self) -> int:
        return self.status("VmRSS")

    def peak_bytes(self) -> int:
        return self.status("VmHWM")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def files(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def threads(self) -> int:
        return self.status("Threads")

    def lasting_threads(self) -> int:
        """Without those that read files for the loader, which come and go as it looks."""
        return sum(name != "files" for name in self.thread_names())

    def thread_names(self) -> Iterator[str]:
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            # It may have ended since.
            with suppress(FileNotFoundError, ProcessLookupError):
                yield (task / "comm").read_text().strip()

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def ended(server: Server) -> Iterator[Server]:
    """Ends the server whatever happens to the test."""
    try:
        yield server
    finally:
        end(server.process)
