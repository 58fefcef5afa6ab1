"""Codecs: what they carry comes back as it was, and what they cannot carry is told by message and type."""

import pickle
import threading
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from pathlib import PurePosixPath
from typing import Any, Final, NoReturn
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from mezzenger.codecs import (
    BY_NAME,
    BY_NUMBER,
    JSON,
    MSGPACK,
    PICKLE,
    RAW,
    Buffer,
    Codec,
    decode_payload,
    encode_payload,
)
from mezzenger.errors import PayloadNotDecodable, PayloadNotEncodable

NOON: Final = datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=UTC)
DEEP: Final = 100_000
"""Levels of nesting that no codec follows."""

FLOATS: Final = st.floats(allow_nan=False, allow_infinity=False)
TEXTS: Final = st.text(st.characters(exclude_categories=["Cs"]))
PLAIN: Final = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | FLOATS | TEXTS


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: float
    tags: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class FrozenPoint:
    x: float


class Reading(BaseModel):
    at: datetime
    values: dict[str, list[float]]
    origin: "Reading | None" = None


class OutOfRangeError(Exception):
    def __init__(self, value: int, limit: int) -> None:
        super().__init__(value, limit)
        self.limit = limit


class Stubborn:
    """Will not be pickled."""

    def __reduce__(self) -> NoReturn:
        raise RuntimeError("not today")


class OneWay:
    """Can be pickled, but not read back."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return int, ("no number",)


def alike(one: object, other: object) -> bool:
    """Whether two objects are of one type and hold the same; ``==`` cannot tell for arrays and exceptions."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, BaseException) and isinstance(other, BaseException):
        return one.args == other.args and vars(one) == vars(other)
    return one == other


def nested_list(depth: int) -> list[Any]:
    """Return a list in a list in a list, and so on."""
    outer: list[Any] = []
    for _ in range(depth):
        outer = [outer]
    return outer


def there_and_back(codec: Codec, payload: object) -> object:
    """Send a payload through a codec."""
    return decode_payload(codec, "a", encode_payload(codec, "a", payload))


class TestTable:
    """The codecs that there are."""

    @pytest.mark.parametrize(
        ("number", "name", "codec"),
        [(0, "raw", RAW), (1, "pickle", PICKLE), (2, "msgpack", MSGPACK), (3, "json", JSON)],
    )
    def test_a_codec_keeps_its_number(self, number: int, name: str, codec: Codec) -> None:
        """The number travels in frames and the name stands in settings; neither may change."""
        assert (codec.number, codec.name) == (number, name)
        assert BY_NUMBER[number] is codec
        assert BY_NAME[name] is codec

    def test_there_are_no_others(self) -> None:
        """Every codec has one number and one name."""
        assert len(BY_NUMBER) == len(BY_NAME) == 4

    @pytest.mark.parametrize("codec", BY_NAME.values(), ids=BY_NAME)
    @pytest.mark.parametrize("view", [bytes, bytearray, memoryview])
    def test_bytes_are_read_where_they_are(self, codec: Codec, view: Callable[[bytes], Buffer]) -> None:
        """A payload may be decoded from a view of a frame."""
        data = encode_payload(codec, "a", b"payload" if codec.number == 0 else ["payload", 1.5])
        assert decode_payload(codec, "a", view(data)) == decode_payload(codec, "a", data)

    @pytest.mark.parametrize("codec", BY_NAME.values(), ids=BY_NAME)
    def test_much_is_written_as_little_is(self, codec: Codec) -> None:
        """The way that is taken for large payloads leads to the same bytes."""
        payload = bytes(2**17) if codec.number == 0 else ["caf\xe9", 1.5, None] * 10_000
        assert codec.dumps_large(payload) == codec.dumps(payload)


