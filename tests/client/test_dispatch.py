"""What the thread of the callbacks does with deliveries, without any server."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pytest

from mezzenger import Channel, ClientSettings
from mezzenger.client.dispatch import Dispatcher
from mezzenger.client.handlers import Handler
from mezzenger.client.payloads import Payloads
from mezzenger.client.responder import Responder
from mezzenger.codecs import JSON, PICKLE, RAW
from mezzenger.errors import PayloadNotDecodable, UntrustedPayload
from mezzenger.message import Message
from mezzenger.protocol.bundle import encode_bundle, read_bundle
from mezzenger.protocol.commands import Failure, Raised
from mezzenger.protocol.events import Bundled, Delivery
from mezzenger.protocol.outgoing import Draft
from mezzenger.protocol.wire import NO_EXTRA, encode_data, read_contents

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
    roused = threading.Event()

    def rest(is_over: Callable[[], int]) -> None:
        while not is_over():
            roused.wait(0.01)

    payloads = Payloads(ClientSettings())
    responder = Responder(payloads, begins=lambda _: True, respond=lambda _, response: handled.respond(response))
    dispatcher = Dispatcher(
        payloads,
        responder,
        limit,
        handled=handled.take,
        ignored=lambda _: None,
        ended=lambda: None,
        rest=rest,
        rouse=roused.set,
    )
    dispatcher.handlers.add("a", Handler(callback))
    dispatcher.start()
    try:
        yield dispatcher
    finally:
        dispatcher.stop()
        assert dispatcher.join(10)


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


def batch(payloads: Sequence[bytes], indexes: Sequence[int] | None, codec: int = JSON.number) -> Delivery:
    """Return these as one delivery, or some of them."""
    items = [(1.5 + number, payload) for number, payload in enumerate(payloads)]
    frame = encode_data("a", items, ack=1, codec=codec, client=1, sequence=7)
    return Delivery(read_contents(frame), 2, indexes, is_retained=True)


@pytest.mark.parametrize("size", [2, 31, 32, 33, 100])
@pytest.mark.parametrize("step", [1, 3])
@pytest.mark.parametrize("error", [None, ValueError, SystemExit])
@pytest.mark.parametrize("unreadable", [None, 0, 30, 60])
def test_a_batch_is_what_its_messages_are(
    size: int, step: int, error: type[BaseException] | None, unreadable: int | None
) -> None:
    """They are read some at a time; each is as if it were read alone, and what fails is known one by one."""
    handled, taken = Handled(), list[Message[bytes]]()
    payloads = [b"?" if number == unreadable else b"%d" % number for number in range(size)]
    one = batch(payloads, None if step == 1 else tuple(range(0, size, step)))
    failing = {0, 33, size - 1} if error else set()

    def take(payload: bytes, message: Message[bytes]) -> None:
        assert payload is message.payload
        taken.append(message)
        if error and int(payload) in failing:
            raise error

    with dispatching(take, handled) as dispatcher:
        dispatcher.put([one])
        handled.wait_for(1)
        assert (dispatcher.received, dispatcher.failed) == (len(range(0, size, step)), len(handled.failures[0]))
    wanted = list(range(0, size, step))
    read = Payloads(ClientSettings()).reader(one)
    assert taken == [read(index) for index in wanted if index != unreadable]
    assert [one.checksum for one in taken] == [read(index).checksum for index in wanted if index != unreadable]
    failed = failing | {-1 if unreadable is None else unreadable}
    assert [failure.index for failure in handled.failures[0]] == [index for index in wanted if index in failed]


def test_a_batch_through_a_channel() -> None:
    """Each message is validated; what is not of the type is not given to the callback."""
    handled, taken = Handled(), list[object]()

    def take(payload: object, _message: Message[object]) -> None:
        taken.append(payload)

    with dispatching(lambda _payload, _message: None, handled) as dispatcher:
        dispatcher.handlers.add("a", Handler(take, Channel("a", int)))
        dispatcher.put([batch([b"1", b"2", b'"three"', b"4"], None)])
        handled.wait_for(1)
    assert taken == [1, 2, 4]
    assert [failure.index for failure in handled.failures[0]] == [2]


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


def test_overlapping_patterns() -> None:
    """Each message is given to every callback whose pattern matches, also if one of them fails; then it is nacked."""
    handled, calls = Handled(), list[tuple[str, bytes]]()

    def take(payload: bytes, _message: Message[bytes]) -> None:
        calls.append(("a", payload))
        if payload == b"2":
            raise ValueError("not a 2")

    def take_all(payload: bytes, _message: Message[bytes]) -> None:
        calls.append((">", payload))

    frame = encode_data("a", [(1.5, b"1"), (1.5, b"2"), (1.5, b"3")], ack=1, codec=RAW.number, client=1, sequence=1)
    with dispatching(take, handled) as dispatcher:
        dispatcher.handlers.add(">", Handler(take_all))
        dispatcher.handlers.add("b", Handler(take_all))
        dispatcher.handlers.add("a|g", Handler(take_all))
        dispatcher.put([Delivery(read_contents(frame), 1, None)])
        handled.wait_for(1)
        assert (dispatcher.received, dispatcher.failed) == (3, 1)
    assert sorted(calls) == [(">", b"1"), (">", b"2"), (">", b"3"), ("a", b"1"), ("a", b"2"), ("a", b"3")]
    ((failure,),) = handled.failures
    assert (failure.index, failure.error.splitlines()[0]) == (1, "ValueError: not a 2")


def test_two_callbacks_fail() -> None:
    """A message that several of them could not handle failed once, and the first error is told."""
    handled = Handled()

    def fail(_payload: bytes, _message: Message[bytes]) -> None:
        raise ValueError("first")

    def fail_too(_payload: bytes, _message: Message[bytes]) -> None:
        raise KeyError("second")

    with dispatching(fail, handled) as dispatcher:
        dispatcher.handlers.add("*", Handler(fail_too))
        dispatcher.put([delivery(1)])
        handled.wait_for(1)
        assert (dispatcher.received, dispatcher.failed) == (1, 1)
    assert [failure.error.splitlines()[0] for failure in handled.failures[0]] == ["ValueError: first"]


@pytest.mark.parametrize("ended", ["a", "*"])
def test_unsubscribing_in_a_callback(ended: str) -> None:
    """From the next message of the batch on, only the callbacks that are left are called."""
    handled, calls = Handled(), list[tuple[str, bytes]]()

    def take(payload: bytes, _message: Message[bytes]) -> None:
        calls.append(("a", payload))
        dispatcher.handlers.remove(ended)

    frame = encode_data("a", [(1.5, b"1"), (1.5, b"2")], ack=1, codec=RAW.number, client=1, sequence=1)
    with dispatching(take, handled) as dispatcher:
        dispatcher.handlers.add("*", Handler(lambda payload, _message: calls.append(("*", payload))))
        dispatcher.put([Delivery(read_contents(frame), 1, None)])
        handled.wait_for(1)
    left = "*" if ended == "a" else "a"
    assert [payload for name, payload in calls if name == ended] == [b"1"]
    assert [payload for name, payload in calls if name == left] == [b"1", b"2"]
    assert handled.failures == [[]]


def test_leaving_a_group_in_a_callback() -> None:
    """The rest of the batch is not handled, whoever else subscribes to its name, and so goes to another member."""
    handled, calls = Handled(), list[bytes]()

    def leave(payload: bytes, _message: Message[bytes]) -> None:
        calls.append(payload)
        dispatcher.handlers.remove("a|g")

    frame = encode_data("a", [(1.5, b"1"), (1.5, b"2")], ack=1, codec=RAW.number, client=1, sequence=1)
    with dispatching(lambda payload, _message: calls.append(payload), handled) as dispatcher:
        dispatcher.handlers.add("a|g", Handler(leave))
        dispatcher.put([Delivery(read_contents(frame), 1, None, "a|g")])
        handled.wait_for(1)
    assert calls == [b"1"]
    assert [failure.index for failure in handled.failures[0]] == [1]


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


def bundled(*names: str, codec: int = RAW.number) -> Bundled:
    items = [(1.5 + place, PICKLE.dumps(place)) for place in range(len(names))]
    return Bundled(read_bundle(encode_bundle(names, items, [NO_EXTRA] * len(names), codec=codec, client=1, sequence=7)))


def test_a_bundle() -> None:
    """Each message goes to the callbacks of its name, in order; one that raises is counted, and the rest goes on."""
    seen: list[tuple[str, int, float, str]] = []
    done = threading.Event()

    def take(payload: object, message: Message[bytes]) -> None:
        assert isinstance(payload, int)
        seen.append((message.name, payload, message.timestamp, message.id))
        if payload == 1:
            raise ValueError("not this one")
        if payload == 4:
            done.set()

    with dispatching(take, Handled()) as dispatcher:
        dispatcher.handlers.add("b", Handler(take, Channel("b", int)))
        dispatcher.handlers.add("b.>", Handler(take))
        dispatcher.put([bundled("a", "b", "nobody", "b.c", "a", codec=PICKLE.number)])
        assert done.wait(SECONDS)
    names = [("a", 0), ("b", 1), ("b.c", 3), ("a", 4)]
    assert seen == [(name, place, 1.5 + place, f"{1:016x}-{7 + place}") for name, place in names]
    assert (dispatcher.received, dispatcher.failed, dispatcher.dropped) == (4, 1, 0)


def test_an_unreadable_message_of_a_bundle() -> None:
    """What cannot be read, or is not of its channel's type, counts as failed, and no callback is called."""
    handled = Handled()
    with dispatching(lambda _, message: handled.take(delivery(0), []), handled) as dispatcher:
        dispatcher.handlers.add("b", Handler(lambda _, message: handled.take(delivery(0), []), Channel("b", str)))
        dispatcher.put([bundled("b", "a", codec=JSON.number), bundled("b", "a", codec=PICKLE.number)])
        handled.wait_for(1)
    assert (dispatcher.received, dispatcher.failed) == (4, 3)


