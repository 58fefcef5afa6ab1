"""Bundles: messages of several names in one frame."""

import math
import struct
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from xxhash import xxh3_64_digest

from mezzenger.errors import ProtocolError
from mezzenger.protocol.bundle import (
    NOWHERE,
    Bundle,
    contents_of,
    encode_bundle,
    is_addressed,
    part,
    read_bundle,
    split_bundle,
)
from mezzenger.protocol.commands import TOKEN_BYTES
from mezzenger.protocol.wire import LATEST_START, MAX_BATCH, NO_EXTRA, Extra, encode_data, read_contents

CLIENT, SEQUENCE = 5, 70
HEADER = struct.Struct("!BBHIQQd")
Message = tuple[str, float, bytes, Extra]

names = st.sampled_from(["a", "b", "a.b", "ä", "x" * 255])
extras = st.one_of(st.just(NO_EXTRA), st.builds(Extra, headers=st.dictionaries(st.text(), st.text(), min_size=1)))
messages = st.tuples(names, st.integers(0, 1000).map(float), st.binary(max_size=20), extras)


def bundle_of(*some: Message) -> bytes:
    """Write messages as a bundle."""
    return encode_bundle(
        [name for name, _, _, _ in some],
        [(created, payload) for _, created, payload, _ in some],
        [extra for _, _, _, extra in some],
        codec=1,
        client=CLIENT,
        sequence=SEQUENCE,
    )


def plain(*called: str) -> bytes:
    """Write a bundle of messages with these names; each payload is that of its place."""
    return bundle_of(*((name, 1.5, b"%d" % place, NO_EXTRA) for place, name in enumerate(called)))


def shown(bundle: Bundle) -> list[tuple[str, int, float, bytes, Extra]]:
    """Return name, sequence, time, payload and extra fields of each message."""
    return [
        (one.header.name, one.header.sequence, item.timestamp, bytes(item.payload), one.extra)
        for one in contents_of(bundle)
        for item in one.items
    ]


def sealed(content: bytes) -> bytes:
    """Return a bundle with this content, and the digest that it must have."""
    return NOWHERE + content + xxh3_64_digest(content)


@given(st.lists(messages, min_size=1, max_size=8))
@example([("a", 1.0, b"", NO_EXTRA)] * MAX_BATCH)
def test_what_is_written_is_read(some: Sequence[Message]) -> None:
    """Every message comes back as it was, whatever the others are; sequences follow one by one."""
    start = some[0][1]
    assert shown(read_bundle(bundle_of(*some))) == [
        (name, SEQUENCE + place, max(start, created), payload, extra)
        for place, (name, created, payload, extra) in enumerate(some)
    ]


@given(st.lists(messages, min_size=1, max_size=8), st.data())
def test_a_part_has_what_was_picked(some: Sequence[Message], data: st.DataObject) -> None:
    """A part of a part has the messages as they were, with their sequences, and so their ids."""
    bundle = read_bundle(bundle_of(*some))
    picked = data.draw(st.lists(st.sampled_from(range(len(some))), min_size=1, unique=True).map(sorted))
    once = read_bundle(NOWHERE + part(bundle, picked))
    assert shown(once) == [shown(bundle)[index] for index in picked]
    again = data.draw(st.lists(st.sampled_from(range(len(picked))), min_size=1, unique=True).map(sorted))
    assert shown(read_bundle(NOWHERE + part(once, again))) == [shown(once)[index] for index in again]


@given(st.lists(messages, min_size=1, max_size=8))
def test_split_into_data_frames(some: Sequence[Message]) -> None:
    """Taken apart, each message is a data frame with ``ack=0`` that has all it had in the bundle."""
    bundle = read_bundle(bundle_of(*some))
    frames = [read_contents(frame) for frame in split_bundle(bundle)]
    assert {(one.header.ack, one.header.codec, one.header.client, one.header.messages) for one in frames} == {
        (0, 1, CLIENT, 1)
    }
    assert [
        (one.header.name, one.header.sequence, one.items[0].timestamp, bytes(one.items[0].payload), one.extra)
        for one in frames
    ] == shown(bundle)


