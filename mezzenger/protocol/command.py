"""What all commands have in common: their limits, the types of their fields, their base."""

from typing import Annotated, Final

from msgspec import Meta, Struct

PROTOCOL_VERSION: Final = 1
TOKEN_BYTES: Final = 17
"""A zero byte, which no name starts with, and 16 random ones."""
NAMES_PER_SUBSCRIBE: Final = 200
"""Keeps the largest Subscribe below the smallest ``max_message_size``."""
DELIVERIES_PER_ACK: Final = 4096
"""Likewise for Ack."""
NUMBERS_PER_QUESTION: Final = 1000
"""Likewise for ResendDead and DropDead."""
MAX_ERROR_CHARACTERS: Final = 4000
MAX_SECONDS: Final = 1e9
"""The longest ttl, delay or timeout: some 31 years."""
MAX_PREFETCH: Final = 65_536
"""Deliveries that a member of a group may have in hand."""

Number = Annotated[int, Meta(ge=0)]
Token = Annotated[bytes, Meta(min_length=TOKEN_BYTES, max_length=TOKEN_BYTES)]
Key = Annotated[bytes, Meta(min_length=16, max_length=16)]
Word = Annotated[str, Meta(max_length=64)]
Text = Annotated[str, Meta(max_length=MAX_ERROR_CHARACTERS)]
Seconds = Annotated[float, Meta(gt=0, le=MAX_SECONDS)]


class Command(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of all commands."""
