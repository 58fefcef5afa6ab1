"""Groups, with a real server and real members."""

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from mezzenger import (
    AlreadySubscribed,
    InvalidMembership,
    InvalidName,
    Message,
    Mezzenger,
    MezzengerServer,
    NoResponders,
    NotSubscribed,
    Rejected,
    ServerSettings,
    State,
)
from tests.integration import group_kills, held_gil
from tests.integration.conftest import Connect, both_clients, only_threads
from tests.integration.processes import Ports, free_ports, patient, read_line, running, server_process, wait_for

pytestmark = both_clients

MEMBER: Final = """
import sys, time
from mezzenger import ClientSettings, Mezzenger

def work(payload, message):
    time.sleep(float(sys.argv[3]))
    print(message.headers.get("customer", "-"), payload, message.attempt, flush=True)

mc = Mezzenger(settings=ClientSettings(**eval(sys.argv[1])))
mc.subscribe("orders", work, group="packers", **eval(sys.argv[2]))
print("ready", flush=True)
sys.stdin.read()
mc.stop()
"""


class Taken:
    """A callback that keeps what it is given, and waits before it returns if it is told to."""

    def __init__(self) -> None:
        self.messages: list[Message[object]] = []
        self.may_return = threading.Event()
        self.may_return.set()

    def __call__(self, _payload: object, message: Message[object]) -> None:
        """Keep a message."""
        self.messages.append(message)
        assert self.may_return.wait(20)

    @property
    def payloads(self) -> list[object]:
        """What it was given."""
        return [message.payload for message in self.messages]


@contextmanager
def held(*taken: Taken) -> Iterator[None]:
    """Let callbacks not return before the end of the block."""
    for one in taken:
        one.may_return.clear()
    try:
        yield
    finally:
        for one in taken:
            one.may_return.set()


def member(connect: Connect, name: str = "orders", group: str = "packers", **options: object) -> Taken:
    """Join a group with a client of its own."""
    taken = Taken()
    join: Callable[..., None] = connect().subscribe
    join(name, taken, group=group, **options)
    return taken


# One member gets it.


def test_one_member_of_each_group(connect: Connect) -> None:
    """Each message goes to one member of each group and to all plain subscribers, with ``ack`` and without."""
    packers = [member(connect) for _ in range(3)]
    billing = [member(connect, group="billing") for _ in range(2)]
    plain = [Taken(), Taken()]
    for taken in plain:
        connect().subscribe("orders", taken)
    sender = connect()
    for ack in (0, 1):
        sender.send_messages("orders", [(ack, number) for number in range(50)], ack=ack)
        for number in range(50, 60):
            sender.send_message("orders", (ack, number), ack=ack)
    expected = sorted((ack, number) for ack in (0, 1) for number in range(60))
    wait_for(lambda: len(given(packers)) >= len(expected) and len(given(billing)) >= len(expected))
    wait_for(lambda: all(len(one.messages) >= len(expected) for one in plain))
    assert sorted(given(packers)) == sorted(given(billing)) == expected
    assert all(sorted(given([one])) == expected for one in plain)
    assert all(one.messages for one in packers + billing)


def given(those: list[Taken]) -> list[tuple[int, int]]:
    """Return what these were given, with its ``ack``."""
    return [payload for one in those for payload in one.payloads if isinstance(payload, tuple)]


def test_each_group_acknowledges_for_itself(server: MezzengerServer, connect: Connect) -> None:
    """The ack of one group settles nothing for another; the message is gone when all have acknowledged."""
    packers, billing = member(connect), member(connect, group="billing")
    with held(billing):
        connect().send_message("orders", 1, ack=1)
        wait_for(lambda: packers.messages and billing.messages)
        wait_for(lambda: server.stats().acked == 1)
        assert server.stats().pending == 1
    wait_for(lambda: server.stats().pending == 0)
    assert (len(packers.messages), len(billing.messages)) == (1, 1)


