"""Channels: what is of their type comes back as it was, what is not is told, what cannot be read is not sent."""

import ipaddress
import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import PurePosixPath
from typing import Annotated, Any, Final, Literal, NamedTuple
from uuid import UUID

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    SecretStr,
    computed_field,
    field_serializer,
)
from typing_extensions import TypedDict

from mezzenger.channel import Channel, CodecName, encode_answer, name_of
from mezzenger.codecs import BY_NAME, JSON, MSGPACK, PICKLE
from mezzenger.errors import (
    InvalidChannel,
    InvalidName,
    PayloadInvalid,
    PayloadNotDecodable,
    PayloadNotEncodable,
)

NOON: Final = datetime(2024, 2, 29, 12, 0, 0, 123456, tzinfo=UTC)
ID: Final = UUID(int=7)


class Size(StrEnum):
    SMALL = "small"
    LARGE = "large"


class Level(Enum):
    LOW = 1
    HIGH = 2


class Point(NamedTuple):
    x: int
    y: float = 0.0


class Address(TypedDict, total=False):
    street: str
    number: int


@dataclass
class Box:
    size: Size
    content: bytes
    made: datetime = NOON
    tags: set[str] = field(default_factory=set)


class Greeting(BaseModel):
    """A model with the usual parts: limits, defaults, nested types."""

    model_config = ConfigDict(extra="forbid")

    who: str = Field(min_length=1)
    count: int = Field(default=1, ge=1)
    box: Box | None = None
    to: list[Address] = []

    @computed_field  # type: ignore[prop-decorator]  # mypy does not take a decorator above @property
    @property
    def text(self) -> str:
        return f"Hello {self.who}!"


class Aliased(BaseModel):
    """Every way to call a field otherwise than it is called."""

    both: int = Field(alias="BOTH")
    written: int = Field(serialization_alias="WRITTEN")
    read: int = Field(validation_alias="READ")


class Cat(BaseModel):
    kind: Literal["cat"] = "cat"
    lives: int = 9


class Dog(BaseModel):
    kind: Literal["dog"] = "dog"
    name: str = ""


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]

integers: Final = st.integers(-(2**63), 2**64 - 1)
floats: Final = st.floats(allow_nan=False, allow_infinity=False)
texts: Final = st.text()
days: Final = st.timedeltas()
instants: Final = st.datetimes(timezones=st.sampled_from([UTC, None]))
sizes: Final = st.sampled_from(Size)
boxes: Final = st.builds(Box, sizes, st.binary(), instants, st.sets(texts))
text_boxes: Final = st.builds(Box, sizes, texts.map(str.encode), instants, st.sets(texts))
addresses: Final = st.fixed_dictionaries({}, optional={"street": texts, "number": integers})


def greetings(boxes: st.SearchStrategy[Box]) -> st.SearchStrategy[Greeting]:
    return st.builds(
        Greeting, who=st.text(min_size=1), count=st.integers(1, 9), box=st.none() | boxes, to=st.lists(addresses)
    )


