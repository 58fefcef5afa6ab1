"""Frames to bytes and back. Any bytes at all either decode or raise ``ProtocolError``.

A data frame carries one message, or a batch of messages of one name::

    name "|" | version flags codec 0 | extra count | client sequence timestamp | extra | body | digest
             |    1      1     1   1 |   2     2   |    8       8        8     |       |      |   8

    body of a single message    the payload
    body of a batch             count times: microseconds since the timestamp (4); count times: length (4); the payloads

All numbers are big-endian. ``extra`` is the length of a msgpack map of what most messages do not have, such as headers.
``digest`` is XXH3-64 over all before it: it finds damage, it is no signature.

A control frame is a frame for the empty name: ``"|"`` and the msgpack of one command.
"""

import struct
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import Meta
from xxhash import xxh3_64, xxh3_64_digest

from mezzenger import codecs
from mezzenger.codecs import Buffer
from mezzenger.errors import InvalidName, ProtocolError
from mezzenger.headers import NO_HEADERS, Headers
from mezzenger.message import MAX_HEADER_BYTES, MAX_NAME_BYTES, check_name
from mezzenger.protocol.commands import MAX_SECONDS, ClientCommand, Command, ServerCommand

VERSION: Final = 1
FLAG_ACK: Final = 1
FLAG_BATCH: Final = 2
MAX_BATCH: Final = 4096
"""Keeps a Nack of every message below the smallest ``max_message_size``."""
FRAME_OVERHEAD: Final = MAX_NAME_BYTES + 64
"""More than a data frame without headers adds to its payload."""

SEPARATOR: Final = b"|"
_HEADER = struct.Struct("!BBBxHHQQd")
_KIND = struct.Struct("!BBBxHH")
"""The part of the header that is the same for all messages of a kind."""
_KIND_SIZE: Final = _KIND.size
_TO_ORIGIN: Final = 1 + _KIND_SIZE
"""Bytes from the end of the name on."""
_ORIGIN = struct.Struct("!QQd")
"""The rest of it."""
_ORIGIN_SIZE: Final = _ORIGIN.size
_ITEM_SIZE: Final = 8
"""Of a message in the table of a batch."""
DIGEST_SIZE: Final = 8
_LARGE: Final = 64 * 2**10
"""Bytes of a payload from which on it is not copied once more to take its digest."""
_HEADER_SIZE: Final = _HEADER.size
_MAX_HEAD: Final = MAX_NAME_BYTES + 1 + _HEADER_SIZE
_MAX_OFFSET = 2**32 - 1
_NO_OFFSET: Final = (0,)
"""The offsets of a single message."""
MAX_TIMESTAMP: Final = 1e11
LATEST_START: Final = MAX_TIMESTAMP - 4295
"""The largest timestamp of a batch or a bundle: each message in it, as far behind as an offset can say, has a timestamp
with which it may be a frame of its own."""
MAX_SEQUENCE: Final = 2**64 - 1
_KINDS: Final[dict[bytes, tuple[Literal[0, 1], int]]] = {
    _KIND.pack(VERSION, FLAG_ACK * ack, codec, 0, 1): (ack, codec) for ack in (0, 1) for codec in codecs.BY_NUMBER
}
"""Ack and codec of a single message without extra fields, by what stands in its header: most frames are so."""
_UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for malformed bytes, text that is not UTF-8, and values nested without end."""


class Header(NamedTuple):
    """What a data frame says before its payload."""

    name: str
    ack: Literal[0, 1]
    batch: bool
    codec: int
    messages: int
    client: int
    sequence: int
    """Of the first message; the others of a batch follow one by one."""
    timestamp: float
    extra_start: int
    body_start: int


new_tuple = tuple.__new__
"""Makes a named tuple without the function in Python that its class has for it."""


class Item(NamedTuple):
    """One message of a data frame."""

    timestamp: float
    payload: memoryview


class Contents(NamedTuple):
    """All that a data frame holds, checked to the last byte."""

    header: Header
    extra: "Extra"
    frame: Buffer
    offsets: Sequence[int]
    """When each message was created, in microseconds after the header's timestamp."""
    bounds: Sequence[int]
    """Where in the frame the payload of each message begins, and where the last one ends."""

    @property
    def items(self) -> list[Item]:
        """The messages; the payloads are views of the frame, not copies."""
        view, start, bounds = memoryview(self.frame), self.header.timestamp, self.bounds
        return [
            Item(start + offset / 1e6, view[bounds[index] : bounds[index + 1]])
            for index, offset in enumerate(self.offsets)
        ]


