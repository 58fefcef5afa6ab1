"""Frames: what is written is read again, and any other bytes are refused with a reason."""

import math
import struct
from collections.abc import Callable, Mapping
from typing import Final, Literal, NamedTuple

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from xxhash import xxh3_64_intdigest

from mezzenger.codecs import BY_NUMBER
from mezzenger.errors import InvalidName, ProtocolError
from mezzenger.message import MAX_HEADER_BYTES, MAX_NAME_BYTES, check_headers, check_name
from mezzenger.protocol.commands import MAX_SECONDS, Ping
from mezzenger.protocol.wire import (
    FRAME_OVERHEAD,
    MAX_BATCH,
    VERSION,
    Extra,
    Header,
    encode_command,
    encode_data,
    is_control,
    read_contents,
    read_extra,
    read_header,
    verify_digest,
)

LARGEST: Final = 2**64 - 1
LATEST: Final = 1e11
"""The largest timestamp, in the year 5138."""
LATEST_START: Final = LATEST - 4295
"""The largest one of a batch."""
LAST_OFFSET: Final = 2**32 - 1
"""The largest number of microseconds between two messages of a batch, 71 minutes."""
HEAD_BYTES: Final = 32
DIGEST_BYTES: Final = 8

READERS: Final = (read_header, read_contents)


class Fields(NamedTuple):
    """What all messages of a frame have in common."""

    name: str
    ack: Literal[0, 1]
    codec: int
    client: int
    sequence: int
    headers: dict[str, str]


def is_name(text: str) -> bool:
    """Whether a message may be called that."""
    try:
        check_name(text)
    except InvalidName:
        return False
    return True


TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
NAMES: Final = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="|"), min_size=1, max_size=MAX_NAME_BYTES // 4
).filter(is_name)
NUMBERS: Final = st.integers(0, LARGEST)
FIELDS: Final = st.builds(
    Fields,
    name=NAMES,
    ack=st.sampled_from([0, 1]),
    codec=st.sampled_from(sorted(BY_NUMBER)),
    client=NUMBERS,
    sequence=NUMBERS,
    headers=st.dictionaries(TEXTS, TEXTS, max_size=4),
)
LARGEST_FIELDS: Final = Fields(
    "x" * MAX_NAME_BYTES, 1, max(BY_NUMBER), LARGEST, LARGEST, {"k": "v" * (MAX_HEADER_BYTES - 1)}
)
PAYLOADS: Final = st.binary(max_size=200)
TIMES: Final = st.floats(0, LATEST)
# Floats of this century can tell microseconds apart.
BATCH_STARTS: Final = st.floats(0, 4e9)
OFFSETS: Final = st.lists(st.integers(0, LAST_OFFSET), min_size=1, max_size=5)


def encode(
    *items: tuple[float, bytes],
    name: str = "a",
    ack: int = 1,
    codec: int = 1,
    client: int = 2,
    sequence: int = 3,
    headers: Mapping[str, str] | None = None,
    ttl: float | None = None,
    delay: float | None = None,
) -> bytes:
    """Write a frame; what is not given is plain."""
    extra = Extra(headers or {}, ttl, delay)
    return encode_data(name, items, ack=ack, codec=codec, client=client, sequence=sequence, extra=extra)


def sealed(content: bytes) -> bytes:
    """Put the digest behind what need not be a frame otherwise."""
    return content + struct.pack("!Q", xxh3_64_intdigest(content))


def craft(
    body: bytes = b"payload",
    *,
    name: bytes = b"a",
    version: int = VERSION,
    flags: int = 0,
    codec: int = 1,
    count: int = 1,
    timestamp: float = 1.5,
    sequence: int = 3,
    extra: bytes = b"",
    extra_length: int | None = None,
) -> bytes:
    """Write a frame as the documentation describes it, right or wrong, with the digest that goes with it."""
    length = len(extra) if extra_length is None else extra_length
    head = struct.pack("!BBBxHHQQd", version, flags, codec, length, count, 2, sequence, timestamp)
    return sealed(name + b"|" + head + extra + body)


def batch(*lengths: int, payloads: bytes = b"onetwo", offset: int = 0) -> bytes:
    """Write the body of a batch, right or wrong."""
    return struct.pack(f"!{2 * len(lengths)}I", *[offset] * len(lengths), *lengths) + payloads


def headers(value: str) -> bytes:
    """Write extra fields with two headers; the text beside this one is 8 bytes."""
    return msgspec.msgpack.encode({"headers": {"key": value, "other": ""}})


