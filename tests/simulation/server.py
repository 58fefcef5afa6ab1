"""The server of the simulation: a real broker and the real store; a crash may come at any effect."""

from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Final

from mezzenger.broker.connections import ConnectionOptions
from mezzenger.broker.core import BrokerOptions
from mezzenger.broker.effects import Effect, Mark, Publish, Send
from mezzenger.broker.fates import DeliveryOptions
from mezzenger.broker.memberships import GroupOptions
from mezzenger.broker.requests import RequestOptions
from mezzenger.broker.retained import RetainedOptions
from mezzenger.client.now import run_now
from mezzenger.protocol.commands import is_token
from mezzenger.server.storing import Storing
from mezzenger.storage.sqlite import SqliteStorage
from tests.simulation.clock import Alarm, Clock
from tests.simulation.disk import Disk
from tests.simulation.ledger import Ledger
from tests.simulation.network import Link
from tests.simulation.policies import AMPLE, MAX_DEAD_LETTERS, POLICIES
from tests.simulation.store import AccountedBroker, FaultyStorage
from tests.simulation.tables import check_tables
from tests.simulation.watch import Watch

REPAIR: Final = 2.0
"""Seconds, at most, until a server whose store has failed is restarted."""
DRAIN: Final = 0.3
LONG: Final = 60.0
"""Seconds that are not waited for: the clock was set back an hour."""
UNTAKEN: Final = 15
"""Frames that may be under way to one peer."""
LOOKS: Final = 4
"""Every so many commits one looks at all that the broker has in memory."""
CHECKS: Final = 20
"""Every so many commits the tables are checked, every row of them; as they are at each start, and at the end."""
OPTIONS: Final = BrokerOptions(
    connection=ConnectionOptions(max_message_size=2**20, link_timeout=2.0, max_peers=1000),
    delivery=DeliveryOptions(credit=4, send_queue=8, max_dead_letters=MAX_DEAD_LETTERS, policies=POLICIES),
    room=AMPLE,
    retained=RetainedOptions(max_names=1000, max_size=2**20, policies=POLICIES),
    requests=RequestOptions(max_requests=6, max_message_size=2**20),
    groups=GroupOptions(max_groups=1000),
    max_names=1000,
)


