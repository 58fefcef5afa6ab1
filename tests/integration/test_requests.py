"""Requests between real processes: each has its own answer, or an error that tells what may have happened."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import BaseModel

from mezzenger import (
    Channel,
    ClientSettings,
    InvalidMessage,
    InvalidName,
    Message,
    MessageTooLarge,
    Mezzenger,
    MezzengerServer,
    NoResponders,
    PayloadInvalid,
    PayloadNotDecodable,
    PayloadNotEncodable,
    Rejected,
    RemoteError,
    RequestLost,
    RequestTimeout,
    ServerSettings,
    ServerUnreachable,
)
from tests.integration.conftest import Connect, both_clients, only_threads
from tests.integration.processes import Ports, free_ports, patient, read_line, running, server_process, wait_for

FOREVER: Final = 600.0
"""Seconds; a test that waits for so long has failed."""
RESPONDER: Final = """
import sys, time
from mezzenger import ClientSettings, Mezzenger

def double(payload, msg):
    return payload, payload * 2

def hang(payload, msg):
    print("begun", flush=True)
    time.sleep(600)

mc = Mezzenger(settings=ClientSettings(send_port=int(sys.argv[1]), sub_port=int(sys.argv[2])))
mc.subscribe("double", double)
mc.subscribe("hang", hang)
print("ready", flush=True)
sys.stdin.read()
mc.stop()
"""

pytestmark = [both_clients, pytest.mark.timeout(60)]


@pytest.fixture
def ports(tmp_path: Path) -> Iterator[Ports]:
    """A server in a process of its own."""
    ports = free_ports()
    with server_process(ports, tmp_path / "log"):
        yield ports


@contextlib.contextmanager
def responder(ports: Ports) -> Iterator[None]:
    """Run a responder in a process of its own."""
    with running(RESPONDER, *ports) as process:
        assert read_line(process) == "ready"
        yield


def ports_of(server: MezzengerServer) -> Ports:
    return Ports(server.recv_port, server.pub_port)


class Stuck:
    """A callback that waits until a test lets it go on, and notes what it was given."""

    def __init__(self) -> None:
        self.begun = threading.Semaphore(0)
        self.go = threading.Event()
        self.given: list[object] = []
        self.deadline = 0.0
        """Of what it was given last."""

    def __call__(self, payload: object, msg: Message[object]) -> object:
        self.given.append(payload)
        self.deadline = msg.deadline or 0.0
        self.begun.release()
        assert self.go.wait(30)
        return payload

    def wait(self) -> None:
        assert self.begun.acquire(timeout=30)


def increment(payload: int, _msg: Message[int]) -> int:
    return payload + 1


@pytest.fixture
def stuck() -> Iterator[Stuck]:
    stuck = Stuck()
    yield stuck
    stuck.go.set()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(10) as pool:
        yield pool


# Many.


def test_a_thousand_at_a_time(ports: Ports) -> None:
    """1,000 requests from 10 threads over one client: all are answered, each with its own answer."""
    with responder(ports), responder(ports), patient(ports) as client, ThreadPoolExecutor(10) as pool:
        answers = list(pool.map(lambda number: client.request("double", number), range(1000)))
    assert answers == [(number, 2 * number) for number in range(1000)]


def test_a_thousand_that_wait(server: MezzengerServer, connect: Connect, stuck: Stuck) -> None:
    """1,000 requests of one client are under way together, and each comes back to the thread that waits for it."""
    connect().subscribe("slow", stuck)
    client = connect()
    with ThreadPoolExecutor(1000) as pool:
        futures = [pool.submit(client.request, "slow", number, FOREVER) for number in range(1000)]
        wait_for(lambda: server.stats().open_requests == 1000)
        stuck.go.set()
        assert [future.result() for future in futures] == list(range(1000))
    assert sorted(map(str, stuck.given)) == sorted(map(str, range(1000)))
    stats = server.stats()
    assert (stats.requests, stats.responses, stats.unserved, stats.open_requests) == (1000, 1000, {}, 0)


# One.


def test_what_the_callback_gets(connect: Connect) -> None:
    """The message is like any other, and tells when its sender waits no more; others tell nothing."""
    messages: list[Message[Any]] = []
    connect().subscribe("name", lambda _payload, msg: messages.append(msg))
    client = connect()
    before = time.time()
    assert client.request("name", {"a": 1}, timeout=30.0, headers={"unit": "C"}) is None
    client.send_message("name", 2)
    wait_for(lambda: len(messages) == 2)
    request, other = messages
    assert (request.name, request.payload, request.ack, request.attempt) == ("name", {"a": 1}, 0, 1)
    assert request.headers == {"unit": "C"}
    assert request.deadline is not None
    assert before + 29 < request.deadline <= time.time() + 30
    assert request["deadline"] == request.deadline
    assert other.deadline is None
    assert request.id != other.id


def test_an_error_of_the_callback(connect: Connect) -> None:
    """Who asked gets its type, its text and its traceback; the responder goes on and counts it."""
    other = connect()

    def fail(payload: int, _msg: Message[int]) -> float:
        return 1 / payload

    other.subscribe("divide", fail)
    client = connect()
    with pytest.raises(RemoteError) as caught:
        client.request("divide", 0)
    error = caught.value
    assert (error.type, error.text) == ("ZeroDivisionError", "division by zero")
    assert "return 1 / payload" in error.traceback
    assert "mezzenger/client/responder.py" not in error.traceback
    for part in ("'divide'", error.type, error.text, error.traceback):
        assert part in str(error)
    assert client.request("divide", 2) == 0.5
    assert (other.stats.received, other.stats.failed) == (2, 1)


@only_threads
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_whatever_it_raises(connect: Connect, error: type[BaseException]) -> None:
    """Nothing that a callback raises ends the thread of the callbacks, or leaves who asked without an answer."""

    def fail(payload: int, _msg: Message[int]) -> int:
        if payload:
            raise error
        return payload

    connect().subscribe("name", fail)
    client = connect()
    with pytest.raises(RemoteError, match=error.__name__):
        client.request("name", 1)
    assert client.request("name", 0) == 0


def test_nobody_is_there(connect: Connect) -> None:
    """Who asks for a name without subscribers learns so at once."""
    client = connect()
    with pytest.raises(NoResponders, match="nobody subscribes to 'name'; nothing was run"):
        client.request("name", 1, timeout=FOREVER)
    client.subscribe("name", print)
    client.unsubscribe("name")
    with pytest.raises(NoResponders):
        client.request("name", 1, timeout=FOREVER)


@pytest.mark.parametrize("codec", ["json", "msgpack", "raw"])
def test_the_codec_of_the_request(connect: Connect, codec: str) -> None:
    """An answer is written as the question was, whatever the responder's own codec is."""
    connect().subscribe("name", lambda payload, _msg: [payload] if isinstance(payload, list) else payload)
    client = connect(codec=codec, allow_pickle="never")
    payload = b"x" if codec == "raw" else [1, "x"]
    assert client.request("name", payload) == (payload if codec == "raw" else [payload])