EXACT: Final[Mapping[str, tuple[Any, st.SearchStrategy[Any]]]] = {
    "bool": (bool, st.booleans()),
    "int": (int, integers),
    "float": (float, floats),
    "str": (str, texts),
    "none": (None, st.none()),
    "datetime": (datetime, instants),
    "date": (date, st.dates()),
    "time": (time, st.times()),
    "timedelta": (timedelta, days),
    "decimal": (Decimal, st.decimals(allow_nan=False, allow_infinity=False)),
    "uuid": (UUID, st.uuids()),
    "complex": (complex, st.complex_numbers(allow_nan=False, allow_infinity=False)),
    "enum": (Level, st.sampled_from(Level)),
    "text enum": (Size, sizes),
    "literal": (Literal["a", 1], st.sampled_from(["a", 1])),
    "path": (PurePosixPath, st.sampled_from([PurePosixPath("/a/b"), PurePosixPath("c")])),
    "address": (ipaddress.IPv4Address, st.ip_addresses(v=4)),
    "list": (list[int], st.lists(integers)),
    "tuple": (tuple[int, str], st.tuples(integers, texts)),
    "set": (set[int], st.sets(integers)),
    "frozenset": (frozenset[str], st.frozensets(texts)),
    "deque": (deque[int], st.lists(integers).map(deque)),
    "dict": (dict[str, list[float]], st.dictionaries(texts, st.lists(floats))),
    "dict by number": (dict[int, str], st.dictionaries(integers, texts)),
    "dict by day": (dict[date, int], st.dictionaries(st.dates(), integers)),
    "dict by id": (dict[UUID, int], st.dictionaries(st.uuids(), integers)),
    "union": (int | str | None, integers | texts | st.none()),
    "union of lists": (list[int] | list[str], st.lists(integers, min_size=1) | st.lists(texts)),
    "tagged union": (Pet, st.builds(Cat, lives=integers) | st.builds(Dog, name=texts)),
    "named tuple": (Point, st.builds(Point, integers, floats)),
    "typed dict": (Address, addresses),
    "constrained": (Annotated[int, Field(gt=3)], st.integers(4, 100)),
    "model": (Greeting, greetings(text_boxes)),
    "models": (list[Greeting], st.lists(greetings(text_boxes), max_size=2)),
    "dataclass": (Box, text_boxes),
    "aliases": (Aliased, st.builds(Aliased.model_construct, both=integers, written=integers, read=integers)),
}
"""What each codec brings back as it was."""

EXACT_WITH_MSGPACK: Final[Mapping[str, tuple[Any, st.SearchStrategy[Any]]]] = {
    "bytes": (bytes, st.binary()),
    "any float": (float, st.floats(allow_nan=False)),
    "dict by pair": (dict[tuple[int, str], int], st.dictionaries(st.tuples(integers, texts), integers)),
    "dict by bytes": (dict[bytes, int], st.dictionaries(st.binary(), integers)),
    "time or text": (datetime | str, st.datetimes(timezones=st.just(UTC)) | texts),
    "bytes or text": (bytes | str, st.binary() | texts),
    "model with bytes": (Greeting, greetings(boxes)),
}
"""What JSON cannot hold, or not tell from something else."""

CASES: Final = [
    *((codec, name, *case) for codec in BY_NAME if codec != "raw" for name, case in EXACT.items()),
    *((codec, name, *case) for codec in ("msgpack", "pickle") for name, case in EXACT_WITH_MSGPACK.items()),
]


@pytest.mark.parametrize(
    ("codec", "type_", "payloads"),
    [(codec, type_, payloads) for codec, _, type_, payloads in CASES],
    ids=[f"{codec}-{name}" for codec, name, *_ in CASES],
)
def test_it_comes_back_as_it_was(codec: CodecName, type_: Any, payloads: st.SearchStrategy[Any]) -> None:
    """Each payload of the type is equal, and of the same class, after its way."""
    channel: Channel[Any] = Channel("a", type_, codec=codec)

    @settings(max_examples=25)
    @given(payloads)
    def check(payload: object) -> None:
        arrived = channel.decode(channel.encode(payload))
        assert arrived == payload
        assert type(arrived) is type(payload)

    check()


