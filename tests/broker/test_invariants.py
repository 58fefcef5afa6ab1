"""Whatever peers send, the store answers and the clock says: nothing is lost, falsely confirmed or sent to nobody."""

from collections import Counter, defaultdict
from typing import Final
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mezzenger.broker import backlog
from mezzenger.broker.backlog import Backlog
from mezzenger.broker.core import Broker
from mezzenger.broker.effects import (
    Adopt,
    Bury,
    Change,
    DropGroup,
    Find,
    Load,
    Mark,
    Publish,
    Send,
    Settle,
    Store,
    Sweep,
)
from mezzenger.patterns import matches
from mezzenger.protocol.commands import (
    Ack,
    Command,
    Confirm,
    Declined,
    Deliver,
    Failure,
    Goodbye,
    Hello,
    Join,
    Leave,
    Nack,
    Ping,
    Refuse,
    Subscribe,
    Subscribed,
    Unsubscribe,
)
from mezzenger.protocol.commands import DropGroup as AskToDrop
from mezzenger.protocol.wire import decode_server_command, encode_data, read_header
from mezzenger.queues import is_group, queue_of, split_queue
from tests.broker.broker_driver import LINK_TIMEOUT, Driver, at_once, key_of, token_of

CREDIT: Final = 2
SEND_QUEUE: Final = 2
WINDOW_FRAMES: Final = 5
WINDOW_SIZE: Final = 400
LARGEST_FRAME: Final = 100
MAX_ATTEMPTS: Final = 4
PEERS: Final = st.sampled_from([b"A", b"B", b"C", b"D"])
CLIENTS: Final = st.sampled_from([1, 2, 3])
NAMES: Final = st.sampled_from(["a", "b", "c"])
PATTERNS: Final = st.sampled_from(["a", "*"])
GROUPS: Final = st.sampled_from(["g", "g", "h"])
TOKENS: Final = st.integers(0, 9).map(lambda n: token_of(str(n)))
NUMBERS: Final = st.integers(0, 12)
INDEXES: Final = st.sets(st.integers(0, 3), min_size=1)
COMMANDS: Final = st.one_of(
    st.builds(Ping, NUMBERS),
    st.builds(Subscribe, NUMBERS, st.lists(NAMES | st.just("|")), TOKENS),
    st.builds(Unsubscribe, NAMES),
    st.builds(Hello, st.integers(1, 2), CLIENTS, st.sampled_from([key_of(1), key_of(2)]), TOKENS, st.just(0)),
)


def is_same_publish(one: Change | Load, other: Change | Load) -> bool:
    """Whether both are copies of one publish, for several queues or of several messages of a batch."""
    if not isinstance(one, Store) or not isinstance(other, Store):
        return False
    return (one.client, one.sequence) == (other.client, other.sequence)