def test_an_answer_that_cannot_be_sent() -> None:
    """An answer that cannot be written is an error of the responder; so is one that is too large."""
    with MezzengerServer(ServerSettings(pub_port=0, recv_port=0, max_message_size=65536)) as server:
        ports = ports_of(server)
        with patient(ports) as other, patient(ports) as client:
            other.subscribe("function", lambda _payload, _msg: lambda: None)
            other.subscribe("large", lambda _payload, _msg: bytes(70_000))
            with pytest.raises(RemoteError) as caught:
                client.request("function", 1)
            assert (caught.value.type, caught.value.traceback) == ("PayloadNotEncodable", "")
            with pytest.raises(RemoteError, match=r"70\d\d\d bytes on the wire; .* at most 65536"):
                client.request("large", 1)
            assert (other.stats.received, other.stats.failed) == (2, 2)


def test_a_pickle_is_not_read_without_trust(connect: Connect) -> None:
    """A responder that trusts nobody says so, and runs nothing."""
    given: list[object] = []
    connect(allow_pickle="never").subscribe("name", lambda payload, _msg: given.append(payload))
    with pytest.raises(RemoteError, match=r"UntrustedPayload.*allow_pickle"):
        connect().request("name", 1)
    assert given == []


class Foreign:
    """An answer whose class is gone when it is to be read."""

    def __reduce__(self) -> tuple[object, tuple[()]]:
        return _gone, ()


def _gone() -> None:
    raise RuntimeError("there is no such class any more")


def test_an_answer_that_cannot_be_read(connect: Connect) -> None:
    """It is an error of who asked."""
    connect().subscribe("name", lambda _payload, _msg: Foreign())
    with pytest.raises(PayloadNotDecodable, match="no such class"):
        connect().request("name", 1)