def test_a_bundle_counts_in_the_limit() -> None:
    """With all its messages: it is dropped as a whole if there is no room."""
    release = threading.Event()
    handled = Handled()

    def take(_payload: bytes, _message: Message[bytes]) -> None:
        release.wait(SECONDS)
        handled.take(delivery(0), [])

    with dispatching(take, handled, limit=4) as dispatcher:
        dispatcher.put([delivery(0)])
        dispatcher.put([bundled("a", "a", "a"), bundled("a", "a"), delivery(1, ack=0)])
        assert dispatcher.dropped == 2
        release.set()
        handled.wait_for(6)
    assert dispatcher.received == 5


def test_a_pickle_from_a_stranger() -> None:
    """It is not read, unless the settings trust its server; a channel changes nothing about that."""
    pickled = delivery(1, codec=PICKLE.number, payload=PICKLE.dumps({"a": 1}))
    far = ClientSettings(server_address="10.0.0.5")
    for channel in (None, Channel("a", dict[str, int])):
        with pytest.raises(UntrustedPayload, match="allow_pickle"):
            Payloads(far).reader(pickled, channel)(0)
        with pytest.raises(UntrustedPayload, match="allow_pickle"):
            Payloads(far).read(pickled, channel)
        with pytest.raises(UntrustedPayload, match="allow_pickle"):
            list(Payloads(far).read_ahead(pickled, channel, (0,)))
        with pytest.raises(UntrustedPayload, match="allow_pickle"):
            Payloads(far).bundle_reader(bundled("a", codec=PICKLE.number).bundle)(0, channel)
    near = Payloads(ClientSettings())
    assert near.reader(pickled)(0).payload == near.read(pickled).payload == {"a": 1}