def reason_of(read: Callable[[bytes], object], frame: bytes) -> str | None:
    """Return why a frame is refused; None if it is not."""
    try:
        read(frame)
    except ProtocolError as error:
        return error.reason
    return None


def reason_or_text(value: object) -> str:
    """Name a test by its texts, not by its bytes."""
    return value if isinstance(value, str) else "frame"


def spoil(frame: bytearray, at: int) -> set[str | None]:
    """Return what is said to a frame in which one byte is replaced by each of the others."""
    right = frame[at]
    reasons = set()
    for wrong in set(range(256)) - {right}:
        frame[at] = wrong
        reasons.add(reason_of(read_contents, bytes(frame)))
    frame[at] = right
    return reasons


SINGLE: Final = encode((1.5, b"payload"), headers={"key": "value"})
BATCH: Final = encode((1.5, b"one"), (2.5, b""), (3.5, b"three"), name="caf\xe9.b")
FRAMES: Final = {"single": SINGLE, "batch": BATCH, "smallest": encode((0, b""), ack=0, codec=0, client=0, sequence=0)}

REASONS: Final = {"name", "truncated", "version", "flags", "codec", "timestamp", "sequence", "digest", "extra"}


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a frame of which a part is replaced by any bytes; its digest may fit again."""
    frame = draw(st.sampled_from(list(FRAMES.values())))
    start = draw(st.integers(0, len(frame)))
    end = draw(st.integers(start, len(frame)))
    wrong = frame[:start] + draw(st.binary(max_size=20)) + frame[end:]
    return sealed(wrong[:-DIGEST_BYTES]) if draw(st.booleans()) else wrong


def items_of(frame: bytes) -> list[tuple[float, bytes]]:
    """Return timestamp and payload of each message of a frame."""
    return [(item.timestamp, bytes(item.payload)) for item in read_contents(frame).items]


def check(frame: bytes, fields: Fields, items: list[tuple[float, bytes]], *, body_size: int) -> None:
    """Check that a frame holds what was written, and that its header tells where."""
    name, ack, codec, client, sequence, headers = fields
    extra_start = len(name.encode()) + 1 + HEAD_BYTES
    body_start = len(frame) - DIGEST_BYTES - body_size
    count = len(items)
    start = items[0][0]
    header = Header(name, ack, count > 1, codec, count, client, sequence, start, extra_start, body_start)
    contents = read_contents(frame)
    assert contents.header == header
    assert contents.extra.headers == headers
    assert items_of(frame) == items


class TestRoundTrip:
    """What is written is read again."""

    @given(ttl=st.none() | st.floats(5e-324, MAX_SECONDS), delay=st.none() | st.floats(0, MAX_SECONDS))
    @example(ttl=MAX_SECONDS, delay=0.0)
    @example(ttl=5e-324, delay=MAX_SECONDS)
    def test_ttl_and_delay(self, ttl: float | None, delay: float | None) -> None:
        """They come back to the last bit, alone, together, or beside headers."""
        for headers in ({}, {"key": "value"}):
            frame = encode((1.5, b"payload"), headers=headers, ttl=ttl, delay=delay)
            assert read_contents(frame).extra == Extra(headers, ttl, delay)

    def test_whole_seconds(self) -> None:
        """A number without a fraction, as another program may write it, is taken too."""
        extra = read_contents(craft(extra=msgspec.msgpack.encode({"ttl": 5, "delay": 0}))).extra
        assert (extra.ttl, extra.delay) == (5.0, 0.0)

    def test_without_them_nothing_is_written(self) -> None:
        """A frame without ttl and delay is, to the byte, what clients wrote that knew neither."""
        assert encode((1.5, b"payload"), ack=0) == craft()
        headers = msgspec.msgpack.encode({"headers": {"key": "value"}})
        assert encode((1.5, b"payload"), ack=0, headers={"key": "value"}) == craft(extra=headers)

    @settings(max_examples=200)
    @given(fields=FIELDS, created=TIMES, payload=PAYLOADS)
    @example(fields=LARGEST_FIELDS, created=LATEST, payload=bytes(100_000))
    def test_one_message(self, fields: Fields, created: float, payload: bytes) -> None:
        """A message comes back with all it had, to the last bit of its timestamp."""
        frame = encode((created, payload), **fields._asdict())
        check(frame, fields, [(created, payload)], body_size=len(payload))

    @settings(max_examples=200)
    @given(fields=FIELDS, start=BATCH_STARTS, offsets=OFFSETS, payloads=st.lists(PAYLOADS, min_size=6, max_size=6))
    @example(
        fields=LARGEST_FIELDS, start=1.7e9 + 0.123456, offsets=[0, 1, 2, 999_999, LAST_OFFSET], payloads=[b"x"] * 6
    )
    def test_a_batch(self, fields: Fields, start: float, offsets: list[int], payloads: list[bytes]) -> None:
        """Every message of a batch comes back with its payload and, to the microsecond, its timestamp."""
        times = [start, *(start + offset / 1e6 for offset in offsets)]
        items = list(zip(times, payloads, strict=False))
        # The last message has a sequence, too.
        fields = fields._replace(sequence=min(fields.sequence, LARGEST - len(items) + 1))
        frame = encode(*items, **fields._asdict())
        check(frame, fields, items, body_size=sum(8 + len(payload) for _, payload in items))

    def test_the_largest_batch(self) -> None:
        """A batch may hold as many messages as its header can count."""
        items = [(0.5, n.to_bytes(2)) for n in range(MAX_BATCH)]
        assert items_of(encode(*items)) == items

    @pytest.mark.parametrize(
        ("created", "read"),
        [
            (10.0, 10.0),
            (9.0, 10.0),
            (0.0, 10.0),
            (10.0000004, 10.0),
            (10.0000006, 10.000001),
            (10 + LAST_OFFSET / 1e6, 10 + LAST_OFFSET / 1e6),
            (1e9, 10 + LAST_OFFSET / 1e6),
        ],
    )
    def test_the_times_of_a_batch_have_limits(self, created: float, read: float) -> None:
        """Where the clock was set back, or stepped far, a time is moved to the nearest one that can be written."""
        assert items_of(encode((10.0, b""), (created, b""))) == [(10.0, b""), (read, b"")]

    def test_many_short_headers(self) -> None:
        """Headers that are allowed always fit, however many they are."""
        headers = {chr(n): "" for n in range(3456)}
        assert sum(len(key.encode()) for key in check_headers(headers)) == MAX_HEADER_BYTES
        assert read_contents(encode((0, b""), headers=headers)).extra.headers == headers


class TestLayout:
    """The bytes that both ends agree on."""

    @pytest.mark.parametrize(
        ("frame", "content"),
        [
            (
                SINGLE,
                (
                    "617c 01010100 0014 0001 0000000000000002 0000000000000003 3ff8000000000000"
                    "81a768656164657273 81a36b6579a576616c7565 7061796c6f6164 4950f2007bbd5ab9"
                ),
            ),
            (
                BATCH,
                (
                    "636166c3a92e627c 01030100 0000 0003 0000000000000002 0000000000000003 3ff8000000000000"
                    "00000000000f4240001e8480 000000030000000000000005 6f6e657468726565 ec36110c94f724a1"
                ),
            ),
        ],
        ids=["single", "batch"],
    )
    def test_the_bytes_stay_what_they_are(self, frame: bytes, content: str) -> None:
        """Other versions rely on each byte."""
        assert frame.hex() == content.replace(" ", "")

    @pytest.mark.parametrize("headers", [None, {}])
    def test_a_frame_without_headers(self, headers: dict[str, str] | None) -> None:
        """Headers that are not there take no bytes."""
        assert encode((1.5, b"payload"), ack=0, headers=headers) == craft()

    def test_a_frame_is_little_longer_than_its_payload(self) -> None:
        """The overhead that is promised is enough for the longest name."""
        assert len(encode((0, b""), name="x" * MAX_NAME_BYTES)) <= FRAME_OVERHEAD

    def test_payloads_are_not_copied(self) -> None:
        """The payloads of a frame are views of it."""
        for frame in (SINGLE, BATCH):
            assert {id(item.payload.obj) for item in read_contents(frame).items} == {id(frame)}

    def test_a_header_is_read_without_the_rest(self) -> None:
        """Who only routes a frame need not look at its digest, its extra fields or its payloads."""
        frame = craft(b"short", flags=2, count=9, extra=b"\xc1")[:-1] + b"x"
        assert read_header(frame) == Header("a", 0, True, 1, 9, 2, 3, 1.5, 34, 35)

    def test_the_parts_are_the_whole(self) -> None:
        """Reading a frame step by step gives what reading it at once gives."""
        for frame in FRAMES.values():
            header = read_header(frame)
            verify_digest(frame)
            assert read_contents(frame)[:3] == (header, read_extra(frame, header), frame)

    def test_extra_fields_of_a_later_version(self) -> None:
        """Extra fields that are not known here are skipped."""
        extra = msgspec.msgpack.encode({"expires": [1, {"a": None}], "headers": {"k": "v"}})
        assert read_contents(craft(extra=extra)).extra.headers == {"k": "v"}
        assert read_contents(craft(extra=b"\x80")).extra.headers == {}

    @pytest.mark.parametrize(
        ("frame", "control"),
        [(encode_command(Ping(1)), True), (b"|", True), (SINGLE, False), (BATCH, False), (b"", False), (b"a|", False)],
    )
    def test_a_control_frame_has_no_name(self, frame: bytes, control: bool) -> None:
        """Commands and messages are told apart by their first byte; a command is no message."""
        assert is_control(frame) is control
        assert not control or reason_of(read_contents, frame) == "name"


class TestRefused:
    """Frames that are no frames, and why."""

    @pytest.mark.parametrize("read", READERS)
    @pytest.mark.parametrize(
        ("reason", "frame", "text"),
        [
            ("name", b"", "starts with a name"),
            ("name", b"a", "starts with a name"),
            ("name", craft(name=b""), "starts with a name"),
            ("name", craft(name=b"x" * 256), "starts with a name"),
            ("name", b"x" * 1000, "starts with a name"),
            ("name", craft(name=b"\xff"), "cannot be used"),
            ("name", craft(name="\ud800".encode(errors="surrogatepass")), "cannot be used"),
            ("name", craft(name=b"a\x00"), "cannot be used: .* control character"),
            ("name", craft(name=b"a\xc2\x85"), "cannot be used: .* control character"),
            ("name", craft(name=b"a.*"), "cannot be used: .* wildcard"),
            ("name", craft(name=b">"), "cannot be used: .* wildcard"),
            ("truncated", b"a|", "of 2 bytes ends inside its header"),
            ("truncated", craft(b"")[:41], "of 41 bytes ends inside its header"),
            ("truncated", craft(b"", extra_length=1), "of 42 bytes ends inside its extra fields"),
            ("truncated", craft(b"body", extra_length=65535), "ends inside its extra fields"),
            ("version", craft(version=0), "version 0 is not known here; this is version 1"),
            ("version", craft(version=2), "version 2 is not known here; this is version 1"),
            ("flags", craft(flags=4), "flags 4 do not go with 1 messages"),
            ("flags", craft(flags=255), "flags 255 do not go with 1 messages"),
            ("flags", craft(count=0), "flags 0 do not go with 0 messages"),
            ("flags", craft(flags=2, count=0), "flags 2 do not go with 0 messages"),
            ("flags", craft(flags=1, count=2), "flags 1 do not go with 2 messages"),
            ("flags", craft(flags=3, count=1), "flags 3 do not go with 1 messages"),
            ("codec", craft(codec=4), "codec number 4 is not known here"),
            ("codec", craft(codec=255), "codec number 255 is not known here"),
            ("timestamp", craft(timestamp=-5e-324), "is not a time"),
            ("sequence", craft(flags=2, count=2, sequence=2**64 - 1, body=bytes(16)), "too high for 2 messages"),
            ("timestamp", craft(timestamp=math.nextafter(LATEST, math.inf)), "is not a time"),
            (
                "timestamp",
                craft(flags=2, count=2, body=bytes(16), timestamp=math.nextafter(LATEST_START, math.inf)),
                "is not a time",
            ),
            ("timestamp", craft(timestamp=math.nan), "timestamp nan is not a time"),
            ("timestamp", craft(timestamp=math.inf), "timestamp inf is not a time"),
            ("timestamp", craft(timestamp=-math.inf), "timestamp -inf is not a time"),
        ],
        ids=reason_or_text,
    )
    def test_a_header_is_refused(self, read: Callable[[bytes], object], reason: str, frame: bytes, text: str) -> None:
        """A frame is refused by its header alone, with a reason for the counters and a text for the log."""
        with pytest.raises(ProtocolError, match=text) as caught:
            read(frame)
        assert caught.value.reason == reason

    @pytest.mark.parametrize(
        ("reason", "frame", "text"),
        [
            ("digest", craft() + b"x", "was damaged"),
            ("digest", craft()[:-1], "was damaged"),
            ("digest", craft(extra=b"\xc1")[:-1] + b"x", "was damaged"),
            ("extra", craft(extra=b"\xc1"), "extra fields cannot be read"),
            ("extra", craft(extra=b"\x90"), "extra fields cannot be read"),
            ("extra", craft(extra=b"\x80\x80"), "extra fields cannot be read"),
            ("extra", craft(extra=b"\x81"), "extra fields cannot be read"),
            ("extra", craft(extra=msgspec.msgpack.encode({"headers": {"a": 1}})), "extra fields cannot be read"),
            ("extra", craft(extra=msgspec.msgpack.encode({"headers": {"a": b"b"}})), "extra fields cannot be read"),
            ("extra", craft(extra=msgspec.msgpack.encode({"headers": {1: "b"}})), "extra fields cannot be read"),
            ("extra", craft(extra=msgspec.msgpack.encode({"headers": None})), "extra fields cannot be read"),
            *(
                ("extra", craft(extra=msgspec.msgpack.encode({key: value})), "extra fields cannot be read")
                for key in ("ttl", "delay")
                for value in (-1.0, -5e-324, 1.1e9, math.nextafter(1e9, 2e9), math.inf, -math.inf, math.nan, True, "1")
            ),
            ("extra", craft(extra=msgspec.msgpack.encode({"ttl": 0.0})), "extra fields cannot be read"),
            ("extra", craft(extra=b"\x81\xa7headers\x81\xa1\xff\xa1b"), "extra fields cannot be read"),
            ("extra", craft(extra=b"\x81\xa7headers\x81\xa1a\xa3\xed\xa0\x80"), "extra fields cannot be read"),
            ("extra", craft(extra=b"\x81\xa7headers\xdf\xff\xff\xff\xff"), "extra fields cannot be read"),
            ("extra", craft(extra=b"\x81\xa1x" + b"\x91" * 60_000 + b"\x01"), "extra fields cannot be read"),
            ("extra", craft(extra=headers("v" * (MAX_HEADER_BYTES - 7))), "headers are 8193 bytes; at most 8192 are"),
            ("extra", craft(extra=headers("\xe9" * 4093)), "headers are 8194 bytes; at most 8192 are taken"),
            ("truncated", craft(b"", flags=2, count=2), "ends inside its table"),
            ("truncated", craft(batch(3, 3)[:15], flags=2, count=2), "ends inside its table"),
            ("truncated", craft(batch(3, 3) + b"xy", flags=2, count=3), "end at"),
            ("truncated", craft(batch(3, 4), flags=2, count=2), "end at"),
            ("truncated", craft(batch(3, 2), flags=2, count=2), "end at"),
            ("truncated", craft(batch(3, 2**32 - 1), flags=2, count=2), "end at"),
        ],
        ids=reason_or_text,
    )
    def test_contents_are_refused(self, reason: str, frame: bytes, text: str) -> None:
        """A frame with a good header is refused for what is behind it, also if its digest fits."""
        read_header(frame)
        with pytest.raises(ProtocolError, match=text) as caught:
            read_contents(frame)
        assert caught.value.reason == reason

    @pytest.mark.parametrize(
        "frame",
        [
            craft(timestamp=0),
            craft(timestamp=LATEST),
            craft(batch(3, 3), flags=2, count=2, timestamp=LATEST_START),
            craft(b""),
            craft(codec=0),
            craft(extra=headers("v" * (MAX_HEADER_BYTES - 8))),
        ],
    )
    def test_what_just_fits_is_taken(self, frame: bytes) -> None:
        """The frames next to those that are refused are read."""
        assert reason_of(read_contents, frame) is None

    @pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
    def test_any_changed_byte_is_noticed(self, frame: bytes) -> None:
        """Wherever one byte of a frame becomes any other, the frame is refused."""
        whole = bytearray(frame)
        for at in range(len(whole)):
            assert spoil(whole, at) <= REASONS

    @pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
    def test_any_cut_is_noticed(self, frame: bytes) -> None:
        """Wherever a frame ends early, it is refused; its header alone may still be read."""
        for end in range(len(frame)):
            assert reason_of(read_contents, frame[:end]) in {"name", "truncated", "digest"}
            assert reason_of(read_header, frame[:end]) in {None, "name", "truncated"}

    @pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
    def test_a_frame_from_another_hand(self, frame: bytes) -> None:
        """Wherever one byte was any other before the digest was taken, the frame is read or refused."""
        content = bytearray(frame[:-DIGEST_BYTES])
        for at, right in enumerate(frame[:-DIGEST_BYTES]):
            for wrong in range(256):
                content[at] = wrong
                assert reason_of(read_contents, sealed(bytes(content))) in {*REASONS, None}
            content[at] = right

    @pytest.mark.parametrize("read", READERS)
    @settings(max_examples=500)
    @given(frame=st.binary(max_size=100) | damaged() | st.binary(max_size=60).map(lambda extra: craft(extra=extra)))
    def test_any_bytes_are_read_or_refused(self, read: Callable[[bytes], object], frame: bytes) -> None:
        """No bytes make anything happen but a frame or our error."""
        assert reason_of(read, frame) in {*REASONS, None}
