"""Whatever peers send, the store answers and the clock says: nothing is lost, falsely confirmed or sent to nobody."""

from collections import defaultdict
from typing import Final
from unittest import mock

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mezzenger.broker import backlog
from mezzenger.broker.core import Broker
from mezzenger.broker.effects import Change, Find, Load, Mark, Publish, Send, Settle, Store, Sweep
from mezzenger.protocol.commands import (
    Ack,
    Command,
    Confirm,
    Deliver,
    Failure,
    Goodbye,
    Hello,
    Nack,
    Ping,
    Refuse,
    Subscribe,
    Unsubscribe,
)
from mezzenger.protocol.wire import decode_server_command, encode_data
from tests.broker.broker_driver import LINK_TIMEOUT, Driver, at_once, key_of, token_of

CREDIT: Final = 2
SEND_QUEUE: Final = 2
WINDOW_FRAMES: Final = 5
WINDOW_SIZE: Final = 400
LARGEST_FRAME: Final = 100
PEERS: Final = st.sampled_from([b"A", b"B", b"C", b"D"])
CLIENTS: Final = st.sampled_from([1, 2, 3])
NAMES: Final = st.sampled_from(["a", "b", "c"])
TOKENS: Final = st.integers(0, 9).map(lambda n: token_of(str(n)))
NUMBERS: Final = st.integers(0, 12)
INDEXES: Final = st.sets(st.integers(0, 3), min_size=1)
COMMANDS: Final = st.one_of(
    st.builds(Ping, NUMBERS),
    st.builds(Subscribe, NUMBERS, st.lists(NAMES | st.just("|")), TOKENS),
    st.builds(Unsubscribe, NAMES),
    st.builds(Hello, st.integers(1, 2), CLIENTS, st.sampled_from([key_of(1), key_of(2)]), TOKENS, st.just(0)),
)