def test_both_ways_to_read_one_message() -> None:
    """A message is the same, whether it is read by itself or as one of a batch, and what cannot be read is told."""
    payloads = Payloads(ClientSettings())
    for size in (0, 10, 10_000):
        for channel in (None, Channel("a", bytes)):
            one = delivery(7, codec=PICKLE.number, payload=PICKLE.dumps(bytes(size)))._replace(is_retained=True)
            message = payloads.read(one, channel)
            assert message == payloads.reader(one, channel)(0)
            assert message.checksum == payloads.reader(one, channel)(0).checksum
    with pytest.raises(PayloadNotDecodable, match="message 'a'"):
        payloads.read(delivery(1, codec=PICKLE.number))


def test_what_a_callback_raises_for_one_message() -> None:
    """It is counted, and the next message is handled; with no callback any more, nothing is."""
    handled, done = Handled(), threading.Event()

    def take(payload: bytes, _message: Message[bytes]) -> None:
        if payload == b"bad":
            raise RuntimeError("bad")
        done.set()

    with dispatching(take, handled) as dispatcher:
        dispatcher.put([delivery(1, ack=0, payload=b"bad"), delivery(2, ack=0)])
        assert done.wait(SECONDS)
    assert (dispatcher.received, dispatcher.failed, handled.failures) == (2, 1, [])
