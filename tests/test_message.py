"""The message: what it may be called, what it may carry, and that nothing about it changes on the way."""

import copy
import hashlib
import json
import pickle
import struct
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

import pytest
from pydantic import ValidationError

from mezzenger.codecs import Buffer
from mezzenger.errors import InvalidMessage, InvalidName, MezzengerError, PayloadNotEncodable
from mezzenger.headers import Headers
from mezzenger.message import (
    MAX_HEADER_BYTES,
    MAX_NAME_BYTES,
    Message,
    check_ack,
    check_headers,
    check_name,
    received_fields,
    received_message,
    received_messages,
)

FIELDS: Final = ("name", "payload", "ack", "timestamp", "id", "attempt", "headers", "retained", "checksum")


def make(**fields: Any) -> Message[Any]:
    """Construct a message; what is not given is plain."""
    return Message(**{"name": "a", "payload": [1, 2], "timestamp": 1.5, **fields})


def receive(encoded: Buffer = b"bytes", **fields: Any) -> Message[Any]:
    """Build a message as the receiver of a frame does; what is not given is plain."""
    plain = {"name": "a", "payload": [1, 2], "ack": 0, "timestamp": 1.5, "id": "7-1", "attempt": 1, "headers": {}}
    return received_message(**{**plain, **fields}, encoded=encoded)


def md5_of(name: str, data: bytes, ack: int, timestamp: float) -> str:
    """Work out a checksum from its definition."""
    return hashlib.md5(name.encode() + b"|" + data + struct.pack("!Bd", ack, timestamp)).hexdigest()


def as_it_is(value: Any) -> Any:
    """Send something through nothing."""
    return value


def through_pickle(value: Any) -> Any:
    """Send something to another process and back."""
    return pickle.loads(pickle.dumps(value))


class TestName:
    """What a message may be called."""

    @pytest.mark.parametrize(
        "name",
        [
            "a",
            "sensor.temperature",
            "a b",
            "a*b",
            "*a.b*",
            "**",
            "a>",
            ">.a",
            "a.>.b",
            "a.>b",
            ".",
            "a..b",
            "caf\xe9",
            "\U0001f600",
            "a\xa0b",
            "x" * MAX_NAME_BYTES,
            "\xe9" * (MAX_NAME_BYTES // 2) + "x",
        ],
    )
    def test_a_name_is_taken(self, name: str) -> None:
        """A name is kept as it is, up to 255 bytes, also with a wildcard's character inside a token."""
        assert check_name(name) == name
        assert make(name=name).name == name

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("", "must not be empty"),
            ("x" * (MAX_NAME_BYTES + 1), "is 256 bytes of UTF-8; at most 255 are allowed"),
            ("\xe9" * 128, "is 256 bytes of UTF-8; at most 255 are allowed"),
            ("|", "holds '|'"),
            ("a|b", "holds '|'"),
            ("\x00", "holds the control character"),
            ("a\tb", "holds the control character"),
            ("a\n", "holds the control character"),
            ("\x1fa", "holds the control character"),
            ("a\x7f", "holds the control character"),
            ("a\x80b", "holds the control character"),
            ("a\x85b", "holds the control character"),
            ("a\x9f", "holds the control character"),
            ("\ud800", "cannot be written as UTF-8"),
            ("a.\udfff.b", "cannot be written as UTF-8"),
            ("*", "has a wildcard token"),
            ("a.*", "has a wildcard token"),
            ("*.a", "has a wildcard token"),
            ("a.*.b", "has a wildcard token"),
            (">", "has a wildcard token"),
            ("a.>", "has a wildcard token"),
            (None, "must be a str, not NoneType"),
            (5, "must be a str, not int"),
            (b"a", "must be a str, not bytes"),
            (["a"], "must be a str, not list"),
        ],
    )
    def test_a_name_is_refused(self, name: Any, text: str) -> None:
        """A name that cannot be is refused in plain words, alone and in a message."""
        for refuse in (check_name, lambda name: make(name=name)):
            with pytest.raises(InvalidName) as caught:
                refuse(name)
            assert text in str(caught.value)


class TestAck:
    """Whether a message is stored and resent."""

    @pytest.mark.parametrize("ack", [0, 1, False, True])
    def test_an_ack_is_taken(self, ack: int) -> None:
        """The flag may be written as a number or a bool; it is kept as a number."""
        for kept in (check_ack(ack), make(ack=ack).ack):
            assert kept == ack
            assert type(kept) is int

    def test_nothing_is_acknowledged_by_default(self) -> None:
        """A message may be lost unless it says otherwise."""
        assert make().ack == 0

    @pytest.mark.parametrize("ack", [2, -1, "1", None, 1.0, b"\x01", []])
    def test_an_ack_is_refused(self, ack: object) -> None:
        """Whatever is not 0 or 1 is refused, also if it would count as true."""
        for refuse in (check_ack, lambda ack: make(ack=ack)):
            with pytest.raises(InvalidMessage, match=r"ack must be 0 .* or 1"):
                refuse(ack)


