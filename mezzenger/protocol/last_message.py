"""The last message of a data frame, taken out of its batch."""

from msgspec.structs import replace

from mezzenger.protocol import wire
from mezzenger.protocol.splitting import part_of


def last_message(frame: bytes) -> bytes:
    """Return the last message of a data frame as a frame of its own, which has the same id; the frame if it has one.

    Raises:
        ProtocolError: The frame is malformed or damaged.
    """
    contents = wire.read_contents(frame)
    header, extra = contents.header, contents.extra
    if not header.batch:
        return frame
    index = header.messages - 1
    return part_of(header, index, contents.items[-1], replace(extra, index=index))
