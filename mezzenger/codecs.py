"""How a payload becomes bytes and comes back: pickle, msgpack, json or raw bytes.

The codec's number travels in the frame header, so a receiver never guesses. The server only checks that the number is
a known one; it never reads a payload.
"""

import pickle
from collections.abc import Callable
from typing import Final, NamedTuple

import msgspec

from mezzenger.errors import PayloadNotDecodable, PayloadNotEncodable

Buffer = bytes | bytearray | memoryview


class Codec(NamedTuple):
    """One way to write a payload."""

    number: int
    name: str
    dumps: Callable[[object], bytes]
    loads: Callable[[Buffer], object]
    dumps_large: Callable[[object], bytes]
    """Does the same, sooner if it is much that is written."""


def _dump_pickle(payload: object) -> bytes:
    # Not a partial: calling one that has a keyword argument takes a quarter of a microsecond longer.
    return pickle.dumps(payload, 5)


class _Pieces(list[bytes]):
    """A file that keeps what is written to it, and copies nothing."""

    write = list.append


def _dump_large_pickle(payload: object) -> bytes:
    # Pickle hands a large object to a file as it is. In ``dumps``, and in a file in memory, a buffer grows piece by
    # piece, and is given back to the system each time: for a megabyte that takes ten times as long.
    pieces = _Pieces()
    pickle.dump(payload, pieces, protocol=5)
    return b"".join(pieces)


def _dump_raw(payload: object) -> bytes:
    if isinstance(payload, bytes):
        return payload
    if isinstance(payload, bytearray | memoryview):
        return bytes(payload)
    raise TypeError("the raw codec takes bytes, bytearray or memoryview")


_NOT_IN_JSON: Final = (bytes, bytearray, memoryview)
_read_json: Final[Callable[[Buffer], object]] = msgspec.json.Decoder().decode


def json_writer(enc_hook: Callable[[object], object] | None = None) -> Callable[[object], bytes]:
    """Return what writes JSON, and refuses what JSON has no way to write; msgspec would write something else.

    Args:
        enc_hook: Returns what stands for an object that msgspec does not know.
    """
    write = msgspec.json.Encoder(enc_hook=enc_hook).encode

    def dumps(payload: object) -> bytes:
        data = write(payload)
        back = _read_json(data)
        # Most payloads come back equal. The others need a closer look: a tuple may become a list, NaN must not be null.
        if back != payload:
            plain = msgspec.to_builtins(payload, builtin_types=_NOT_IN_JSON, enc_hook=enc_hook)
            if not _is_carried(plain, back):
                raise ValueError("JSON has neither NaN nor infinity nor bytes, and its maps have text for keys")
        return data

    return dumps


def _is_carried(plain: object, back: object) -> bool:
    """Whether plain values came back as what they were, but for tuples, which may be lists now."""
    if isinstance(plain, dict) and isinstance(back, dict):
        return plain.keys() == back.keys() and all(_is_carried(value, back[key]) for key, value in plain.items())
    if isinstance(plain, list | tuple) and isinstance(back, list):
        return list(plain) == back or all(map(_is_carried, plain, back))
    return plain == back


_dump_json: Final = json_writer()

RAW: Final = Codec(0, "raw", _dump_raw, bytes, _dump_raw)
PICKLE: Final = Codec(1, "pickle", _dump_pickle, pickle.loads, _dump_large_pickle)
MSGPACK: Final = Codec(2, "msgpack", msgspec.msgpack.encode, msgspec.msgpack.decode, msgspec.msgpack.encode)
JSON: Final = Codec(3, "json", _dump_json, _read_json, _dump_json)

BY_NUMBER: Final = {codec.number: codec for codec in (RAW, PICKLE, MSGPACK, JSON)}
BY_NAME: Final = {codec.name: codec for codec in BY_NUMBER.values()}


def encode_payload(codec: Codec, name: str, payload: object) -> bytes:
    """Write ``payload`` for a message called ``name``.

    Raises:
        PayloadNotEncodable: The codec cannot write this object; the text names the message, the type and the cause.
    """
    try:
        return codec.dumps(payload)
    except Exception as error:
        raise not_encodable(codec, name, payload, error) from error


def not_encodable(codec: Codec, name: str, payload: object, error: Exception) -> PayloadNotEncodable:
    """Return the error that tells why a payload cannot be written."""
    kind = type(payload)
    return PayloadNotEncodable(
        f"message {name!r}: a payload of type {kind.__module__}.{kind.__qualname__} "
        f"cannot be encoded with {codec.name}: {error}"
    )


def decode_payload(codec: Codec, name: str, data: Buffer) -> object:
    """Read back what ``encode_payload`` wrote.

    Only call this with ``PICKLE`` for bytes from a server that is trusted: un-pickling runs code.

    Raises:
        PayloadNotDecodable: The bytes are not of this codec, or name a class that this process does not have.
    """
    try:
        return codec.loads(data)
    except Exception as error:
        raise not_decodable(codec, name, data, error) from error


def not_decodable(codec: Codec, name: str, data: Buffer, error: Exception) -> PayloadNotDecodable:
    """Return the error that tells why a payload cannot be read."""
    return PayloadNotDecodable(f"message {name!r}: {len(data)} bytes of {codec.name} cannot be decoded: {error}")
