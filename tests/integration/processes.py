"""Server and subscriber processes for the tests, with free ports and deadlines."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import SystemRandom
from typing import Final, NamedTuple

from mezzenger import ClientSettings, Mezzenger

SERVER_PORTS: Final = range(12_000, 32_000)
"""Systems take the ports of outgoing connections from above these."""
_CHANCE: Final = SystemRandom()
"""Several runs of the tests at the same time choose different ones."""

SERVER = """
import logging, sys
from mezzenger import MezzengerServer, ServerSettings
logging.basicConfig(level=logging.INFO)
MezzengerServer(ServerSettings(**eval(sys.argv[1]))).run()
"""


def new_client(settings: ClientSettings) -> Mezzenger:
    """Make a client; a fixture of the same name has another kind of client made instead."""
    return Mezzenger(settings=settings)


class Ports(NamedTuple):
    """Where a server listens."""

    send_port: int
    sub_port: int


def free_ports() -> Ports:
    """Return two ports that nobody uses now, and that no outgoing connection takes before a server does."""
    while True:
        ports = Ports(*_CHANCE.sample(SERVER_PORTS, 2))
        with suppress(OSError), socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", ports.send_port))
            second.bind(("127.0.0.1", ports.sub_port))
            return ports


@contextmanager
def running(program: str, *arguments: object, log: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Run Python source in a process; kill it at the end if it has not ended by then."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    errors = None if log is None else log.open("a")
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.kill()
        process.communicate()
        if errors is not None:
            errors.close()


@contextmanager
def server_process(ports: Ports, log: Path, **settings: object) -> Iterator[subprocess.Popen[str]]:
    """Run a server until the end of the block; it listens when this is entered."""
    settings |= {"recv_port": ports.send_port, "pub_port": ports.sub_port}
    before = count_lines(log, "listening")
    with running(SERVER, settings, log=log) as process:
        wait_for(lambda: count_lines(log, "listening") > before)
        yield process


@contextmanager
def slow_road(port: int, delay: float) -> Iterator[int]:
    """Listen on a port of its own, and pass bytes on to another one some seconds later, in both directions."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ends: list[socket.socket] = []

        def accept() -> None:
            with suppress(OSError):
                while True:
                    near, _ = listener.accept()
                    far = socket.create_connection(("127.0.0.1", port))
                    ends.extend((near, far))
                    for one, other in ((near, far), (far, near)):
                        threading.Thread(target=carry, args=(one, other, delay), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        for end in ends:
            end.close()


def carry(one: socket.socket, other: socket.socket, delay: float) -> None:
    """Pass on what comes from one socket to the other; what comes together stays together."""
    with suppress(OSError):
        while data := one.recv(65536):
            time.sleep(delay)
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)


def count_lines(file: Path, text: str) -> int:
    """Return how many lines of a file hold a text."""
    return sum(text in line for line in file.read_text().splitlines()) if file.exists() else 0


def read_line(process: subprocess.Popen[str]) -> str:
    """Return the next line that a process prints."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something is so; fail if it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


def open_files() -> int:
    """Return how many file descriptors this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def patient(ports: Ports, **settings: object) -> Mezzenger:
    """Return a client that outlasts the stops of these tests."""
    values = ports._asdict() | {"reconnect_max": 0.5, "connection_retries": 20} | settings
    return new_client(ClientSettings.model_validate(values))