def test_without_members_ack_0_is_lost(server: MezzengerServer, connect: Connect) -> None:
    """A group without members collects only what is stored; the rest is dropped and counted."""
    client = connect()
    client.subscribe("orders", Taken(), group="packers")
    client.unsubscribe("orders", group="packers")
    client.send_message("orders", "lost")
    client.send_message("orders", "kept", ack=1)
    assert server.stats().dropped == {"no_subscriber": 1}
    assert [group.pending for group in client.groups.list()] == [1]
    taken = member(connect)
    wait_for(lambda: taken.payloads == ["kept"])


def test_the_first_to_come_inherits(server: MezzengerServer, connect: Connect) -> None:
    """What waits for a first subscriber goes to a group if that comes first; a later group begins with what is new."""
    sender = connect()
    sender.send_messages("orders", range(5), ack=1)
    first = member(connect)
    wait_for(lambda: first.payloads == list(range(5)))
    second = member(connect, group="billing")
    sender.send_message("orders", 5, ack=1)
    wait_for(lambda: second.payloads == [5])
    wait_for(lambda: server.stats().pending == 0)


def test_a_batch_is_shared_out(connect: Connect) -> None:
    """Messages that were sent together go to several members all the same."""
    members = [member(connect, prefetch=1) for _ in range(2)]
    with held(*members):
        connect().send_messages("orders", range(20), ack=1)
        wait_for(lambda: all(len(one.messages) == 1 for one in members))
    wait_for(lambda: sum(len(one.messages) for one in members) == 20)


def test_prefetch_1(server: MezzengerServer, connect: Connect) -> None:
    """A member that takes one at a time has no second one before it has acknowledged the first."""
    slow, fast = member(connect, prefetch=1), member(connect, prefetch=1)
    with held(slow):
        connect().send_messages("orders", range(20), ack=1)
        wait_for(lambda: len(slow.messages) + len(fast.messages) == 20)
        assert len(slow.messages) == 1
        wait_for(lambda: server.stats().pending == 1)
    wait_for(lambda: server.stats().pending == 0)
    assert all(message.attempt == 1 for message in slow.messages + fast.messages)


# Members come and go.


def test_a_member_leaves(server: MezzengerServer, connect: Connect) -> None:
    """What it had not begun goes to the others at once; what it is handling it may finish."""
    leaving = connect()
    first, second = Taken(), Taken()
    leaving.subscribe("orders", first, group="packers")
    with held(first):
        connect().send_messages("orders", range(10), ack=1)
        wait_for(lambda: first.messages)
        connect().subscribe("orders", second, group="packers")
        leaving.unsubscribe("orders", group="packers")
        wait_for(lambda: len(second.messages) >= 9)
    wait_for(lambda: server.stats().pending == 0)
    assert len(first.messages) == 1
    assert all(message.attempt == 2 for message in second.messages)
    with pytest.raises(NotSubscribed, match="not a member of group 'packers' of 'orders'"):
        leaving.unsubscribe("orders", group="packers")


def test_a_member_dies(tmp_path: Path) -> None:
    """What a killed process had in hand is given to another at once, and marked."""
    ports = free_ports()
    with (
        server_process(ports, tmp_path / "log"),
        patient(ports) as client,
        running(MEMBER, ports._asdict(), {}, 3600) as process,
    ):
        assert read_line(process) == "ready"
        for number in range(5):
            client.send_message("orders", number, ack=1)
        wait_for(lambda: [group.in_hand for group in client.groups.list()] == [5])
        taken = Taken()
        client.subscribe("orders", taken, group="packers")
        client.send_message("orders", 5, ack=1)
        wait_for(lambda: taken.payloads == [5])
        process.kill()
        wait_for(lambda: len(taken.messages) == 6)
    assert sorted((str(message.payload), message.attempt) for message in taken.messages) == [
        *((str(number), 2) for number in range(5)),
        ("5", 1),
    ]


