"""The commands of the wire, one small type each.

They travel as control frames over the client's DEALER and the server's ROUTER socket; ``wire.py`` writes and reads
them, ``docs/protocol.md`` shows who sends which, and when.
"""

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

Number = Annotated[int, Meta(ge=0)]
Token = Annotated[bytes, Meta(min_length=TOKEN_BYTES, max_length=TOKEN_BYTES)]
Key = Annotated[bytes, Meta(min_length=16, max_length=16)]
Word = Annotated[str, Meta(max_length=64)]
Text = Annotated[str, Meta(max_length=MAX_ERROR_CHARACTERS)]


class Command(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Base of all commands."""


class Hello(Command, tag="hello", frozen=True):
    """C: who I am. The first command on every connection."""

    version: Number
    client: Number
    """Random, chosen once by the client; part of every message id."""
    key: Key
    """Random and secret: shows that a later connection is of the same client."""
    token: Token
    """The link token, to which the client's SUB socket has subscribed."""
    oldest: Number
    """The lowest sequence that this client may still send again."""


class Welcome(Command, tag="welcome", frozen=True):
    """S: you are known; these are my limits."""

    version: Number
    max_message_size: Number
    retains: bool
    """Whether the last message of some names is kept for subscribers to come."""


class Linked(Command, tag="linked", frozen=True):
    """S: your link token has surfaced, so your SUB connection stands too."""


class Goodbye(Command, tag="goodbye", frozen=True):
    """S: this connection is not, or no longer, served."""

    reason: Word
    text: Text
    retry: bool
    """False if a new connection would fare no better."""


class Subscribe(Command, tag="subscribe", frozen=True):
    """C: send me the messages of these names."""

    request: Number
    names: Annotated[list[str], Meta(max_length=NAMES_PER_SUBSCRIBE)]
    token: Token
    """The sync token: the client's SUB socket subscribed to it after the names."""


class Subscribed(Command, tag="subscribed", frozen=True):
    """S: the sync token has surfaced; from here on you miss nothing."""

    request: Number


class Retained(Command, tag="retained", frozen=True):
    """S: the data frames behind this one were the last of their names when your sync token surfaced; no ack, please."""

    request: Number
    """Of the Subscribe that asked for the names."""


class Unsubscribe(Command, tag="unsubscribe", frozen=True):
    """C: no more messages of this name, please."""

    name: str


class Confirm(Command, tag="confirm", frozen=True):
    """S: the frames with these first sequences are stored."""

    sequences: list[Number]


class Refuse(Command, tag="refuse", frozen=True):
    """S: the frame with this first sequence is not stored."""

    sequence: Number
    reason: Word
    text: Text


class Deliver(Command, tag="deliver", frozen=True):
    """S: the data frame behind this one is for you; acknowledge it."""

    delivery: Number
    attempt: Annotated[int, Meta(ge=1)]
    indexes: list[Number] | None
    """Which messages of a batch; all of them where None."""


class Ack(Command, tag="ack", frozen=True):
    """C: these deliveries were handled."""

    deliveries: list[Number]


class Failure(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Why the callback did not handle one message of a delivery."""

    index: Number
    error: Text


class Nack(Command, tag="nack", frozen=True):
    """C: of this delivery these failed; what is not named was handled."""

    delivery: Number
    failures: Annotated[list[Failure], Meta(min_length=1)]


class Ping(Command, tag="ping", frozen=True):
    """C: are you there? All that was sent before has arrived once this is answered."""

    number: Number


class Pong(Command, tag="pong", frozen=True):
    """S: yes."""

    number: Number


class ListDead(Command, tag="list_dead", frozen=True):
    """C: which dead letters are there? Ask again, behind the last one, until there are no more."""

    request: Number
    name: str | None
    """Of this name only."""
    after: Number
    """Of numbers above this one."""


class ShowDead(Command, tag="show_dead", frozen=True):
    """C: what is in this dead letter?"""

    request: Number
    number: Number


class ResendDead(Command, tag="resend_dead", frozen=True):
    """C: deliver these dead letters after all."""

    request: Number
    numbers: Annotated[list[Number], Meta(max_length=NUMBERS_PER_QUESTION)]


class DropDead(Command, tag="drop_dead", frozen=True):
    """C: forget these dead letters."""

    request: Number
    numbers: Annotated[list[Number], Meta(max_length=NUMBERS_PER_QUESTION)]


class ListRetained(Command, tag="list_retained", frozen=True):
    """C: of which names is the last message kept? Ask again, behind the last one, until there are no more."""

    request: Number
    after: str
    """Of names behind this one, in order of their characters."""


class DropRetained(Command, tag="drop_retained", frozen=True):
    """C: forget the last message of these names."""

    request: Number
    names: Annotated[list[str], Meta(max_length=NAMES_PER_SUBSCRIBE)]


class LastMessage(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A message that is kept as the last of its name."""

    name: str
    client: Number
    sequence: Number
    timestamp: float
    ack: Number
    size: Number
    """Of its data frame, in bytes."""
    expires: float | None
    """When it is forgotten, in Unix seconds; None if that is not known."""


class LastMessages(Command, tag="last_messages", frozen=True):
    """S: these are the last messages; an answer to ListRetained."""

    request: Number
    messages: list[LastMessage]


class Letter(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A dead letter."""

    number: Number
    name: str
    client: Number
    sequence: Number
    timestamp: float
    messages: Number
    """How many are in it that were not handled."""
    size: Number
    """Of its data frame, in bytes."""
    attempts: Number
    buried: float
    """When it became one, in Unix seconds."""
    reason: Word
    error: Text
    indexes: list[Number] | None
    """Which messages of the frame were not handled; None means all."""
    frame: bytes | None
    """The data frame, if it was asked for."""


class Letters(Command, tag="letters", frozen=True):
    """S: these are the dead letters; an answer to ListDead or ShowDead."""

    request: Number
    letters: list[Letter]


class Completed(Command, tag="done", frozen=True):
    """S: that is done, with so many; an answer to ResendDead, DropDead or DropRetained."""

    request: Number
    count: Number


class Failed(Command, tag="failed", frozen=True):
    """S: that cannot be done; an answer to any of these."""

    request: Number
    reason: Word
    text: Text


DeadQuestion = ListDead | ShowDead | ResendDead | DropDead
"""What is answered from the store."""
RetainedQuestion = ListRetained | DropRetained
Question = DeadQuestion | RetainedQuestion
Answer = Letters | LastMessages | Completed | Failed
ClientCommand = Hello | Subscribe | Unsubscribe | Ack | Nack | Ping | Question
ServerCommand = Welcome | Linked | Goodbye | Subscribed | Confirm | Refuse | Deliver | Retained | Pong | Answer


def fit_text(text: str, characters: int = MAX_ERROR_CHARACTERS) -> str:
    """Return the beginning of an error text as a command can carry it."""
    # It may hold half a character, such as that of a file's name that is not UTF-8.
    return text[:characters].encode(errors="replace").decode()


def is_token(prefix: bytes) -> bool:
    """Whether a subscription is a token; else it is the prefix of a name."""
    return len(prefix) == TOKEN_BYTES and prefix.startswith(b"\0")
