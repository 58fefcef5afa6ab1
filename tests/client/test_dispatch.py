"""What the thread of the callbacks does with deliveries, without any server."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from mezzenger import Channel, ClientSettings
from mezzenger.client.dispatch import Dispatcher
from mezzenger.client.handlers import Handler
from mezzenger.client.payloads import Payloads
from mezzenger.client.responder import Responder
from mezzenger.codecs import JSON, PICKLE, RAW
from mezzenger.errors import UntrustedPayload
from mezzenger.message import Message
from mezzenger.protocol.commands import Failure, Raised
from mezzenger.protocol.events import Delivery
from mezzenger.protocol.outgoing import Draft
from mezzenger.protocol.wire import encode_data, read_contents

SECONDS = 5.0


def delivery(number: int, *, ack: int = 1, codec: int = RAW.number, payload: bytes = b"x") -> Delivery:
    frame = encode_data("a", [(1.5, payload)], ack=ack, codec=codec, client=1, sequence=number)
    return Delivery(read_contents(frame), 1, None)


class Handled:
    """Notes what the dispatcher tells."""

    def __init__(self) -> None:
        self.failures: list[list[Failure]] = []
        self.responses: list[Draft | Raised] = []
        self.changed = threading.Condition()

    def take(self, _delivery: Delivery, failures: list[Failure]) -> None:
        with self.changed:
            self.failures.append(failures)
            self.changed.notify_all()

    def respond(self, response: Draft | Raised) -> None:
        with self.changed:
            self.responses.append(response)
            self.changed.notify_all()

    def wait_for(self, count: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.failures) + len(self.responses) >= count, SECONDS)


@contextmanager
def dispatching(
    callback: Callable[[bytes, Message[bytes]], None], handled: Handled, *, limit: int = 10
) -> Iterator[Dispatcher]:
    """Have a dispatcher with one callback, for the name ``a``."""
    payloads = Payloads(ClientSettings())
    responder = Responder(payloads, begins=lambda _: True, respond=lambda _, response: handled.respond(response))
    dispatcher = Dispatcher(
        payloads, responder, limit, handled=handled.take, ignored=lambda _: None, ended=lambda: None
    )
    dispatcher.handlers.add("a", Handler(callback))
    dispatcher.start()
    try:
        yield dispatcher
    finally:
        dispatcher.stop()
        dispatcher.join()


def test_the_callback_first() -> None:
    """A delivery is handled when its callback has returned, and not before."""
    handled = Handled()
    begun, release = threading.Event(), threading.Event()

    def take(_payload: bytes, _message: Message[bytes]) -> None:
        begun.set()
        release.wait(SECONDS)

    with dispatching(take, handled) as dispatcher:
        dispatcher.put([delivery(1)])
        assert begun.wait(SECONDS)
        assert handled.failures == []
        release.set()
        handled.wait_for(1)
    assert handled.failures == [[]]


@pytest.mark.parametrize("error", [ValueError, SystemExit, KeyboardInterrupt])
def test_whatever_it_raises(error: type[BaseException]) -> None:
    """It is a failure, and the next delivery is handled."""
    handled = Handled()

    def fail_first(_payload: bytes, message: Message[bytes]) -> None:
        if message.id.endswith("-1"):
            raise error

    with dispatching(fail_first, handled) as dispatcher:
        dispatcher.put([delivery(1), delivery(2)])
        handled.wait_for(2)
    assert [len(failures) for failures in handled.failures] == [1, 0]
    assert handled.failures[0][0].error.startswith(error.__name__)


def test_another_type_from_now_on() -> None:
    """A callback that subscribes anew, with another type, has the rest of a batch read as that."""
    handled, read = Handled(), list[object]()
    frame = encode_data("a", [(1.5, b"1"), (1.5, b"2")], ack=1, codec=JSON.number, client=1, sequence=1)

    def take(payload: object, _message: Message[object]) -> None:
        read.append(payload)
        dispatcher.handlers.add("a", Handler(take, Channel("a", str, codec="json")))

    with dispatching(take, handled) as dispatcher:
        dispatcher.put([Delivery(read_contents(frame), 1, None)])
        handled.wait_for(1)
    assert read == [1]
    assert [(failure.index, failure.error.splitlines()[1]) for failure in handled.failures[0]] == [
        (1, "  Input should be a valid string [type=string_type, input_value=2, input_type=int]")
    ]


def test_a_full_queue() -> None:
    """What is beyond ``receive_queue`` is dropped and counted; ack=1 deliveries are not."""
    handled = Handled()
    release = threading.Event()

    def take(_payload: bytes, _message: Message[bytes]) -> None:
        release.wait(SECONDS)

    with dispatching(take, handled, limit=3) as dispatcher:
        dispatcher.put([delivery(0)])
        dispatcher.put([delivery(number, ack=0) for number in range(1, 6)])
        dispatcher.put([delivery(6)])
        assert dispatcher.dropped == 2
        release.set()
        handled.wait_for(2)
    assert dispatcher.received == 5


def test_a_pickle_from_a_stranger() -> None:
    """It is not read, unless the settings trust its server; a channel changes nothing about that."""
    pickled = delivery(1, codec=PICKLE.number, payload=PICKLE.dumps({"a": 1}))
    far = ClientSettings(server_address="10.0.0.5")
    for channel in (None, Channel("a", dict[str, int])):
        with pytest.raises(UntrustedPayload, match="allow_pickle"):
            Payloads(far).reader(pickled, channel)(0)
    assert Payloads(ClientSettings()).reader(pickled)(0).payload == {"a": 1}