class TestWhatIsSent:
    def test_no_pickle_is_needed(self) -> None:
        """With msgpack a model is a map of plain values, which anybody can read, without its computed fields."""
        data = Channel("a", Greeting).encode(Greeting(who="Ann", box=Box(Size.SMALL, b"\xff", tags={"x"})))
        assert msgspec.msgpack.decode(data) == {
            "who": "Ann",
            "count": 1,
            "box": {"size": "small", "content": b"\xff", "made": NOON, "tags": ["x"]},
            "to": [],
        }

    def test_a_time_arrives_as_the_same_moment(self) -> None:
        """With msgpack a moment comes back in UTC."""
        channel = Channel("a", datetime)
        summer = datetime.fromisoformat("2024-07-01T12:00:00+02:00")
        arrived = channel.decode(channel.encode(summer))
        assert arrived == summer
        assert arrived.tzinfo is UTC

    def test_what_can_become_the_type_does(self) -> None:
        """As pydantic has it, an int is taken for a float, and a dict for a model."""
        floats, greetings = Channel("a", list[float]), Channel("b", Greeting)
        assert str(floats.decode(floats.encode([1]))) == "[1.0]"
        for codec in ("msgpack", "json", "pickle"):
            untyped: Channel[Any] = Channel("b", Greeting, codec=codec)
            assert greetings.decode(untyped.encode({"who": "Ann"}), untyped.codec) == Greeting(who="Ann")

    def test_a_part_of_a_derived_model(self) -> None:
        """Of an instance of a derived class what the type knows is sent."""

        class Loud(Greeting):
            volume: int = 3

        channel = Channel("a", Greeting)
        assert channel.decode(channel.encode(Loud(who="Ann"))) == Greeting(who="Ann")

    def test_bytes_as_they_are(self) -> None:
        """The codec raw writes bytes, and nothing else."""
        assert Channel("a", bytes, codec="raw").encode(b"\xff") == b"\xff"
        with pytest.raises(PayloadNotEncodable, match=r"channel 'a': .* raw: the raw codec takes bytes"):
            Channel("a", str, codec="raw").encode("x")


class Wrong(NamedTuple):
    """A payload that is not of a type, and what is said of it."""

    type: Any
    payload: object
    words: str


WRONG: Final = {
    "a limit": Wrong(Greeting, Greeting.model_construct(who="Ann", count=0), "count\n  Input should be greater than"),
    "a type": Wrong(int, "x", r"valid integer.*input_value='x'"),
    "another class": Wrong(Greeting, Cat(), "who\n  Field required"),
    "no model at all": Wrong(Greeting, 5, "Input should be (an object|a valid dictionary or instance of Greeting)"),
    "inside a list": Wrong(list[int], [1, "x"], "^1\n"),
    "inside a dataclass": Wrong(Box, Box("huge", b""), "size\n  Input should be 'small' or 'large'"),  # type: ignore[arg-type]  # the point
    "a missing key": Wrong(Address, {"number": "x"}, "number\n"),
}


@pytest.mark.parametrize("codec", ["msgpack", "json"])
@pytest.mark.parametrize("wrong", WRONG.values(), ids=list(WRONG))
def test_what_is_not_of_the_type(codec: CodecName, wrong: Wrong) -> None:
    """The sender is told the channel, the place and the value, without links; a program finds the details."""
    channel: Channel[Any] = Channel("a", wrong.type, codec=codec)
    with pytest.raises(PayloadInvalid) as caught:
        channel.encode(wrong.payload)
    text = str(caught.value)
    assert text.startswith("channel 'a': 1 validation error")
    assert re.search(wrong.words, text, re.MULTILINE)
    assert "https:" not in text
    assert caught.value.__cause__ is not None


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)

    id: UUID


class OneWay(BaseModel):
    """Written so that it cannot be read."""

    when: date

    @field_serializer("when")
    def _write(self, value: date) -> str:
        return value.strftime("%d %B")


class TestWhatCannotBeRead:
    @pytest.mark.parametrize(
        ("codec", "type_", "payload"),
        [
            ("msgpack", Strict, Strict(id=ID)),
            ("msgpack", OneWay, OneWay(when=NOON.date())),
            ("json", float, float("inf")),
            ("json", OneWay, OneWay(when=NOON.date())),
        ],
    )
    def test_is_not_sent(self, codec: CodecName, type_: Any, payload: object) -> None:
        """What is of the type, but would not be when it has arrived, is refused at once, not by each subscriber."""
        channel: Channel[Any] = Channel("a", type_, codec=codec)
        with pytest.raises(PayloadInvalid):
            channel.encode(payload)

    @pytest.mark.parametrize("codec", ["json", "pickle"])
    def test_strict_types(self, codec: CodecName) -> None:
        """These codecs bring back what a strict type wants."""
        channel = Channel("a", Strict, codec=codec)
        assert channel.decode(channel.encode(Strict(id=ID))) == Strict(id=ID)