def test_a_member_is_not_hurried(connect: Connect) -> None:
    """No timer takes a message from a member that lives, however often a subscriber would have been sent it again."""
    busy, idle = member(connect), member(connect)
    with held(busy, idle):
        connect().send_message("orders", 1, ack=1)
        wait_for(lambda: busy.messages or idle.messages)
        # The server sends to subscribers again after 0.2 s, 0.4 s, and so on.
        time.sleep(1.5)
        assert len(busy.messages) + len(idle.messages) == 1
    assert len(busy.messages) + len(idle.messages) == 1


def test_max_runtime(server: MezzengerServer, connect: Connect) -> None:
    """After that time another member is given the message, marked; the first one may acknowledge it all the same."""
    members = [member(connect, max_runtime=0.3), member(connect, max_runtime=0.3)]
    with held(*members):
        connect().send_message("orders", 1, ack=1)
        wait_for(lambda: all(one.messages for one in members))
    assert sorted(message.attempt for one in members for message in one.messages) == [1, 2]
    wait_for(lambda: server.stats().pending == 0)


def test_a_failure_goes_to_a_member_again(connect: Connect) -> None:
    """A member that cannot handle a message does not lose it; it comes again, to whoever is free."""
    fails = threading.Event()
    taken = Taken()

    def fail_once(payload: object, message: Message[object]) -> None:
        if not fails.is_set():
            fails.set()
            raise ValueError("not now")
        taken(payload, message)

    client = connect()
    client.subscribe("orders", fail_once, group="packers")
    client.send_message("orders", 1, ack=1)
    wait_for(lambda: taken.messages)
    assert taken.messages[0].attempt == 2


# Order.


def test_order_by_over_processes(tmp_path: Path) -> None:
    """Messages of one customer are handled in order, one at a time, by one member; several members have work."""
    ports, customers, count = free_ports(), 12, 20
    with ExitStack() as stack:
        stack.enter_context(server_process(ports, tmp_path / "log"))
        client = stack.enter_context(patient(ports))
        processes = [
            stack.enter_context(running(MEMBER, ports._asdict(), {"order_by": "customer"}, 0.001)) for _ in range(3)
        ]
        for process in processes:
            assert read_line(process) == "ready"
        for number in range(count):
            for customer in range(customers):
                client.send_message("orders", number, ack=1, headers={"customer": str(customer)})
        wait_for(lambda: [group.pending for group in client.groups.list()] == [0])
        lines = [process.communicate()[0].splitlines() for process in processes]
    who: dict[str, set[int]] = defaultdict(set)
    numbers: dict[str, list[int]] = defaultdict(list)
    for index, those in enumerate(lines):
        for customer_name, number_text, attempt in map(str.split, those):
            assert attempt == "1"
            who[customer_name].add(index)
            numbers[customer_name].append(int(number_text))
    assert numbers == {str(customer): list(range(count)) for customer in range(customers)}
    assert all(len(members) == 1 for members in who.values())
    assert len(set.union(*who.values())) > 1


def test_order_by_waits_for_what_failed(connect: Connect) -> None:
    """While a message is tried again, those of the same value that come after it wait, and others do not."""
    seen: list[tuple[str, object]] = []
    tries: Counter[object] = Counter()

    def fail_twice(payload: object, message: Message[object]) -> None:
        tries[payload] += 1
        if payload == "a1" and tries[payload] < 3:
            raise ValueError("not now")
        seen.append((message.headers["customer"], payload))

    client = connect()
    client.subscribe("orders", fail_twice, group="packers", order_by="customer")
    for payload in ("a1", "a2", "b1", "a3"):
        client.send_message("orders", payload, ack=1, headers={"customer": payload[0]})
    wait_for(lambda: len(seen) == 4)
    assert seen == [("b", "b1"), ("a", "a1"), ("a", "a2"), ("a", "a3")]