class Extra(msgspec.Struct, frozen=True, omit_defaults=True):
    """What most messages do not have; durations in seconds."""

    headers: Mapping[str, str] = NO_HEADERS
    ttl: Annotated[float, Meta(gt=0, le=MAX_SECONDS)] | None = None
    """How long the message is of use."""
    delay: Annotated[float, Meta(ge=0, le=MAX_SECONDS)] | None = None
    """How long it is kept before it is first delivered."""
    index: Annotated[int, Meta(ge=0, lt=MAX_BATCH)] | None = None
    """Which message of its batch this was, if it was taken out of one to be kept as the last of its name."""

    def __post_init__(self) -> None:
        if self.headers.__class__ is not Headers:
            msgspec.structs.force_setattr(self, "headers", Headers(self.headers) if self.headers else NO_HEADERS)


NO_EXTRA: Final = Extra()

_encode = msgspec.msgpack.Encoder().encode
_decode_extra = msgspec.msgpack.Decoder(Extra).decode
_decode_client_command = msgspec.msgpack.Decoder(ClientCommand).decode
_decode_server_command = msgspec.msgpack.Decoder(ServerCommand).decode


def encode_data(
    name: str,
    items: Sequence[tuple[float, Buffer]],
    *,
    ack: int,
    codec: int,
    client: int,
    sequence: int,
    extra: Extra = NO_EXTRA,
) -> bytes:
    """Write one message, or several of one name as a batch, as a data frame.

    Args:
        items: Timestamp and payload bytes of each message, 1 to ``MAX_BATCH`` of them.
    """
    timestamp, payload = items[0]
    count = len(items)
    if count == 1 and extra is NO_EXTRA and len(payload) <= _LARGE:
        head = _HEADER.pack(VERSION, FLAG_ACK * ack, codec, 0, 1, client, sequence, timestamp)
        content = b"".join((name.encode(), SEPARATOR, head, payload))
        return content + xxh3_64_digest(content)
    written = write_extra(extra)
    flags = FLAG_ACK * ack | FLAG_BATCH * (count > 1)
    head = _HEADER.pack(VERSION, flags, codec, len(written), count, client, sequence, timestamp)
    if count > 1:
        times, payloads = zip(*items, strict=True)
        table = _table(count).pack(*offsets_of(times), *map(len, payloads))
        content = b"".join((name.encode(), SEPARATOR, head, written, table, *payloads))
    elif len(payload) > _LARGE:
        front = b"".join((name.encode(), SEPARATOR, head, written))
        digest = xxh3_64(front)
        digest.update(payload)
        return b"".join((front, payload, digest.digest()))
    else:
        content = b"".join((name.encode(), SEPARATOR, head, written, payload))
    return content + xxh3_64_digest(content)


def offsets_of(times: Sequence[float]) -> list[int]:
    """Return how many microseconds after the first of some times each is, as far as that can be written."""
    first = times[0]
    offsets = [round((created - first) * 1e6) for created in times]
    if min(offsets) < 0 or max(offsets) > _MAX_OFFSET:
        offsets = [min(max(offset, 0), _MAX_OFFSET) for offset in offsets]
    return offsets


def write_extra(extra: Extra) -> bytes:
    """Write extra fields; nothing if there are none."""
    return b"" if extra == NO_EXTRA else _encode(extra)


@lru_cache(maxsize=MAX_BATCH)
def _table(count: int) -> struct.Struct:
    """Return how the offsets and lengths of a batch are written."""
    return struct.Struct(f"!{2 * count}I")


