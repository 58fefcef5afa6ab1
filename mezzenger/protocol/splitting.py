"""The messages of a batch, each as a frame of its own."""

from mezzenger.protocol.wire import Extra, Header, Item, encode_data, read_contents


def split(frame: bytes, header: Header) -> tuple[bytes, ...]:
    """Return each message of a batch as a frame of its own; each keeps its sequence, and so its id.

    Whatever frame can be read, its parts can be read, too.

    Raises:
        ProtocolError: The frame is malformed or damaged.
    """
    contents = read_contents(frame, header)
    return tuple(part_of(header, index, item, contents.extra) for index, item in enumerate(contents.items))


def part_of(header: Header, index: int, item: Item, extra: Extra) -> bytes:
    """Return one message of a batch with this header as a frame of its own."""
    return encode_data(
        header.name,
        [(item.timestamp, item.payload)],
        ack=header.ack,
        codec=header.codec,
        client=header.client,
        sequence=header.sequence + index,
        extra=extra,
    )
