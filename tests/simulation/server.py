"""The server of the simulation: a real broker and the real store; a crash may come at any effect."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from mezzenger.broker import backlog
from mezzenger.broker.core import Broker, BrokerOptions
from mezzenger.broker.deliveries import DeliveryOptions
from mezzenger.broker.effects import Change, Effect, Find, Load, Publish, Query, Send, Store, Sweep
from mezzenger.broker.room import RoomOptions
from mezzenger.policy import Policies, Policy
from mezzenger.protocol.commands import is_token
from mezzenger.storage import rows
from mezzenger.storage.sqlite import SqliteStorage
from tests.simulation.clock import Clock
from tests.simulation.network import Link

COMMIT: Final = 0.003
POLICIES: Final = Policies(
    Policy(
        resend_initial=0.2,
        resend_multiplier=2.0,
        resend_max=2.0,
        resend_jitter=0.1,
        max_attempts=1000,
        ttl=None,
        delay=0.0,
        max_pending=None,
        max_pending_size=None,
        overflow="reject",
    )
)
OPTIONS: Final = BrokerOptions(
    max_message_size=2**20,
    link_timeout=2.0,
    delivery=DeliveryOptions(credit=4, send_queue=8, max_dead_letters=1000, policies=POLICIES),
    room=RoomOptions(max_pending=None, max_pending_size=2**20, policies=POLICIES),
    max_names=1000,
    max_peers=1000,
)


class Server:
    """Runs brokers, one after the other, on one file.

    Args:
        clock: Of the simulation.
        file: Of the store.
    """

    def __init__(self, clock: Clock, file: Path) -> None:
        self._clock = clock
        self._file = file
        self._links: dict[bytes, Link] = {}
        self.stored: set[tuple[int, int]] = set()
        """Client and sequence of all that ever was committed."""
        self.start()

    def start(self) -> None:
        """Begin, with what the file has."""
        self.storage = SqliteStorage(self._file)
        self.broker = Broker(OPTIONS, self._clock.random.random)
        self.broker.restored(self.storage._open())
        self._changes: list[Change] = []
        self._queries: list[Query] = []
        self._is_storing = False
        self._timer: float | None = None
        self._run = object()
        self.is_up = True
        self._clock.tell("server starts", f"{self.pending_in_file()} frames pending")

    def crash(self) -> None:
        """End at once, and come back some time later."""
        if not self.is_up:
            return
        self.is_up = False
        self.stop()
        links, self._links = self._links, {}
        for link in links.values():
            link.cut()
        self._clock.soon(1.5, self.start)

    def stop(self) -> None:
        """Let go of the file."""
        self._run = object()
        self.storage._close()
        self.storage._thread.shutdown()

    def pending_in_file(self) -> int:
        """Return how many frames the store has."""
        (frames,) = self.storage._usable().execute("SELECT COUNT(*) FROM message").fetchone()
        return int(frames)

    # What the network brings.

    def accept(self, link: Link) -> bool:
        """Take a new link, if somebody listens."""
        if self.is_up:
            self._links[link.peer] = link
            link.join(
                lambda frames: self._receive(link, frames),
                lambda frames: self._wish(link, frames[0]),
                lambda: self._lost(link),
            )
        return self.is_up

    def cut_one(self) -> None:
        """Cut some link."""
        if self._links:
            self._clock.tell("cut")
            self._clock.random.choice(list(self._links.values())).cut()

    def _receive(self, link: Link, frames: list[bytes]) -> None:
        self.broker.receive(link.peer, frames, self._clock.now)
        self._after()

    def _wish(self, link: Link, wish: bytes) -> None:
        prefix = wish[1:]
        if wish.startswith(b"\1"):
            link.prefixes.add(prefix)
            if is_token(prefix):
                self.broker.surfaced(prefix)
        else:
            self._forget(link, prefix)
        self._after()

    def _lost(self, link: Link) -> None:
        if self._links.pop(link.peer, None) is not None:
            for prefix in sorted(link.prefixes):
                self._forget(link, prefix)
            self._after()

    def _forget(self, link: Link, prefix: bytes) -> None:
        link.prefixes.discard(prefix)
        if is_token(prefix):
            self.broker.sunk(prefix, self._clock.now)

    # What follows.

    def _after(self) -> None:
        """Do what the broker asks for, as the server's loop does."""
        while self.is_up and (effects := self.broker.take_effects()):
            for effect in effects:
                self._do(effect)
                if self._clock.breaks(0.0003, "crash at an effect", str(type(effect).__name__)):
                    self.crash()
                    return
        if self.is_up:
            self._store()
            self._set_timer()
            self._check_memory()

    def _do(self, effect: Effect) -> None:
        match effect:
            case Send():
                link = self._links.get(effect.peer)
                if link is None or not link.is_open:
                    self.broker.unreachable(effect.peer, self._clock.now)
                else:
                    link.answers.send(*effect.frames)
            case Publish():
                for link in self._links.values():
                    if any(effect.frame.startswith(prefix) for prefix in link.prefixes):
                        link.broadcasts.send(effect.frame)
            case Load() | Sweep() | Find():
                self._queries.append(effect)
            case _:
                self._changes.append(effect)

    def _store(self) -> None:
        if self._is_storing or not (self._changes or self._queries):
            return
        self._is_storing = True
        changes, self._changes = self._changes, []
        queries, self._queries = self._queries, []
        seconds = self._clock.random.expovariate(1 / COMMIT)
        if self._clock.breaks(0.01, "slow disk"):
            seconds += 0.3
        self._clock.after(seconds, self._in_this_run(lambda: self._commit(changes, queries)))

    def _commit(self, changes: list[Change], queries: list[Query]) -> None:
        if self._clock.breaks(0.003, "crash before a commit"):
            self.crash()
            return
        self.storage._commit(changes)
        stores = [change for change in changes if isinstance(change, Store)]
        for store in stores:
            assert (store.client, store.sequence) not in self.stored, f"{store} is stored twice"
            self.stored.add((store.client, store.sequence))
        if self._clock.breaks(0.003, "crash after a commit"):
            self.crash()
            return
        self.broker.committed(changes, self._clock.now)
        for query in queries:
            self._answer(query)
        self._is_storing = False
        self._after()

    def _answer(self, query: Query) -> None:
        match query:
            case Load():
                self._clock.tell("load", query.name)
                self.broker.loaded(query, self.storage._read(rows.read_waiting, query), self._clock.now)
            case Sweep():
                self._clock.tell("sweep")
                self.broker.swept(self.storage._read(rows.sweep, query))
            case Find():
                self.broker.found(query, self.storage._read(rows.find, query))

    def _set_timer(self) -> None:
        deadline = self.broker.next_deadline()
        if deadline is not None and (self._timer is None or deadline < self._timer):
            self._timer = deadline
            self._clock.after(max(deadline - self._clock.now, 0.0001), self._in_this_run(self._tick))

    def _check_memory(self) -> None:
        for one in self.broker._deliveries.pending._backlogs.values():
            late = sum(1 for entry in one.window.values() if entry.late)
            limit = backlog.WINDOW_FRAMES + backlog.LOAD_FRAMES + late
            assert len(one.window) <= limit, f"{len(one.window)} frames of {one.name!r} are in memory"

    def _tick(self) -> None:
        self._timer = None
        self.broker.tick(self._clock.now)
        self._after()

    def _in_this_run(self, act: Callable[[], None]) -> Callable[[], None]:
        """Return what does something unless there was a crash meanwhile."""
        run = self._run

        def act_if_up() -> None:
            if self._run is run:
                act()

        return act_if_up
