"""Runs the commands as processes of their own: far from this machine's settings, and never for long."""

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

SECONDS: Final = 60.0

SERVER: Final = "mezzenger.cli.server"
TOOL: Final = "mezzenger.cli.tool"


class Commands:
    """Runs commands in an empty folder, which is also their home."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._environ = {key: value for key, value in os.environ.items() if not key.startswith("MEZZENGER_")}
        self._environ |= {"HOME": str(folder), "TERM": "xterm", "COLUMNS": "200"}
        self._environ.pop("NO_COLOR", None)

    def run(
        self,
        module: str,
        *arguments: object,
        text: str | None = None,
        environ: Mapping[str, str] | None = None,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; ``text`` is its stdin."""
        return subprocess.run(
            command_line(module, arguments),
            input=text or "",
            stdout=stdout,
            stderr=stderr,
            text=True,
            timeout=SECONDS,
            check=False,
            cwd=self.folder,
            env=self._environ | dict(environ or {}),
        )

    @contextmanager
    def started(
        self, module: str, *arguments: object, stdout: int = subprocess.PIPE, stderr: int = subprocess.PIPE
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Run a command during the block; kill it at the end if it has not ended by then."""
        process = subprocess.Popen(
            command_line(module, arguments),
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=stderr,
            cwd=self.folder,
            env=self._environ,
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
            process.wait(SECONDS)


def command_line(module: str, arguments: tuple[object, ...]) -> list[str]:
    """Return the command line of one of our two commands."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def read_until(descriptor: int, text: bytes) -> bytes:
    """Return what can be read up to ``text``; fail if it takes too long or ends before."""
    deadline, read = time.monotonic() + SECONDS, b""
    while not read.endswith(text):
        readable, _, _ = select.select([descriptor], [], [], max(deadline - time.monotonic(), 0))
        assert readable, f"not within {SECONDS} s; so far: {read!r}"
        byte = os.read(descriptor, 1)
        assert byte, f"it ended; before: {read!r}"
        read += byte
    return read


def read_line(process: subprocess.Popen[bytes], stream: str = "stdout") -> str:
    """Return the next line that a process writes."""
    return read_until(getattr(process, stream).fileno(), b"\n").decode().removesuffix("\n")


@contextmanager
def terminal() -> Iterator[tuple[int, int]]:
    """Open a pseudo-terminal: our end, and the end for a process."""
    ours, theirs = os.openpty()
    try:
        yield ours, theirs
    finally:
        os.close(ours)
        os.close(theirs)
