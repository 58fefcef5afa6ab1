"""Drives a ``Broker`` in tests: plays the peers, the store, the sockets and the clock."""

from collections import defaultdict
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, TypeVar

from mezzenger.broker.connections import ConnectionOptions
from mezzenger.broker.core import Broker, BrokerOptions
from mezzenger.broker.effects import Change, Effect, Find, Load, Mark, Publish, Retain, Send, Settle, Store, Sweep
from mezzenger.broker.fates import DeliveryOptions
from mezzenger.broker.memberships import GroupOptions
from mezzenger.broker.requests import RequestOptions
from mezzenger.broker.retained import RetainedOptions
from mezzenger.broker.room import RoomOptions
from mezzenger.policy import Policies, Policy
from mezzenger.protocol.commands import (
    TOKEN_BYTES,
    Ack,
    Command,
    Deliver,
    DropDead,
    DropGroup,
    Failure,
    Goodbye,
    Groups,
    GroupState,
    Hello,
    Join,
    Leave,
    ListDead,
    ListGroups,
    Nack,
    ResendDead,
    Retained,
    ServerCommand,
    ShowDead,
    Subscribe,
    Unsubscribe,
)
from mezzenger.protocol.wire import Extra, decode_server_command, encode_command, encode_data
from tests.broker.durable_storage import DurableStorage

R = TypeVar("R")

A: Final = b"A"
B: Final = b"B"
C: Final = b"C"
START: Final = 1000.0
LIMIT: Final = 65536
LINK_TIMEOUT: Final = 5.0
POLICY: Final = Policy(
    resend_initial=1.0,
    resend_multiplier=2.0,
    resend_max=5.0,
    resend_jitter=0.1,
    max_attempts=1000,
    ttl=None,
    delay=0.0,
    max_pending=None,
    max_pending_size=None,
    overflow="reject",
)
OPTIONS: Final = DeliveryOptions(credit=3, send_queue=4, max_dead_letters=1000, policies=Policies(POLICY))
_OF_DELIVERY: Final = {"credit", "send_queue", "max_dead_letters"}


def token_of(text: str) -> bytes:
    """Return the token that a test calls by this name."""
    return b"\0" + text.encode().rjust(TOKEN_BYTES - 1, b"_")


def link_token(peer: bytes) -> bytes:
    return token_of(f"link {peer.hex()}")


def client_of(peer: bytes) -> int:
    """Return the client id of a peer, unless a test says otherwise."""
    return int.from_bytes(peer)


def key_of(client: int) -> bytes:
    return client.to_bytes(16)


def at_once(work: Coroutine[None, None, R]) -> R:
    """Return what a coroutine returns that has nothing to wait for."""
    try:
        work.send(None)
    except StopIteration as end:
        result: R = end.value
        return result
    raise AssertionError("it waits")