class TestHeaders:
    """Text beside the payload."""

    @pytest.mark.parametrize(
        "headers",
        [
            {},
            {"": ""},
            {"trace": "1f3", "caf\xe9": "\U0001f600"},
            {"k": "v" * (MAX_HEADER_BYTES - 1)},
            {"k" * MAX_HEADER_BYTES: ""},
            {"k" * 4096: "\xe9" * 2048},
            MappingProxyType({"a": "b"}),
        ],
    )
    def test_headers_are_taken(self, headers: Mapping[str, str]) -> None:
        """Headers are kept as they are, up to 8 KiB."""
        assert check_headers(headers) is headers
        assert make(headers=headers).headers == headers

    @pytest.mark.parametrize(
        ("headers", "text"),
        [
            ({"a": 1}, "must map str to str; got 'a': 1"),
            ({"a": b"1"}, "must map str to str; got 'a': b'1'"),
            ({1: "a"}, "must map str to str; got 1: 'a'"),
            ({"a": "b", "c": None}, "must map str to str; got 'c': None"),
            ([("a", "b")], "must map str to str, not be a list"),
            (None, "must map str to str, not be a NoneType"),
            ({"\ud800": "a"}, "header '\\ud800' cannot be written as UTF-8"),
            ({"a": "\ud800"}, "header 'a' cannot be written as UTF-8"),
            ({"k": "v" * MAX_HEADER_BYTES}, "are 8193 bytes in all; at most 8192 are allowed"),
            ({"k" * MAX_HEADER_BYTES: "v"}, "are 8193 bytes in all; at most 8192 are allowed"),
            ({"k": "\xe9" * 4096}, "are 8193 bytes in all; at most 8192 are allowed"),
            ({"a": "v" * 4096, "b": "v" * 4096}, "are 8194 bytes in all; at most 8192 are allowed"),
        ],
    )
    def test_headers_are_refused(self, headers: Any, text: str) -> None:
        """What is no text, or too much of it, is refused and not converted."""
        for refuse in (check_headers, lambda headers: make(headers=headers)):
            with pytest.raises(InvalidMessage) as caught:
                refuse(headers)
            assert text in str(caught.value)

    def test_headers_are_copied(self) -> None:
        """Who changes the dict afterwards does not change the message."""
        headers = {"a": "b"}
        message = make(headers=headers)
        headers["a"] = "c"
        assert message.headers == {"a": "b"}


class TestFrozenHeaders:
    """All callbacks of a message see the same headers, and messages without any share one; so nobody changes them."""

    @pytest.mark.parametrize("headers", [make(headers={"a": "b"}).headers, make().headers, Headers(a="b")], ids=repr)
    @pytest.mark.parametrize(
        "change",
        [
            lambda headers: headers.__setitem__("a", "c"),
            lambda headers: headers.__delitem__("a"),
            lambda headers: headers.__ior__({"a": "c"}),
            lambda headers: headers.update(a="c"),
            lambda headers: headers.setdefault("c", "d"),
            lambda headers: headers.pop("a", None),
            lambda headers: headers.popitem(),
            lambda headers: headers.clear(),
        ],
    )
    def test_no_change(self, headers: Mapping[str, str], change: Callable[[Any], object]) -> None:
        """Every way to change a dict is refused, and the text says what to do."""
        before = dict(headers)
        with pytest.raises(TypeError, match=r"change a copy: dict\(msg_obj\.headers\)"):
            change(headers)
        assert headers == before

    @pytest.mark.parametrize("through", [copy.copy, copy.deepcopy, through_pickle])
    def test_copies(self, through: Callable[[Any], Any]) -> None:
        """They can be copied and pickled, and are as JSON what a dict is."""
        headers = through(Headers(a="b"))
        assert type(headers) is Headers
        assert headers == {"a": "b"}
        assert json.dumps(headers) == '{"a": "b"}'

    def test_they_are_a_key(self) -> None:
        """Equal ones are one key, in whatever order they were written."""
        assert len({Headers(a="b", c="d"), Headers(c="d", a="b"), Headers(a="b")}) == 2


