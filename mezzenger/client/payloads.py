"""Payloads in and out, and whom a client trusts with un-pickling."""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from ipaddress import ip_address
from typing import Any, Final

from mezzenger import codecs
from mezzenger.channel import Channel, name_of
from mezzenger.client.outlets import Outlets, PayloadOutlet
from mezzenger.codecs import Buffer
from mezzenger.errors import UntrustedPayload
from mezzenger.message import Message, check_name, received_fields, received_message, received_messages
from mezzenger.protocol.bundle import Bundle
from mezzenger.protocol.events import Delivery
from mezzenger.protocol.wire import NO_EXTRA
from mezzenger.settings import ClientSettings

_CLIENT_DIGITS: Final = 16
_FEW: Final = 32
"""Messages of a batch that are read together; with more of them what was read is no longer in the processor's cache."""
_SMALL: Final = 4096
"""Bytes of a message, on the average of its batch."""


class Payloads:
    """Encodes what is sent and decodes what arrives, as the settings have it."""

    def __init__(self, settings: ClientSettings) -> None:
        self.outlets = Outlets(codecs.BY_NAME[settings.codec])
        """How what is sent is written."""
        self._server = settings.server_address
        self._allow_pickle = settings.allow_pickle
        self._may_unpickle = settings.allow_pickle == "always" or (
            settings.allow_pickle == "loopback" and is_loopback(settings.server_address)
        )

    def outlet(self, msg_name: str | Channel[Any]) -> PayloadOutlet:
        """Return how what is sent to a name or a channel is written.

        Raises:
            InvalidName: The name cannot be used for sending.
        """
        try:
            return self.outlets[msg_name]
        except TypeError:  # what cannot even be looked up is no name
            check_name(name_of(msg_name))
            raise

    def read(self, delivery: Delivery, channel: Channel[Any] | None = None) -> Message[object]:
        """Return the only message of a delivery, with its payload decoded; what it raises is as in ``reader``."""
        (name, ack, _, number, _, client, sequence, created, _, _), extra, frame, _, (start, end) = delivery.contents
        codec = codecs.BY_NUMBER[number]
        if codec is codecs.PICKLE and not self._may_unpickle:
            return self._refuse(name)
        encoded = frame[start:end] if end - start < _SMALL else memoryview(frame)[start:end]
        if channel is not None:
            payload = channel.decode(encoded, codec)
        else:
            try:
                payload = codec.loads(encoded)
            except Exception as error:
                raise codecs.not_decodable(codec, name, encoded, error) from error
        id_, headers, retained = f"{_id_prefix(client)}{sequence}", extra.headers, delivery.is_retained
        return received_message(name, payload, ack, created, id_, delivery.attempt, headers, encoded, retained)

    def reader(self, delivery: Delivery, channel: Channel[Any] | None = None) -> Callable[[int], Message[object]]:
        """Return what returns each message of a delivery, given its index, with its payload decoded.

        What is returned raises PayloadNotDecodable if the payload's bytes are not of its codec, or name an unknown
        class, PayloadInvalid if it is not of the channel's type, and UntrustedPayload if it is pickled, and came from a
        server that the settings do not trust.
        """
        header, extra, frame, offsets, bounds = delivery.contents
        name, ack, created, sequence = header.name, header.ack, header.timestamp, header.sequence
        attempt, headers, retained = delivery.attempt, extra.headers, delivery.is_retained
        prefix = _id_prefix(header.client)
        codec = codecs.BY_NUMBER[header.codec]
        if codec is codecs.PICKLE and not self._may_unpickle:
            return partial(self._refuse, name)
        source = _source(frame, bounds)
        decode = None if channel is None else channel.decode
        loads = codec.loads

        def read(index: int) -> "Message[object]":
            encoded = source[bounds[index] : bounds[index + 1]]
            if decode:
                payload = decode(encoded, codec)
            else:
                try:
                    payload = loads(encoded)
                except Exception as error:
                    raise codecs.not_decodable(codec, name, encoded, error) from error
            timestamp, id_ = created + offsets[index] / 1e6, f"{prefix}{sequence + index}"
            return received_message(name, payload, ack, timestamp, id_, attempt, headers, encoded, retained=retained)

        return read

    def read_ahead(
        self, delivery: Delivery, channel: Channel[Any] | None, indexes: Sequence[int]
    ) -> Iterator[Sequence[Message[object]]]:
        """Yield these messages of a delivery, a few at a time, which is done sooner than one by one.

        It raises anything if one of the next few cannot be read; only ``reader`` tells which, and why.
        """
        header, extra, frame, offsets, bounds = delivery.contents
        created, first, prefix = header.timestamp, header.sequence, _id_prefix(header.client)
        codec = codecs.BY_NUMBER[header.codec]
        if codec is codecs.PICKLE and not self._may_unpickle:
            self._refuse(header.name, 0)
        common = received_fields(
            header.name, header.ack, delivery.attempt, extra.headers, retained=delivery.is_retained
        )
        source = _source(frame, bounds)
        decode = codec.loads if channel is None else partial(channel.decode, codec=codec)
        for start in range(0, len(indexes), _FEW):
            few = indexes[start : start + _FEW]
            encoded = [source[bounds[index] : bounds[index + 1]] for index in few]
            timestamps = [created + offsets[index] / 1e6 for index in few]
            ids = [f"{prefix}{first + index}" for index in few]
            yield received_messages(common, list(map(decode, encoded)), timestamps, ids, encoded)

    def bundle_reader(self, bundle: Bundle) -> Callable[[int, Channel[Any] | None], Message[object]]:
        """Return what returns each message of a bundle that has no extra fields; the rest is as in ``reader``."""
        frame, number, client, first, created, names, offsets, places, _, bounds = bundle
        prefix = _id_prefix(client)
        codec = codecs.BY_NUMBER[number]
        if codec is codecs.PICKLE and not self._may_unpickle:
            return lambda index, _channel: self._refuse(names[index], index)
        source = _source(frame, bounds)
        loads, headers = codec.loads, NO_EXTRA.headers

        def read(index: int, channel: Channel[Any] | None) -> "Message[object]":
            encoded = source[bounds[index] : bounds[index + 1]]
            name = names[index]
            if channel is not None:
                payload = channel.decode(encoded, codec)
            else:
                try:
                    payload = loads(encoded)
                except Exception as error:
                    raise codecs.not_decodable(codec, name, encoded, error) from error
            timestamp, id_ = created + offsets[index] / 1e6, f"{prefix}{first + places[index]}"
            return received_message(name, payload, 0, timestamp, id_, 1, headers, encoded)

        return read

    def _refuse(self, name: str, _index: int = 0) -> Message[object]:
        raise UntrustedPayload(
            f"message {name!r} from the server at {self._server} is pickled, and un-pickling runs code: "
            f"with client.allow_pickle set to {self._allow_pickle!r} it is not read; set it to 'always' if you "
            "trust everybody who can reach that server, or let the sender use another codec"
        )


def _source(frame: Buffer, bounds: Sequence[int]) -> Buffer:
    """Return what payloads are cut out of: a view costs more than a copy of a few bytes, and keeps the whole frame."""
    if bounds[-1] - bounds[0] < (len(bounds) - 1) * _SMALL:
        return frame if isinstance(frame, bytes) else bytes(frame)
    return memoryview(frame)


def message_id(client: int, sequence: int) -> str:
    """Return the id of a message, as applications see it."""
    return f"{_id_prefix(client)}{sequence}"


@lru_cache(maxsize=1024)
def _id_prefix(client: int) -> str:
    return f"{client:0{_CLIENT_DIGITS}x}-"


def is_loopback(address: str) -> bool:
    """Whether a server's address is certainly this machine; a host name other than ``localhost`` is not."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return address.lower() == "localhost"
