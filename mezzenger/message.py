"""The message, and what its name may be."""

import hashlib
import struct
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Final, Generic, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, computed_field

from mezzenger.codecs import PICKLE, Buffer, encode_payload
from mezzenger.errors import InvalidMessage, InvalidName
from mezzenger.headers import NO_HEADERS, Headers

MAX_NAME_BYTES: Final = 255
MAX_HEADER_BYTES: Final = 8192

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
"""Covariant: what takes a ``Message[object]`` takes any message, for nobody can put another payload into it."""

_FIELDS: Final = {"name", "payload", "ack", "timestamp", "id", "attempt", "headers", "retained"}

_STAMP = struct.Struct("!Bd")


def check_name(name: str) -> str:
    """Return ``name``, as a plain ``str``, if a message may be called that.

    Raises:
        InvalidName: It is not a ``str``, is empty, is over 255 bytes of UTF-8, or holds ``|`` or a control character,
            or one of its ``.``-separated tokens is ``*`` or its last is ``>``, which are kept for wildcards.
    """
    if not isinstance(name, str):
        raise InvalidName(f"a message name must be a str, not {type(name).__name__}: {name!r}")
    return check_text(plain(name))


def plain(text: str) -> str:
    """Return what a text says, if it is of a subclass, such as an enum's: formatted, that may say something else."""
    return text if type(text) is str else str.__str__(text)


@lru_cache(maxsize=65536)
def check_text(name: str) -> str:
    """Do the same for what is a ``str`` for certain; costs no call of a Python function for a name that was seen."""
    check_characters(name, "message name")
    tokens = name.split(".")
    if "*" in tokens or tokens[-1] == ">":
        raise InvalidName(f"message name {name!r} has a wildcard token ('*', or '>' at the end); name one message")
    return name


def check_characters(text: str, what: str) -> str:
    """Return ``text``, as a plain ``str``, if it is no longer than a name and holds nothing that a name must not hold.

    Args:
        what: What the text is, for the error.

    Raises:
        InvalidName: It is not a ``str``, is empty, is over 255 bytes of UTF-8, or holds ``|`` or a control character.
    """
    if not isinstance(text, str):
        raise InvalidName(f"a {what} must be a str, not {type(text).__name__}: {text!r}")
    if not text:
        raise InvalidName(f"a {what} must not be empty")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidName(f"{what} {text!r} cannot be written as UTF-8") from None
    if size > MAX_NAME_BYTES:
        raise InvalidName(f"{what} {text[:20]!r}... is {size} bytes of UTF-8; at most {MAX_NAME_BYTES} are allowed")
    if "|" in text:
        raise InvalidName(f"{what} {text!r} holds '|', which separates the name from the rest; use another character")
    for character in text:
        if unicodedata.category(character) == "Cc":
            raise InvalidName(f"{what} {text!r} holds the control character {character!r}; remove it")
    return plain(text)


def check_ack(ack: object) -> object:
    """Return ``ack`` if it is 0 or 1 (``False`` and ``True`` count as such).

    Raises:
        InvalidMessage: It is anything else.
    """
    if isinstance(ack, int) and ack in (0, 1):
        return int(ack)
    raise InvalidMessage(f"ack must be 0 (may be lost) or 1 (resent until acknowledged), not {ack!r}")


