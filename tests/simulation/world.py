"""One history: programs that publish and subscribe while everything breaks, then calm, then the account."""

import gc
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from unittest.mock import patch

from mezzenger.broker import backlog, sweeper
from mezzenger.protocol.wire import NO_EXTRA, Extra
from mezzenger.server import storing
from mezzenger.storage import seal
from tests.simulation.client import PATIENCE, Client
from tests.simulation.clock import START, Clock
from tests.simulation.disk import Disk
from tests.simulation.ledger import Ledger
from tests.simulation.operator import Operator
from tests.simulation.policies import AMPLE, GROUPS, KEYS, NAMES, PATTERNS, RULES, TIGHT, TIGHT_EACH
from tests.simulation.report import table
from tests.simulation.requests import Asking
from tests.simulation.server import Server

PACE: Final = 0.01
"""Seconds between two things that programs do."""
CLIENTS: Final = 5
WINDOW: Final = 8
"""Frames of one name in the broker's memory: so few that a backlog does not fit."""
ENTRIES: Final = 16
"""Likewise with those whose frames are away."""
LOAD: Final = 3
FETCH: Final = 2
LENGTHS: Final = (0.5, 1.0, 2.0, 4.0)
"""Seconds in which programs run and things break: short histories are many, long ones have more behind them."""
QUIETS: Final = (0.5, 4.0)
"""Seconds in which what nobody subscribes to expires and is due."""
LONGEST: Final = 300.0
"""Seconds in which all comes to rest."""
SWEEP: Final = 4
CHECKPOINT: Final = 20
"""Frames of the log after which it is written into the database."""
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
        self._ledger = Ledger(self.clock, AMPLE if seed % TIGHT_EACH else TIGHT)
        self._asking = Asking(self.clock)
        self.server = Server(self.clock, Disk(self.clock, directory), self._ledger)
        self._clients: list[Client] = []
        self._made = 0
        for _ in range(CLIENTS):
            self._new_client()
        self._operator = Operator(self.clock, self._ledger, self._clients[0])

    def run(self, seconds: float | None) -> None:
        """Let programs run and things break for some time; then let all come to rest, and check the account."""
        if seconds is None:
            seconds = self.clock.random.choice(LENGTHS)
        self._act_until(START + seconds)
        self.clock.move(START + seconds)
        self._come_to_rest()
        self._check()

    def _new_client(self) -> Client:
        self._made += 1
        client = Client(self.clock, self.server, self._ledger, self._asking, self._made)
        self._clients.append(client)
        return client

    def _act_until(self, end: float) -> None:
        if self.clock.now < end:
            self._act()
            self.clock.after(self.clock.random.expovariate(1 / PACE), lambda: self._act_until(end))

    def _act(self) -> None:
        client = self.clock.random.choice(self._clients)
        name = self.clock.random.choice(NAMES)
        choice = self.clock.random.random()
        if choice < 0.94:
            if client.is_stopped:
                return
            if choice < 0.67:
                self._publish(client, name, ack=int(choice < 0.60))
            elif choice < 0.70:
                self._publish_bundle(client)
            elif choice < 0.77:
                self._ask(client, name)
            elif choice < 0.84:
                client.subscribe(self.clock.random.choice((name, name, name, *PATTERNS)))
            elif choice < 0.91:
                client.join(self.clock.random.choice(list(GROUPS)))
            else:
                self._operator.act()
        else:
            self._break(client)

    def _publish(self, client: Client, name: str, *, ack: int) -> None:
        random = self.clock.random
        key = random.choice(KEYS)
        extra = NO_EXTRA if key is None else Extra(headers={"key": key})
        if random.random() < 0.1:
            ttl, delay = random.choice(((0.3, None), (None, 0.2), (1.0, 0.5), (20.0, 0.0)))
            extra = Extra(extra.headers, ttl, delay)
        client.publish(name, ack=ack, messages=random.choice((1, 1, 1, 3)), extra=extra)

    def _publish_bundle(self, client: Client) -> None:
        random = self.clock.random
        names = random.choices(NAMES, k=random.choice((2, 3, 8)))
        keys = random.choices(KEYS, k=len(names)) if random.random() < 0.3 else [None] * len(names)
        extras = [NO_EXTRA if key is None else Extra(headers={"key": key}) for key in keys]
        client.publish_bundle(names, extras)

    def _ask(self, client: Client, name: str) -> None:
        random = self.clock.random
        patience = random.choice((0.2, 1.0, PATIENCE))
        for _ in range(random.choice((1, 1, 1, 8))):
            client.request(name, patience)

    def _break(self, client: Client) -> None:
        """Have something happen that is no fault of the programs."""
        if self.clock.breaks(0.25, "kill a client"):
            client.kill()
            self._replace(client)
        elif self.clock.breaks(0.15, "close a client"):
            client.close()
            self._replace(client)
        elif self.clock.breaks(0.3, "stop a client"):
            client.stop(self.clock.random.expovariate(1.0))
        elif self.clock.breaks(0.2, "crash"):
            self.server.crash()
        elif self.server.is_up and self.clock.breaks(0.25, "stop the server"):
            self.server.stop()
        elif self.clock.random.random() < 0.3:
            self.clock.jump()
        else:
            self.server.cut_one()

    def _replace(self, client: Client) -> None:
        self._clients.remove(client)
        new = self._new_client()
        if self._operator.client is client:
            self._operator.client = new

    def _come_to_rest(self) -> None:
        self.clock.is_calm = True
        # Nobody publishes any more: what expires and is due must be known from the store.
        self.clock.tell("crash")
        self.server.crash()
        self.clock.move(self.clock.now + self.clock.random.choice(QUIETS))
        self.clock.run_to(lambda: self.server.is_up, until=self.clock.now + LONGEST)
        self.server.check()
        for client in [client for client in self._clients if client.is_stuck]:
            client.kill()
            self._replace(client)
        heir = self._new_client()
        self._operator.client = heir
        self._join_all(heir)
        self._make_room()
        self.clock.run_to(self._is_at_rest, until=self.clock.now + LONGEST)
        self._operator.shown.clear()
        for number in self._dead:
            self._operator.show(number)
        self.clock.run_to(
            lambda: self._is_at_rest() and self._operator.shown >= self._dead, until=self.clock.now + LONGEST
        )

    def _join_all(self, heir: Client) -> None:
        """Have somebody subscribe to each name, and be in each group that is found to be there, until that succeeds."""
        for name in RULES:
            if name not in heir.names:
                heir.subscribe(name)
        for queue in sorted(self._ledger.groups - heir.groups):
            heir.join(queue)
        self.clock.after(1.0, lambda: self._join_all(heir))

    def _make_room(self) -> None:
        """Have what cannot be handled become dead letters: drop all of them as long as there is no room for more."""
        if self._ledger.is_full_of_dead and not self._is_at_rest():
            self._operator.drop(sorted(self._dead))
        self.clock.after(1.0, self._make_room)

    @property
    def _dead(self) -> set[int]:
        return {number for number, life in self._ledger.kept.items() if life.place == "dead"}

    def _is_at_rest(self) -> bool:
        if self._asking.waiting:
            return False
        return self.server.is_at_rest and not any(client.publishes for client in self._clients)

    def _check(self) -> None:
        assert self._is_at_rest(), f"not at rest: {self.server.broker.stats()}, {self._ledger.left()}"
        assert self._dead <= self._operator.shown, f"dead letters that cannot be shown: {self._dead}"
        self.server.check()
        wanted = [self._ledger.publishes[key] for key in self._ledger.confirmed]
        lost = set().union(*wanted) - self._ledger.lives.keys()
        assert not lost, f"confirmed and lost: {sorted(lost)}"
        assert len(self.server.broker._requests) == 0, "requests that nobody waits for"
        malformed = self.server.broker.stats().malformed
        assert malformed.keys() <= {"hello"}, malformed


