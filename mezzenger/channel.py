"""A name together with the type of its payloads.

A channel stands wherever a name may stand. Who sends through it and who subscribes to it need the same type only by
its shape: what travels are plain values, such as maps, lists and text.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, Generic, Literal, Never, TypeVar, Union

import msgspec
from pydantic import PydanticUserError, Secret, SecretBytes, SecretStr, TypeAdapter, ValidationError
from pydantic_core import to_jsonable_python
from typing_extensions import TypeForm

from mezzenger.codecs import BY_NAME, JSON, MSGPACK, Buffer, Codec, decode_payload, encode_payload, json_writer
from mezzenger.errors import InvalidChannel, PayloadInvalid, PayloadNotEncodable
from mezzenger.patterns import check_pattern

T = TypeVar("T")

Fits = Union[T, Callable[[T], Never]]  # noqa: UP007  # mypy takes no type variable before a "|" in an alias
"""A payload that fits a channel's type: any ``T``.

The second half is for type checkers alone. As mypy leaves parameters with functions for later, ``T`` is decided by the
channel before the payload is looked at. Without it mypy would not take ``{"x": 1}`` for a ``TypedDict`` or ``[1]`` for
a ``list[float]``, and would not say what is wrong with a payload.
"""

CodecName = Literal["pickle", "msgpack", "json", "raw"]

_SEE_ALSO: Final = "For further information visit "


class Channel(Generic[T]):
    """A message name whose payloads are all of one type: ``Channel("greetings", Greeting)``.

    Give it to a client's methods instead of a name, to send, subscribe or ask. A type checker then compares payloads
    and callbacks with the type, and pydantic validates each payload at both ends: one that is not of the type raises
    ``PayloadInvalid`` at the sender before anything is sent; at the receiver it is a message that its callback could
    not handle.

    Args:
        name: As ``send_message`` takes it; with wildcards, as ``subscribe`` takes it, the channel is for subscribing.
        type_: Whatever pydantic can validate: a model, a dataclass, a ``TypedDict``, ``list[int]``, a union. In quotes,
            or with names in quotes, it may be defined later, before the channel is used.
        codec: How payloads are written: ``msgpack``, ``json``, ``pickle`` or ``raw``, which is for bytes. What arrives
            is read with the codec that it was written with.

    Raises:
        InvalidName: The name cannot be used.
        InvalidChannel: The type or the codec cannot be used.
    """

    __slots__ = ("_reads_back", "_write", "adapter", "codec", "name", "type")

    def __init__(self, name: str, type_: TypeForm[T], *, codec: CodecName = "msgpack") -> None:
        self.name: Final = check_pattern(name)
        """What its messages are called."""
        if not isinstance(codec, str) or codec not in BY_NAME:
            raise InvalidChannel(f"channel {name!r}: the codec must be one of {', '.join(BY_NAME)}, not {codec!r}")
        self.codec: Final = BY_NAME[codec]
        """How its payloads are written."""
        self.type: Final = type_
        """What its payloads are."""
        try:
            # Two frames further up than usual is who wrote the type, perhaps with names in quotes.
            self.adapter: Final[TypeAdapter[T]] = TypeAdapter(type_, _parent_depth=3)
            """What pydantic knows of the type."""
        except Exception as error:  # a type in quotes is run as code
            raise self._unfit(error) from error
        self._write: Final = _writer(self.codec, self.adapter)
        # From these it comes back as something new, and it is to be seen whether that can be made.
        self._reads_back: Final = self.codec in {MSGPACK, JSON}

    def __repr__(self) -> str:
        shown = self.type.__name__ if isinstance(self.type, type) else repr(self.type)
        return f"Channel({self.name!r}, {shown}, codec={self.codec.name!r})"

    def encode(self, payload: T) -> bytes:
        """Write a payload, and make sure that ``decode`` can read it.

        Raises:
            PayloadInvalid: It is not of the channel's type, or would not be when it is read back.
            PayloadNotEncodable: The codec cannot write it.
            InvalidChannel: The type was given in quotes, and is not defined.
        """
        try:
            data = self._write(payload)
        except Exception as error:
            self._check(payload)
            raise PayloadNotEncodable(
                f"channel {self.name!r}: the payload cannot be encoded with {self.codec.name}: {_text(error)}"
            ) from error
        if self._reads_back:
            self.decode(data)
        return data

    def decode(self, data: Buffer, codec: Codec | None = None) -> T:
        """Read and validate a payload.

        Only call this with the codec ``PICKLE`` for bytes from a server that is trusted: un-pickling runs code.

        Args:
            data: As ``encode`` has written it, or somebody else.
            codec: With which it was written, if not with the channel's own.

        Raises:
            PayloadNotDecodable: The bytes are not of that codec, or name a class that this process does not have.
            PayloadInvalid: What they hold is not of the channel's type.
            InvalidChannel: The type was given in quotes, and is not defined.
        """
        codec = codec or self.codec
        try:
            # Not the adapter's own methods, which add a third to this. What was written has the names of fields;
            # others may have written their aliases.
            validator = self.adapter.validator
            if codec is JSON:
                value: T = validator.validate_json(bytes(data), by_alias=True, by_name=True)
            else:
                plain = decode_payload(codec, self.name, data)
                value = validator.validate_python(plain, by_alias=True, by_name=True)
        except ValidationError as error:
            raise self._invalid(error) from error
        except PydanticUserError as error:
            raise self._unfit(error) from error
        return value

    def json_schema(self) -> dict[str, Any]:
        """Return the JSON schema of what travels, for ``codec="json"``; with msgpack bytes and times are as they are.

        Raises:
            InvalidChannel: The type has no JSON schema.
        """
        try:
            # What is sent has the names of fields, not their aliases; both are understood.
            return self.adapter.json_schema(by_alias=False)
        except PydanticUserError as error:
            raise InvalidChannel(f"channel {self.name!r}: {self.type!r} has no JSON schema: {_text(error)}") from error

    def _check(self, payload: T) -> None:
        try:
            self.adapter.validate_python(payload)
        except ValidationError as error:
            raise self._invalid(error) from error
        except PydanticUserError as error:
            raise self._unfit(error) from error

    def _unfit(self, error: Exception) -> InvalidChannel:
        return InvalidChannel(f"channel {self.name!r}: pydantic cannot validate {self.type!r}: {_text(error)}")

    def _invalid(self, error: ValidationError) -> PayloadInvalid:
        return PayloadInvalid(f"channel {self.name!r}: {_text(error)}")


def _writer(codec: Codec, adapter: TypeAdapter[T]) -> Callable[[T], bytes]:
    """Return what writes payloads; it raises anything if it cannot.

    A payload of the wrong type is written as what it is, for its reader to refuse. ``round_trip`` leaves out computed
    fields, and writes others so that they can be validated.
    """
    if codec is MSGPACK:
        return lambda payload: _write_msgpack(adapter.serializer.to_python(payload, round_trip=True, warnings=False))
    if codec is JSON:
        return lambda payload: adapter.serializer.to_json(payload, round_trip=True, warnings=False)
    return lambda payload: codec.dumps(adapter.validate_python(payload))


def _plain(value: object) -> object:
    """Return what stands for a value that msgpack has no type for."""
    if isinstance(value, SecretStr | SecretBytes | Secret):
        raise TypeError("a secret would arrive as asterisks; give its field a serializer")
    return to_jsonable_python(value, fallback=_plain_by_type)


def _plain_by_type(value: object) -> object:
    """Return what stands for a value that pydantic knows only when it is told the type."""
    kind: Any = type(value)
    return _adapter_of(kind).dump_python(value, mode="json")


_adapter_of: Final = lru_cache(maxsize=256)(TypeAdapter[Any])


_write_msgpack: Final = msgspec.msgpack.Encoder(enc_hook=_plain).encode
_ANSWERING: Final = {
    MSGPACK: MSGPACK._replace(dumps=_write_msgpack),
    JSON: JSON._replace(dumps=json_writer(_plain)),
}


def encode_answer(codec: Codec, name: str, answer: object) -> bytes:
    """Write what a callback returned to a request; models and the like become the plain values that stand for them.

    Raises:
        PayloadNotEncodable: The codec cannot write it.
    """
    return encode_payload(_ANSWERING.get(codec, codec), name, answer)


def _text(error: BaseException) -> str:
    """Return what an error says, without pydantic's links."""
    return "\n".join(line for line in str(error).splitlines() if line and _SEE_ALSO not in line)


def name_of(msg_name: str | Channel[Any]) -> str:
    """Return the name that was given, or that of the channel that was."""
    return msg_name.name if isinstance(msg_name, Channel) else msg_name
