"""A server with one planted fault: the real one behind a proxy that spoils something.

    python3 faulty.py FAULT PROGRAM --bind ADDR:PORT ...     the rest are the program's own flags

`self_test.py` runs the tests against it: each has to notice its fault, and none with fault "none".
"""

import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

from planted import Backlog, LeaksConnections, Plain, kinds, shut
from server import end_with_parent, free_port
from wire import Lost, split


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
    process = subprocess.Popen([program, *flags, *fault.FLAGS], stdin=subprocess.DEVNULL, env=environment, preexec_fn=end_with_parent)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: fault.signalled(process, number))
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
