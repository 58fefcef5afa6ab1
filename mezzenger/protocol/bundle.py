"""Messages with ``ack=0`` of several names, or with headers, that travel as one frame.

A bundle is addressed, not named::

    address | version codec count names | client sequence timestamp | table | names | messages | digest
      17    |    1      1     2     4   |   8       8        8      |       |       |          |   8

    table       count times each: microseconds since the timestamp (4), length (4), place (2), length of extra (2)
    names       count names with "|" between them; in the header their length
    messages    count times: extra, payload; the length in the table is that of both

The server sends it to each subscriber under the address of that one, which is its link token. It sees who is to be sent
which messages by looking at the names alone; who wants all of them is sent the bytes that came, others a bundle with
fewer messages. ``place`` is what a message had in the bundle that the publisher sent: its sequence is that much higher
than the bundle's. The digest is over all between the address and itself.
"""

import struct
from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from operator import itemgetter
from typing import Final, NamedTuple

from xxhash import xxh3_64_digest

from mezzenger import codecs
from mezzenger.codecs import Buffer
from mezzenger.errors import ProtocolError
from mezzenger.protocol.commands import TOKEN_BYTES
from mezzenger.protocol.wire import (
    DIGEST_SIZE,
    LATEST_START,
    MAX_BATCH,
    MAX_SEQUENCE,
    NO_EXTRA,
    SEPARATOR,
    VERSION,
    Contents,
    Extra,
    Header,
    encode_data,
    new_tuple,
    offsets_of,
    read_extra,
    read_name,
    verify_digest,
    write_extra,
)

NOWHERE: Final = bytes(TOKEN_BYTES)
"""The address that a publisher writes."""

_HEADER: Final = struct.Struct("!BBHIQQd")
_TABLE: Final = TOKEN_BYTES + _HEADER.size
"""Where the table begins."""
_ROW: Final = 12
"""Bytes in the table for each message."""


class Bundle(NamedTuple):
    """A bundle that was read, and checked but for its extra fields."""

    frame: Buffer
    codec: int
    client: int
    sequence: int
    timestamp: float
    names: Sequence[str]
    offsets: Sequence[int]
    """When each message was created, in microseconds after the timestamp."""
    places: Sequence[int]
    extras: Sequence[int]
    """How many bytes of each message are extra fields."""
    bounds: Sequence[int]
    """Where in the frame each message begins, and where the last one ends."""


def is_addressed(frame: Buffer) -> bool:
    """Whether a frame is a bundle, or a token alone, which is a mark; no other begins with this byte."""
    return frame[:1] == b"\0"


def encode_bundle(
    names: Sequence[str],
    items: Sequence[tuple[float, bytes]],
    extras: Sequence[Extra],
    *,
    codec: int,
    client: int,
    sequence: int,
) -> bytes:
    """Write messages as a bundle.

    Args:
        names: Of each message, 1 to ``MAX_BATCH`` of them.
        items: Timestamp and payload bytes of each.
        extras: The extra fields of each.
        codec: With which all payloads are written.
        client: The publisher's id.
        sequence: Of the first message; the others follow one by one.
    """
    times, payloads = zip(*items, strict=True)
    count = len(items)
    messages: Sequence[bytes] = payloads
    extra_lengths: Sequence[int] = bytes(count)
    if extras.count(NO_EXTRA) != count:
        written = list(map(write_extra, extras))
        messages = [extra + payload for extra, payload in zip(written, payloads, strict=True)]
        extra_lengths = list(map(len, written))
    columns = (*offsets_of(times), *map(len, messages), *range(count), *extra_lengths)
    return NOWHERE + _write(codec, (client, sequence, times[0]), names, columns, messages)


def _write(
    codec: int,
    origin: tuple[int, int, float],
    names: Sequence[str],
    columns: Sequence[int],
    messages: Sequence[Buffer],
) -> bytes:
    """Write a bundle without its address; ``origin`` is client, sequence and timestamp."""
    count = len(names)
    text = "|".join(names).encode()
    header = _HEADER.pack(VERSION, codec, count, len(text), *origin)
    content = b"".join((header, _table(count).pack(*columns), text, *messages))
    return content + xxh3_64_digest(content)