def read_header(frame: Buffer) -> Header:
    """Read a data frame's header, without looking at the payload or the digest.

    Raises:
        ProtocolError: The frame has no valid header; ``reason`` is ``name``, ``truncated``, ``version``, ``flags``,
            ``codec``, ``timestamp`` or ``sequence``.
    """
    head = frame if isinstance(frame, bytes) else bytes(frame[:_MAX_HEAD])
    end = head.find(SEPARATOR, 0, MAX_NAME_BYTES + 1)
    origin = end + _TO_ORIGIN
    front = _read_usual_front(head[:origin])
    body_start = origin + _ORIGIN_SIZE
    if front is None or len(frame) < body_start + DIGEST_SIZE:
        return _read_unusual_header(frame, head, end)
    client, sequence, timestamp = _ORIGIN.unpack_from(head, origin)
    if not 0 <= timestamp <= MAX_TIMESTAMP:
        return _read_unusual_header(frame, head, end)
    return new_tuple(Header, (*front, client, sequence, timestamp, body_start, body_start))


@lru_cache(maxsize=65536)
def _read_usual_front(front: bytes) -> tuple[str, Literal[0, 1], bool, int, int] | None:
    """Read how the frame of a single message without extra fields begins; None if it begins otherwise.

    Returns:
        The first fields of its header.

    Raises:
        ProtocolError: The name cannot be used.
    """
    kind = _KINDS.get(front[-_KIND_SIZE:])
    end = len(front) - _TO_ORIGIN
    if kind is None or end <= 0 or front[end : end + 1] != SEPARATOR:
        return None
    ack, codec = kind
    return read_name(front[:end]), ack, False, codec, 1


def _read_unusual_header(frame: Buffer, head: bytes, end: int) -> Header:
    """Read a header that may be of any kind, or of none.

    Args:
        head: As much of the frame as is needed.
        end: Where in it the name ends.

    Raises:
        ProtocolError: It is of none.
    """
    if end <= 0:
        raise ProtocolError("name", "a data frame starts with a name of 1 to 255 bytes and '|'")
    start = end + 1
    body_start = start + _HEADER_SIZE
    room = len(frame) - DIGEST_SIZE - body_start
    if room < 0:
        raise ProtocolError("truncated", f"a data frame of {len(frame)} bytes ends inside its header")
    version, flags, codec, extra, count, client, sequence, timestamp = _HEADER.unpack_from(head, start)
    _check_header(version, flags, codec, count, timestamp)
    if sequence + count - 1 > MAX_SEQUENCE:
        raise ProtocolError("sequence", f"a batch's sequence {sequence} is too high for {count} messages")
    if extra > room:
        raise ProtocolError("truncated", f"a data frame of {len(frame)} bytes ends inside its extra fields")
    name, body_starts = read_name(head[:end]), (body_start, body_start + extra)
    return Header(name, flags & FLAG_ACK, count > 1, codec, count, client, sequence, timestamp, *body_starts)


def _check_header(version: int, flags: int, codec: int, count: int, timestamp: float) -> None:
    if version != VERSION:
        raise ProtocolError("version", f"frame version {version} is not known here; this is version {VERSION}")
    if flags > FLAG_ACK | FLAG_BATCH or count == 0 or (count > 1) != bool(flags & FLAG_BATCH) or count > MAX_BATCH:
        raise ProtocolError("flags", f"flags {flags} do not go with {count} messages")
    if codec not in codecs.BY_NUMBER:
        raise ProtocolError("codec", f"codec number {codec} is not known here")
    if not 0 <= timestamp <= (MAX_TIMESTAMP if count == 1 else LATEST_START):
        raise ProtocolError("timestamp", f"timestamp {timestamp} is not a time")


@lru_cache(maxsize=65536)
def read_name(raw: bytes) -> str:
    """Return a name as text.

    Raises:
        ProtocolError: It cannot be used as one (reason ``name``).
    """
    try:
        return check_name(raw.decode())
    except (UnicodeDecodeError, InvalidName) as error:
        raise ProtocolError("name", f"a data frame's name cannot be used: {error}") from None