class TestFields:
    """Reading a message."""

    @pytest.mark.parametrize("message", [make(), receive()], ids=["constructed", "received"])
    @pytest.mark.parametrize("field", FIELDS)
    def test_a_field_is_read_by_name(self, message: Message[Any], field: str) -> None:
        """``msg["name"]`` is ``msg.name``."""
        assert message[field] == getattr(message, field)

    @pytest.mark.parametrize("field", ["", "colour", "Name", "_encoded", "model_fields", "received", "__class__"])
    def test_an_unknown_field_is_a_key_error(self, field: str) -> None:
        """Only fields are read that way, not whatever else the object has."""
        with pytest.raises(KeyError) as caught:
            make()[field]
        assert caught.value.args == (field,)

    @pytest.mark.parametrize("message", [make(), receive()], ids=["constructed", "received"])
    @pytest.mark.parametrize("field", FIELDS)
    def test_a_message_is_frozen(self, message: Message[Any], field: str) -> None:
        """No field can be set or deleted."""
        before = message[field]
        with pytest.raises((ValidationError, AttributeError)):
            setattr(message, field, before)
        with pytest.raises((ValidationError, AttributeError)):
            delattr(message, field)
        assert message[field] == before

    def test_defaults(self) -> None:
        """A message needs no more than name, payload and timestamp."""
        message: Message[None] = Message(name="a", payload=None, timestamp=0)
        assert (message.ack, message.id, message.attempt, message.headers) == (0, "", 1, {})

    @pytest.mark.parametrize(
        "fields", [{"attempt": 0}, {"timestamp": "noon"}, {"id": 5}, {"colour": "red"}, {"checksum": "0"}]
    )
    def test_other_mistakes_are_left_to_pydantic(self, fields: dict[str, object]) -> None:
        """A field that is wrong in an ordinary way, or unknown, is an ordinary validation error."""
        with pytest.raises(ValidationError) as caught:
            make(**fields)
        assert [error["loc"] for error in caught.value.errors()] == [tuple(fields)]

    @pytest.mark.parametrize("field", ["name", "payload", "timestamp"])
    def test_a_field_is_missing(self, field: str) -> None:
        """None of these has a default that could make sense."""
        fields: dict[str, Any] = {"name": "a", "payload": None, "timestamp": 0}
        del fields[field]
        with pytest.raises(ValidationError, match="Field required"):
            Message(**fields)

    @pytest.mark.parametrize(
        ("fields", "error"),
        [({"name": ""}, InvalidName), ({"ack": 2}, InvalidMessage), ({"headers": {"a": 1}}, InvalidMessage)],
    )
    def test_our_errors_come_out_of_the_constructor(
        self, fields: dict[str, object], error: type[MezzengerError]
    ) -> None:
        """They are no ``ValueError``, so pydantic does not wrap them in a ``ValidationError``."""
        assert not issubclass(error, ValueError)
        with pytest.raises(MezzengerError) as caught:
            make(**fields)
        assert type(caught.value) is error


class TestPayload:
    """The object that is carried."""

    def test_a_payload_is_the_object_itself(self) -> None:
        """Without a type for it, the payload is neither checked nor copied."""
        payload = object()
        assert make(payload=payload).payload is payload
        assert receive(payload=payload).payload is payload

    def test_a_payload_has_the_type_that_was_asked_for(self) -> None:
        """``Message[T]`` checks the payload against ``T``."""
        assert Message[list[int]](name="a", payload=[1], timestamp=0).payload == [1]
        with pytest.raises(ValidationError) as caught:
            Message[list[int]].model_validate({"name": "a", "payload": ["x"], "timestamp": 0})
        assert caught.value.errors()[0]["loc"] == ("payload", 0)

    def test_a_payload_that_cannot_be_pickled(self) -> None:
        """Such a message can be made and shown; only its checksum fails, and says whose it is."""
        message = make(name="clock", payload=lambda: 0)
        assert "name='clock'" in repr(message)
        with pytest.raises(PayloadNotEncodable, match="message 'clock'"):
            _ = message.checksum