class Driver:
    """A broker, the time it is told, and all that came out of it and no test has looked at yet."""

    def __init__(self, **options: Any) -> None:
        self.now = START
        room = (options.pop("max_pending", None), options.pop("max_pending_size", 2**30))
        retained = (options.pop("max_retained", 1000), options.pop("max_retained_size", 2**20))
        groups = GroupOptions(options.pop("max_groups", 1000), options.pop("groups", ()))
        max_names = options.pop("max_names", 100_000)
        requests = RequestOptions(options.pop("max_requests", 100), LIMIT)
        connection = ConnectionOptions(LIMIT, LINK_TIMEOUT, options.pop("max_peers", 1000))
        rules = options.pop("rules", ())
        of_delivery = {key: options.pop(key) for key in _OF_DELIVERY & options.keys()}
        policies = Policies(replace(POLICY, **options), rules)
        delivery = replace(OPTIONS, policies=policies, **of_delivery)
        limits = (RoomOptions(*room, policies), RetainedOptions(*retained, policies), requests, groups)
        self.options = BrokerOptions(connection, delivery, *limits, max_names)
        self.broker = self._new_broker()
        self.storage = DurableStorage()
        self.changes: list[Change] = []
        """What the store was told, but for what it was to keep."""
        self.published: list[bytes] = []
        self.marks: list[bytes] = []
        self.retained: defaultdict[bytes, list[bytes]] = defaultdict(list)
        """The frames that each peer was given as the last of their names."""
        self.storing: list[Store] = []
        """What the store was given and has not answered yet."""
        self._queue: list[Change] = []
        """The same and all that was to be changed since, in order."""
        self.loads: list[Load] = []
        """What is to be read once that is done."""
        self.queries: list[Sweep | Find] = []
        """What else is to be read, which no test holds back."""
        self.holds_changes = False
        """Whether no change is made until a test asks for it."""
        self.holds_loads = False
        """Whether nothing is read until a test asks for it."""
        self.settled: list[int] = []
        self.frames: dict[int, bytes] = {}
        """What came with each delivery."""
        self._sent: defaultdict[bytes, list[ServerCommand]] = defaultdict(list)

    def _new_broker(self) -> Broker:
        return Broker(self.options, random=lambda: 0.5)

    # What peers do.

    def say(self, peer: bytes, *commands: Command) -> None:
        for command in commands:
            self.give(peer, encode_command(command))

    def give(self, peer: bytes, *frames: bytes) -> None:
        """Let a peer send a multipart message of any bytes."""
        self.broker.receive(peer, frames, self.now)

    def hello(
        self,
        peer: bytes,
        *,
        client: int | None = None,
        key: bytes | None = None,
        token: bytes | None = None,
        version: int = 1,
        oldest: int = 1,
    ) -> None:
        client = client_of(peer) if client is None else client
        self.say(peer, Hello(version, client, key or key_of(client), token or link_token(peer), oldest))

    def subscribe(self, peer: bytes, *names: str, request: int = 1, token: bytes = token_of("sync")) -> None:
        self.say(peer, Subscribe(request, list(names), token))

    def join(self, peer: bytes, *names: str, client: int | None = None) -> None:
        """Let a peer say Hello, be linked and subscribe; forget what it was answered, but for deliveries."""
        self.hello(peer, client=client)
        self.broker.surfaced(link_token(peer), self.now)
        if names:
            self.subscribe(peer, *names, token=token_of(f"sync {peer.hex()}"))
            self.broker.surfaced(token_of(f"sync {peer.hex()}"), self.now)
        self.look()
        self._sent[peer] = [command for command in self._sent[peer] if isinstance(command, Deliver)]

    def publish(
        self,
        peer: bytes,
        sequence: int,
        name: str = "a",
        *,
        payloads: Sequence[bytes] = (b"x",),
        ack: int = 1,
        client: int | None = None,
        ttl: float | None = None,
        delay: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> bytes:
        """Let a peer publish; return the frame."""
        client = client_of(peer) if client is None else client
        items = [(1.5, payload) for payload in payloads]
        extra = Extra(ttl=ttl, delay=delay, headers=dict(headers or {}))
        frame = encode_data(name, items, ack=ack, codec=1, client=client, sequence=sequence, extra=extra)
        self.give(peer, frame)
        return frame

    def stored(
        self,
        peer: bytes,
        *sequences: int,
        name: str = "a",
        payloads: Sequence[bytes] = (b"x",),
        ttl: float | None = None,
        delay: float | None = None,
    ) -> list[int]:
        """Let a peer publish and the store keep it; forget the Confirm; return the numbers."""
        for sequence in sequences:
            self.publish(peer, sequence, name, payloads=payloads, ttl=ttl, delay=delay)
        numbers = [store.number for store in self.commit()]
        assert len(numbers) == len(sequences)
        self.look()
        self._sent[peer] = [command for command in self._sent[peer] if isinstance(command, Deliver)]
        return numbers

    def ack(self, peer: bytes, *numbers: int) -> None:
        self.say(peer, Ack(list(numbers)))

    def nack(self, peer: bytes, number: int, *indexes: int) -> None:
        self.say(peer, Nack(number, [Failure(index, "no") for index in indexes]))

    def unsubscribe(self, peer: bytes, name: str = "a") -> None:
        self.say(peer, Unsubscribe(name))

    def join_group(
        self,
        peer: bytes,
        name: str = "a",
        group: str = "g",
        *,
        request: int = 1,
        prefetch: int = 2,
        max_runtime: float | None = None,
        order_by: str | None = None,
    ) -> None:
        """Let a peer be a member of a group."""
        self.say(peer, Join(request, name, group, prefetch, max_runtime, order_by))

    def member(self, peer: bytes, name: str = "a", group: str = "g", **options: Any) -> None:
        """Let a peer be linked and be a member of a group; forget what it was answered, but for deliveries."""
        if peer not in self.broker._peers:
            self.join(peer)
        self.join_group(peer, name, group, **options)
        self.look()
        self._sent[peer] = [command for command in self._sent[peer] if isinstance(command, Deliver)]

    def leave_group(self, peer: bytes, name: str = "a", group: str = "g") -> None:
        self.say(peer, Leave(name, group))

    def list_groups(self, peer: bytes, after: str = "", request: int = 1) -> list[GroupState]:
        """Return the groups as a peer is told them."""
        self.say(peer, ListGroups(request, after))
        (answer,) = self.sent(peer)
        assert isinstance(answer, Groups)
        return answer.groups

    def drop_group(self, peer: bytes, name: str = "a", group: str = "g", request: int = 1) -> None:
        self.say(peer, DropGroup(request, name, group))

    def list_dead(self, peer: bytes, name: str | None = None, after: int = 0, request: int = 1) -> None:
        self.say(peer, ListDead(request, name, after))

    def show(self, peer: bytes, number: int, request: int = 1) -> None:
        self.say(peer, ShowDead(request, number))

    def resend(self, peer: bytes, *numbers: int, request: int = 1) -> None:
        self.say(peer, ResendDead(request, list(numbers)))

    def drop(self, peer: bytes, *numbers: int, request: int = 1) -> None:
        """Let a peer have dead letters dropped."""
        self.drop_later(peer, *numbers, request=request)
        self.look()

    def drop_later(self, peer: bytes, *numbers: int, request: int = 1) -> None:
        """Let a peer ask for it, and nothing come of that yet."""
        self.say(peer, DropDead(request, list(numbers)))

    # What happens elsewhere.

    def commit(self) -> list[Store]:
        """Let the store keep all it was given."""
        self.look()
        stores, self.storing = self.storing, []
        self._work()
        self.look()
        return stores

    def fail(self, text: str = "the disk is full") -> None:
        """Let the store keep nothing of what it was given."""
        self.look()
        self.storing = []
        refused = [change for change in self._queue if isinstance(change, Store | Retain)]
        self._queue = [change for change in self._queue if not isinstance(change, Store | Retain)]
        self.broker.commit_failed(refused, "storage", text)
        self.look()

    def fail_all(self, text: str = "the disk has failed") -> None:
        """Let the store make none of the changes that it was given."""
        changes, self._queue = self._queue, []
        self.storing.clear()
        self.broker.commit_failed(changes, "storage", text)
        self.look()

    def load(self) -> None:
        """Let the store read what it was asked for and what was held; what follows from it is held again."""
        self.look()
        self._read()
        self.look()

    def restart(self) -> None:
        """Kill the server and start another one with what the store has."""
        self.look()
        self._queue.clear()
        self.storing.clear()
        self.loads.clear()
        self.queries.clear()
        self._sent.clear()
        self.broker = self._new_broker()
        self.broker.restored(at_once(self.storage.open()))

    def sink(self, peer: bytes) -> None:
        """Let a peer's SUB connection end."""
        self.broker.sunk(link_token(peer), self.now)

    def wait(self, seconds: float) -> None:
        """Let time pass, of which the broker is told once."""
        self.now += seconds
        self.broker.tick(self.now)

    # What came out.

    def look(self) -> None:
        """Sort what came out since this was called last; let the store do what it may."""
        for effect in self.broker.take_effects():
            self._sort(effect)
        if not self.storing:
            while self._queue and not self.holds_changes:
                self._work()
                self.look()
            if self.queries:
                self._answer()
                self.look()
            if self.loads and not self.holds_loads:
                self._read()
                self.look()

    def _sort(self, effect: Effect) -> None:
        match effect:
            case Send():
                command = decode_server_command(effect.frames[0])
                if isinstance(command, Deliver):
                    (self.frames[command.delivery],) = effect.frames[1:]
                elif isinstance(command, Retained):
                    self.retained[effect.peer] += effect.frames[1:]
                else:
                    assert len(effect.frames) == 1
                self._sent[effect.peer].append(command)
            case Publish():
                self.published.append(bytes(effect.frame))
            case Mark():
                self.marks.append(effect.token)
            case Load():
                self.loads.append(effect)
            case Sweep() | Find():
                self.queries.append(effect)
            case _:
                self._queue.append(effect)
                if isinstance(effect, Store):
                    self.storing.append(effect)
                else:
                    self.changes.append(effect)
                if isinstance(effect, Settle):
                    self.settled.append(effect.number)

    def _read(self) -> None:
        loads, self.loads = self.loads, []
        for load in loads:
            self.broker.loaded(load, at_once(self.storage.read(load)), self.now)

    def _answer(self) -> None:
        queries, self.queries = self.queries, []
        for query in queries:
            if isinstance(query, Sweep):
                self.broker.swept(at_once(self.storage.sweep(query)), self.now)
            else:
                self.broker.found(query, at_once(self.storage.find(query)))

    def _work(self) -> None:
        changes, self._queue = self._queue, []
        at_once(self.storage.commit(changes))
        self.broker.committed(changes, self.now)

    def sent(self, peer: bytes) -> list[ServerCommand]:
        """Return what was sent to a peer since this was asked last."""
        self.look()
        return self._sent.pop(peer, [])

    def all_sent(self) -> dict[bytes, list[ServerCommand]]:
        """Return what was sent to any peer and no test has looked at."""
        self.look()
        sent, self._sent = {peer: commands for peer, commands in self._sent.items() if commands}, defaultdict(list)
        return sent

    def delivered(self, peer: bytes) -> list[int]:
        """Return the numbers of all that was sent to a peer, and that it was nothing else."""
        return [number for number, _ in self.attempts(peer)]

    def attempts(self, peer: bytes) -> list[tuple[int, int]]:
        """Return the numbers and attempts of all that was sent to a peer, and that it was nothing else."""
        sent = self.sent(peer)
        assert all(isinstance(command, Deliver) for command in sent), sent
        return [(command.delivery, command.attempt) for command in sent if isinstance(command, Deliver)]

    def goodbye(self, peer: bytes) -> tuple[str, bool]:
        """Return why a peer was dismissed, and whether it may come back; nothing else was sent to it."""
        (command,) = self.sent(peer)
        assert isinstance(command, Goodbye)
        return command.reason, command.retry

    @property
    def next_round(self) -> float | None:
        """When something is sent again; ``next_deadline`` may be a link timeout that has lost its meaning."""
        return self.broker._deliveries.pending.next_deadline()

    @property
    def malformed(self) -> dict[str, int]:
        return dict(self.broker.stats().malformed)

    @property
    def dropped(self) -> dict[str, int]:
        return dict(self.broker.stats().dropped)


def joined(*peers: bytes, names: Sequence[str] = ("a",), **options: Any) -> Driver:
    """Return a driver with peers that are connected and subscribed to all names."""
    driver = Driver(**options)
    for peer in peers:
        driver.join(peer, *names)
    return driver


def in_flight(driver: Driver) -> int:
    """Return how much the peers have in hand."""
    return driver.broker.stats().in_flight


def held(driver: Driver, name: str = "a") -> list[int]:
    """Return the numbers of all frames of a name that the broker has in memory, for whatever reason."""
    return sorted(number for number, entry in driver.broker._deliveries.pending._entries.items() if entry.name == name)