def test_a_name_and_a_client() -> None:
    """What contents say beside the message is that of the bundle."""
    (one,) = contents_of(read_bundle(plain("a")))
    header = one.header
    assert (header.ack, header.batch, header.codec, header.messages, header.client) == (0, False, 1, 1, CLIENT)


def test_who_is_addressed() -> None:
    """A bundle is told from data frames and commands by its first byte; the digest does not cover the address."""
    frame = plain("a", "b")
    assert is_addressed(frame)
    assert not is_addressed(encode_data("a", [(1.0, b"")], ack=0, codec=0, client=1, sequence=1))
    assert not is_addressed(b"|")
    assert not is_addressed(b"")
    assert read_bundle(b"\0" + bytes(range(16)) + frame[TOKEN_BYTES:]).names == ["a", "b"]


@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    """Any bytes are a bundle, or raise ``ProtocolError``, be their digest right or not."""
    for frame in (content, sealed(content)):
        try:
            contents_of(read_bundle(frame))
        except ProtocolError:
            continue


def written(
    *,
    version: int = 1,
    codec: int = 1,
    count: int = 1,
    text: bytes = b"a",
    sequence: int = 1,
    timestamp: float = 1.5,
    length: int = 2,
    place: int = 0,
    extra: int = 0,
    offset: int = 0,
    messages: bytes = b"xy",
) -> bytes:
    """Write a bundle of one message by hand."""
    header = HEADER.pack(version, codec, count, len(text), CLIENT, sequence, timestamp)
    return sealed(header + struct.pack("!IIHH", offset, length, place, extra) + text + messages)


def test_written_by_hand() -> None:
    """The test's own way to write a bundle is that of the protocol."""
    assert (
        written()
        == bundle_of(("a", 1.5, b"xy", NO_EXTRA)).replace(SEQUENCE.to_bytes(8), (1).to_bytes(8))[:-8] + written()[-8:]
    )
    assert shown(read_bundle(written())) == [("a", 1, 1.5, b"xy", NO_EXTRA)]


@pytest.mark.parametrize(
    ("reason", "frame"),
    [
        ("truncated", NOWHERE),
        ("truncated", written()[: TOKEN_BYTES + HEADER.size + 7]),
        ("truncated", sealed(written()[TOKEN_BYTES : TOKEN_BYTES + HEADER.size + 4])),
        ("truncated", written(length=1)),
        ("truncated", written(length=3)),
        ("truncated", written(length=2, extra=3)),
        ("version", written(version=2)),
        ("codec", written(codec=9)),
        ("count", written(count=0)),
        ("count", written(count=MAX_BATCH + 1)),
        ("timestamp", written(timestamp=-1.0)),
        ("timestamp", written(timestamp=float("nan"))),
        ("timestamp", written(timestamp=math.nextafter(LATEST_START, math.inf))),
        ("sequence", written(sequence=2**64 - 1, place=1)),
        ("digest", written()[:-1] + b"?"),
        ("name", written(text=b"")),
        ("name", written(text=b"a|b")),
        ("name", written(text=b"*")),
        ("name", written(text=b"\xff")),
        ("name", written(text=b"x" * 256)),
    ],
)
def test_malformed(reason: str, frame: bytes) -> None:
    """Whatever is wrong with a bundle, the reason says what."""
    with pytest.raises(ProtocolError) as caught:
        read_bundle(frame)
    assert caught.value.reason == reason


def test_the_latest() -> None:
    """However far behind its bundle a message is, it can be a frame of its own."""
    offset = 2**32 - 1
    bundle = read_bundle(written(timestamp=LATEST_START, offset=offset))
    (frame,) = split_bundle(bundle)
    assert read_contents(frame).header.timestamp == LATEST_START + offset / 1e6


def test_malformed_extra() -> None:
    """Extra fields are read with the contents, not before."""
    bundle = read_bundle(written(extra=1))
    with pytest.raises(ProtocolError) as caught:
        contents_of(bundle)
    assert caught.value.reason == "extra"