def simulate(seed: int, seconds: float | None = None) -> Clock:
    """Run one history, as long as the seed has it or as it is said; what is returned tells what happened in it."""
    small_windows = patch.multiple(
        backlog, WINDOW_FRAMES=WINDOW, WINDOW_ENTRIES=ENTRIES, LOAD_FRAMES=LOAD, FETCH_FRAMES=FETCH
    )
    small_sweeps = patch.object(sweeper, "SWEEP_FRAMES", SWEEP)
    early_checkpoints = patch.object(seal, "_CHECKPOINT_FRAMES", CHECKPOINT)
    no_log = patch.object(storing.logger, "disabled", new=True)  # the story has what it would say
    with TemporaryDirectory(dir=MEMORY) as directory, small_windows, small_sweeps, early_checkpoints, no_log:
        world = World(seed, Path(directory))
        try:
            world.run(seconds)
        except BaseException as error:
            error.add_note(f"replay with: python -m tests.simulation.world {seed}")
            print(*world.clock.story, sep="\n")
            raise
        finally:
            if world.server.is_up:
                world.server.close()
        return world.clock


def main(first: int, last: int) -> None:
    """Run histories, and print how often everything happened in them."""
    counted: Counter[str] = Counter()
    began = time.process_time()
    # What is there already need not be looked at whenever garbage is collected.
    gc.freeze()
    for number in range(first, last + 1):
        counted.update(simulate(number).counted)
    print(table(counted))
    print(f"{last - first + 1} seeds in {time.process_time() - began:.1f} s of CPU")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[-1]))