def test_members_agree_on_the_order(connect: Connect) -> None:
    """A member that says otherwise is not taken in."""
    member(connect, order_by="customer")
    with pytest.raises(Rejected, match="keeps order by 'customer', as its members have it, not None") as caught:
        member(connect)
    assert caught.value.reason == "order_by"


# Groups stay.


def test_a_group_outlives_the_server(tmp_path: Path) -> None:
    """With a file it is there after a restart, without any member, and has what was sent before and after."""
    ports = free_ports()
    store = str(tmp_path / "store.db")
    with patient_server(ports, tmp_path, store), patient(ports) as client:
        client.subscribe("orders", Taken(), group="packers")
        client.unsubscribe("orders", group="packers")
        client.send_message("orders", "before", ack=1)
    with patient_server(ports, tmp_path, store), patient(ports) as client:
        client.send_message("orders", "after", ack=1)
        (status,) = client.groups.list()
        assert (status.name, status.group, status.members, status.pending) == ("orders", "packers", 0, 2)
        taken = Taken()
        client.subscribe("orders", taken, group="packers")
        wait_for(lambda: taken.payloads == ["before", "after"])


@contextmanager
def patient_server(ports: Ports, folder: Path, store: str) -> Iterator[None]:
    """Run a server that is killed at the end of the block."""
    with server_process(ports, folder / "log", persist_file=store) as process:
        yield
        process.kill()
        process.wait(10)


def test_members_survive_a_restart(tmp_path: Path) -> None:
    """Members join again by themselves, and go on where they were."""
    ports = free_ports()
    store = str(tmp_path / "store.db")
    with ExitStack() as stack:
        with patient_server(ports, tmp_path, store):
            clients = [stack.enter_context(patient(ports)) for _ in range(2)]
            members = [Taken(), Taken()]
            for client, taken in zip(clients, members, strict=True):
                client.subscribe("orders", taken, group="packers", prefetch=1)
        with patient_server(ports, tmp_path, store):
            wait_for(lambda: sum(group.members for group in clients[0].groups.list()) == 2)
            clients[0].send_messages("orders", range(20), ack=1)
            wait_for(lambda: sorted(number_of(members)) == list(range(20)))


def number_of(members: list[Taken]) -> list[int]:
    """Return the numbers that members were given."""
    return [payload for one in members for payload in one.payloads if isinstance(payload, int)]


def test_a_group_is_dropped(connect: Connect) -> None:
    """Not while it has members; then it is gone with all that waits for it, and begins anew with the next member."""
    client = connect()
    client.subscribe("orders", Taken(), group="packers")
    with pytest.raises(Rejected, match="group 'packers' of 'orders' has 1 members; stop them first"):
        client.groups.drop("orders", "packers")
    client.unsubscribe("orders", group="packers")
    client.send_messages("orders", range(7), ack=1)
    assert client.groups.drop("orders", "packers") == 7
    assert list(client.groups.list()) == []
    with pytest.raises(Rejected, match="there is no group 'packers' of 'orders'"):
        client.groups.drop("orders", "packers")
    taken = member(connect)
    client.send_message("orders", "new", ack=1)
    wait_for(lambda: taken.payloads == ["new"])


def test_groups_are_listed(connect: Connect) -> None:
    """All of them, more than one answer holds, in order, with what waits for them."""
    client = connect()
    for number in range(510):
        client.subscribe(f"n{number:03}", Taken(), group="g")
    client.unsubscribe("n007", group="g")
    client.send_messages("n007", [b"x", b"y"], ack=1)
    client.send_message("n007", b"z", ack=1, delay=600)
    groups = list(client.groups.list())
    assert [group.name for group in groups] == [f"n{number:03}" for number in range(510)]
    status = groups[7]
    assert (status.members, status.pending, status.in_hand, status.delayed) == (0, 2, 0, 1)
    assert status.pending_size > 0
    assert {(group.members, group.pending) for group in groups if group is not status} == {(1, 0)}