def test_what_is_refused_before_anything_is_sent(server: MezzengerServer, connect: Connect) -> None:
    """Names, payloads, headers and timeouts are checked as in send_message."""
    client = connect()
    with pytest.raises(InvalidName):
        client.request("a.*", 1)
    with pytest.raises(PayloadNotEncodable):
        client.request("name", lambda: None)
    with pytest.raises(InvalidMessage, match="headers"):
        client.request("name", 1, headers={"a": 1})  # type: ignore[dict-item]  # the point of the test
    for timeout in (0, -1, float("nan"), float("inf"), True, "1"):
        with pytest.raises(InvalidMessage, match="timeout must be more than 0"):
            client.request("name", 1, timeout=timeout)  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(MessageTooLarge):
        client.request("name", bytes(64 * 2**20))
    assert server.stats().requests == 0


@pytest.mark.parametrize("auto_start", [True, False])
def test_without_threads(connect: Connect, auto_start: bool) -> None:
    """A client without an I/O thread may ask, too."""
    connect().subscribe("name", increment)
    client = connect(auto_start=auto_start)
    assert [client.request("name", number) for number in range(3)] == [1, 2, 3]


def test_behind_what_was_sent(connect: Connect) -> None:
    """A request does not overtake the messages that its thread has published before, on their way to the server."""
    given: list[object] = []
    other = connect()
    other.subscribe("name", lambda payload, _msg: given.append(payload))
    client = connect()
    for number in range(100):
        client.send_message("name", number, ack=1)
    client.request("name", 100)
    assert given == list(range(101))


# Callbacks that ask.


def test_a_callback_may_ask_others(connect: Connect) -> None:
    """What a callback asks, another client answers."""
    first, second = connect(), connect()
    second.subscribe("inner", increment)
    first.subscribe("outer", lambda payload, _msg: first.request("inner", payload) * 2)
    assert connect().request("outer", 20) == 42


@only_threads
def test_a_callback_cannot_ask_its_own_client(connect: Connect) -> None:
    """Its only thread waits: that is told at once if nobody else is there, and else the others are asked."""
    first, second = connect(), connect()
    first.subscribe("inner", lambda payload, _msg: (1, payload))
    first.subscribe("outer", lambda payload, _msg: first.request("inner", payload, timeout=FOREVER))
    with pytest.raises(RemoteError, match=r"NoResponders.*whose callbacks wait for the response"):
        second.request("outer", 1, timeout=FOREVER)
    assert first.request("inner", 1) == (1, 1)
    second.subscribe("inner", lambda payload, _msg: (2, payload))
    assert [second.request("outer", number) for number in range(3)] == [(2, 0), (2, 1), (2, 2)]


def test_an_answer_before_the_end(connect: Connect) -> None:
    """A callback that stops its client answers before that ends."""
    other = connect()

    def stop(payload: int, _msg: Message[int]) -> int:
        other.stop()
        return payload

    other.subscribe("name", stop)
    assert connect().request("name", 5) == 5
    wait_for(lambda: other.state == "closed")


# Time.


def test_it_takes_too_long(server: MezzengerServer, connect: Connect, stuck: Stuck) -> None:
    """Who asks waits no longer than its timeout; a callback that runs is finished, and its answer is of no use."""
    connect().subscribe("slow", stuck)
    client = connect()
    with pytest.raises(RequestTimeout, match=r"'slow' within 0\.2 s; it may have been carried out"):
        client.request("slow", 1, timeout=0.2)
    wait_for(lambda: server.stats().open_requests == 0)
    # The responder may have got the request a while after the server did, and goes by another clock.
    wait_for(lambda: time.time() > stuck.deadline + 0.1)
    stuck.go.set()
    assert client.request("slow", 2) == 2
    assert stuck.given == [1, 2]
    stats = server.stats()
    assert (stats.responses, stats.unserved, stats.unwanted) == (1, {"expired": 1}, 0)