class TestPickle:
    """The codec that carries nearly everything."""

    @pytest.mark.parametrize(
        "payload",
        [
            None,
            True,
            0,
            2**200,
            -1.5,
            1 + 2j,
            "caf\xe9 \U0001f600",
            "\ud800",
            b"",
            b"\x00|\xff",
            bytearray(b"abc"),
            NOON,
            NOON.replace(tzinfo=None),
            date(2024, 2, 29),
            timedelta(microseconds=-1),
            Decimal("1.10"),
            Fraction(1, 3),
            UUID(int=7),
            PurePosixPath("a/b"),
            Colour.RED,
            (),
            {"a": [1, (2, {3: {4, 5}})], (1, 2): frozenset({b"x"}), None: deque([1], maxlen=2)},
            OrderedDict([("b", 1), ("a", 2)]),
            Point(1.5, ["x"]),
            FrozenPoint(2.5),
            [{"points": (Point(1), FrozenPoint(2))}],
            Reading(at=NOON, values={"k": [1.5]}, origin=Reading(at=NOON, values={})),
            ValueError("text", 5),
            OutOfRangeError(5, 3),
            KeyError("key"),
            int,
            len,
        ],
        ids=repr,
    )
    def test_a_payload_comes_back(self, payload: object) -> None:
        """The receiver gets an equal object of the same type."""
        assert alike(there_and_back(PICKLE, payload), payload)

    @pytest.mark.parametrize(
        "array",
        [
            np.arange(6, dtype=np.int32).reshape(2, 3),
            np.asfortranarray(np.arange(6.0).reshape(2, 3)),
            np.arange(20)[::3],
            np.array(1.5),
            np.empty((0, 3)),
            np.array([True, False]),
            np.array([1 + 2j]),
            np.array(["a", "bc"]),
            np.array(["2024-02-29"], dtype="datetime64[ns]"),
            np.array([(1, 2.5)], dtype=[("id", ">u2"), ("value", "<f4")]),
            np.array([None, {"a": 1}], dtype=object),
        ],
        ids=lambda array: f"{array.dtype}-{array.shape}",
    )
    def test_an_array_comes_back(self, array: np.ndarray[Any, Any]) -> None:
        """The receiver gets an array of the same type, shape and content, which it may change."""
        back = there_and_back(PICKLE, array)
        assert isinstance(back, np.ndarray)
        assert alike(back, array)
        assert back.flags.writeable

    def test_arrays_travel_inside_containers(self) -> None:
        """Arrays are carried wherever they are in a payload, next to NumPy's scalars."""
        array = np.arange(3.0)
        back: Any = there_and_back(PICKLE, {"arrays": [array], "scalar": np.float32(0.5)})
        assert alike(back["arrays"][0], array)
        assert alike(back["scalar"], np.float32(0.5))

    def test_an_object_stays_one_object(self) -> None:
        """What is in a payload twice, or in itself, is so for the receiver."""
        shared: list[object] = []
        shared.append(shared)
        back: Any = there_and_back(PICKLE, [shared, shared])
        assert back[0] is back[1]
        assert back[0][0] is back[0]

    def test_the_protocol_is_five(self) -> None:
        """Receivers with an older or newer Python can read it."""
        assert encode_payload(PICKLE, "a", 1) == pickle.dumps(1, protocol=5)

    def test_an_interruption_is_no_error_of_the_payload(self) -> None:
        """Ctrl-C while a payload is written stops the program and is not turned into our error."""

        class Interrupted:
            def __reduce__(self) -> NoReturn:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            encode_payload(PICKLE, "a", Interrupted())


class TestMsgpack:
    """The codec for other languages, compact."""

    @settings(max_examples=100)
    @given(
        st.recursive(
            PLAIN | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(TEXTS | st.integers(0, 2**64 - 1), inner),
            max_leaves=8,
        )
    )
    def test_plain_data_come_back(self, payload: object) -> None:
        """Numbers, text, bytes, lists and dicts are carried as they are."""
        assert alike(there_and_back(MSGPACK, payload), payload)

    def test_a_time_comes_back(self) -> None:
        """A time with a zone is carried as a time."""
        assert alike(there_and_back(MSGPACK, NOON), NOON)


class TestJson:
    """The codec for other languages, readable."""

    @settings(max_examples=100)
    @given(st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(TEXTS, inner), max_leaves=8))
    def test_plain_data_come_back(self, payload: object) -> None:
        """Numbers, text, lists and dicts with text for keys are carried as they are."""
        assert alike(there_and_back(JSON, payload), payload)

    @pytest.mark.parametrize(
        ("payload", "back"),
        [
            ((1, (2.5, [])), [1, [2.5, []]]),
            ({"a": {5}, "b": ("c", {"d": (None,)})}, {"a": [5], "b": ["c", {"d": [None]}]}),
            (Point(1.5, ["x"]), {"x": 1.5, "tags": ["x"]}),
            ([NOON, date(2024, 2, 29), Decimal("1.10")], ["2024-02-29T12:00:00.123456Z", "2024-02-29", "1.10"]),
            ({UUID(int=7): Colour.RED}, {"00000000-0000-0000-0000-000000000007": "red"}),
            ([2**200, -(2**64)], [2**200, -(2**64)]),
        ],
    )
    def test_others_come_back_as_plain_data(self, payload: object, back: object) -> None:
        """What JSON has another way to write comes back as that: a tuple as a list, a time as text."""
        assert alike(there_and_back(JSON, payload), back)

    def test_it_is_json(self) -> None:
        """What is written is what anybody else calls JSON."""
        assert encode_payload(JSON, "a", {"b": [1, None, "\xe9"]}) == '{"b":[1,null,"\xe9"]}'.encode()


class TestRaw:
    """The codec for bytes that are something already."""

    @settings(max_examples=50)
    @given(st.binary(), st.sampled_from([bytes, bytearray, memoryview]))
    def test_bytes_come_back(self, payload: bytes, view: Callable[[bytes], Buffer]) -> None:
        """Whatever kind of buffer was sent, the receiver gets bytes."""
        back = there_and_back(RAW, view(payload))
        assert type(back) is bytes
        assert back == payload

    def test_bytes_are_not_copied(self) -> None:
        """The bytes that are given are the bytes that are sent."""
        payload = bytes(1000)
        assert encode_payload(RAW, "a", payload) is payload

    def test_a_view_with_steps(self) -> None:
        """A view that skips bytes is sent without these."""
        assert encode_payload(RAW, "a", memoryview(b"abcdef")[::2]) == b"ace"