@lru_cache(maxsize=MAX_BATCH)
def _table(count: int) -> struct.Struct:
    """Return how the four columns are written."""
    return struct.Struct(f"!{2 * count}I{2 * count}H")


def read_bundle(frame: Buffer) -> Bundle:
    """Read a bundle, whatever its address.

    Raises:
        ProtocolError: It is malformed or damaged.
    """
    end = len(frame) - DIGEST_SIZE
    if end < _TABLE:
        raise ProtocolError("truncated", f"a bundle of {len(frame)} bytes ends inside its header")
    version, codec, count, text, client, sequence, timestamp = _HEADER.unpack_from(frame, TOKEN_BYTES)
    _check(version, codec, count, timestamp)
    first_name = _TABLE + count * _ROW
    first = first_name + text
    if first > end:
        raise ProtocolError("truncated", "a bundle ends before its messages")
    verify_digest(frame, TOKEN_BYTES)
    table = _table(count).unpack_from(frame, _TABLE)
    places, extras = table[2 * count : 3 * count], table[3 * count :]
    bounds = list(accumulate(table[count : 2 * count], initial=first))
    if bounds[-1] != end or (any(extras) and any(map(int.__gt__, extras, table[count : 2 * count]))):
        raise ProtocolError("truncated", f"the messages of a bundle end at {bounds[-1]}, the bundle at {end}")
    if sequence + max(places) > MAX_SEQUENCE:
        raise ProtocolError("sequence", f"a bundle's sequence {sequence} is too high for its messages")
    names = list(map(read_name, bytes(frame[first_name:first]).split(SEPARATOR)))
    if len(names) != count:
        raise ProtocolError("name", f"a bundle has {len(names)} names for {count} messages")
    return Bundle(frame, codec, client, sequence, timestamp, names, table[:count], places, extras, bounds)


def _check(version: int, codec: int, count: int, timestamp: float) -> None:
    if version != VERSION:
        raise ProtocolError("version", f"bundle version {version} is not known here; this is version {VERSION}")
    if codec not in codecs.BY_NUMBER:
        raise ProtocolError("codec", f"codec number {codec} is not known here")
    if not 1 <= count <= MAX_BATCH:
        raise ProtocolError("count", f"a bundle of {count} messages")
    if not 0 <= timestamp <= LATEST_START:
        raise ProtocolError("timestamp", f"timestamp {timestamp} is not a time")


def part(bundle: Bundle, indexes: Sequence[int]) -> bytes:
    """Return a bundle with these messages of another one, without its address."""
    frame, codec, client, sequence, timestamp, names, offsets, places, extras, bounds = bundle
    messages = [frame[bounds[index] : bounds[index + 1]] for index in indexes]
    lengths = map(len, messages)
    origin = (client, sequence, timestamp)
    if len(indexes) == 1:
        (index,) = indexes
        columns = (offsets[index], *lengths, places[index], extras[index])
        return _write(codec, origin, [names[index]], columns, messages)
    picked = itemgetter(*indexes)
    columns = (*picked(offsets), *lengths, *picked(places), *picked(extras))
    return _write(codec, origin, picked(names), columns, messages)


def split_bundle(bundle: Bundle) -> list[bytes]:
    """Return each message as a data frame of its own; each keeps its sequence, and so its id.

    Raises:
        ProtocolError: The extra fields of one cannot be read.
    """
    return [
        encode_data(
            contents.header.name,
            [(item.timestamp, item.payload) for item in contents.items],
            ack=0,
            codec=bundle.codec,
            client=bundle.client,
            sequence=contents.header.sequence,
            extra=contents.extra,
        )
        for contents in contents_of(bundle)
    ]


def contents_of(bundle: Bundle) -> list[Contents]:
    """Return each message as if it had come alone.

    Raises:
        ProtocolError: The extra fields of one cannot be read.
    """
    frame, codec, client, first, timestamp, names, offsets, places, extras, bounds = bundle
    all_contents = []
    for name, offset, place, extra, start, end in zip(names, offsets, places, extras, bounds, bounds[1:], strict=False):
        fields = name, 0, False, codec, 1, client, first + place, timestamp, start, start + extra
        header = new_tuple(Header, fields)
        all_contents.append(Contents(header, read_extra(frame, header), frame, (offset,), (start + extra, end)))
    return all_contents
