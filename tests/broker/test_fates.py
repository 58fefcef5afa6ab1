"""Whatever happens, every stored message is in one place, and leaves the store once: handled, expired or dropped."""

from collections import defaultdict
from typing import Final
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mezzenger.broker import backlog, sweeper
from mezzenger.broker.core import Broker
from mezzenger.broker.effects import Change, Discard, Find, Load, Mark, Publish, Query, Send, Store, Sweep
from mezzenger.broker.restored import Dead, Stored
from mezzenger.protocol.commands import Deliver
from mezzenger.protocol.wire import decode_server_command, read_header
from tests.broker.broker_driver import A, B, C, Driver, at_once, link_token

PUBLISHER: Final = b"P"
PEERS: Final = st.sampled_from([A, B, C])
NAMES: Final = st.sampled_from(["a", "b"])
NUMBERS: Final = st.lists(st.integers(1, 15), max_size=4)


def left_of(row: Stored | Dead) -> int:
    """Return how many messages of a frame are not handled."""
    return read_header(row.frame).messages if row.indexes is None else len(row.indexes)


class Fates(RuleBasedStateMachine):
    """Plays the server's loop: what has gathered is committed, then read; anything may happen in between."""

    def __init__(self) -> None:
        super().__init__()
        self.small = [
            mock.patch.multiple(backlog, WINDOW_FRAMES=5, LOAD_FRAMES=2),
            mock.patch.object(sweeper, "SWEEP_FRAMES", 2),
        ]
        for patch in self.small:
            patch.start()
        self.driver = Driver(credit=2, send_queue=2, max_attempts=2, max_dead_letters=4)
        self.storage = self.driver.storage
        self.changes: list[Change] = []
        self.queries: list[Query] = []
        self.reading: list[Query] = []
        """What is read of what was asked for before the last commit."""
        self.in_hand: defaultdict[bytes, dict[int, int]] = defaultdict(dict)
        """What each peer was sent and has not answered, and how many messages that frame has."""
        self.sequence = 0
        self.stored = 0
        """Messages that were committed; likewise what follows."""
        self.discarded = 0
        self.gone = 0
        """Handled or expired, as earlier brokers counted it."""
        self.driver.join(PUBLISHER)

    @property
    def broker(self) -> Broker:
        return self.driver.broker

    def look(self) -> None:
        for effect in self.broker.take_effects():
            match effect:
                case Send():
                    command = decode_server_command(effect.frames[0])
                    if isinstance(command, Deliver):
                        assert command.attempt >= 1
                        messages = read_header(effect.frames[1]).messages
                        self.in_hand[effect.peer][command.delivery] = messages
                case Publish() | Mark():
                    raise AssertionError("nothing is published with ack=0")
                case Load() | Sweep() | Find():
                    self.queries.append(effect)
                case _:
                    self.changes.append(effect)

    # What peers do.

    @rule(
        name=NAMES,
        count=st.integers(1, 3),
        ttl=st.sampled_from([None, None, 0.5, 2.0]),
        delay=st.sampled_from([None, None, 0.5, 2.0]),
        repeat=st.integers(1, 4),
    )
    def publish(self, name: str, count: int, ttl: float | None, delay: float | None, repeat: int) -> None:
        for _ in range(repeat):
            self.sequence += count
            self.driver.publish(PUBLISHER, self.sequence, name, payloads=[b"x"] * count, ttl=ttl, delay=delay)
        self.look()

    @rule(peer=PEERS, names=st.lists(NAMES, min_size=1, unique=True))
    def join(self, peer: bytes, names: list[str]) -> None:
        if peer not in self.broker._peers:
            self.in_hand.pop(peer, None)
            self.driver.hello(peer)
            self.broker.surfaced(link_token(peer), self.driver.now)
        self.driver.subscribe(peer, *names, token=b"\0" + peer.rjust(16))
        self.broker.surfaced(b"\0" + peer.rjust(16), self.driver.now)
        self.look()

    @rule(peer=PEERS, name=NAMES)
    def unsubscribe(self, peer: bytes, name: str) -> None:
        if peer in self.broker._peers:
            self.driver.unsubscribe(peer, name)
            self.look()

    @rule(peer=PEERS)
    def lose(self, peer: bytes) -> None:
        self.broker.unreachable(peer, self.driver.now)
        self.in_hand.pop(peer, None)
        self.look()

    @precondition(lambda self: any(self.in_hand.values()))
    @rule(data=st.data(), is_handled=st.booleans())
    def answer(self, data: st.DataObject, is_handled: bool) -> None:
        peer = data.draw(st.sampled_from(sorted(peer for peer, numbers in self.in_hand.items() if numbers)))
        number = data.draw(st.sampled_from(sorted(self.in_hand[peer])))
        messages = self.in_hand[peer].pop(number)
        if is_handled:
            self.driver.ack(peer, number)
        else:
            failed = data.draw(st.sets(st.integers(0, messages - 1), min_size=1))
            self.driver.nack(peer, number, *sorted(failed))
        self.look()

    @rule(peer=PEERS, numbers=NUMBERS)
    def resend(self, peer: bytes, numbers: list[int]) -> None:
        if peer in self.broker._peers:
            self.driver.resend(peer, *numbers)
            self.look()

    @rule(peer=PEERS, numbers=NUMBERS)
    def drop(self, peer: bytes, numbers: list[int]) -> None:
        if peer in self.broker._peers:
            self.driver.drop_later(peer, *numbers)
            self.look()

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 3.0]))
    def wait(self, seconds: float) -> None:
        self.driver.wait(seconds)
        self.look()

    # What the store does.

    @precondition(lambda self: not self.reading)
    @rule()
    def commit(self) -> None:
        changes, self.changes = self.changes, []
        self.reading, self.queries = self.queries, []
        for change in changes:
            if isinstance(change, Store):
                self.stored += change.messages
            elif isinstance(change, Discard):
                self.discarded += left_of(self.storage._dead[change.number])
        at_once(self.storage.commit(changes))
        self.broker.committed(changes, self.driver.now)
        self.look()

    @precondition(lambda self: self.reading)
    @rule()
    def read(self) -> None:
        query = self.reading.pop(0)
        match query:
            case Load():
                self.broker.loaded(query, at_once(self.storage.read(query)), self.driver.now)
            case Sweep():
                self.broker.swept(at_once(self.storage.sweep(query)), self.driver.now)
            case Find():
                self.broker.found(query, at_once(self.storage.find(query)))
        self.look()

    @rule()
    def work(self) -> None:
        """Do all there is to do."""
        for _ in range(1000):
            while self.reading:
                self.read()
            if not self.changes and not self.queries:
                return
            self.commit()
        raise AssertionError("there is no end of it")

    @rule()
    def restart(self) -> None:
        self.work()
        self.gone += self.taken()
        self.driver.restart()
        self.in_hand.clear()
        self.driver.join(PUBLISHER)
        self.look()

    def taken(self) -> int:
        """Return how many messages this broker has seen handled or expired."""
        stats = self.broker.stats()
        return stats.acked + stats.dropped.get("expired", 0)

    # What always holds.

    @invariant()
    def each_message_is_in_one_place(self) -> None:
        if self.changes or self.queries or self.reading:
            return
        places: list[list[Stored] | list[Dead]] = [
            list(self.storage.rows().values()),
            list(self.storage._delayed.values()),
            list(self.storage._dead.values()),
        ]
        left = sum(left_of(row) for rows in places for row in rows)
        assert self.stored == left + self.discarded + self.gone + self.taken()
        stats = self.broker.stats()
        counted = [
            (stats.pending, stats.pending_size),
            (stats.delayed, stats.delayed_size),
            (stats.dead, stats.dead_size),
        ]
        assert counted == [(len(rows), sum(len(row.frame) for row in rows)) for rows in places]
        assert stats.dead <= 4
        assert not self.broker._dead_letters._leaving

    @invariant()
    def nothing_is_counted_below_zero(self) -> None:
        stats = self.broker.stats()
        sizes = (stats.pending, stats.pending_size, stats.delayed, stats.delayed_size, stats.dead, stats.dead_size)
        assert min(sizes) >= 0

    def teardown(self) -> None:
        """With time and one subscriber that handles all, everything leaves but for dead letters."""
        try:
            for peer in (A, B, C):
                self.lose(peer)
            self.join(A, ["a", "b"])
            for _ in range(200):
                self.work()
                self.wait(5.0)
                self.work()
                for number in sorted(self.in_hand[A]):
                    del self.in_hand[A][number]
                    self.driver.ack(A, number)
                self.look()
                self.work()
                if not self.storage.rows() and not self.storage._delayed:
                    break
            assert self.storage.rows() == self.storage._delayed == {}
            self.each_message_is_in_one_place()
        finally:
            for patch in self.small:
                patch.stop()


Fates.TestCase.settings = settings(max_examples=100, stateful_step_count=60)
TestFates = Fates.TestCase
