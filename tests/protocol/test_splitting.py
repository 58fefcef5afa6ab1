"""The messages of a batch are the same messages, each in a frame of its own."""

import struct
from typing import Final

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from xxhash import xxh3_64_digest

from mezzenger.errors import ProtocolError
from mezzenger.protocol.splitting import split
from mezzenger.protocol.wire import LATEST_START, MAX_SEQUENCE, read_contents, read_header

LAST_OFFSET: Final = 2**32 - 1
MANY: Final = {chr(n): "" for n in range(3456)}
"""As many headers as a message may have."""
HEADERS: Final = st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3)
SECONDS: Final = st.integers(1, 10**9) | st.floats(1, 1e9)
EXTRAS: Final = st.fixed_dictionaries({}, optional={"headers": HEADERS, "ttl": SECONDS, "delay": SECONDS, "x": HEADERS})
MESSAGES: Final = st.lists(st.tuples(st.integers(0, LAST_OFFSET), st.binary(max_size=9)), min_size=2, max_size=5)


def batch(extra: object, timestamp: float, sequence: int, messages: list[tuple[int, bytes]]) -> bytes:
    """Write a batch as another program may: with whole numbers, with what is not known here, and in any order."""
    written = msgspec.msgpack.encode(extra)
    offsets, payloads = zip(*messages, strict=True)
    count = len(messages)
    head = struct.pack("!BBBxHHQQd", 1, 3, 2, len(written), count, 7, sequence, timestamp)
    table = struct.pack(f"!{2 * count}I", *offsets, *map(len, payloads))
    content = b"".join((b"a.b|", head, written, table, *payloads))
    return content + xxh3_64_digest(content)


@given(
    extra=EXTRAS,
    timestamp=st.floats(0, LATEST_START),
    sequence=st.integers(0, MAX_SEQUENCE - 5),
    messages=MESSAGES,
)
@example(
    extra={"headers": MANY, "ttl": 1, "delay": 1},
    timestamp=LATEST_START,
    sequence=MAX_SEQUENCE - 1,
    messages=[(0, b""), (LAST_OFFSET, b"x")],
)
@example(
    extra={"ttl": 1, "x": "y" * 65_500}, timestamp=1.5, sequence=1, messages=[(0, b"x"), (0, b"y")]
)  # nearly as long as it can be
def test_what_can_be_read_can_be_split(
    extra: dict[str, object], timestamp: float, sequence: int, messages: list[tuple[int, bytes]]
) -> None:
    """Each part can be read, and is the message that it was."""
    frame = batch(extra, timestamp, sequence, messages)
    whole = read_contents(frame)
    parts = [read_contents(part) for part in split(frame, read_header(frame))]
    for index, (part, item) in enumerate(zip(parts, whole.items, strict=True)):
        assert part.header[:6] == ("a.b", 1, False, 2, 1, 7)
        assert (part.header.sequence, part.header.timestamp) == (sequence + index, item.timestamp)
        assert ([bytes(one.payload) for one in part.items], part.extra) == ([bytes(item.payload)], whole.extra)


def test_too_many_headers() -> None:
    """What could not be written again is refused before."""
    frame = batch({"headers": {"k": "x" * 65_500}, "ttl": 1}, 1.5, 1, [(0, b"x"), (0, b"y")])
    for read in (read_contents, lambda frame: split(frame, read_header(frame))):
        with pytest.raises(ProtocolError) as caught:
            read(frame)
        assert caught.value.reason == "extra"