def check_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Return ``headers`` if they are text and at most 8 KiB in all.

    Raises:
        InvalidMessage: They are no mapping, a key or value is not a ``str``, or they are too long together.
    """
    if not isinstance(headers, Mapping):
        raise InvalidMessage(f"headers must map str to str, not be a {type(headers).__name__}")
    size = 0
    for key, value in headers.items():
        if not isinstance(key, str) or not isinstance(value, str):
            raise InvalidMessage(f"headers must map str to str; got {key!r}: {value!r}")
        try:
            size += len(key.encode()) + len(value.encode())
        except UnicodeEncodeError:
            raise InvalidMessage(f"header {key!r} cannot be written as UTF-8") from None
    if size > MAX_HEADER_BYTES:
        raise InvalidMessage(f"headers are {size} bytes in all; at most {MAX_HEADER_BYTES} are allowed")
    return headers


class Message(BaseModel, Generic[T_co]):
    """What a subscriber's callback receives beside the payload. It cannot be changed.

    ``msg["name"]`` reads a field as ``msg.name`` does.
    """

    model_config = ConfigDict(frozen=True, arbitrary_types_allowed=True, extra="forbid")

    name: Annotated[str, BeforeValidator(check_name)]
    """What the message is called."""
    payload: T_co
    """The object that was sent."""
    ack: Annotated[Literal[0, 1], BeforeValidator(check_ack)] = 0
    """1 if the server stores the message and resends it until it was acknowledged."""
    timestamp: float
    """When it was created, in Unix seconds by the publisher's clock."""
    id: str = ""
    """The publisher's client id and the message's sequence number; equal for every delivery of one message."""
    attempt: int = Field(default=1, ge=1)
    """1 for the first delivery, more when the server sends it again."""
    headers: Annotated[Mapping[str, str], BeforeValidator(check_headers), AfterValidator(Headers)] = NO_HEADERS
    """Text that travels beside the payload; it cannot be changed either."""
    retained: bool = False
    """Whether the server had kept it as the last of its name, and gave it to a subscriber that came later."""

    _encoded: Buffer | None = PrivateAttr(default=None)
    _deadline: float | None = PrivateAttr(default=None)

    @computed_field(repr=False)  # type: ignore[prop-decorator]  # mypy does not take a decorator above @property
    @property
    def checksum(self) -> str:
        """MD5, in hexadecimal, over name, payload bytes, ack and timestamp; worked out when asked for."""
        encoded = self._encoded
        if encoded is None:
            encoded = encode_payload(PICKLE, self.name, self.payload)
        digest = hashlib.md5(self.name.encode() + b"|", usedforsecurity=False)
        digest.update(encoded)
        digest.update(_STAMP.pack(self.ack, self.timestamp))
        return digest.hexdigest()

    @property
    def deadline(self) -> float | None:
        """When its sender waits no more for what the callback returns; None if it is no request.

        In Unix seconds, by this machine's clock.
        """
        private = self.__pydantic_private__ or {}
        deadline: float | None = private.get("_deadline")
        return deadline

    def expect_answer(self, deadline: float) -> None:
        """Take note, before anybody else sees the message, that its sender waits for an answer until then."""
        self._deadline = deadline

    def __getitem__(self, field: str) -> object:
        """Read a field by its name.

        Raises:
            KeyError: There is no such field.
        """
        if field in type(self).model_fields or field in {"checksum", "deadline"}:
            value: object = getattr(self, field)
            return value
        raise KeyError(field)

    def __getstate__(self) -> dict[Any, Any]:
        self._own_bytes()
        return super().__getstate__()

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        self._own_bytes()
        return super().__deepcopy__(memo)

    def _own_bytes(self) -> None:
        """Copy the payload's bytes out of the frame: a view of it can be neither pickled nor deep-copied."""
        if self._encoded is not None:
            self._encoded = bytes(self._encoded)


_new = Message.__new__
_set_fields: Final = BaseModel.__dict__["__dict__"].__set__
_set_names: Final = BaseModel.__dict__["__pydantic_fields_set__"].__set__
_set_extra: Final = BaseModel.__dict__["__pydantic_extra__"].__set__
_set_private: Final = BaseModel.__dict__["__pydantic_private__"].__set__


def received_message(  # noqa: PLR0917  # the fields of a message; names would be passed for each of them
    name: str,
    payload: T,
    ack: Literal[0, 1],
    timestamp: float,
    id: str,  # noqa: A002  # the field's name
    attempt: int,
    headers: Mapping[str, str],
    encoded: Buffer,
    retained: bool = False,  # noqa: FBT001, FBT002  # likewise
) -> Message[T]:
    """Build a message from a frame whose digest was verified, without validating each field again.

    Args:
        encoded: The payload's bytes as they came; ``checksum`` is taken over them.
    """
    # What ``model_construct`` does, without asking for each field; that takes five times as long.
    message: Message[T] = _new(Message)
    _set_fields(
        message,
        {
            "name": name,
            "payload": payload,
            "ack": ack,
            "timestamp": timestamp,
            "id": id,
            "attempt": attempt,
            "headers": headers,
            "retained": retained,
        },
    )
    # One set for all: nobody changes that of a message which cannot be changed.
    _set_names(message, _FIELDS)
    _set_extra(message, None)
    _set_private(message, {"_encoded": encoded})
    return message


def received_fields(
    name: str, ack: Literal[0, 1], attempt: int, headers: Mapping[str, str], *, retained: bool = False
) -> dict[str, object]:
    """Return the fields that the messages of a frame have in common; the others are to be set in a copy for each."""
    return {
        "name": name,
        "payload": None,
        "ack": ack,
        "timestamp": 0.0,
        "id": "",
        "attempt": attempt,
        "headers": headers,
        "retained": retained,
    }


def received_messages(
    common: dict[str, object],
    payloads: Sequence[object],
    timestamps: Sequence[float],
    ids: Sequence[str],
    all_encoded: Sequence[Buffer],
) -> list[Message[Any]]:
    """Build messages as ``received_message`` does, of these fields and those that they have in common."""
    messages = []
    # What that does is written out here: to call it for each takes a tenth longer.
    for payload, timestamp, id_, encoded in zip(payloads, timestamps, ids, all_encoded, strict=True):
        # To copy a dict and change three of its values takes half as long as to make one.
        fields = common.copy()
        fields["payload"] = payload
        fields["timestamp"] = timestamp
        fields["id"] = id_
        message: Message[Any] = _new(Message)
        _set_fields(message, fields)
        _set_names(message, _FIELDS)
        _set_extra(message, None)
        _set_private(message, {"_encoded": encoded})
        messages.append(message)
    return messages
