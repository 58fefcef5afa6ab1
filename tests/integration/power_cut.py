"""Cuts the power under a server, as far as its disk can tell; for root on Linux.

The persist file lies on a loop-mounted ext4 image. Copying the image while it is mounted and in use takes what has
reached the disk and nothing else: what is only in the page cache is lost, as in a power cut. (SIGKILL loses nothing of
that, and so proves no fsync.)

By hand: ``python -m tests.integration.power_cut 100``.
"""

import asyncio
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from mezzenger.broker.effects import Load
from mezzenger.protocol import wire
from mezzenger.storage.sqlite import SqliteStorage
from tests.integration.processes import free_ports, patient, server_process, wait_for

NAME = "numbers"


def run(*command: object) -> None:
    """Run a command that must succeed."""
    subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=60)


@contextmanager
def mounted(image: Path, folder: Path) -> Iterator[Path]:
    """Have an image mounted on a folder."""
    folder.mkdir()
    run("mount", "-o", "loop", image, folder)
    try:
        yield folder
    finally:
        run("umount", folder)
        folder.rmdir()


async def stored_numbers(file: Path) -> set[int]:
    """Return the numbers that a persist file has."""
    storage = SqliteStorage(file)
    numbers: set[int] = set()
    after = 0
    try:
        await storage.open()
        while rows := await storage.read(Load(NAME, after, 10_000, 2**30)):
            after = rows[-1].number
            for row in rows:
                numbers |= {int.from_bytes(item.payload) for item in wire.read_contents(row.frame).items}
    finally:
        await storage.close()
    return numbers


def cut(directory: Path, times: int) -> tuple[int, int]:
    """Cut the power so many times under load; return how many messages were confirmed, and how many of them lost."""
    image = directory / "disk.img"
    run("truncate", "-s", "32M", image)
    run("mkfs.ext4", "-q", "-F", image)
    ports = free_ports()
    confirmed: list[int] = []
    lost: set[int] = set()
    with (
        mounted(image, directory / "disk") as disk,
        server_process(ports, directory / "log", persist_file=str(disk / "messages.db")) as server,
        patient(ports, codec="raw") as publisher,
    ):
        is_over = threading.Event()

        def publish() -> None:
            number = 0
            while not is_over.is_set():
                publisher.send_message(NAME, number.to_bytes(8), ack=1)
                confirmed.append(number)
                number += 1
                time.sleep(0.001)

        publishing = threading.Thread(target=publish)
        publishing.start()
        try:
            for _ in range(times):
                count = len(confirmed)
                wait_for(lambda count=count: len(confirmed) > count + 20)  # type: ignore[misc]  # an early-bound default
                # Frozen, for all that the copy takes must be of one moment.
                server.send_signal(signal.SIGSTOP)
                lost |= lost_by_a_cut(image, directory, confirmed, lambda: server.send_signal(signal.SIGCONT))
        finally:
            is_over.set()
            publishing.join()
    return len(confirmed), len(lost)


def lost_by_a_cut(image: Path, directory: Path, confirmed: list[int], go_on: Callable[[], None]) -> set[int]:
    """Return what was confirmed before a cut, and is not in what the cut has left."""
    before = set(confirmed)
    remains = directory / "remains.img"
    shutil.copyfile(image, remains)
    go_on()
    with mounted(remains, directory / "remains") as disk:
        found = asyncio.run(stored_numbers(disk / "messages.db"))
        # And the start after that one: what the cut left behind the last commit is not believed later either.
        found &= asyncio.run(stored_numbers(disk / "messages.db"))
    return before - found


if __name__ == "__main__":
    with TemporaryDirectory() as folder:
        print("confirmed {}, lost {}".format(*cut(Path(folder), int(sys.argv[1]))))
