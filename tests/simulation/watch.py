"""Watches one run of a broker: who is sent what, how often, and when.

Who is subscribed is taken from the commands that the broker has been given, not from what it made of them. A delivery
that is under way when its subscriber unsubscribes was sent before the broker was given the Unsubscribe.
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from mezzenger.broker import backlog
from mezzenger.broker.core import Broker
from mezzenger.broker.effects import AddGroup, Adopt, DropGroup, Effect, Publish, Requeue, Send, Store
from mezzenger.codecs import Buffer
from mezzenger.patterns import is_wild
from mezzenger.protocol import bundle, wire
from mezzenger.protocol.bundle import is_addressed, read_bundle
from mezzenger.protocol.commands import (
    TOKEN_BYTES,
    Ack,
    ClientCommand,
    Deliver,
    Join,
    Leave,
    Nack,
    OfRequests,
    Refuse,
    Request,
    Respond,
    Retained,
    ServerCommand,
    Subscribe,
    Subscribed,
    Unsubscribe,
)
from mezzenger.queues import is_group, split_queue
from tests.simulation.clock import Clock
from tests.simulation.frames import contents_of, header_of
from tests.simulation.group_watch import GroupWatch
from tests.simulation.ledger import Ledger, Life
from tests.simulation.policies import MAX_RUNTIME, RULES, longest_pause, matches
from tests.simulation.requests import RequestWatch
from tests.simulation.values import Published


def _is_served(queue: str, served: tuple[set[str], set[str]]) -> bool:
    """Whether somebody gets what is in a queue, where these patterns and groups are served."""
    patterns, groups = served
    return queue in groups if is_group(queue) else any(matches(pattern, queue) for pattern in patterns)


def _reached(frame: Buffer) -> list[tuple[int, bytes]]:
    """Return the sequence of each frame or message that is published, and the address, if there is one."""
    if not is_addressed(frame):
        return [(wire.read_header(frame).sequence, b"")]
    address = bytes(frame[:TOKEN_BYTES])
    return [(contents.header.sequence, address) for contents in bundle.contents_of(read_bundle(frame))]


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
        """What each peer has subscribed to: names and patterns."""
        self._groups = GroupWatch(clock, ledger)
        self._holders: dict[int, set[bytes]] = {}
        """Who was sent what, and has not answered, by number."""
        self._numbers: dict[int, Life] = dict(ledger.kept)
        """All that had that number in this run."""
        self._last: dict[int, tuple[int, float]] = {}
        """Which attempt something was delivered with last, and when by the steady clock; by number."""
        self._served: tuple[set[str], set[str]] = set(), set()
        """The patterns that somebody had subscribed to, and the groups that had a member."""
        self._is_served_known = False
        self._broadcast: list[wire.Header] = []
        """Of the ``ack=0`` frame that the broker is being given, or of each message of a bundle."""
        self._batches: dict[tuple[int, int], int] = {}
        """How many messages are in a publish, likewise."""
        self._given: dict[tuple[int, int], list[float]] = {}
        """When the broker was given a publish, by client and sequence."""
        self._held: set[tuple[int, int]] = set()
        self.counted: Counter[str] = Counter()
        """What the broker must have counted."""
        self._requests = RequestWatch(clock, broker, self._answers, max_requests)

    def given(self, peer: bytes, frames: Sequence[bytes], now: float) -> None:
        """Take note of what the broker is about to be given."""
        self._groups.settled()
        self._see_peers()
        if peer not in self._broker._peers:
            self._names[peer] = set()
        elif is_addressed(frames[0]):
            self._clock.tell("a bundle is published", peer)
            for contents in bundle.contents_of(read_bundle(frames[0])):
                self._given_broadcast(contents.header, now)
        elif not wire.is_control(frames[0]):
            header = header_of(frames[0])
            if not header.ack:
                self._given_broadcast(header, now)
            self._given.setdefault((header.client, header.sequence), []).append(now)
            self._batches[header.client, header.sequence] = header.messages
        else:
            command = wire.decode_client_command(frames[0])
            if isinstance(command, Subscribe | Unsubscribe | Join | Leave):
                self._is_served_known = False
            self._told(peer, command, now)

    def done(self) -> None:
        """Take note that all has been seen that follows from what was given: of what nobody gets, nothing."""
        self._check_broadcast([], [])

    def _given_broadcast(self, header: wire.Header, now: float) -> None:
        self.counted["ack=0"] += header.messages
        self._broadcast.append(header)
        self._ledger.values.published(header, now)

    def _told(self, peer: bytes, command: ClientCommand, now: float) -> None:
        match command:
            case Subscribe(names=names):
                self._names[peer].update(names)
                if any(map(is_wild, names)):
                    self._clock.tell("subscribed to a pattern")
            case Unsubscribe(name=name):
                self._names[peer].discard(name)
                for number, holders in self._holders.items():
                    if not self._is_subscriber(peer, self._numbers[number].queue):
                        holders.discard(peer)
            case Ack(deliveries=deliveries):
                for number in deliveries:
                    self._holders.get(number, set()).discard(peer)
            case Nack(delivery=number):
                self._nacked(peer, number, now)
            case Request() | Respond():
                self._requests.given(peer, command)
        self._groups.given(peer, command)
        self._ledger.values.told(peer, command)

    def seen(self, effects: Iterable[Effect], now: float, *, is_farewell: bool = False) -> None:
        """Check what the broker wants done after one call."""
        self._see_peers()
        if not is_farewell:
            self._see_served()
        stores: dict[tuple[int, int], list[tuple[int, int, str]]] = {}
        sends: list[tuple[bytes, Deliver]] = []
        published: list[Buffer] = []
        for effect in effects:
            match effect:
                case Send():
                    sends += self._sent(effect, now)
                case Publish():
                    published.append(effect.frame)
                case Store():
                    self._see_store(effect, stores)
                case Adopt() | DropGroup():
                    self._check_queues(effect)
                case AddGroup():
                    self._see_group(effect)
                case Requeue():
                    heirs = {None} if self._has_subscribers(effect.name) else self._ledger.heirs(effect)
                    assert effect.heir in heirs, f"{effect}, where {heirs} should inherit it"
            self._ledger.decided(effect, now)
        self._check_made_way()
        self._requests.look()
        self._see_held(set(stores))
        self._check_whole(stores)
        self._check_broadcast([deliver for _, deliver in sends if not deliver.delivery], published)
        stored = [(peer, deliver.delivery, deliver.group) for peer, deliver in sends if deliver.delivery]
        assert len(stored) == len(set(stored)), f"somebody is sent the same twice at once: {sends}"
        self._groups.settled()

    def _check_made_way(self) -> None:
        """Check that nothing made room for nothing; what is more than can be read at a time leaves in parts."""
        made_way = self._ledger.made_way
        in_vain = [queue for queue, frames in made_way.items() if frames <= backlog.WINDOW_FRAMES // 2]
        assert not in_vain, f"something left {in_vain} to make room for nothing"
        made_way.clear()

    def _check_whole(self, stores: dict[tuple[int, int], list[tuple[int, int, str]]]) -> None:
        """Check that each publish is stored once in each queue where it must be."""
        for key, lives in stores.items():
            missing = self._ledger.publishes[key].symmetric_difference(lives)
            assert not missing, f"{key} stored as {lives}, differs by {missing}"
            assert len(lives) == len(set(lives)), f"{key} stored twice at once: {lives}"

    def check(self, now: float) -> None:
        """Check what must hold at any time."""
        self._requests.check(now)
        self._groups.check(now)
        for one in self._broker._deliveries.pending._backlogs.values():
            late = sum(1 for entry in one.window.values() if entry.late)
            limit = backlog.WINDOW_FRAMES + backlog.LOAD_FRAMES + late
            here = [entry for entry in one.window.values() if entry.frame]
            assert len(here) <= limit, f"{len(here)} frames of {one.name!r} are in memory"
            assert len(one.window) - len(here) == one.away, f"{one.away} are counted as away of {one.name!r}"
            limit = backlog.WINDOW_ENTRIES + backlog.LOAD_FRAMES + late
            assert len(one.window) <= limit, f"{len(one.window)} entries of {one.name!r} are in memory"
            for entry in here:
                longest = now + max(longest_pause(entry.name), MAX_RUNTIME if is_group(one.name) else 0.0)
                assert entry.due is None or entry.due <= longest + 0.001, f"at {now}: {entry} waits too long"

    def check_counters(self) -> None:
        """Check what the broker has counted of what it has sent."""
        stats = self._broker.stats()
        for what in ("delivered", "redelivered", "published"):
            assert getattr(stats, what) == self.counted[what], f"{self.counted[what]} {what}: {stats}"
        handed_on = stats.published + stats.dropped.get("no_subscriber", 0)
        assert handed_on == self.counted["ack=0"], f"{self.counted['ack=0']} with ack=0: {stats}"

    def _nacked(self, peer: bytes, number: int, now: float) -> None:
        holders = self._holders.get(number, set())
        was_held = peer in holders
        holders.discard(peer)
        self._clock.tell("nacked", number)
        life = self._numbers[number]
        if is_group(life.queue):
            # Who has had it for too long has no say, once another one has it.
            was_held = self._groups.holds(peer, number) and self._groups.is_attempt_of(peer, number, life.queue, now)
            holders = set()
        entry = self._broker._deliveries.pending.get(number)
        if was_held and not holders and entry is not None:
            pause = RULES[life.name].pause(entry.attempts, 0.0)
            life.pause = self._broker._peers[peer].client, now + pause
            life.is_pause_stored = False

    def _is_subscriber(self, peer: bytes, queue: str) -> bool:
        return any(matches(pattern, queue) for pattern in self._names[peer])

    def _answers(self, peer: bytes, name: str) -> bool:
        """Whether a request for a name may be passed on to a peer, be it as a member of a group."""
        return self._is_subscriber(peer, name) or self._groups.is_member_for(peer, name)

    def _has_subscribers(self, name: str) -> bool:
        return any(self._is_subscriber(peer, name) for peer in self._peers)

    def _see_peers(self) -> None:
        """Take note of who is gone, be it without a word of the broker."""
        if self._broker._peers.keys() != self._peers:
            self._is_served_known = False
            self._peers = set(self._broker._peers)
            for holders in self._holders.values():
                holders.intersection_update(self._peers)
            self._groups.seen(self._peers)

    def _see_served(self) -> None:
        """Take note of queues that nobody is served from any more: the next one need not wait for a pause."""
        if self._is_served_known:
            return
        self._is_served_known = True
        names = set().union(*(self._names[peer] for peer in self._broker._peers))
        served = names, {queue for _, queue in self._groups.members}
        if served != self._served:
            for life in self._ledger.kept.values():
                if life.pause is not None and _is_served(life.queue, self._served):
                    life.pause = life.pause if _is_served(life.queue, served) else None
            self._served = served

    def _see_store(self, store: Store, stores: dict[tuple[int, int], list[tuple[int, int, str]]]) -> None:
        """Check that a publish is stored for each group that there is, and for the subscribers if there are any."""
        key = store.client, store.sequence
        header = header_of(store.frame)
        if key not in stores:
            stores[key] = []
            groups = {queue for queue in self._ledger.all_groups if matches(split_queue(queue)[0], header.name)}
            whole = [] if groups and not self._has_subscribers(header.name) else [header.name]
            expected = {(*key, name) for name in whole}
            for offset in range(self._batches[key]):
                expected |= {(store.client, store.sequence + offset, queue) for queue in groups}
            self._ledger.published(Published(*key, self._batches[key]), expected)
        stores[key].append((header.client, header.sequence, store.name))
        self._check_moments(store)

    def _see_group(self, group: AddGroup) -> None:
        """Take note of what a group inherits: what waits where there is neither another group nor a subscriber."""
        pattern, _ = split_queue(group.name)
        names = {name for name in self._ledger.names_without_groups() if matches(pattern, name)}
        self._ledger.promise(group.name, {name for name in names if not self._has_subscribers(name)})

    def _check_queues(self, adopt: Adopt | DropGroup) -> None:
        """Check that only what nobody else gets is inherited, and by a group that is for it; and what is dropped."""
        if isinstance(adopt, DropGroup):
            members = self._groups.members_of(adopt.name)
            assert not members, f"{adopt}, and it has members"
            return
        assert not self._has_subscribers(adopt.name), f"{adopt}, which has subscribers"
        assert adopt.heir in self._ledger.all_groups, f"{adopt}, which is not there"
        assert matches(split_queue(adopt.heir)[0], adopt.name), f"{adopt}, which is for others"

    def _check_broadcast(self, given: Sequence[Deliver], published: Sequence[Buffer]) -> None:
        """Check that each ``ack=0`` message goes to one member of each group, and to each subscriber, once."""
        headers, self._broadcast = self._broadcast, []
        # Who joins a group that is being dropped becomes a member of the next one.
        dropping = self._ledger.dropping
        reached = [(sequence, address) for frame in published for sequence, address in _reached(frame)]
        assert len(reached) == len(set(reached)), f"sent twice: {reached}"
        served: list[str] = []
        for header in headers:
            queues = {queue for _, queue in self._groups.members if queue not in dropping}
            groups = {queue for queue in queues if matches(split_queue(queue)[0], header.name)}
            served += groups
            subscribers = {
                self._broker._peers[peer].token for peer in self._peers if self._is_subscriber(peer, header.name)
            }
            addresses = {address for sequence, address in reached if sequence == header.sequence}
            # Under its name, for ZeroMQ to bring it to all of them, or to each.
            assert addresses in ({b""} if subscribers else set(), subscribers), f"{header} sent to {addresses}"
            if groups:
                self._clock.tell("handed to one member", header.name)
            if groups or subscribers:
                self.counted["published"] += header.messages
        sequences = {header.sequence for header in headers}
        assert all(sequence in sequences for sequence, _ in reached), f"{reached} sent, of {headers}"
        given_to = [deliver.group or "" for deliver in given if deliver.group not in dropping]
        assert sorted(given_to) == sorted(served), f"{given} to {served}"

    def _check_moments(self, store: Store) -> None:
        """Check when a frame is due, and when it expires: counted from when the broker was given it."""
        contents = contents_of(store.frame)
        extra, policy = contents.extra, RULES[contents.header.name]
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

    def _sent(self, send: Send, now: float) -> list[tuple[bytes, Deliver]]:
        """Look at what is sent; return it if it is a delivery."""
        command: ServerCommand = wire.decode_server_command(send.frames[0])
        if isinstance(command, Refuse):
            self._clock.tell(f"refused: {command.reason}", command.sequence)
        if isinstance(command, Retained):
            self._ledger.values.given(send.peer, command.request, send.frames[1:])
        if isinstance(command, Subscribed):
            self._ledger.values.answering(send.peer, command.request, self._ledger.is_pending, now)
        if isinstance(command, OfRequests):
            self._requests.said(send.peer, command, now)
        if self._groups.answered(send.peer, command):
            self._is_served_known = False
        if not isinstance(command, Deliver):
            return []
        if not command.delivery:
            queue = command.group or ""
            assert (send.peer, queue) in self._groups.members, f"given to somebody who is no member: {command}"
        else:
            self._delivered(send.peer, command, send.frames[1], now)
        return [(send.peer, command)]

    def _delivered(self, peer: bytes, deliver: Deliver, frame: bytes, now: float) -> None:
        number, attempt = deliver.delivery, deliver.attempt
        life = self._numbers.setdefault(number, self._ledger.kept.get(number) or self._numbers[number])
        self._clock.tell("delivered" if attempt == 1 else "redelivered", life.queue, number, "attempt", attempt)
        self.counted["delivered"] += 1
        self.counted["redelivered"] += attempt > 1
        assert frame == life.frame
        is_shared = is_group(life.queue)
        assert deliver.group == (life.queue if is_shared else None), f"{deliver}: {life}"
        if is_shared:
            self._groups.delivered(peer, deliver, life, now)
        else:
            assert self._is_subscriber(peer, life.queue), f"delivered to somebody not subscribed: {life}"
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
        if attempt > RULES[life.name].max_attempts and (is_shared or not holders) and place == "pending":
            # What has waited since then for its turn with a subscriber is delivered on, too; and so is what this
            # attempt has given to others already, before the dead letters had room again.
            last_attempt, last = self._last.get(number, (0, 0.0))
            was_full = attempt == last_attempt or self._ledger.full_until >= last
            assert was_full or self._ledger.is_full_of_dead, f"attempt {attempt}, and nobody had it: {life}"
            self._clock.tell("delivered on", life.name, number)
        self._last[number] = (attempt, self._clock.now)
        holders.add(peer)