# What cannot be.


def test_what_subscribe_refuses(server: MezzengerServer, connect: Connect) -> None:
    """It raises before anything is asked of the server, and says what to do."""
    client = connect()
    with pytest.raises(InvalidMembership, match="give group="):
        client.subscribe("orders", Taken(), prefetch=1)
    for options in ({"prefetch": 0}, {"max_runtime": -1}, {"order_by": ""}):
        join: Callable[..., None] = client.subscribe
        with pytest.raises(InvalidMembership, match=next(iter(options))):
            join("orders", Taken(), group="packers", **options)
    for group in ("", "a|b"):
        with pytest.raises(InvalidName, match="group's name"):
            client.subscribe("orders", Taken(), group=group)
    assert list(client.groups.list()) == []
    client.subscribe("orders", Taken(), group="packers")
    with pytest.raises(AlreadySubscribed, match="a member of group 'packers' of 'orders' already"):
        client.subscribe("orders", Taken(), group="packers")
    assert server.stats().malformed == {}


@only_threads
@pytest.mark.timeout(90)
def test_a_callback_that_holds_the_gil(tmp_path: Path) -> None:
    """For longer than any heartbeat takes: its message is given to nobody else, and it stays connected."""
    report = held_gil.run(tmp_path, 5)
    assert held_gil.problems(report) == []


@only_threads
@pytest.mark.timeout(180)
def test_kills(tmp_path: Path) -> None:
    """Members that are killed amid their work lose nothing; by hand with 20,000 messages."""
    report = group_kills.run(tmp_path, 3000, kills=True)
    assert report.problems == []
    assert report.kills > 0


class Text(str):
    """Text as other libraries have it."""

    __slots__ = ()

    def __str__(self) -> str:
        return "something else"

    def __format__(self, _spec: str) -> str:
        return "something else"


class Seconds(float):
    """A number as other libraries have it."""


class Number(int):
    """Likewise."""


def test_what_is_of_a_subclass(server: MezzengerServer, connect: Connect) -> None:
    """Names, headers and numbers count for what they are, whatever they say when they are formatted."""
    arrived: list[Message[int]] = []

    def subscriber() -> Mezzenger:
        client = connect(reconnect_max=0.1)
        client.subscribe(
            Text("jobs.*"),
            lambda _payload, message: arrived.append(message),
            group=Text("workers"),
            order_by=Text("key"),
            max_runtime=Seconds(60),
            prefetch=Number(5),
        )
        return client

    one, other = subscriber(), connect(reconnect_max=0.1)
    assert [(group.name, group.group) for group in other.groups.list()] == [("jobs.*", "workers")]
    other.send_message(Text("jobs.mail"), 1, 1, headers={Text("key"): Text("x")}, ttl=Seconds(60))
    wait_for(lambda: arrived)
    assert (arrived[0].name, arrived[0].headers) == ("jobs.mail", {"key": "x"})
    with pytest.raises(NoResponders):
        other.request(Text("nobody"), 1, Seconds(2))
    ports = {"pub_port": server.pub_port, "recv_port": server.recv_port}
    server.stop()
    with MezzengerServer(ServerSettings.model_validate(ports)):
        wait_for(lambda: one.state is State.OPEN and other.state is State.OPEN)
        wait_for(lambda: [group.members for group in other.groups.list()] == [1])
        one.unsubscribe(Text("jobs.*"), group=Text("workers"))
        wait_for(lambda: [group.members for group in other.groups.list()] == [0])
        other.groups.drop(Text("jobs.*"), Text("workers"))
        one.subscribe(Text("jobs"), lambda _payload, message: arrived.append(message))
        one.unsubscribe(Text("jobs"))
        assert list(one.dead.list(Text("jobs"))) == []
        assert one.retained.drop(Text("jobs")) == 0