def test_what_has_expired_is_not_run(
    server: MezzengerServer, connect: Connect, stuck: Stuck, pool: ThreadPoolExecutor
) -> None:
    """A request whose time is over while others are answered is dropped, and counted."""
    other, client = connect(), connect()
    other.subscribe("slow", stuck)
    first = pool.submit(client.request, "slow", "first", FOREVER)
    stuck.wait()
    with pytest.raises(RequestTimeout):
        client.request("slow", "expired", timeout=0.2)
    last = pool.submit(client.request, "slow", "last", FOREVER)
    wait_for(lambda: server.stats().requests == 3)
    stuck.go.set()
    assert (first.result(), last.result()) == ("first", "last")
    assert stuck.given == ["first", "last"]
    assert other.stats.expired == 1
    wait_for(lambda: server.stats().open_requests == 0)
    assert server.stats().unserved == {"expired": 1}


def test_who_asked_is_gone(server: MezzengerServer, connect: Connect, stuck: Stuck, pool: ThreadPoolExecutor) -> None:
    """What a client has asked that is gone is not run any more."""
    other, client = connect(), connect()
    other.subscribe("slow", stuck)
    first = pool.submit(client.request, "slow", "first", FOREVER)
    stuck.wait()
    with patient(ports_of(server)) as gone:
        asking = pool.submit(gone.request, "slow", "of nobody", FOREVER)
        wait_for(lambda: server.stats().requests == 2)
        gone.stop()
        with pytest.raises(Exception, match="stopped"):
            asking.result()
    wait_for(lambda: server.stats().open_requests == 1)
    other.flush()  # what the server has said before its answer has arrived by then
    stuck.go.set()
    assert first.result() == "first"
    assert client.request("slow", "last") == "last"
    assert stuck.given == ["first", "last"]
    assert other.stats.expired == 1


# Breaks.


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_a_responder_that_is_gone(ports: Ports, kind: signal.Signals) -> None:
    """Who asked learns it at once, and nobody else runs it; the next request goes to those who are left."""
    with running(RESPONDER, *ports) as process, patient(ports) as client, ThreadPoolExecutor(1) as pool:
        assert read_line(process) == "ready"
        future = pool.submit(client.request, "hang", 1, FOREVER)
        assert read_line(process) == "begun"
        with responder(ports):
            os.kill(process.pid, kind)
            with pytest.raises(RequestLost, match=r"responder ended before .* may have been carried out"):
                future.result()
            assert client.request("double", 4) == (4, 8)


def test_a_server_that_is_gone(tmp_path: Path, pool: ThreadPoolExecutor) -> None:
    """What was sent is lost at once; what was not sent waits for the next server, and is answered."""
    ports, log = free_ports(), tmp_path / "log"
    with running(RESPONDER, *ports) as process:
        with server_process(ports, log) as server:
            assert read_line(process) == "ready"
            client = patient(ports)
            client.subscribe("name", lambda payload, _msg: [payload])
            future = pool.submit(client.request, "hang", 1, FOREVER)
            assert read_line(process) == "begun"
            server.kill()
            with pytest.raises(RequestLost, match=r"connection broke .* may have been carried out"):
                future.result()
        waiting = pool.submit(client.request, "name", 4, FOREVER)
        with server_process(ports, log), client:
            assert waiting.result() == [4]


def test_no_server_in_time(tmp_path: Path) -> None:
    """What could not be sent in time raises ServerUnreachable, as every other use of the client."""
    ports = free_ports()
    with server_process(ports, tmp_path / "log") as server, patient(ports) as client:
        server.kill()
        wait_for(lambda: client.state != "open")
        with pytest.raises(ServerUnreachable, match=str(ports.send_port)):
            client.request("name", 1, timeout=0.3)


def test_a_server_that_stops_finishes_what_is_under_way(stuck: Stuck, pool: ThreadPoolExecutor) -> None:
    """A stop waits for answers, as for acks; what it does not take any more waits for the next server."""
    with MezzengerServer(ServerSettings(pub_port=0, recv_port=0, drain_timeout=20.0)) as server:
        ports = ports_of(server)
        with patient(ports) as other, patient(ports) as client:
            other.subscribe("slow", stuck)
            first = pool.submit(client.request, "slow", 1, FOREVER)
            stuck.wait()
            stopping = pool.submit(server.stop)
            wait_for(lambda: server.stats().unserved or not_taken(client))
            stuck.go.set()
            assert first.result() == 1
            stopping.result()


def not_taken(client: Mezzenger) -> bool:
    """Ask what only a server takes that does not stop."""
    with contextlib.suppress(ServerUnreachable, NoResponders):
        client.request("nobody", 1, timeout=0.1)
    return False


