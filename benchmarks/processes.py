"""Starts processes, waits for them with patience, ends them by their id, and reads what they have used."""

import multiprocessing
import os
import socket
import subprocess
import time
from collections.abc import Mapping, MutableSequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from benchmarks import roles
from benchmarks.peers.base import HOST, ROOT, Daemon

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

START: Final = 60.0
"""Seconds for a process to be ready: it may have to subscribe to 10,000 names."""


class Failed(RuntimeError):
    """A process of the benchmark ended, or does not answer."""


class Child:
    """A process that holds a role, and the pipe to it."""

    def __init__(self, place: roles.Place, sent: MutableSequence[int], handled: MutableSequence[int]) -> None:
        context = multiprocessing.get_context("spawn")
        self._title = f"{place.role} of {place.peer}"
        self._pipe: Connection
        self._pipe, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=roles.run, args=(theirs, place, sent, handled), daemon=True
        )
        self._process.start()
        theirs.close()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid or 0

    def ask(self, question: object) -> None:
        """Send a question.

        Raises:
            Failed: The process ended.
        """
        try:
            self._pipe.send(question)
        except OSError as error:
            raise Failed(f"the {self._title} ended") from error

    def answer(self, patience: float = START) -> Any:  # noqa: ANN401  # whatever that role answers
        """Return the next answer.

        Raises:
            Failed: The process ended, or there is none in time.
        """
        with suppress(EOFError, OSError):
            if self._pipe.poll(patience):
                return self._pipe.recv()
            raise Failed(f"the {self._title} does not answer")
        raise Failed(f"the {self._title} ended")

    def end(self) -> None:
        """Kill it: all is measured, nobody needs to say goodbye."""
        self._process.kill()
        self._process.join(5)
        self._pipe.close()


class Server:
    """A server in a process of its own."""

    def __init__(self, daemon: Daemon, log: Path) -> None:
        self._log = log
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                daemon.command,
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environ(os.environ),
            )
        try:
            for port in daemon.ports:
                self._wait_until_it_listens(port)
        except BaseException:
            self.end()
            raise

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    def end(self) -> None:
        """Kill it and wait for its end."""
        self._process.kill()
        self._process.wait(10)

    def _wait_until_it_listens(self, port: int) -> None:
        end = time.monotonic() + START
        while time.monotonic() < end:
            if self._process.poll() is not None:
                text = self._log.read_text("utf-8", "replace")[-500:]
                raise Failed(f"the server ended: {text}")
            with suppress(OSError), socket.create_connection((HOST, port), timeout=1):
                return
            time.sleep(0.02)
        raise Failed("the server does not listen")


def cpu_seconds(pid: int) -> float:
    """Return how long a process has run on a core, with all threads that it has and had.

    Raises:
        Failed: It is gone.
    """
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error as error:
        raise Failed(f"a process is gone: {error}") from error
    used: float = times.user + times.system
    return used


def cpu_seconds_of_living_threads(pid: int) -> float:
    """Return the same without threads that have ended; on Linux in nanoseconds, where the other counts hundredths."""
    tasks = Path(f"/proc/{pid}/task")
    with suppress(OSError, ValueError, IndexError):
        return sum(int((task / "schedstat").read_text("ascii").split()[0]) for task in tasks.iterdir()) / 1e9
    return cpu_seconds(pid)


def resident_megabytes(pid: int) -> float:
    """Return the resident memory of a process."""
    resident: int = psutil.Process(pid).memory_info().rss
    return resident / 1e6


def _environ(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what would change the defaults of Mezzenger."""
    return {name: value for name, value in environ.items() if not name.startswith("MEZZENGER_")}