def name_of(frame: bytes) -> str:
    """Return the name of a data frame that was read before."""
    return frame[: frame.index(SEPARATOR)].decode()


def verify_digest(frame: Buffer, start: int = 0) -> None:
    """Check that a frame, from its ``start`` on, arrived as it was written.

    Raises:
        ProtocolError: It did not (reason ``digest``).
    """
    view = memoryview(frame)
    if xxh3_64_digest(view[start:-DIGEST_SIZE]) != view[-DIGEST_SIZE:]:
        raise ProtocolError("digest", f"a frame of {len(frame)} bytes was damaged on its way")


def read_extra(frame: Buffer, header: Header) -> Extra:
    """Read the extra fields of a data frame.

    Raises:
        ProtocolError: They are malformed, or the headers are too long (reason ``extra``).
    """
    if header.extra_start == header.body_start:
        return NO_EXTRA
    written = memoryview(frame)[header.extra_start : header.body_start]
    try:
        extra = _decode_extra(written)
    except _UNREADABLE as error:
        raise ProtocolError("extra", f"a data frame's extra fields cannot be read: {error}") from None
    if len(written) > MAX_HEADER_BYTES:
        _check_headers(extra.headers)
    return extra


def _check_headers(headers: Mapping[str, str]) -> None:
    """Refuse more headers than a message may have: those that it may have can be written again, whatever is added."""
    size = sum(len(text.encode()) for header in headers.items() for text in header)
    if size > MAX_HEADER_BYTES:
        raise ProtocolError("extra", f"a data frame's headers are {size} bytes; at most {MAX_HEADER_BYTES} are taken")


def read_contents(frame: Buffer, header: Header | None = None) -> Contents:
    """Read and check a whole data frame, so that nothing later on can fail but the payload's codec.

    Its header may have been read before.

    Raises:
        ProtocolError: It is malformed or damaged.
    """
    header = header or read_header(frame)
    verify_digest(frame)
    extra = NO_EXTRA if header.extra_start == header.body_start else read_extra(frame, header)
    if header.batch:
        return Contents(header, extra, frame, *_read_table(frame, header))
    return new_tuple(Contents, (header, extra, frame, _NO_OFFSET, (header.body_start, len(frame) - DIGEST_SIZE)))


def _read_table(frame: Buffer, header: Header) -> tuple[Sequence[int], Sequence[int]]:
    """Return the offsets of a batch's messages, and the bounds of their payloads."""
    start, end = header.body_start, len(frame) - DIGEST_SIZE
    count = header.messages
    first = start + count * _ITEM_SIZE
    if first > end:
        raise ProtocolError("truncated", "a batch ends inside its table")
    table = _table(count).unpack_from(frame, start)
    bounds = list(accumulate(table[count:], initial=first))
    if bounds[-1] != end:
        raise ProtocolError("truncated", f"the messages of a batch end at {bounds[-1]}, its frame at {end}")
    return table[:count], bounds


def is_control(frame: Buffer) -> bool:
    """Whether a frame is a control frame; else it is to be read as a data frame."""
    return frame[:1] == SEPARATOR


def encode_command(command: Command) -> bytes:
    """Write a command as a control frame."""
    return SEPARATOR + _encode(command)


def decode_client_command(frame: Buffer) -> ClientCommand:
    """Read a control frame that a client sent.

    Raises:
        ProtocolError: It is not one (reason ``command``).
    """
    try:
        command: ClientCommand = _decode_client_command(memoryview(frame)[1:])
    except _UNREADABLE as error:
        raise ProtocolError("command", f"not a command of a client: {error}") from None
    return command


def decode_server_command(frame: bytes) -> ServerCommand:
    """Read a control frame that the server sent.

    Raises:
        ProtocolError: It is not one (reason ``command``).
    """
    try:
        command: ServerCommand = _decode_server_command(memoryview(frame)[1:])
    except _UNREADABLE as error:
        raise ProtocolError("command", f"not a command of a server: {error}") from None
    return command
