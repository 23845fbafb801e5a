"""A proxy that damages the way between a client and a server, one planted fault a connection."""

import socket
import struct
import threading
import time
from dataclasses import dataclass

from wire import Address


@dataclass
class Fault:
    """What happens to one direction's bytes."""

    delay_seconds: float = 0  # Before each piece.
    piece_bytes: int = 1 << 16  # As many at a time, each in a write of its own.
    end_after: int | None = None  # Bytes until the way ends.
    end: str = "reset"  # "reset", "close", or "half" (only this direction).


class Proxy:
    """Listens until it is closed. `faults`: for each connection in turn, to the server and from it."""

    def __init__(self, server: Address, faults: list[tuple[Fault, Fault]]):
        self.server, self.faults = server, iter(faults)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address: Address = self.listener.getsockname()
        self.threads: list[threading.Thread] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        # Wakes the thread that accepts, which closing alone does not.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            up, down = next(self.faults)
            server = socket.create_connection(self.server)
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                one.settimeout(10)
            pair = Pair(client, server)
            for source, sink, fault in ((client, server, up), (server, client, down)):
                thread = threading.Thread(target=pair.carry, args=(source, sink, fault), daemon=True)
                thread.start()
                self.threads.append(thread)


class Pair:
    """Two sockets that are closed when both directions have ended."""

    def __init__(self, client: socket.socket, server: socket.socket):
        self.sockets, self.open, self.lock = (client, server), 2, threading.Lock()

    def carry(self, source: socket.socket, sink: socket.socket, fault: Fault) -> None:
        sent = 0
        try:
            while data := source.recv(1 << 16):
                while data:
                    room = min(fault.piece_bytes, (fault.end_after or 1 << 40) - sent)
                    piece, data = data[:room], data[room:]
                    if fault.delay_seconds:
                        time.sleep(fault.delay_seconds)
                    sink.sendall(piece)
                    sent += len(piece)
                    if sent == fault.end_after:
                        self._end(sink, fault.end)
                        return
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            # One side is gone: so is the other.
            self._end(sink, "close")
        finally:
            with self.lock:
                self.open -= 1
                if self.open == 0:
                    for one in self.sockets:
                        one.close()

    def _end(self, sink: socket.socket, how: str) -> None:
        try:
            if how == "half":
                sink.shutdown(socket.SHUT_WR)
                return
            for one in self.sockets:
                if how == "reset":
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
