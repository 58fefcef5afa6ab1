"""How what is sent under a name is written."""

from collections.abc import Callable
from typing import Any, Final, NoReturn

from mezzenger.channel import Channel
from mezzenger.codecs import Codec, not_encodable
from mezzenger.errors import MezzengerError
from mezzenger.message import check_name
from mezzenger.protocol.gathering import Outlet

_LARGE: Final = 64 * 2**10
"""Bytes of a payload from which on it is written as a large one."""
_REMEMBERED: Final = 65_536
_CHANNELS_REMEMBERED: Final = 1024
"""What pydantic knows of the type of one may take kilobytes."""


class PayloadOutlet(Outlet):
    """What messages have in common that are sent under one name, or through one channel.

    Args:
        name: Checked.
        codec: Writes payloads, if nothing else does.
        dumps: Writes them instead, and knows what to raise.
    """

    __slots__ = ("_codec", "dumps")

    def __init__(self, name: str, codec: Codec, dumps: Callable[[object], bytes] | None = None) -> None:
        super().__init__(name, codec.number)
        self._codec = codec
        self.dumps = dumps or codec.dumps
        """Writes a payload; what it raises is to be given to ``refuse``, and how many bytes it were to ``wrote``."""

    def encode(self, payload: object) -> bytes:
        """Write a payload.

        Raises:
            PayloadNotEncodable: The codec cannot write it.
            PayloadInvalid: It is not of the channel's type.
        """
        try:
            encoded = self.dumps(payload)
        except Exception as error:  # noqa: BLE001  # an object may raise anything when it is written
            self.refuse(payload, error)
        self.wrote(len(encoded))
        return encoded

    def refuse(self, payload: object, error: Exception) -> NoReturn:
        """Raise what tells why a payload cannot be written."""
        if isinstance(error, MezzengerError):
            raise error
        raise not_encodable(self._codec, self.name, payload, error) from error

    def wrote(self, size: int) -> None:
        """Take note of how many bytes it were: the next payload will be much like this one."""
        if size > _LARGE and self.dumps is self._codec.dumps:
            self.dumps = self._dump_large

    def _dump_large(self, payload: object) -> bytes:
        encoded = self._codec.dumps_large(payload)
        if len(encoded) <= _LARGE:
            self.dumps = self._codec.dumps
        return encoded


class Outlets(dict[str | Channel[Any], PayloadOutlet]):
    """The outlets of a client; ``outlets[msg_name]`` is the one of a name, or of a channel.

    It raises InvalidName if the name cannot be used for sending, and TypeError for what no dict can look up.

    Args:
        codec: Writes what is not sent through a channel.
    """

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self._codec = codec
        self._channels = 0

    def __missing__(self, msg_name: str | Channel[Any]) -> PayloadOutlet:
        if isinstance(msg_name, Channel):
            outlet = PayloadOutlet(check_name(msg_name.name), msg_name.codec, msg_name.encode)
        else:
            outlet = PayloadOutlet(check_name(msg_name), self._codec)
        if len(self) >= _REMEMBERED or self._channels >= _CHANNELS_REMEMBERED:
            self.clear()
            self._channels = 0
        self._channels += isinstance(msg_name, Channel)
        self[msg_name] = outlet
        return outlet