class TestNotEncodable:
    """Payloads that cannot be sent."""

    @pytest.mark.parametrize(
        ("codec", "payload", "kind"),
        [
            (PICKLE, lambda: 0, "builtins.function"),
            (PICKLE, threading.Lock(), "_thread.lock"),
            (PICKLE, Stubborn(), f"{__name__}.Stubborn"),
            (PICKLE, [Stubborn()], "builtins.list"),
            (PICKLE, (n for n in range(3)), "builtins.generator"),
            (PICKLE, memoryview(b""), "builtins.memoryview"),
            (PICKLE, nested_list(DEEP), "builtins.list"),
            (MSGPACK, object(), "builtins.object"),
            (MSGPACK, 2**64, "builtins.int"),
            (MSGPACK, "\ud800", "builtins.str"),
            (MSGPACK, nested_list(DEEP), "builtins.list"),
            (MSGPACK, np.arange(3), "numpy.ndarray"),
            (JSON, object(), "builtins.object"),
            (JSON, {"a": {1j: 2}}, "builtins.dict"),
            (JSON, float("nan"), "builtins.float"),
            (JSON, [1.5, {"a": (2, float("-inf"))}], "builtins.list"),
            (JSON, b"\xff", "builtins.bytes"),
            (JSON, {"a": bytearray(b"text")}, "builtins.dict"),
            (JSON, {1: 2, "1": 3}, "builtins.dict"),
            (JSON, {"a": [{b"k": 1}]}, "builtins.dict"),
            (JSON, Point(1.5, [float("nan")]), f"{__name__}.Point"),  # type: ignore[list-item]  # that is the point
            (JSON, "\ud800", "builtins.str"),
            (JSON, nested_list(DEEP), "builtins.list"),
            (RAW, "text", "builtins.str"),
            (RAW, None, "builtins.NoneType"),
            (RAW, [1, 2], "builtins.list"),
            (RAW, 5, "builtins.int"),
        ],
    )
    def test_a_payload_is_refused(self, codec: Codec, payload: object, kind: str) -> None:
        """The error names the message, the payload's type, the codec and the cause, which is kept."""
        with pytest.raises(PayloadNotEncodable) as caught:
            encode_payload(codec, "sensor", payload)
        start = f"message 'sensor': a payload of type {kind} cannot be encoded with {codec.name}: "
        assert str(caught.value) == f"{start}{caught.value.__cause__}"
        assert isinstance(caught.value.__cause__, Exception)

    def test_the_cause_is_told(self) -> None:
        """What the payload itself says about it is part of the text."""
        with pytest.raises(PayloadNotEncodable, match="not today") as caught:
            encode_payload(PICKLE, "a", Stubborn())
        assert type(caught.value.__cause__) is RuntimeError


class TestNotDecodable:
    """Bytes that cannot be read."""

    @pytest.mark.parametrize(
        ("codec", "data"),
        [
            (PICKLE, b""),
            (PICKLE, b"\xff"),
            (PICKLE, b"no pickle"),
            (PICKLE, b"\x80\xff."),
            (PICKLE, b"cno_such_module\nThing\n."),
            (PICKLE, b"cmezzenger.codecs\nThing\n."),
            (PICKLE, pickle.dumps(OneWay())),
            (MSGPACK, b""),
            (MSGPACK, b"\xc1"),
            (MSGPACK, b"\x01\x01"),
            (MSGPACK, b"\xa1\xff"),
            (MSGPACK, b"\x91" * DEEP + b"\x01"),
            (MSGPACK, b"\xdd\xff\xff\xff\xff"),
            (JSON, b""),
            (JSON, b"{"),
            (JSON, b"1 1"),
            (JSON, b'"\xff"'),
            (JSON, b"[" * DEEP),
        ],
        ids=lambda value: value.name if isinstance(value, Codec) else ascii(value[:20]),
    )
    @pytest.mark.parametrize("view", [bytes, memoryview])
    def test_bytes_are_refused(self, codec: Codec, data: bytes, view: Callable[[bytes], Buffer]) -> None:
        """The error names the message, the codec, the number of bytes and the cause, which is kept."""
        with pytest.raises(PayloadNotDecodable) as caught:
            decode_payload(codec, "sensor", view(data))
        start = f"message 'sensor': {len(data)} bytes of {codec.name} cannot be decoded: "
        assert str(caught.value) == f"{start}{caught.value.__cause__}"
        assert isinstance(caught.value.__cause__, Exception)

    @pytest.mark.parametrize("codec", [PICKLE, MSGPACK, JSON], ids=lambda codec: codec.name)
    def test_no_part_is_taken_for_the_whole(self, codec: Codec) -> None:
        """Bytes that end early are refused, wherever they end."""
        data = encode_payload(codec, "a", {"list": [1, 2.5, None], "text": "x" * 300})
        for end in range(len(data)):
            with pytest.raises(PayloadNotDecodable):
                decode_payload(codec, "a", data[:end])
