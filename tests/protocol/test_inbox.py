"""The subscriber's half of a session: what is recognised, what is answered, what is counted."""

from collections.abc import Sequence
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mezzenger.errors import ConfigurationError
from mezzenger.protocol.commands import (
    MAX_ERROR_CHARACTERS,
    Ack,
    Command,
    Deliver,
    Failure,
    Linked,
    Nack,
    Ping,
    Pong,
    Welcome,
)
from mezzenger.protocol.events import Delivery
from mezzenger.protocol.freshness import Freshness
from mezzenger.protocol.inbox import REMEMBERED, Inbox
from mezzenger.protocol.subscriptions import Subscriptions
from mezzenger.protocol.wire import MAX_BATCH, decode_client_command, encode_command
from mezzenger.settings import ServerSettings
from tests.protocol.session_driver import data_frame

LARGEST: Final = 2**64 - 1


def subscribed(*names: str) -> Inbox:
    """Return the inbox of a client that has subscribed to these names."""
    subscriptions = Subscriptions()
    for ticket, name in enumerate(names):
        subscriptions.add(name, None, ticket)
    return Inbox(subscriptions, Freshness(subscriptions))


def deliver(inbox: Inbox, number: int = 1, *, sequence: int = 1, indexes: list[int] | None = None) -> Delivery | None:
    """Deliver a frame."""
    return inbox.deliver(Deliver(number, 1, indexes, None), data_frame(sequence=sequence))


def shown(delivery: Delivery | None) -> Delivery:
    """Return a delivery that a callback must see."""
    assert delivery is not None
    return delivery


def nack(failures: list[Failure]) -> Nack:
    """Return what is answered when these failed."""
    inbox = subscribed("a")
    answer = inbox.handled(shown(deliver(inbox, LARGEST)), failures)
    assert answer is not None
    return answer


@pytest.mark.parametrize("count", [1, 2, 3, 100, MAX_BATCH])
@pytest.mark.parametrize("character", ["x", "\U0001f600", "\n", "\0"])
def test_a_nack_fits_any_server(count: int, character: str) -> None:
    """However many messages failed with however long texts, the command fits the smallest limit and is read."""
    failures = [Failure(index, character * 10_000) for index in range(count)]
    answer = nack(failures)
    frame = encode_command(answer)
    with pytest.raises(ConfigurationError, match="max_message_size: must be at least"):
        ServerSettings(max_message_size=len(frame))
    assert decode_client_command(frame) == answer
    assert [failed.index for failed in answer.failures] == list(range(count))
    assert all(failed.error for failed in answer.failures)


@pytest.mark.parametrize("text", ["", "KeyError: 'x'", "\xe9" * MAX_ERROR_CHARACTERS])
def test_a_short_text_is_kept(text: str) -> None:
    """A text that fits is sent as it is."""
    assert nack([Failure(3, text)]) == Nack(LARGEST, [Failure(3, text)])


def test_a_long_text_is_cut_at_its_end() -> None:
    """The beginning of an error says most."""
    text = "x" * MAX_ERROR_CHARACTERS
    assert nack([Failure(0, text + "y")]).failures == [Failure(0, text)]


def test_a_text_that_is_not_utf8_is_sent() -> None:
    """An error may name a file whose name is not text; what cannot be written becomes a question mark."""
    answer = nack([Failure(0, "no such file: 'caf\udce9'")])
    assert answer.failures == [Failure(0, "no such file: 'caf?'")]
    assert decode_client_command(encode_command(answer)) == answer


def test_handled_frames_are_remembered_up_to_a_number() -> None:
    """The latest handled frames are recognised; the oldest are forgotten, so that memory is bounded."""
    inbox = subscribed("a")
    for sequence in range(REMEMBERED + 1):
        inbox.handled(shown(deliver(inbox, sequence=sequence)), [])
    list(inbox.take_acks())
    assert deliver(inbox, 7, sequence=REMEMBERED) is None
    assert deliver(inbox, 8, sequence=1) is None
    assert deliver(inbox, 9, sequence=0) is not None
    assert list(inbox.take_acks()) == [Ack([7, 8])]
    assert inbox.duplicates == 2


BATCH: Final = data_frame(payloads=[b"x", b"y", b"z"])


def test_of_a_batch_only_what_failed_is_handled_again() -> None:
    """Also if the server sends all of it again, since it does not know yet what was handled."""
    inbox = subscribed("a")
    inbox.handled(shown(inbox.deliver(Deliver(1, 1, None, None), BATCH)), [Failure(1, "no"), Failure(2, "no")])
    again = shown(inbox.deliver(Deliver(1, 2, None, None), BATCH))
    assert again.indexes == (1, 2)
    assert inbox.handled(again, [Failure(2, "no")]) == Nack(1, [Failure(2, "no")])
    assert shown(inbox.deliver(Deliver(1, 3, [0, 2], None), BATCH)).indexes == (2,)


def test_a_batch_is_not_taken_for_the_first_of_its_messages() -> None:
    """A group is given copies one by one; one that is dropped and made again may inherit the batch they came from."""
    inbox = subscribed("a|g")
    inbox.handled(shown(inbox.deliver(Deliver(1, 1, None, "a|g"), data_frame(sequence=1))), [])
    assert shown(inbox.deliver(Deliver(2, 2, None, "a|g"), BATCH)).indexes is None


def test_what_others_could_not_handle_is_acknowledged_again() -> None:
    """If the server asks for nothing of a batch but what was handled here."""
    inbox = subscribed("a")
    inbox.handled(shown(inbox.deliver(Deliver(1, 1, None, None), BATCH)), [Failure(1, "no")])
    assert inbox.deliver(Deliver(1, 2, [0, 2], None), BATCH) is None
    assert list(inbox.take_acks()) == [Ack([1])]
    assert inbox.duplicates == 1


