"""The last message of a frame is the same message, in a frame of its own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from mezzenger.errors import ProtocolError
from mezzenger.protocol.last_message import last_message
from mezzenger.protocol.wire import MAX_BATCH, Extra, encode_data, read_contents

PAYLOADS = st.lists(st.binary(max_size=20), min_size=1, max_size=5)


@given(payloads=PAYLOADS, ack=st.sampled_from([0, 1]), headers=st.dictionaries(st.text(max_size=3), st.just("v")))
def test_the_last_one(payloads: list[bytes], ack: int, headers: dict[str, str]) -> None:
    """Name, payload, ack, codec, id, timestamp and extra fields are as they were."""
    items = [(1.5 + index, payload) for index, payload in enumerate(payloads)]
    extra = Extra(headers=headers, ttl=5.0)
    frame = encode_data("a.b", items, ack=ack, codec=2, client=3, sequence=40, extra=extra)
    contents = read_contents(last_message(frame))
    header, found, (item,) = contents.header, contents.extra, contents.items
    count = len(payloads)
    assert (header.name, header.ack, header.codec, header.messages, header.client) == ("a.b", ack, 2, 1, 3)
    assert (header.sequence, item.timestamp) == (40 + count - 1, 1.5 + count - 1)
    assert bytes(item.payload) == payloads[-1]
    assert found == Extra(headers=headers, ttl=5.0, index=count - 1 if count > 1 else None)


def test_a_single_one() -> None:
    """A frame with one message is the frame that it was, to the byte."""
    frame = encode_data("a", [(1.5, b"x")], ack=1, codec=1, client=3, sequence=4)
    assert last_message(frame) is frame


@pytest.mark.parametrize("at", [0, 5, 20, -1])
def test_damaged(at: int) -> None:
    """Whatever is damaged is refused."""
    frame = bytearray(encode_data("aa", [(1.5, b"x"), (1.5, b"y")], ack=1, codec=1, client=3, sequence=4))
    frame[at] ^= 1
    with pytest.raises(ProtocolError):
        last_message(bytes(frame))


def test_as_many_headers_as_there_may_be() -> None:
    """There is room for an index beside them, and for the other fields."""
    extra = Extra(headers={chr(n): "" for n in range(3456)}, ttl=5.0, delay=1.0)
    items = [(1.5, b"x")] * MAX_BATCH
    frame = encode_data("a", items, ack=0, codec=1, client=3, sequence=1, extra=extra)
    assert read_contents(last_message(frame)).extra == replace(extra, index=MAX_BATCH - 1)