class Server:
    """Runs brokers, one after the other, on one disk.

    Args:
        clock: Of the simulation.
        disk: Of the store.
        ledger: The account of what is stored.
    """

    def __init__(self, clock: Clock, disk: Disk, ledger: Ledger) -> None:
        self._clock = clock
        self._disk = disk
        self._ledger = ledger
        self._links: dict[bytes, Link] = {}
        self._wall = clock.wall
        self._commits = 0
        self._alarm = Alarm(clock, self._on_alarm)
        self.start()

    @property
    def now(self) -> float:
        """The broker's time: of the wall clock when it began, and steady from then on."""
        return self._clock.now + self._wall

    def start(self) -> None:
        """Begin, with what the disk has."""
        self._ledger.begin(is_clock_right=self._wall == self._clock.wall)
        self._wall = self._clock.wall
        self._store = FaultyStorage(self._clock, self._disk, crash=self._crash, fail=self._repair)
        restored = run_now(self._store.open())
        check_tables(self._store.file._usable(), self._ledger)
        self.broker = AccountedBroker(replace(OPTIONS, room=self._ledger.room), self._clock, self._ledger)
        self.broker.restored(restored)
        self._watch = Watch(self._clock, self._ledger, self.broker, OPTIONS.requests.max_requests)
        self._began = self.now
        self._effects: deque[Effect] = deque()
        self._storing = Storing(
            self.broker, self._store, now=lambda: self.now, perform=self._after, later=self._store_later
        )
        self._is_storing = False
        self._alarm.stop()
        self._run = object()
        self.is_up = True
        self._clock.tell("server starts", len(self._ledger.kept), "frames in the store")
        self._after()

    def crash(self) -> None:
        """End at once, and come back some time later."""
        if self.is_up:
            self._crash(self._disk.crash)

    def stop(self) -> None:
        """Stop as a signal has it: drain, say farewell, commit what is left."""
        self.broker.drain()
        self._clock.after(DRAIN, self._in_this_run(self._stop))

    def close(self) -> None:
        """Let go of the file."""
        self._run = object()
        run_now(self._store.close())

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing is left to do but what is not due for a long time."""
        if not self.is_up or self._is_storing or self._storing.is_busy:
            return False
        if self.broker.stats().pending:
            return False
        delayed = (life.due for life in self._ledger.kept.values() if life.place == "delayed")
        return not any(due is not None and due < self.now + LONG for due in delayed)

    def check(self) -> None:
        """Check that the tables are right, and that the broker's counters add up, if all it decided is committed."""
        if self._store.file._failure is not None:
            return
        check_tables(self._store.file._usable(), self._ledger)
        self._watch.check(self.now)
        was_full_until = self.now - (self._clock.now - self._store.full_until)
        self._ledger.check_moments(self.now, max(self._began, was_full_until))
        self._ledger.values.check(self.now)
        if not (self._storing.is_busy or self._is_storing):
            self._ledger.check_stats(self.broker.stats())
            self._watch.check_counters()

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
        if self.is_up and link.peer in self._links:
            self._watch.given(link.peer, frames, self.now)
            self.broker.receive(link.peer, frames, self.now)
            self._after()
            self._watch.done()

    def _wish(self, link: Link, wish: bytes) -> None:
        prefix = wish[1:]
        if wish.startswith(b"\1"):
            link.prefixes.add(prefix)
            if is_token(prefix):
                self.broker.surfaced(prefix, self.now)
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
            self.broker.sunk(prefix, self.now)

    # What follows.

    def _after(self) -> None:
        """Do what the broker asks for, as the server's loop does."""
        self._take()
        while self.is_up and self._effects:
            effect = self._effects.popleft()
            self._do(effect)
            if self._clock.breaks(0.0002, "crash at an effect", type(effect).__name__):
                self.crash()
                return
            self._take()
        if self.is_up:
            self._work()
            self._set_alarm()

    def _take(self) -> None:
        """Take what the broker wants done behind what it wanted before."""
        effects = self.broker.take_effects()
        if effects:
            # At once: where something cannot be sent somebody is gone, and what follows is seen as it was decided.
            self._watch.seen(effects, self.now)
            self._effects += effects

    def _do(self, effect: Effect) -> None:
        match effect:
            case Send():
                self._send(effect)
            case Publish():
                self._broadcast(bytes(effect.frame))
            case Mark():
                # ZeroMQ drops it if the subscriber's queue is full.
                if self._clock.breaks(0.1, "a mark is lost"):
                    self._ledger.values.lost_marks.add(effect.token)
                else:
                    self._broadcast(effect.token)
            case _:
                self._storing.add(effect)

    def _broadcast(self, frame: bytes) -> None:
        for link in self._links.values():
            if any(frame.startswith(prefix) for prefix in link.prefixes):
                link.broadcasts.send(frame)

    def _send(self, send: Send) -> None:
        link = self._links.get(send.peer)
        if link is not None and link.is_open and link.answers.waiting >= UNTAKEN:
            self._clock.tell("a peer takes nothing")
            link.cut()
        if link is None or not link.is_open:
            self.broker.unreachable(send.peer, self.now)
        else:
            link.answers.send(*send.frames)

    def _work(self) -> None:
        """Have stored and read what there is, if that is not being done."""
        if self._is_storing or not self._storing.has_work:
            return
        self._is_storing = True
        self._store.next_round()
        self._go_on(self._storing.work())

    def _go_on(self, work: Coroutine[float | None, None, None]) -> None:
        """Have work go on, and again after each pause that it makes."""
        run, store = self._run, self._store
        try:
            seconds = work.send(None)
        except StopIteration:
            if self._run is run:
                self._worked()
        else:
            if seconds is not None:
                self._clock.after(seconds, self._in_this_run(lambda: self._go_on(work)))
            else:
                self._ledger.committed(store.made_at_last)

    def _worked(self) -> None:
        self._is_storing = False
        self._after()
        self._commits += 1
        if self._commits % LOOKS == 0:
            self._watch.check(self.now)
        if self._commits % CHECKS == 0:
            self.check()

    def _store_later(self, seconds: float, act: Callable[[], None]) -> None:
        self._clock.after(seconds, self._in_this_run(act))

    def _repair(self) -> None:
        """Have somebody start the server again."""
        self._clock.soon(REPAIR, self._in_this_run(self.stop if self._clock.random.random() < 0.5 else self.crash))

    # Time, and the end.

    def _set_alarm(self) -> None:
        deadline = self.broker.next_deadline()
        self._alarm.set(None if deadline is None else deadline - self._wall)

    def _on_alarm(self) -> None:
        if not self.is_up:
            return
        deadline = self.broker.next_deadline()
        if deadline is None or deadline > self.now:
            self._set_alarm()
        else:
            self.broker.tick(self.now)
            self._after()

    def _stop(self) -> None:
        if self._is_storing:
            self._clock.after(0.01, self._in_this_run(self._stop))
            return
        self.broker.farewell(self.now)
        effects = self.broker.take_effects()
        self._watch.seen(effects, self.now, is_farewell=True)
        for effect in effects:
            self._do(effect)
        self._store.is_perfect = True
        self.is_up = False
        run_now(self._storing.commit())
        self.close()
        self._clock.after(0.1, self._cut_all)

    def _crash(self, end: Callable[[SqliteStorage], None]) -> None:
        self.is_up = False
        self._store.is_over = True
        self._run = object()
        end(self._store.file)
        self._cut_all()

    def _cut_all(self) -> None:
        """Cut all links, and have the next server start."""
        links, self._links = self._links, {}
        for link in links.values():
            link.cut()
        self._clock.soon(self._clock.random.choice((0.1, 1.0)), self.start)

    def _in_this_run(self, act: Callable[[], None]) -> Callable[[], None]:
        """Return what does something unless the run has ended meanwhile."""
        run = self._run

        def act_if_up() -> None:
            if self._run is run:
                act()

        return act_if_up