def reverse(text: str) -> str:
    return text[::-1]


class TestWhatCannotBeWritten:
    @pytest.mark.parametrize(
        ("codec", "type_", "payload", "words"),
        [
            ("msgpack", int, 2**70, "ints"),
            ("msgpack", SecretStr, SecretStr("x"), "a secret would arrive as asterisks"),
            ("msgpack", object, object(), "object"),
            ("json", bytes, b"\xff", "invalid utf-8"),
            ("json", object, object(), "object"),
            ("pickle", object, lambda: None, "pickle"),
        ],
    )
    def test_is_told(self, codec: CodecName, type_: Any, payload: object, words: str) -> None:
        """A payload of the type that the codec has no form for."""
        channel: Channel[Any] = Channel("a", type_, codec=codec)
        with pytest.raises(PayloadNotEncodable, match=rf"channel 'a': .* encoded with {codec}: .*{words}"):
            channel.encode(payload)

    def test_if_it_is_of_another_type(self) -> None:
        """That is told rather than what went wrong because of it."""
        channel: Channel[Any] = Channel("a", Annotated[str, PlainSerializer(reverse)])
        assert msgspec.msgpack.decode(channel.encode("abc")) == "cba"
        with pytest.raises(PayloadInvalid, match="valid string"):
            channel.encode(5)

    def test_pickled(self) -> None:
        """What is pickled is validated before."""
        channel: Channel[Any] = Channel("a", int, codec="pickle")
        with pytest.raises(PayloadInvalid, match="valid integer"):
            channel.encode("x")


class TestWhatArrives:
    @pytest.mark.parametrize("codec", [JSON, MSGPACK, PICKLE], ids=lambda codec: codec.name)
    def test_from_somebody_without_the_channel(self, codec: Any) -> None:
        """What others have written, with any codec, is validated."""
        channel = Channel("a", Greeting)
        assert channel.decode(codec.dumps({"who": "Ann"}), codec) == Greeting(who="Ann")
        assert channel.decode(memoryview(codec.dumps({"who": "Ann", "count": 2})), codec).count == 2
        with pytest.raises(PayloadInvalid, match="count\n"):
            channel.decode(codec.dumps({"who": "Ann", "count": -1}), codec)
        with pytest.raises(PayloadInvalid, match="mood\n"):
            channel.decode(codec.dumps({"who": "Ann", "mood": "good"}), codec)

    def test_aliases(self) -> None:
        """Others may write a field's name, or the alias by which it is to be read."""
        channel = Channel("a", Aliased)
        expected = Aliased.model_construct(both=1, written=2, read=3)
        for written in ({"both": 1, "written": 2, "read": 3}, {"BOTH": 1, "written": 2, "READ": 3}):
            assert channel.decode(MSGPACK.dumps(written)) == expected

    def test_nonsense(self) -> None:
        """Bytes that are not of their codec."""
        channel = Channel("a", Greeting)
        with pytest.raises(PayloadNotDecodable, match="message 'a'"):
            channel.decode(b"\xc1")
        with pytest.raises(PayloadInvalid, match="Invalid JSON"):
            channel.decode(b"{", JSON)