class BrokerMachine(RuleBasedStateMachine):
    """Several peers do anything at all with one broker."""

    def __init__(self) -> None:
        super().__init__()
        self.small_windows = mock.patch.multiple(
            backlog, WINDOW_FRAMES=WINDOW_FRAMES, WINDOW_SIZE=WINDOW_SIZE, LOAD_FRAMES=2, LOAD_SIZE=150
        )
        self.small_windows.start()
        self.driver = Driver(credit=CREDIT, send_queue=SEND_QUEUE, max_attempts=MAX_ATTEMPTS)
        self.storage = self.driver.storage
        self.tokens = 100
        self.in_hand: defaultdict[bytes, set[int]] = defaultdict(set)
        """What each peer was sent and has not answered."""
        self.least: dict[int, int] = {}
        """For what has been delivered: the least that its next attempt must be."""
        self.doubtful: set[int] = set()
        """What may count as delivered and is not: it was read for somebody who left, or before a restart."""
        self.first: defaultdict[str, int] = defaultdict(int)
        """The last that was delivered for the first time, by name."""
        self.last_sequence: defaultdict[int, int] = defaultdict(int)
        self.queue: list[Change | Load] = []
        """What the store is to do, in order."""
        self.kept: set[tuple[int, int]] = set()
        """What was committed, by client and sequence."""
        self.by_number: dict[int, Store] = {}
        self.pending: dict[int, Store] = {}
        self.dead: set[int] = set()
        self.queue_of: dict[int, str] = {}
        """In which queue each number is, or was, or will be once it is stored."""
        self.has_groups = False
        """Whether there will be groups in this history."""
        self.groups: dict[str, dict[bytes, int]] = {}
        """By queue, how much each member may have in hand."""
        self.leaving: set[str] = set()
        """Groups that are being dropped."""
        self.holders: dict[int, bytes] = {}
        """Which member has what is pending of a group in hand."""
        self.orphans: set[str] = set()
        """Names whose first group inherits what waits, at once."""
        self.joining: dict[int, tuple[bytes, str]] = {}
        """Requests to join that are not answered: who made them, and the group's queue."""

    @property
    def broker(self) -> Broker:
        return self.driver.broker

    @property
    def storing(self) -> list[Store]:
        return [one for one in self.queue if isinstance(one, Store)]

    # What comes out.

    def look(self) -> list[tuple[bytes, Command]]:
        """Check everything that came out of one call; return what was sent."""
        sent: list[tuple[bytes, Command]] = []
        for effect in self.broker.take_effects():
            if isinstance(effect, Send):
                command = decode_server_command(effect.frames[0])
                sent.append((effect.peer, command))
                self.check_sent(effect, command)
            elif not isinstance(effect, Publish | Mark):
                assert not isinstance(effect, Sweep | Find)  # nothing is delayed or expires here, and nobody asks
                self.check_change(effect)
                self.queue.append(effect)
        self.forget_the_gone()
        return sent

    def check_change(self, effect: Change | Load) -> None:
        match effect:
            case Store():
                self.check_store(effect)
            case Settle():
                assert effect.size == len(self.pending.pop(effect.number).frame)
                self.holders.pop(effect.number, None)
            case Bury():
                assert effect.attempts >= MAX_ATTEMPTS
                assert effect.number not in self.holders
                assert effect.name == self.queue_of[effect.number]
                del self.pending[effect.number]
                self.dead.add(effect.number)
            case Adopt():
                self.orphans.remove(effect.name)
                assert effect.heir in self.groups_of(effect.name)
                assert effect.heir not in self.leaving
                there = {*self.pending, *(store.number for store in self.storing)}
                moved = {number: effect.heir for number in there if self.queue_of[number] == effect.name}
                assert moved
                self.queue_of |= moved
            case DropGroup():
                assert not self.groups[effect.name]
                self.leaving.add(effect.name)

    def check_store(self, store: Store) -> None:
        assert (store.client, store.sequence) not in self.kept
        assert len(store.frame) <= LARGEST_FRAME
        message = (store.name, read_header(store.frame).sequence)
        others = [one for one in self.storing if (one.client, one.sequence) == (store.client, store.sequence)]
        assert message not in {(one.name, read_header(one.frame).sequence) for one in others}
        assert not is_group(store.name) or store.messages == 1
        self.queue_of[store.number] = store.name

    def forget_the_gone(self) -> None:
        """Forget what those had who are not connected any more."""
        peers = self.broker._peers.keys()
        for peer in self.in_hand.keys() - peers:
            del self.in_hand[peer]
        for members in self.groups.values():
            for peer in members.keys() - peers:
                del members[peer]
        self.holders = {number: peer for number, peer in self.holders.items() if peer in peers}
        self.joining = {request: who for request, who in self.joining.items() if not self.is_gone(*who)}

    def check_sent(self, effect: Send, command: Command) -> None:
        if isinstance(command, Goodbye):
            return
        peer = self.broker._peers[effect.peer]
        if isinstance(command, Confirm):
            assert all((peer.client, sequence) in self.kept for sequence in command.sequences)
        if isinstance(command, Subscribed) and command.request in self.joining:
            assert self.joining.pop(command.request)[1] in self.storage.groups
        if isinstance(command, Deliver) and not command.delivery:
            assert not read_header(effect.frames[1]).ack
            assert peer.id in self.groups[command.group or ""]
        elif isinstance(command, Deliver):
            self.in_hand[effect.peer].add(command.delivery)
            queue = self.queue_of[command.delivery]
            if is_group(queue):
                assert command.group == queue
                self.check_member(effect.peer, command)
            else:
                assert command.group is None
                self.check_attempt(command)
            assert effect.frames[1:] == (self.by_number[command.delivery].frame,)

    def check_attempt(self, deliver: Deliver) -> None:
        number = deliver.delivery
        queue = self.queue_of[number]
        if number not in self.least:
            assert deliver.attempt == 1 or number in self.doubtful
            assert number > self.first[queue]
            self.first[queue] = number
        assert deliver.attempt >= self.least.get(number, 1)
        self.least[number] = deliver.attempt

    def check_member(self, peer: bytes, deliver: Deliver) -> None:
        """What is delivered to a member nobody else of the group has in hand, and each attempt is one more."""
        number = deliver.delivery
        assert deliver.group is not None
        assert peer in self.groups[deliver.group]
        assert number in self.pending
        # Who had it may have gone a moment ago, in the same call.
        assert number not in self.holders or self.is_gone(self.holders[number], deliver.group)
        assert deliver.attempt == 1 or number in self.least or number in self.doubtful
        assert deliver.attempt >= self.least.get(number, 1)
        self.least[number] = deliver.attempt + 1
        self.holders[number] = peer

    def is_gone(self, peer: bytes, queue: str) -> bool:
        known = self.broker._peers.get(peer)
        return known is None or queue not in known.members

    # What goes in.

    @rule(peer=PEERS, client=CLIENTS, names=st.lists(NAMES))
    def join(self, peer: bytes, client: int, names: list[str]) -> None:
        self.tokens += 2
        link, sync = token_of(str(self.tokens)), token_of(str(self.tokens + 1))
        self.driver.say(peer, Hello(1, client, key_of(client), link, 0), Subscribe(1, names, sync))
        self.broker.surfaced(link, self.driver.now)
        self.broker.surfaced(sync, self.driver.now)
        self.look()

    @initialize(names=st.lists(NAMES), members=st.integers(0, 2), has_groups=st.booleans())
    def begin(self, names: list[str], members: int, has_groups: bool) -> None:
        """Two peers are there from the start; half of the histories have groups, some of them from the start."""
        self.has_groups = has_groups
        for client, peer in enumerate([b"A", b"B"], 1):
            self.join(peer, client, [] if has_groups else names)
            if has_groups and client <= members:
                self.join_group(peer, "*", "g", 1)

    @precondition(lambda self: self.has_groups)
    @rule(peer=PEERS, pattern=PATTERNS, group=GROUPS, prefetch=st.integers(1, 3))
    def join_group(self, peer: bytes, pattern: str, group: str, prefetch: int) -> None:
        queue = queue_of(pattern, group)
        self.tokens += 1
        request = self.tokens
        if peer in self.broker._peers and queue not in self.leaving:
            self.joining[request] = peer, queue
            if queue not in self.groups:
                self.add_group(queue)
            self.groups[queue].setdefault(peer, prefetch)
        self.driver.say(peer, Join(request, pattern, group, prefetch, None, None))
        answers = [command for _, command in self.look() if isinstance(command, Declined)]
        assert not self.orphans
        assert bool(answers) is (peer in self.broker._peers and queue in self.leaving)

    def add_group(self, queue: str) -> None:
        """Take note of a new group, and of what it inherits: what waits where there is nobody else."""
        pattern, _ = split_queue(queue)
        waiting = {self.queue_of[number] for number in {*self.pending, *(store.number for store in self.storing)}}
        for name in waiting:
            is_first = not any(matches(split_queue(other)[0], name) for other in self.groups)
            if not is_group(name) and matches(pattern, name) and is_first and not self.is_subscribed(name):
                self.orphans.add(name)
        self.groups[queue] = {}

    @precondition(lambda self: self.groups)
    @rule(peer=PEERS, data=st.data())
    def leave_group(self, peer: bytes, data: st.DataObject) -> None:
        queue = data.draw(st.sampled_from(sorted(self.groups)))
        pattern, group = split_queue(queue)
        assert group is not None
        if self.groups[queue].pop(peer, None) is not None:
            self.holders = {
                number: holder
                for number, holder in self.holders.items()
                if holder != peer or self.queue_of[number] != queue
            }
        self.joining = {request: who for request, who in self.joining.items() if who != (peer, queue)}
        self.driver.say(peer, Leave(pattern, group))
        self.look()

    @precondition(lambda self: self.groups)
    @rule(peer=PEERS, data=st.data())
    def drop_group(self, peer: bytes, data: st.DataObject) -> None:
        """Ask for a group to be dropped, which is done if it has no members."""
        pattern, group = split_queue(data.draw(st.sampled_from(sorted(self.groups))))
        assert group is not None
        self.driver.say(peer, AskToDrop(1, pattern, group))
        self.look()

    def groups_of(self, name: str) -> list[str]:
        """Return the queues of the groups, but for those that are being dropped, that get what has this name."""
        return [queue for queue in self.groups if matches(split_queue(queue)[0], name) and queue not in self.leaving]

    def is_subscribed(self, name: str) -> bool:
        return any(name in peer.names for peer in self.broker._peers.values())

    @rule(peer=PEERS, command=COMMANDS)
    def say(self, peer: bytes, command: Command) -> None:
        self.driver.say(peer, command)
        self.look()

    @rule(peer=PEERS, garbage=st.lists(st.binary(max_size=50), max_size=3) | st.just([b"|\x92\xa4ping\xff"]))
    def garbage(self, peer: bytes, garbage: list[bytes]) -> None:
        self.driver.give(peer, *garbage)
        # What a peer had in hand that is sent away goes to others.
        assert all(isinstance(command, Goodbye) for to, command in self.look() if to == peer)

    @precondition(lambda self: self.broker._peers)
    @rule(data=st.data(), name=NAMES, count=st.integers(1, 3), new=st.booleans(), whole=st.integers(0, 4).map(bool))
    def publish(self, data: st.DataObject, name: str, count: int, new: bool, whole: bool) -> None:
        """Publish the next sequence of a client, or an earlier one again; now and then with a damaged byte."""
        self.publish_one(data.draw(st.sampled_from(sorted(self.broker._peers))), name, count, new, whole)

    @precondition(lambda self: self.broker._peers)
    @rule(data=st.data(), names=st.lists(NAMES, min_size=1, max_size=4))
    def publish_and_store(self, data: st.DataObject, names: list[str]) -> None:
        """Publish several messages, and let the store do all it has to."""
        peer = data.draw(st.sampled_from(sorted(self.broker._peers)))
        for name in names:
            self.publish_one(peer, name, 1, new=True, whole=True)
        while self.queue:
            self.work(len(self.queue))

    def publish_one(self, peer: bytes, name: str, count: int, new: bool, whole: bool) -> None:
        client = self.broker._peers[peer].client
        new = new or not self.last_sequence[client]
        sequence = self.last_sequence[client] + 1 if new else (self.last_sequence[client] + count) // 2
        items = [(1.5, b"x")] * count
        frame = encode_data(name, items, ack=1, codec=1, client=client, sequence=sequence)
        groups = self.groups_of(name)
        copies = dict.fromkeys(groups, count) | ({name: 1} if not groups or self.is_subscribed(name) else {})
        self.driver.give(peer, frame if whole else frame[:-1] + bytes([frame[-1] ^ 1]))
        self.last_sequence[client] = max(self.last_sequence[client], sequence)
        before = len(self.queue)
        self.look()
        stored = Counter(one.name for one in self.queue[before:] if isinstance(one, Store))
        assert not stored or stored == copies

    @rule(peer=PEERS, name=NAMES, client=CLIENTS, ack=st.integers(0, 1))
    def publish_for_another(self, peer: bytes, name: str, client: int, ack: int) -> None:
        known = self.broker._peers.get(peer)
        if ack and (known is None or known.client == client):
            return
        with_members = [queue for queue in self.groups_of(name) if self.groups[queue]]
        self.driver.give(peer, encode_data(name, [(1.5, b"x")], ack=ack, codec=1, client=client, sequence=1))
        given = [command.group for _, command in self.look() if isinstance(command, Deliver)]
        assert sorted(map(str, given)) == (sorted(with_members) if known and not ack else [])

    @rule(peer=PEERS, numbers=st.lists(NUMBERS))
    def ack(self, peer: bytes, numbers: list[int]) -> None:
        before = dict(self.pending)
        self.driver.say(peer, Ack(numbers))
        self.in_hand[peer].difference_update(numbers)
        self.let_go(peer, numbers)
        self.look()
        assert before.keys() - self.pending.keys() <= set(numbers)

    @precondition(lambda self: any(self.in_hand.values()))
    @rule(data=st.data())
    def ack_what_is_in_hand(self, data: st.DataObject) -> None:
        peer = data.draw(st.sampled_from(sorted(peer for peer, numbers in self.in_hand.items() if numbers)))
        number = data.draw(st.sampled_from(sorted(self.in_hand[peer])))
        self.ack(peer, [number])
        assert number not in self.pending

    @rule(peer=PEERS, number=NUMBERS, indexes=INDEXES)
    def nack(self, peer: bytes, number: int, indexes: set[int]) -> None:
        before = dict(self.pending)
        self.driver.say(peer, Nack(number, [Failure(index, "no") for index in indexes]))
        if number not in before or max(indexes) < before[number].messages:
            self.in_hand[peer].discard(number)
            self.let_go(peer, [number])
        self.look()
        assert before.keys() - self.pending.keys() <= {number}

    def let_go(self, peer: bytes, numbers: list[int]) -> None:
        for number in numbers:
            if self.holders.get(number) == peer:
                del self.holders[number]

    @rule(token=TOKENS)
    def surface(self, token: bytes) -> None:
        self.broker.surfaced(token, self.driver.now)
        self.look()

    @rule(token=TOKENS)
    def sink(self, token: bytes) -> None:
        self.broker.sunk(token, self.driver.now)
        self.look()

    @rule(peer=PEERS)
    def lose(self, peer: bytes) -> None:
        self.broker.unreachable(peer, self.driver.now)
        self.look()
        assert peer not in self.broker._peers

    @rule(count=st.integers(1, 8))
    def work(self, count: int) -> None:
        """Make some changes, confirm each store among them once, to whoever is that client now, and read."""
        stores, changes, loads = self.take(count)
        at_once(self.storage.commit(changes))
        self.kept |= {(store.client, store.sequence) for store in stores}
        self.by_number |= {store.number: store for store in stores}
        self.pending |= {store.number: store for store in stores}
        for change in changes:
            if isinstance(change, DropGroup):
                self.dropped(change.name)
        self.broker.committed(changes, self.driver.now)
        confirmed = [
            (self.broker._peers[peer].client, sequence)
            for peer, command in self.look()
            if isinstance(command, Confirm)
            for sequence in command.sequences
        ]
        assert sorted(confirmed) == sorted(self.of_connected(stores))
        for load in loads:
            self.read(load)

    def dropped(self, queue: str) -> None:
        self.leaving.remove(queue)
        del self.groups[queue]
        self.pending = {number: store for number, store in self.pending.items() if self.queue_of[number] != queue}

    @rule(count=st.integers(1, 8))
    def fail(self, count: int) -> None:
        """Refuse each of some stores once, to whoever is that client now; nothing else is made or read as yet."""
        stores, changes, loads = self.take(count)
        self.queue[:0] = [*(change for change in changes if not isinstance(change, Store)), *loads]
        self.broker.commit_failed(stores, "storage", "no")
        refused = [
            (self.broker._peers[peer].client, command.sequence)
            for peer, command in self.look()
            if isinstance(command, Refuse)
        ]
        assert refused == self.of_connected(stores)

    def take(self, count: int) -> tuple[list[Store], list[Change], list[Load]]:
        """Take so many from the queue, and the rest of a publish: that is stored as a whole."""
        while count < len(self.queue) and is_same_publish(*self.queue[count - 1 : count + 1]):
            count += 1
        taken, self.queue = self.queue[:count], self.queue[count:]
        return (
            [one for one in taken if isinstance(one, Store)],
            [one for one in taken if not isinstance(one, Load)],
            [one for one in taken if isinstance(one, Load)],
        )

    def read(self, load: Load) -> None:
        rows = at_once(self.storage.read(load))
        backlogs = self.broker._deliveries.pending._backlogs
        if rows and (load.name not in backlogs or backlogs[load.name].load is not load):
            last = rows[-1].number
            self.doubtful |= {n for n, row in self.storage.rows().items() if row.name == load.name and n <= last}
        self.broker.loaded(load, rows, self.driver.now)
        self.look()

    @rule(is_killed=st.booleans())
    def restart(self, is_killed: bool) -> None:
        """Start another broker with what is committed; clients go on after what that is."""
        if not is_killed:
            self.broker.drain()
            self.broker.farewell(self.driver.now)
            self.look()
            self.work(len(self.queue))
        self.driver.restart()
        self.queue.clear()
        self.in_hand.clear()
        rows = self.storage.rows()
        self.pending = {number: self.by_number[number] for number in rows}
        self.least = dict.fromkeys(self.least, 2)
        self.queue_of |= {number: row.name for number, row in rows.items()}
        self.dead = set(self.storage._dead)
        self.groups = {queue: {} for queue in self.storage.groups}
        for of_the_last_run in (self.leaving, self.holders, self.joining):
            of_the_last_run.clear()
        if is_killed:
            self.doubtful |= rows.keys()
        self.last_sequence.clear()
        for client, known in self.storage.publishers.items():
            self.last_sequence[client] = known.stored

    def of_connected(self, stores: list[Store]) -> list[tuple[int, int]]:
        connected = {peer.client for peer in self.broker._peers.values()}
        return list(dict.fromkeys((store.client, store.sequence) for store in stores if store.client in connected))

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 3.0, LINK_TIMEOUT]))
    def wait(self, seconds: float) -> None:
        self.driver.wait(seconds)
        deadline = self.broker.next_deadline()
        assert deadline is None or deadline > self.driver.now
        self.look()

    # What always holds.

    @invariant()
    def each_entry_is_settled_or_stored(self) -> None:
        rows = self.storage.rows().keys()
        leaving = {one.number for one in self.queue if isinstance(one, Settle | Bury)}
        assert leaving <= rows
        assert rows - leaving == self.pending.keys()
        stats = self.broker.stats()
        assert stats.dead == len(self.dead)
        assert stats.pending == len(self.pending)
        assert stats.pending_size == sum(len(store.frame) for store in self.pending.values())

    @invariant()
    def what_is_in_memory_is_limited(self) -> None:
        """And complete: what is not there is being read, or the window is half full."""
        table = self.broker._deliveries.pending
        in_memory: set[int] = set()
        for name, one in table._backlogs.items():
            in_memory |= one.window.keys() | one.kept.keys()
            assert one.frames == sum(self.queue_of[number] == name for number in self.pending)
            assert list(one.window) == sorted(one.window)
            assert one.away == sum(not entry.frame for entry in one.window.values())
            assert len(one.window) - one.away + len(one.promised) <= WINDOW_FRAMES
            assert one.window_size == sum(len(entry.frame) for entry in one.window.values())
            assert one.window_size + one.promised_size < WINDOW_SIZE + LARGEST_FRAME
            assert len(one.promised) + one.others == sum(self.queue_of[store.number] == name for store in self.storing)
            if not self.broker._routing.is_served(name):
                assert one.load is None
                assert len(one.window) == len(one.promised) == 0
                assert all(entry.late for entry in one.kept.values())
            elif one.load is not None:
                assert any(load is one.load for load in self.queue)
            elif one.frames > len(one.window):
                assert len(one.window) - one.away > WINDOW_FRAMES // 2 or one.window_size > WINDOW_SIZE // 2
        assert table._entries.keys() == in_memory

    @invariant()
    def a_client_has_one_connection(self) -> None:
        connections = self.broker._connections
        peers = connections.peers
        assert len({peer.client for peer in peers.values()}) == len(peers)
        assert all(peers[peer.id] is peer for peer in connections._linked_by.values())
        linked_or_awaited = {*connections._linked_by, *connections._tokens._waited_for}
        sunk_early = sum(peer.token not in linked_or_awaited for peer in peers.values())
        assert sunk_early <= sum(peers.get(peer.id) is peer for _, peer in connections._unlinked)

    @invariant()
    def nobody_has_too_much(self) -> None:
        for peer in self.broker._peers.values():
            assert peer.in_flight.keys() <= self.in_hand[peer.id]
            assert len(peer.in_flight) <= CREDIT
            assert len(peer.waiting) <= SEND_QUEUE
            assert not peer.in_flight.keys() & peer.waiting.keys()
            assert {entry.name for entry in (*peer.in_flight.values(), *peer.waiting.values())} <= peer.names

    @invariant()
    def members_are_who_joined(self) -> None:
        """And each has in hand no more than it wants, nothing of which another one has, too."""
        groups = self.broker._routing.by_queue
        assert groups.keys() == self.groups.keys()
        for queue, group in groups.items():
            assert {peer: member.prefetch for peer, member in group.members.items()} == self.groups[queue]
        for peer in self.broker._peers.values():
            assert peer.lent.keys() <= self.in_hand[peer.id]
            assert sorted(peer.lent) == sorted(number for one in peer.members.values() for number in one.in_hand)
            assert all(len(member.in_hand) <= member.prefetch for member in peer.members.values())

    @invariant()
    def every_entry_is_on_its_way(self) -> None:
        """An entry is due, or nobody has it in hand and it is kept for every subscriber."""
        for name, one in self.broker._deliveries.pending._backlogs.items():
            assert all(entry.due is None and not entry.holders for entry in one.kept.values())
            if is_group(name):
                self.check_window_of_group(one)
                continue
            subscribers = self.broker._routing.subscribers(name)
            for entry in one.window.values():
                assert entry.holders == {peer.id for peer in subscribers if entry.number in peer.in_flight}
                if entry.due is None:
                    assert not entry.holders
                    behind = self.broker._deliveries._subscribers._behind
                    assert all(entry.number in peer.waiting or peer in behind for peer in subscribers)

    def check_window_of_group(self, backlog: Backlog) -> None:
        """An entry is due, one member has it in hand, or it waits for one with credit; then there is none."""
        group = self.broker._routing.group(backlog.name)
        for number, entry in backlog.window.items():
            assert entry.holders == ({self.holders[number]} if number in self.holders else set())
            if entry.due is None and not entry.holders:
                assert number in group.ready._present
                assert all(member.credit == 0 for member in group.members.values())

    def teardown(self) -> None:
        """Whoever is there and acknowledges gets all that is pending of its names and groups; the rest waits."""
        try:
            self.handle_all()
            names = {name for peer in self.broker._peers.values() for name in peer.names}
            served = names | {queue for queue, members in self.groups.items() if members}
            left = {self.queue_of[number] for number in self.pending}
            assert not left & served
            assert self.broker.stats().in_flight == 0
            self.join(b"last", 1000, ["a", "b", "c"])
            for queue in self.groups:
                pattern, group = split_queue(queue)
                self.join_group(b"last", pattern, group or "", 2)
            self.handle_all()
            assert self.pending == {}
            assert self.storage.rows() == {}
            assert not self.broker._deliveries.pending._backlogs
            assert self.broker._deliveries.pending.next_deadline() is None
            self.leave_all()
        finally:
            self.small_windows.stop()

    def leave_all(self) -> None:
        """Who is gone is forgotten: when its link token sinks, or at the link timeout if that never came."""
        for token in list(self.broker._connections._linked_by):
            self.broker.sunk(token, self.driver.now)
        self.wait(LINK_TIMEOUT)
        assert not self.broker._peers

    def handle_all(self) -> None:
        """Let peers acknowledge all they have, and wait for what failed before, until there is nothing more."""
        for _ in range(2):
            while self.queue or any(self.in_hand.values()):
                self.work(max(len(self.queue), 1))
                for peer, numbers in list(self.in_hand.items()):
                    self.ack(peer, sorted(numbers))
            self.wait(100.0)
        assert not any(self.in_hand.values())


BrokerMachine.TestCase.settings = settings(max_examples=100, stateful_step_count=60)
TestBrokerMachine = BrokerMachine.TestCase