def test_once_a_batch_is_handled_all_of_it_is() -> None:
    """However many attempts it took."""
    inbox = subscribed("a")
    inbox.handled(shown(inbox.deliver(Deliver(1, 1, None, None), BATCH)), [Failure(1, "no")])
    inbox.handled(shown(inbox.deliver(Deliver(1, 2, [1], None), BATCH)), [])
    assert inbox.deliver(Deliver(1, 3, None, None), BATCH) is None
    assert list(inbox.take_acks()) == [Ack([1, 1])]


def test_batches_that_failed_in_part_are_remembered_up_to_a_number() -> None:
    """Of the oldest all is handled again, so that memory is bounded."""
    inbox = subscribed("a")
    for sequence in range(0, 3 * REMEMBERED + 1, 3):
        frame = data_frame(sequence=sequence, payloads=[b"x", b"y", b"z"])
        inbox.handled(shown(inbox.deliver(Deliver(sequence, 1, None, None), frame)), [Failure(1, "no")])
    assert shown(inbox.deliver(Deliver(3 * REMEMBERED, 2, None, None), frame)).indexes == (1,)
    oldest = data_frame(sequence=0, payloads=[b"x", b"y", b"z"])
    assert shown(inbox.deliver(Deliver(0, 2, None, None), oldest)).indexes is None


def test_a_dropped_delivery_is_forgotten() -> None:
    """What no callback will see is not acked, and is shown when it is delivered again."""
    inbox = subscribed("a")
    delivery = shown(deliver(inbox))
    inbox.dropped(delivery)
    inbox.dropped(delivery)
    assert list(inbox.take_acks()) == []
    assert deliver(inbox, 2) is not None
    assert inbox.duplicates == 0


def test_acks_are_taken_once() -> None:
    """Where nothing was handled, no command is sent."""
    inbox = subscribed("a")
    assert list(inbox.take_acks()) == []
    inbox.handled(shown(deliver(inbox)), [])
    assert list(inbox.take_acks()) == [Ack([1])]
    assert list(inbox.take_acks()) == []


def test_a_name_counts_when_the_frame_comes() -> None:
    """Names come and go; a frame is looked at with those of the moment, and no other is remembered."""
    subscriptions = Subscriptions()
    inbox = Inbox(subscriptions, Freshness(subscriptions))
    assert deliver(inbox) is None
    assert not inbox.broadcast(data_frame(ack=0))
    subscriptions.add("a", None, 1)
    assert deliver(inbox) is not None
    assert inbox.broadcast(data_frame(ack=0))
    assert inbox.duplicates == 0


@pytest.mark.parametrize("indexes", [None, [], [0], [2, 0]])
def test_messages_that_are_there_may_be_meant(indexes: list[int] | None) -> None:
    """A delivery may mean any messages of its batch."""
    frame = data_frame(payloads=[b"0", b"1", b"2"])
    assert shown(subscribed("a").deliver(Deliver(1, 1, indexes, None), frame)).indexes == indexes


@pytest.mark.parametrize("indexes", [[3], [0, 3], [LARGEST]])
def test_messages_that_are_not_there_are_refused(indexes: list[int]) -> None:
    """A delivery that means messages beyond its batch is malformed: no callback could be given them."""
    inbox = subscribed("a")
    frame = data_frame(payloads=[b"0", b"1", b"2"])
    assert inbox.deliver(Deliver(1, 1, indexes, None), frame) is None
    assert inbox.malformed == {"command": 1}
    assert inbox.deliver(Deliver(2, 1, None, None), frame) is not None


@pytest.mark.parametrize("command", [Linked(), Welcome(1, 2, retains=False), Pong(3)])
def test_a_command_is_read(command: Command) -> None:
    """A command comes alone."""
    inbox = subscribed()
    assert inbox.read([encode_command(command)]) == command
    assert inbox.malformed == {}


def test_a_delivery_has_two_frames() -> None:
    """The command and the data frame."""
    inbox = subscribed()
    command = Deliver(1, 1, None, None)
    assert inbox.read([encode_command(command), b"whatever"]) == command
    assert inbox.malformed == {}


@pytest.mark.parametrize(
    "frames",
    [
        [b""],
        [b"rubbish"],
        [data_frame()],
        [encode_command(Ping(1))],
        [encode_command(Linked())[1:]],
        [b"?" + encode_command(Linked())[1:]],
        [encode_command(Linked()), b""],
        [encode_command(Linked()), b"", b""],
        [encode_command(Deliver(1, 1, None, None))],
        [encode_command(Deliver(1, 1, None, None)), b"", b""],
        [data_frame(), encode_command(Deliver(1, 1, None, None))],
    ],
    ids=ascii,
)
def test_what_is_not_a_command_is_counted(frames: list[bytes]) -> None:
    """Other bytes, a command of a client, and frames too many or too few are malformed."""
    inbox = subscribed()
    assert inbox.read(frames) is None
    assert inbox.malformed == {"command": 1}


@settings(max_examples=300)
@given(frames=st.lists(st.binary(max_size=60) | st.binary(max_size=60).map(b"|".__add__), min_size=1, max_size=3))
def test_any_frames_are_read_or_counted(frames: Sequence[bytes]) -> None:
    """No bytes make anything happen but a command or a count."""
    inbox = subscribed()
    assert (inbox.read(frames) is None) is (inbox.malformed.total() == 1)
    for number, frame in enumerate(frames):
        assert not inbox.broadcast(frame)
        assert inbox.deliver(Deliver(number, 1, None, None), frame) is None