def test_unsubscribed_with_requests_waiting(
    server: MezzengerServer, connect: Connect, stuck: Stuck, pool: ThreadPoolExecutor
) -> None:
    """Who asked a responder that unsubscribes before it begins is told that nothing was run."""
    other, client = connect(), connect()
    other.subscribe("slow", stuck)
    first = pool.submit(client.request, "slow", 1, FOREVER)
    stuck.wait()
    second = pool.submit(client.request, "slow", 2, FOREVER)
    wait_for(lambda: server.stats().open_requests == 2)
    other.unsubscribe("slow")
    stuck.go.set()
    assert first.result() == 1
    with pytest.raises(RemoteError, match=r"NotSubscribed.*has unsubscribed from 'slow'; nothing was run"):
        second.result()
    assert stuck.given == [1]


# Limits.


def test_too_many(stuck: Stuck, pool: ThreadPoolExecutor) -> None:
    """Beyond max_requests a request is refused, with the limit and its setting; others go on."""
    with MezzengerServer(ServerSettings(pub_port=0, recv_port=0, max_requests=2)) as server:
        ports = ports_of(server)
        with patient(ports) as other, patient(ports) as client, patient(ports) as third:
            other.subscribe("slow", stuck)
            other.subscribe("quick", lambda payload, _msg: payload)
            futures = [pool.submit(client.request, "slow", number, FOREVER) for number in range(2)]
            wait_for(lambda: server.stats().open_requests == 2)
            with pytest.raises(Rejected, match=r"2 requests of this client .* server\.max_requests, 2\).*limit"):
                client.request("quick", 3)
            with pytest.raises(Rejected, match=r"each responder has 2 requests .* server\.max_requests"):
                third.request("quick", 3)
            stuck.go.set()
            assert [future.result() for future in futures] == [0, 1]
            assert third.request("quick", 3) == 3


def test_receive_queue_does_not_drop_requests(
    server: MezzengerServer, connect: Connect, stuck: Stuck, pool: ThreadPoolExecutor
) -> None:
    """The limit of what may be dropped is none of requests: each is answered."""
    other = connect(receive_queue=2)
    other.subscribe("slow", stuck)
    client = Mezzenger(settings=ClientSettings(send_port=server.recv_port, sub_port=server.pub_port))
    with client:
        futures = [pool.submit(client.request, "slow", number, FOREVER) for number in range(8)]
        wait_for(lambda: server.stats().open_requests == 8)
        stuck.go.set()
        assert [future.result() for future in futures] == list(range(8))
    assert other.stats.dropped == 0


# Channels.


class Order(BaseModel):
    """What a typed channel carries."""

    number: int
    amount: Decimal = Decimal(1)


ORDERS: Final = Channel("orders", Order)


def test_a_typed_handler(connect: Connect) -> None:
    """It gets what it was promised; an answer that is a model comes back as the plain values that stand for it."""
    given: list[Order] = []

    def take(order: Order, _msg: Message[Order]) -> Order:
        given.append(order)
        return order

    connect().subscribe(ORDERS, take)
    client = connect()
    assert client.request(ORDERS, Order(number=5)) == {"number": 5, "amount": "1"}
    assert given == [Order(number=5)]


def test_a_payload_of_another_type(connect: Connect) -> None:
    """Who asks is refused before anything is sent; what others send never reaches the handler, and is told to them."""
    given: list[Order] = []
    connect().subscribe(ORDERS, lambda order, _msg: given.append(order))
    client = connect()
    with pytest.raises(PayloadInvalid, match="'orders'"):
        client.request(ORDERS, {"number": "five"})  # type: ignore[arg-type]  # the point of the test
    with pytest.raises(RemoteError, match="PayloadInvalid: channel 'orders'") as caught:
        client.request("orders", {"number": "five"})
    assert caught.value.type == "PayloadInvalid"
    assert given == []


# Patterns and groups.


def test_a_pattern_and_a_group(connect: Connect) -> None:
    """A subscriber to a pattern, and a member of a group, answer like others."""
    one, other, client = connect(), connect(), connect()
    one.subscribe("sums.*", lambda payload, _msg: ("one", payload))
    assert client.request("sums.a", 1) == ("one", 1)
    with pytest.raises(NoResponders):
        client.request("sums.a.b", 1)
    other.subscribe("sums.a", lambda payload, _msg: ("other", payload), group="workers")
    answers = {client.request("sums.a", number)[0] for number in range(4)}
    assert answers == {"one", "other"}
