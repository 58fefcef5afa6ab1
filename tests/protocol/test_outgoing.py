"""The publisher's half of a session: what is held, what is unconfirmed, what may be lost."""

import pytest

from mezzenger.errors import MessageTooLarge, MezzengerError
from mezzenger.protocol.outgoing import Draft, Outgoing, Parcel
from mezzenger.protocol.wire import Extra, read_contents


class Told:
    """A session's half of what ``Outgoing`` does: notes what is done."""

    def __init__(self, window: int) -> None:
        self.done: list[tuple[int, MezzengerError | None]] = []
        self.outgoing = Outgoing(77, window, lambda ticket, error: self.done.append((ticket, error)))


def with_window(window: int) -> Outgoing:
    return Told(window).outgoing


def draft(*payloads: bytes, ack: int = 1) -> Draft:
    items = [(1.5, payload) for payload in payloads or (b"x",)]
    return Draft("a", items, ack, 2, Extra(headers={"k": "v"}))


def pack(outgoing: Outgoing, *payloads: bytes, ack: int = 1) -> Parcel:
    """Pack a frame."""
    return outgoing.pack(draft(*payloads, ack=ack))


def hold(outgoing: Outgoing, *payloads: bytes, ack: int = 1, ticket: int) -> Parcel:
    """Hold a frame that somebody waits for."""
    parcel = outgoing.hold(draft(*payloads, ack=ack))
    parcel.ticket = ticket
    return parcel


def test_a_parcel_holds_the_frame() -> None:
    """Every message takes a sequence; the frame has all that was given."""
    outgoing = with_window(3)
    assert pack(outgoing, b"1", b"2").sequence == 1
    parcel = pack(outgoing, b"3", ack=0)
    assert (parcel.name, parcel.sequence, parcel.messages, parcel.ack) == ("a", 3, 1, 0)
    contents = read_contents(parcel.frame)
    header, extra, items = contents.header, contents.extra, contents.items
    assert (header.name, header.client, header.sequence, header.ack, header.codec) == ("a", 77, 3, 0, 2)
    assert extra == Extra(headers={"k": "v"})
    assert [(item.timestamp, bytes(item.payload)) for item in items] == [(1.5, b"3")]


def test_what_is_too_large_takes_no_sequence() -> None:
    """A gap in the sequences would be nobody's message."""
    outgoing = with_window(3)
    outgoing.limit(100)
    with pytest.raises(MessageTooLarge):
        pack(outgoing, bytes(100))
    assert pack(outgoing).sequence == 1


def test_what_is_as_large_as_the_limit_is_sent() -> None:
    """The limit is the largest frame that is taken, whether it is packed before or after the limit was told."""
    told = Told(3)
    outgoing = told.outgoing
    size = len(hold(outgoing, ticket=1).frame)
    outgoing.limit(size)
    assert len(pack(outgoing).frame) == size
    assert told.done == []
    outgoing.limit(size - 1)
    ((ticket, error),) = told.done
    assert (ticket, type(error)) == (1, MessageTooLarge)


def test_the_oldest_sequence() -> None:
    """It is that of the first unconfirmed frame, else of the first held one, else the next."""
    outgoing = with_window(1)
    assert outgoing.oldest() == 1
    hold(outgoing, b"1", b"2", ticket=1)
    hold(outgoing, ticket=2)
    assert outgoing.oldest() == 1
    assert [parcel.sequence for parcel in outgoing.sendable()] == [1]
    assert outgoing.oldest() == 1
    outgoing.settle(1)
    assert outgoing.oldest() == 3
    outgoing.withdraw(2)
    assert outgoing.oldest() == 4


def test_withdrawing_tells_whether_it_was_sent() -> None:
    """Only what was sent with ack=1 and is not confirmed may have been stored."""
    outgoing = with_window(2)
    for ticket in (1, 2, 3):
        hold(outgoing, ticket=ticket)
    outgoing.flush(4)
    list(outgoing.sendable())
    assert outgoing.withdraw(2)
    assert not outgoing.withdraw(2)
    assert not outgoing.withdraw(3)
    assert not outgoing.withdraw(4)
    assert list(outgoing.unconfirmed) == [1]
    assert not outgoing.held
    assert not outgoing.flushes


def test_a_flush_is_ready_once() -> None:
    """A flush is ready as soon as all before it is confirmed, until it has its ping."""
    outgoing = with_window(2)
    hold(outgoing, ticket=1)
    list(outgoing.sendable())
    outgoing.flush(2)
    assert list(outgoing.ready_flushes()) == []
    outgoing.settle(1)
    (flush,) = outgoing.ready_flushes()
    flush.ping = outgoing.next_ping()
    assert list(outgoing.ready_flushes()) == []
    outgoing.disconnected()
    assert list(outgoing.ready_flushes()) == [flush]
    outgoing.ponged(1)
    assert list(outgoing.ready_flushes()) == [flush]


def test_nothing_overtakes_what_is_held() -> None:
    """A frame that could leave at once does not while another one waits to, and is not counted as sent."""
    outgoing = with_window(2)
    parcel = hold(outgoing, ack=0, ticket=1)
    assert outgoing.express(draft(ack=0)) is None
    assert list(outgoing.sendable()) == [parcel]
    frame = outgoing.express(draft(ack=0))
    assert frame is not None
    assert read_contents(frame).header.sequence == 2
    outgoing.disconnected()
    assert outgoing.uncertain == 2


def test_an_answer_shows_what_has_arrived() -> None:
    """Only what was sent after the last answered ping is in doubt when the connection breaks."""
    outgoing = with_window(2)
    numbers = []
    for _ in range(3):
        assert outgoing.express(draft(b"1", b"2", ack=0)) is not None
        numbers.append(outgoing.next_ping())
    outgoing.ponged(numbers[1])
    outgoing.disconnected()
    assert outgoing.uncertain == 2
    assert outgoing.take_uncertain() == 2
    assert outgoing.take_uncertain() == 0


def test_a_break_ends_all_pings() -> None:
    """A ping that was under way when the connection broke tells nothing any more; each loss is counted once."""
    outgoing = with_window(2)
    number = outgoing.next_ping()
    assert outgoing.express(draft(ack=0)) is not None
    outgoing.disconnected()
    assert outgoing.uncertain == 1
    outgoing.ponged(number)
    outgoing.disconnected()
    assert outgoing.uncertain == 1
