"""One history: programs that publish and subscribe while everything breaks, then calm, then the account."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from unittest.mock import patch

from mezzenger.broker import backlog
from tests.simulation.client import Client
from tests.simulation.clock import START, Clock
from tests.simulation.server import Server

NAMES: Final = ("a", "b", "c")
PACE: Final = 0.01
"""Seconds between two things that programs do."""
CLIENTS: Final = 5
WINDOW: Final = 8
"""Frames of one name in the broker's memory: so few that a backlog does not fit."""
LOAD: Final = 3
MEMORY: Final = next((path for path in ("/dev/shm",) if Path(path).is_dir()), None)
"""A folder on no disk: what a crash leaves is decided here, not by syncing."""


class World:
    """A server, some clients, and what they do.

    Args:
        seed: Decides everything.
        directory: For the server's file.
    """

    def __init__(self, seed: int, directory: Path) -> None:
        self.clock = Clock(seed)
        self.server = Server(self.clock, directory / "messages.db")
        self.clients: list[Client] = []
        self._everybody: list[Client] = []
        for _ in range(CLIENTS):
            self._new_client()

    def run(self, seconds: float) -> None:
        """Let programs run and things break for some time; then let all come to rest, and check the account."""
        self._act_until(START + seconds)
        self.clock.run(START + seconds)
        self._come_to_rest()
        self._check()

    def _new_client(self) -> Client:
        client = Client(self.clock, self.server, len(self._everybody) + 1)
        self._everybody.append(client)
        self.clients.append(client)
        return client

    def _act_until(self, end: float) -> None:
        if self.clock.now < end:
            self._act()
            self.clock.after(self.clock.random.expovariate(1 / PACE), lambda: self._act_until(end))

    def _act(self) -> None:
        client = self.clock.random.choice(self.clients)
        name = self.clock.random.choice(NAMES)
        choice = self.clock.random.random()
        if choice < 0.85:
            client.publish(name, ack=int(choice < 0.7), messages=self.clock.random.choice((1, 1, 1, 3)))
        elif choice < 0.97:
            client.subscribe(name)
        elif self.clock.breaks(0.5, "kill a client"):
            client.kill()
            self.clients.remove(client)
            self._new_client()
        elif self.clock.breaks(0.3, "crash"):
            self.server.crash()
        else:
            self.server.cut_one()

    def _come_to_rest(self) -> None:
        self.clock.is_calm = True
        heir = self._new_client()
        for name in NAMES:
            heir.subscribe(name)
        self.clock.run(self.clock.now + 300, self._is_at_rest)

    def _is_at_rest(self) -> bool:
        if not self.server.is_up or any(client.publishes for client in self.clients):
            return False
        return self.server.broker.stats().pending == 0 == self.server.pending_in_file()

    def _check(self) -> None:
        stats = self.server.broker.stats()
        assert self._is_at_rest(), f"not at rest: {stats}, {self.server.pending_in_file()} frames in the file"
        assert stats.malformed == {}, stats.malformed
        confirmed = set().union(*(client.confirmed for client in self._everybody))
        handled = set().union(*(client.handled for client in self._everybody))
        assert confirmed <= handled, f"confirmed and lost: {sorted(confirmed - handled)}"
        self.clock.counted["confirmed"] = len(confirmed)


def simulate(seed: int, seconds: float = 5.0) -> Clock:
    """Run one history; what is returned tells what happened in it."""
    with TemporaryDirectory(dir=MEMORY) as directory, patch.multiple(backlog, WINDOW_FRAMES=WINDOW, LOAD_FRAMES=LOAD):
        world = World(seed, Path(directory))
        try:
            world.run(seconds)
        except BaseException as error:
            error.add_note(f"replay with: python -m tests.simulation.world {seed}")
            print(*world.clock.story, sep="\n")
            raise
        finally:
            if world.server.is_up:
                world.server.stop()
        return world.clock


if __name__ == "__main__":
    first, last = int(sys.argv[1]), int(sys.argv[-1])
    for number in range(first, last + 1):
        counted = simulate(number).counted
        print(number, dict(counted), flush=True)
