"""Watches one run of a broker: who is sent what, how often, and when.

Who is subscribed is taken from the commands that the broker has been given, not from what it made of them. A delivery
that is under way when its subscriber unsubscribes was sent before the broker was given the Unsubscribe.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from mezzenger.broker import backlog
from mezzenger.broker.core import Broker
from mezzenger.broker.effects import Effect, Publish, Send, Store
from mezzenger.protocol import wire
from mezzenger.protocol.commands import (
    Ack,
    ClientCommand,
    Deliver,
    Nack,
    OfRequests,
    Refuse,
    Request,
    Respond,
    Subscribe,
    Unsubscribe,
)
from tests.simulation.clock import Clock
from tests.simulation.ledger import Ledger, Life
from tests.simulation.policies import RULES, longest_pause
from tests.simulation.requests import RequestWatch


class Watch:
    """Sees what goes into a broker, and what comes out.

    Args:
        clock: Is told what happens.
        ledger: The account of what is stored.
        broker: What is watched.
        max_requests: How many requests one peer may have asked, or have to answer.
    """

    def __init__(self, clock: Clock, ledger: Ledger, broker: Broker, max_requests: int) -> None:
        self._clock = clock
        self._ledger = ledger
        self._broker = broker
        self._peers: set[bytes] = set()
        self._names: dict[bytes, set[str]] = {}
        """What each peer has subscribed to."""
        self._holders: dict[int, set[bytes]] = {}
        """Who was sent what, and has not answered, by number."""
        self._numbers: dict[int, Life] = dict(ledger.kept)
        """All that had that number in this run."""
        self._last: dict[int, float] = {}
        """When something was delivered, by number and the steady clock."""
        self._had_subscribers: set[str] = set()
        self._given: dict[tuple[int, int], list[float]] = {}
        """When the broker was given a publish, by client and sequence."""
        self._held: set[tuple[int, int]] = set()
        self.counted: Counter[str] = Counter()
        """What the broker must have counted."""
        self._requests = RequestWatch(clock, broker, self._names, max_requests)

    def given(self, peer: bytes, frames: Sequence[bytes], now: float) -> None:
        """Take note of what the broker is about to be given."""
        if peer not in self._broker._peers:
            self._names[peer] = set()
        elif not wire.is_control(frames[0]):
            header = wire.read_header(frames[0])
            self.counted["ack=0"] += 0 if header.ack else header.messages
            self._given.setdefault((header.client, header.sequence), []).append(now)
        else:
            self._told(peer, wire.decode_client_command(frames[0]), now)

    def seen(self, effects: Iterable[Effect], now: float, *, is_farewell: bool = False) -> None:
        """Check what the broker wants done after one call."""
        if self._broker._peers.keys() != self._peers:
            self._peers = set(self._broker._peers)
            for holders in self._holders.values():
                holders.intersection_update(self._peers)
        if not is_farewell:
            self._see_names()
        stores = set()
        for effect in effects:
            self._ledger.decided(effect, now)
            match effect:
                case Send():
                    self._sent(effect, now)
                case Publish():
                    self.counted["published"] += wire.read_header(effect.frame).messages
                case Store():
                    stores.add((effect.client, effect.sequence))
                    self._check_moments(effect)
        self._see_held(stores)
        self._requests.look()

    def check(self, now: float) -> None:
        """Check what must hold at any time."""
        self._requests.check(now)
        for one in self._broker._deliveries.pending._backlogs.values():
            late = sum(1 for entry in one.window.values() if entry.late)
            limit = backlog.WINDOW_FRAMES + backlog.LOAD_FRAMES + late
            assert len(one.window) <= limit, f"{len(one.window)} frames of {one.name!r} are in memory"
            for entry in one.window.values():
                longest = now + longest_pause(one.name)
                assert entry.due is None or entry.due <= longest + 0.001, f"at {now}: {entry} waits too long"

    def check_counters(self) -> None:
        """Check what the broker has counted of what it has sent."""
        stats = self._broker.stats()
        for what in ("delivered", "redelivered", "published"):
            assert getattr(stats, what) == self.counted[what], f"{self.counted[what]} {what}: {stats}"
        handed_on = stats.published + stats.dropped.get("no_subscriber", 0)
        assert handed_on == self.counted["ack=0"], f"{self.counted['ack=0']} with ack=0: {stats}"

    def _told(self, peer: bytes, told: ClientCommand, now: float) -> None:
        match told:
            case Subscribe(names=names):
                self._names[peer].update(names)
            case Unsubscribe(name=name):
                self._names[peer].discard(name)
                for number, holders in self._holders.items():
                    if self._numbers[number].name == name:
                        holders.discard(peer)
            case Ack(deliveries=deliveries):
                for number in deliveries:
                    self._holders.get(number, set()).discard(peer)
            case Nack(delivery=number):
                self._nacked(peer, number, now)
            case Request() | Respond() as command:
                self._requests.given(peer, command)

    def _nacked(self, peer: bytes, number: int, now: float) -> None:
        holders = self._holders.get(number, set())
        was_held = peer in holders
        holders.discard(peer)
        self._clock.tell("nacked", number)
        life = self._numbers[number]
        entry = self._broker._deliveries.pending.get(number)
        if was_held and not holders and entry is not None:
            pause = RULES[life.name].pause(entry.attempts, 0.0)
            life.pause = self._broker._peers[peer].client, now + pause
            life.is_pause_stored = False

    def _see_names(self) -> None:
        """Take note of names that have no subscriber any more: the next one need not wait for a pause."""
        names = set().union(*(self._names[peer] for peer in self._broker._peers))
        for life in self._ledger.kept.values() if self._had_subscribers - names else ():
            if life.name in self._had_subscribers - names:
                life.pause = None
        self._had_subscribers = names

    def _check_moments(self, store: Store) -> None:
        """Check when a frame is due, and when it expires: counted from when the broker was given it."""
        extra, policy = wire.read_contents(store.frame).extra, RULES[store.name]
        delay = policy.delay if extra.delay is None else extra.delay
        ttl = policy.ttl if extra.ttl is None else extra.ttl
        due = [now + delay if delay else None for now in self._given[store.client, store.sequence]]
        expires = [None if ttl is None else now + delay + ttl for now in self._given[store.client, store.sequence]]
        assert store.due in due, f"{store}, where it should be due at {due}"
        assert store.expires in expires, f"{store}, where it should expire at {expires}"

    def _see_held(self, stores: set[tuple[int, int]]) -> None:
        held = self._broker._intake._overflow._sequences
        if held != self._held:
            for key in sorted(held - self._held):
                self._clock.tell("held", *key)
            for key in sorted(self._held - held):
                self._clock.tell("admitted" if key in stores else "held no more", *key)
            self._held = set(held)

    def _sent(self, send: Send, now: float) -> None:
        command = wire.decode_server_command(send.frames[0])
        if isinstance(command, Refuse):
            self._clock.tell(f"refused: {command.reason}", command.sequence)
        if isinstance(command, Deliver):
            self._delivered(send.peer, command, send.frames[1], now)
        if isinstance(command, OfRequests):
            self._requests.said(send.peer, command, now)

    def _delivered(self, peer: bytes, deliver: Deliver, frame: bytes, now: float) -> None:
        number, attempt = deliver.delivery, deliver.attempt
        life = self._numbers.setdefault(number, self._ledger.kept.get(number) or self._numbers[number])
        self._clock.tell("delivered" if attempt == 1 else "redelivered", life.name, number, "attempt", attempt)
        self.counted["delivered"] += 1
        self.counted["redelivered"] += attempt > 1
        assert frame == life.frame
        assert life.name in self._names[peer], f"delivered to somebody not subscribed: {life}"
        assert life.number == number, f"delivered as {number}: {life}"
        place = self._ledger.place_of(life)
        assert place in {"pending", "acked"}, f"delivered though {place}: {life}"
        assert life.expires is None or now < life.expires, f"at {now}: delivered after its expiry: {life}"
        assert deliver.indexes is None or set(deliver.indexes) <= set(range(life.messages)), f"{deliver}: {life}"
        if life.pause is not None and place == "pending":
            client, until = life.pause
            early = client == self._broker._peers[peer].client and now < until - 0.001
            assert not early, f"at {now}: delivered before its pause is over: {life}"
        holders = self._holders.setdefault(number, set())
        if attempt > RULES[life.name].max_attempts and not holders and place == "pending":
            # What has waited since then for its turn with a subscriber is delivered on, too.
            was_full = self._ledger.full_until >= self._last.get(number, 0.0)
            assert was_full or self._ledger.is_full_of_dead, f"attempt {attempt}, and nobody had it: {life}"
            self._clock.tell("delivered on", life.name, number)
        self._last[number] = self._clock.now
        holders.add(peer)