class TestChecksum:
    """The digest that a user may compare at both ends."""

    @pytest.mark.parametrize(
        ("name", "payload", "ack", "timestamp"),
        [("a", None, 0, 0.0), ("caf\xe9.\U0001f600", {"k": [1.5, b"\x00"]}, 1, 1700000000.123456), ("a", b"", True, 1)],
    )
    def test_of_a_constructed_message(self, name: str, payload: object, ack: int, timestamp: float) -> None:
        """It is the MD5 of name, pickled payload, ack and timestamp."""
        message = make(name=name, payload=payload, ack=ack, timestamp=timestamp)
        assert message.checksum == md5_of(name, pickle.dumps(payload, protocol=5), ack, timestamp)

    @pytest.mark.parametrize("encoded", [b"", b"|", b"no pickle at all"])
    @pytest.mark.parametrize("view", [bytes, bytearray, memoryview])
    def test_of_a_received_message(self, encoded: bytes, view: Callable[[bytes], Buffer]) -> None:
        """It is taken over the bytes that came, whatever codec wrote them."""
        message = receive(view(encoded), name="caf\xe9", ack=1, timestamp=7.25)
        assert message.checksum == md5_of("caf\xe9", encoded, 1, 7.25)

    def test_both_ends_agree(self) -> None:
        """The receiver of a pickled payload works out what the sender did."""
        sent = make(ack=1)
        assert receive(pickle.dumps(sent.payload, protocol=5), ack=1).checksum == sent.checksum

    def test_it_stays_what_it_is(self) -> None:
        """A checksum that somebody wrote down stays comparable in later versions."""
        assert receive(b"payload", name="sensor", ack=1, timestamp=1.5).checksum == "53cbc99c06ed7f2d258f19ebbbe5333b"

    @pytest.mark.parametrize(
        "changed", [{"name": "b"}, {"payload": [1, 3]}, {"ack": 1}, {"timestamp": 1.5000000000000002}]
    )
    def test_it_covers(self, changed: dict[str, Any]) -> None:
        """Another name, payload, ack or timestamp gives another checksum."""
        assert make(**changed).checksum != make().checksum

    @pytest.mark.parametrize("changed", [{"id": "8-1"}, {"attempt": 2}, {"headers": {"a": "b"}}])
    def test_it_does_not_cover(self, changed: dict[str, Any]) -> None:
        """What differs between two deliveries of one message, and what is beside the payload, does not count."""
        assert make(**changed).checksum == make().checksum

    def test_it_is_part_of_a_dump(self) -> None:
        """Dumping a message includes the checksum."""
        message = make(headers={"a": "b"})
        assert message.model_dump() == {field: message[field] for field in FIELDS}


class TestReceived:
    """Messages made from a frame."""

    def test_it_has_what_the_frame_said(self) -> None:
        """Each field is the one that was given."""
        fields: dict[str, Any] = {
            "name": "a.b",
            "payload": {"x": 1},
            "ack": 1,
            "timestamp": 2.5,
            "id": "9-4",
            "attempt": 3,
            "headers": {"k": "v"},
        }
        message = receive(**fields)
        assert {field: message[field] for field in fields} == fields

    def test_nothing_is_validated_again(self) -> None:
        """A frame was verified when it was read; the fields are taken as they are."""
        headers = {"k": "v"}
        message = receive(name="", headers=headers)
        assert message.name == ""
        assert message.headers is headers

    @pytest.mark.parametrize("send", [as_it_is, through_pickle, copy.copy, copy.deepcopy])
    @pytest.mark.parametrize("encoded", [None, b"frame", memoryview(b"a frame")[2:]], ids=["none", "bytes", "view"])
    def test_a_message_can_be_passed_on(self, encoded: Buffer | None, send: Callable[[Any], Any]) -> None:
        """A callback may hand its message to another process, or keep a copy: it stays equal, checksum and all."""
        message = make(ack=1) if encoded is None else receive(encoded, ack=1)
        passed = send(message)
        assert passed == message
        assert passed.checksum == message.checksum


def test_only_a_request_has_a_deadline() -> None:
    """It is when nobody waits for an answer any more."""
    message = Message[int](name="a", payload=1, timestamp=1.5)
    assert message.deadline is None
    message.expect_answer(7.5)
    assert message.deadline == 7.5


def test_messages_that_are_built_together_are_as_if_built_one_by_one() -> None:
    """All their fields, what pydantic keeps beside them, and their checksums; what they have in common is copied."""
    headers = {"key": "value"}
    common = received_fields("a", 1, 2, headers, retained=True)
    together = received_messages(common, ["x", "y"], [1.5, 2.5], ["i1", "i2"], [b"x", b"y"])
    alone = [
        received_message("a", "x", 1, 1.5, "i1", 2, headers, b"x", retained=True),
        received_message("a", "y", 1, 2.5, "i2", 2, headers, b"y", retained=True),
    ]
    assert together == alone
    assert [message.checksum for message in together] == [message.checksum for message in alone]
    assert [message.model_dump() for message in together] == [message.model_dump() for message in alone]
    assert [message.payload for message in together] == ["x", "y"]
    assert common["payload"] is None