class TestAnswers:
    @pytest.mark.parametrize(
        ("codec", "written"),
        [(MSGPACK, {"kind": "cat", "lives": 9}), (JSON, {"kind": "cat", "lives": 9}), (PICKLE, Cat())],
    )
    def test_what_is_returned(self, codec: Any, written: object) -> None:
        """A model that a callback returned is written as plain values, where the codec has no models."""
        assert codec.loads(encode_answer(codec, "a", Cat())) == written

    def test_what_cannot_be_written(self) -> None:
        """The error names the message."""
        with pytest.raises(PayloadNotEncodable, match="message 'a'"):
            encode_answer(MSGPACK, "a", object())
        with pytest.raises(PayloadNotEncodable, match="JSON has neither NaN"):
            encode_answer(JSON, "a", [Cat(), float("nan")])


class TestMaking:
    @pytest.mark.parametrize("name", ["", "a|b", "a\n", "x" * 256])
    def test_a_name_that_cannot_be(self, name: str) -> None:
        """It is refused at once."""
        with pytest.raises(InvalidName):
            Channel(name, int)

    @pytest.mark.parametrize("name", ["orders.*", "orders.>", ">"])
    def test_wildcards(self, name: str) -> None:
        """A channel may be for subscribing only."""
        assert Channel(name, int).name == name

    def test_a_codec_that_there_is_not(self) -> None:
        """The error tells which there are."""
        with pytest.raises(InvalidChannel, match="one of raw, pickle, msgpack, json, not 'xml'"):
            Channel("a", int, codec="xml")  # type: ignore[arg-type]  # the point

    def test_a_codec_that_is_no_name(self) -> None:
        """It is refused like any other."""
        with pytest.raises(InvalidChannel, match=re.escape("not ['json']")):
            Channel("a", int, codec=["json"])  # type: ignore[arg-type]  # the point

    @pytest.mark.parametrize("type_", [5, range, "not a type", "int.foo", "1/0", "len()", {"a": int}])
    def test_a_type_that_pydantic_does_not_know(self, type_: Any) -> None:
        """It is refused at once, and the error names it."""
        with pytest.raises(InvalidChannel, match=re.escape(f"channel 'a': pydantic cannot validate {type_!r}: ")):
            Channel("a", type_)

    def test_a_type_that_is_not_there_yet(self) -> None:
        """A type in quotes may be defined behind the channel; when it is used without, the error names both."""
        channel: Channel[Any] = Channel("a", list["Missing"])  # type: ignore[name-defined]  # noqa: F821  # the point
        refused = pytest.raises(InvalidChannel, match=r"^channel 'a': .* is not fully defined; ")
        with refused:
            channel.encode([5])
        with refused:
            channel.decode(MSGPACK.dumps([5]))

    def test_a_type_in_quotes(self) -> None:
        """It is looked up where the channel is made."""

        class Local(BaseModel):
            x: int

        channel: Channel[Any] = Channel("a", list["Local"])
        assert channel.decode(channel.encode([Local(x=1)])) == [Local(x=1)]

    def test_shown(self) -> None:
        """As it was made."""
        assert repr(Channel("a", Greeting)) == "Channel('a', Greeting, codec='msgpack')"
        assert repr(Channel("b", int | str, codec="json")) == "Channel('b', int | str, codec='json')"

    def test_its_name(self) -> None:
        """It stands where a name may stand."""
        assert (name_of(Channel("a", int)), name_of("b")) == ("a", "b")


class TestSchema:
    def test_of_a_model(self) -> None:
        """It is pydantic's, with the names of fields."""
        schema = Channel("a", Aliased).json_schema()
        assert set(schema["properties"]) == {"both", "written", "read"}
        assert Channel("a", list[int]).json_schema() == {"type": "array", "items": {"type": "integer"}}

    def test_of_what_has_none(self) -> None:
        """The error names channel and type."""
        with pytest.raises(InvalidChannel, match=r"channel 'a': .*object.* has no JSON schema"):
            Channel("a", Annotated[object, BeforeValidator(lambda value: value), Unwritable()]).json_schema()


class Unwritable:
    """Makes a type that pydantic validates, and has no JSON schema for."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: object, _handler: object) -> Any:
        from pydantic_core import core_schema  # noqa: PLC0415  # needed here only

        return core_schema.is_instance_schema(object)