class BrokerMachine(RuleBasedStateMachine):
    """Several peers do anything at all with one broker."""

    def __init__(self) -> None:
        super().__init__()
        self.small_windows = mock.patch.multiple(
            backlog, WINDOW_FRAMES=WINDOW_FRAMES, WINDOW_SIZE=WINDOW_SIZE, LOAD_FRAMES=2, LOAD_SIZE=150
        )
        self.small_windows.start()
        self.driver = Driver(credit=CREDIT, send_queue=SEND_QUEUE)
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
        self.kept: dict[tuple[int, int], Store] = {}
        """What was committed, by client and sequence."""
        self.by_number: dict[int, Store] = {}
        self.pending: dict[int, Store] = {}

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
                if isinstance(effect, Store):
                    key = (effect.client, effect.sequence)
                    assert key not in self.kept
                    assert key not in {(store.client, store.sequence) for store in self.storing}
                    assert len(effect.frame) <= LARGEST_FRAME
                elif isinstance(effect, Settle):
                    assert effect.size == len(self.pending.pop(effect.number).frame)
                assert not isinstance(effect, Sweep | Find)  # nothing is delayed, expires or is dead here
                self.queue.append(effect)
        for peer in self.in_hand.keys() - self.broker._peers.keys():
            del self.in_hand[peer]
        return sent

    def check_sent(self, effect: Send, command: Command) -> None:
        if isinstance(command, Goodbye):
            return
        peer = self.broker._peers[effect.peer]
        if isinstance(command, Confirm):
            assert all((peer.client, sequence) in self.kept for sequence in command.sequences)
        if isinstance(command, Deliver):
            self.in_hand[effect.peer].add(command.delivery)
            self.check_attempt(command)
            assert effect.frames[1:] == (self.by_number[command.delivery].frame,)

    def check_attempt(self, deliver: Deliver) -> None:
        number = deliver.delivery
        name = self.by_number[number].name
        if number not in self.least:
            assert deliver.attempt == 1 or number in self.doubtful
            assert number > self.first[name]
            self.first[name] = number
        assert deliver.attempt >= self.least.get(number, 1)
        self.least[number] = deliver.attempt

    # What goes in.

    @rule(peer=PEERS, client=CLIENTS, names=st.lists(NAMES))
    def join(self, peer: bytes, client: int, names: list[str]) -> None:
        self.tokens += 2
        link, sync = token_of(str(self.tokens)), token_of(str(self.tokens + 1))
        self.driver.say(peer, Hello(1, client, key_of(client), link, 0), Subscribe(1, names, sync))
        self.broker.surfaced(link, self.driver.now)
        self.broker.surfaced(sync, self.driver.now)
        self.look()

    @rule(peer=PEERS, command=COMMANDS)
    def say(self, peer: bytes, command: Command) -> None:
        self.driver.say(peer, command)
        self.look()

    @rule(peer=PEERS, garbage=st.lists(st.binary(max_size=50), max_size=3) | st.just([b"|\x92\xa4ping\xff"]))
    def garbage(self, peer: bytes, garbage: list[bytes]) -> None:
        self.driver.give(peer, *garbage)
        assert all(isinstance(command, Goodbye) for _, command in self.look())

    @rule(peer=PEERS, name=NAMES, count=st.integers(1, 3), new=st.booleans(), whole=st.integers(0, 4).map(bool))
    def publish(self, peer: bytes, name: str, count: int, new: bool, whole: bool) -> None:
        """Publish the next sequence of a client, or an earlier one again; now and then with a damaged byte."""
        known = self.broker._peers.get(peer)
        client = 1 if known is None else known.client
        new = new or not self.last_sequence[client]
        sequence = self.last_sequence[client] + 1 if new else (self.last_sequence[client] + count) // 2
        items = [(1.5, b"x")] * count
        frame = encode_data(name, items, ack=1, codec=1, client=client, sequence=sequence)
        self.driver.give(peer, frame if whole else frame[:-1] + bytes([frame[-1] ^ 1]))
        if known is not None:
            self.last_sequence[client] = max(self.last_sequence[client], sequence)
        self.look()

    @rule(peer=PEERS, name=NAMES, client=CLIENTS, ack=st.integers(0, 1))
    def publish_for_another(self, peer: bytes, name: str, client: int, ack: int) -> None:
        known = self.broker._peers.get(peer)
        if ack and (known is None or known.client == client):
            return
        self.driver.give(peer, encode_data(name, [(1.5, b"x")], ack=ack, codec=1, client=client, sequence=1))
        self.look()

    @rule(peer=PEERS, numbers=st.lists(NUMBERS))
    def ack(self, peer: bytes, numbers: list[int]) -> None:
        before = dict(self.pending)
        self.driver.say(peer, Ack(numbers))
        self.in_hand[peer].difference_update(numbers)
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
        self.look()
        assert before.keys() - self.pending.keys() <= {number}

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
        self.kept |= {(store.client, store.sequence): store for store in stores}
        self.by_number |= {store.number: store for store in stores}
        self.pending |= {store.number: store for store in stores}
        self.broker.committed(stores, self.driver.now)
        confirmed = [
            (self.broker._peers[peer].client, sequence)
            for peer, command in self.look()
            if isinstance(command, Confirm)
            for sequence in command.sequences
        ]
        assert sorted(confirmed) == sorted(self.of_connected(stores))
        for load in loads:
            self.read(load)

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
        if is_killed:
            self.doubtful |= rows.keys()
        self.last_sequence.clear()
        for client, known in self.storage.publishers.items():
            self.last_sequence[client] = known.stored

    def of_connected(self, stores: list[Store]) -> list[tuple[int, int]]:
        connected = {peer.client for peer in self.broker._peers.values()}
        return [(store.client, store.sequence) for store in stores if store.client in connected]

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
        settling = {one.number for one in self.queue if isinstance(one, Settle)}
        assert settling <= rows
        assert rows - settling == self.pending.keys()
        stats = self.broker.stats()
        assert stats.pending == len(self.pending)
        assert stats.pending_size == sum(len(store.frame) for store in self.pending.values())

    @invariant()
    def what_is_in_memory_is_limited(self) -> None:
        """And complete: what is not there is being read, or the window is half full."""
        table = self.broker._deliveries.pending
        in_memory: set[int] = set()
        for name, one in table._backlogs.items():
            in_memory |= one.window.keys() | one.kept.keys()
            assert one.frames == sum(store.name == name for store in self.pending.values())
            assert list(one.window) == sorted(one.window)
            assert len(one.window) + len(one.promised) <= WINDOW_FRAMES
            assert one.window_size == sum(len(entry.frame) for entry in one.window.values())
            assert one.window_size + one.promised_size < WINDOW_SIZE + LARGEST_FRAME
            assert len(one.promised) + one.others == sum(store.name == name for store in self.storing)
            if not self.broker._routing.is_served(name):
                assert one.load is None
                assert len(one.window) == len(one.promised) == 0
                assert all(entry.late for entry in one.kept.values())
            elif one.load is not None:
                assert any(load is one.load for load in self.queue)
            elif one.frames > len(one.window):
                assert len(one.window) > WINDOW_FRAMES // 2 or one.window_size > WINDOW_SIZE // 2
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
    def every_entry_is_on_its_way(self) -> None:
        """An entry is due, or nobody has it in hand and it is kept for every subscriber."""
        for name, one in self.broker._deliveries.pending._backlogs.items():
            assert all(entry.due is None and not entry.holders for entry in one.kept.values())
            subscribers = self.broker._routing.subscribers(name)
            for entry in one.window.values():
                assert entry.holders == {peer.id for peer in subscribers if entry.number in peer.in_flight}
                if entry.due is None:
                    assert not entry.holders
                    behind = self.broker._deliveries._subscribers._behind
                    assert all(entry.number in peer.waiting or peer in behind for peer in subscribers)

    def teardown(self) -> None:
        """Whoever is there and acknowledges gets all that is pending of its names; the rest waits for a subscriber."""
        try:
            self.handle_all()
            names = {name for peer in self.broker._peers.values() for name in peer.names}
            assert not names & {store.name for store in self.pending.values()}
            assert self.broker.stats().in_flight == 0
            self.join(b"last", 1000, ["a", "b", "c"])
            self.handle_all()
            assert self.pending == {}
            assert self.storage.rows() == {}
            assert not self.broker._deliveries.pending._backlogs
            assert self.broker._deliveries.pending.next_deadline() is None
        finally:
            self.small_windows.stop()

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
