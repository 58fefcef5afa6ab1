"""What each peer offers: a server, and the roles that run in processes of their own."""

import importlib.util
import os
import shutil
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from benchmarks.load import Load, Plan, Tally

HOST: Final = "127.0.0.1"
ROOT: Final = Path(__file__).parent.parent.parent

INSTALL_EXTRA: Final = "pip install -e '.[bench]'"


class Daemon(NamedTuple):
    """How to start a server, and the ports on which it listens then."""

    command: list[str]
    ports: tuple[int, ...]


class Publisher(Protocol):
    """Sends what a round asks for."""

    def send(self, load: Load) -> None:
        """Send all of it; return when the API says that it was sent, and confirmed if the plan is durable."""


class Subscriber(Protocol):
    """Receives on as many connections as there are tallies."""

    def expect(self, tallies: Sequence[Tally]) -> None:
        """Give what comes from now on to these tallies."""

    def receive(self) -> None:
        """Return when all tallies are over."""


class Caller(Protocol):
    """Sends a message and waits for its echo."""

    def call(self, seconds: float) -> list[float]:
        """Do so again and again for so long; return how many seconds each took."""


class Echo(Protocol):
    """Answers callers."""

    def serve(self) -> None:
        """Do so for ever."""


class Peer(Protocol):
    """A messaging system, or one way to use it."""

    name: str
    title: str

    def install_command(self) -> str | None:
        """Return the command that installs what is missing, or None if nothing is."""

    def daemon(self, folder: Path, *, durable: bool) -> Daemon:
        """Return how to start the server, on free ports and with its files in a folder."""

    def publisher(self, ports: tuple[int, ...], plan: Plan) -> Publisher:
        """Connect; subscribers are there before publishers."""

    def subscriber(self, ports: tuple[int, ...], plan: Plan, connections: int) -> Subscriber:
        """Connect so many times, and subscribe to all names of the plan."""

    def caller(self, ports: tuple[int, ...]) -> Caller:
        """Connect; the echo is there before."""

    def echo(self, ports: tuple[int, ...]) -> Echo:
        """Connect and subscribe."""


def free_port() -> int:
    """Return a port on which nobody listens."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        port: int = free.getsockname()[1]
        return port


def program(name: str) -> str | None:
    """Return where a program is: beside this Python, or on the path, or where systems keep their daemons."""
    places = (str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin", "/usr/local/sbin")
    return shutil.which(name, path=os.pathsep.join(places))


def needs(modules: Sequence[str] = (), programs: Sequence[str] = (), package: str = "") -> str | None:
    """Return the command that installs what is missing of these.

    Args:
        modules: Of Python.
        programs: Of the system.
        package: Of the system, which has the programs; without it the extra of this project has them.
    """
    commands = []
    if any(importlib.util.find_spec(module) is None for module in modules):
        commands.append(INSTALL_EXTRA)
    if any(program(name) is None for name in programs):
        commands.append(f"apt-get install {package}" if package else INSTALL_EXTRA)
    return " && ".join(dict.fromkeys(commands)) or None


def call_for(seconds: float, once: Callable[[], None]) -> list[float]:
    """Call ``once`` again and again; return how long each call took."""
    took = []
    end = time.perf_counter() + seconds
    before = time.perf_counter()
    while before < end:
        once()
        after = time.perf_counter()
        took.append(after - before)
        before = time.perf_counter()
    return took


def in_threads(work: Callable[[int], None], count: int) -> None:
    """Call ``work`` with 0, 1, ... at the same time; a single one needs no thread."""
    if count == 1:
        work(0)
        return
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
