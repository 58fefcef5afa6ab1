"""The commands of the wire, one small type each.

They travel as control frames over the client's DEALER and the server's ROUTER socket; ``wire.py`` writes and reads
them, ``docs/protocol.md`` shows who sends which, and when.
"""

from typing import Annotated

from msgspec import Meta, Struct

from mezzenger.protocol.asking import (
    Answer,
    Completed,
    DeadQuestion,
    DropDead,
    DropGroup,
    DropRetained,
    Failed,
    Groups,
    GroupState,
    LastMessage,
    LastMessages,
    Letter,
    Letters,
    ListDead,
    ListGroups,
    ListRetained,
    Question,
    ResendDead,
    RetainedQuestion,
    ShowDead,
)
from mezzenger.protocol.command import (
    DELIVERIES_PER_ACK,
    MAX_ERROR_CHARACTERS,
    MAX_PREFETCH,
    MAX_SECONDS,
    NAMES_PER_SUBSCRIBE,
    NUMBERS_PER_QUESTION,
    PROTOCOL_VERSION,
    TOKEN_BYTES,
    Command,
    Key,
    Number,
    Seconds,
    Text,
    Token,
    Word,
)

__all__ = [
    "DELIVERIES_PER_ACK",
    "MAX_ERROR_CHARACTERS",
    "MAX_PREFETCH",
    "MAX_SECONDS",
    "NAMES_PER_SUBSCRIBE",
    "NUMBERS_PER_QUESTION",
    "PROTOCOL_VERSION",
    "TOKEN_BYTES",
    "Answer",
    "Command",
    "Completed",
    "DeadQuestion",
    "DropDead",
    "DropGroup",
    "DropRetained",
    "Failed",
    "GroupState",
    "Groups",
    "Key",
    "LastMessage",
    "LastMessages",
    "Letter",
    "Letters",
    "ListDead",
    "ListGroups",
    "ListRetained",
    "Number",
    "Question",
    "ResendDead",
    "RetainedQuestion",
    "Seconds",
    "ShowDead",
    "Text",
    "Token",
    "Word",
]


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
    """C: send me the messages of these names and patterns."""

    request: Number
    names: Annotated[list[str], Meta(max_length=NAMES_PER_SUBSCRIBE)]
    token: Token
    """The sync token: the client's SUB socket subscribed to it after the names."""


class Subscribed(Command, tag="subscribed", frozen=True):
    """S: the sync token has surfaced, or the group has you as a member; from here on you miss nothing."""

    request: Number


class Retained(Command, tag="retained", frozen=True):
    """S: the data frames behind this one were the last of their names when your sync token surfaced; no ack, please."""

    request: Number
    """Of the Subscribe that asked for the names."""


class Unsubscribe(Command, tag="unsubscribe", frozen=True):
    """C: no more messages of this name, please."""

    name: str


class Join(Command, tag="join", frozen=True):
    """C: let me be a member of this group; answered like Subscribe, or by Declined."""

    request: Number
    name: str
    """Or a pattern: what the group is for."""
    group: str
    prefetch: Annotated[int, Meta(ge=1, le=MAX_PREFETCH)]
    """How many deliveries I take before I answer the first of them."""
    max_runtime: Annotated[float, Meta(gt=0)] | None
    """Seconds after which another member may have what I have not answered; None for never, as long as I live."""
    order_by: Annotated[str, Meta(min_length=1)] | None
    """A header: messages with equal values of it come to one member, one after the other."""


class Declined(Command, tag="declined", frozen=True):
    """S: the group does not take you."""

    request: Number
    reason: Word
    text: Text


class Leave(Command, tag="leave", frozen=True):
    """C: I am a member of this group no more; the group stays."""

    name: str
    group: str


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
    group: str | None
    """The queue of the group, as ``PATTERN|GROUP``, as whose member you get it; None if as a subscriber.

    Without ``ack`` it is not to be acknowledged, and ``delivery`` means nothing.
    """


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


class Returned(Struct, tag="returned", frozen=True, array_like=True, forbid_unknown_fields=True):
    """What came of a request: the responder's callback returned this."""

    frame: bytes
    """A data frame with one message, whose payload it is."""


class Raised(Struct, tag="raised", frozen=True, array_like=True, forbid_unknown_fields=True):
    """What came of a request: the responder's callback raised this, or could not be called."""

    kind: Text
    """The name of its type."""
    text: Text
    traceback: Text


class Unserved(Struct, tag="unserved", frozen=True, array_like=True, forbid_unknown_fields=True):
    """What came of a request: nobody answers it."""

    reason: Word
    text: Text


Outcome = Returned | Raised | Unserved


class Request(Command, tag="request", frozen=True):
    """C: have one subscriber run its callback for this data frame, and tell me what came of it."""

    request: Number
    timeout: Seconds
    """For how long I shall wait from now on."""
    elsewhere: bool
    """Whether it must be another client than me, because my callbacks wait for this."""
    frame: bytes
    """A data frame with one message, ``ack=0``."""


class Serve(Command, tag="serve", frozen=True):
    """S: run your callback for this data frame, and respond."""

    number: Number
    timeout: Seconds
    """For how long somebody waits; what has not begun by then must not begin."""
    frame: bytes


class Respond(Command, tag="respond", frozen=True):
    """C: this came of what I was to serve."""

    number: Number
    outcome: Returned | Raised


class Withdraw(Command, tag="withdraw", frozen=True):
    """S: nobody waits for that any more; if it has not begun, it must not begin."""

    number: Number


class Response(Command, tag="response", frozen=True):
    """S: this came of your request."""

    request: Number
    outcome: Outcome


OfRequests = Serve | Withdraw | Response
"""What the server says about requests."""
ClientCommand = Hello | Subscribe | Unsubscribe | Join | Leave | Ack | Nack | Ping | Question | Request | Respond
ServerCommand = (
    Welcome
    | Linked
    | Goodbye
    | Subscribed
    | Declined
    | Confirm
    | Refuse
    | Deliver
    | Retained
    | Pong
    | Answer
    | OfRequests
)


def fit_text(text: str, characters: int = MAX_ERROR_CHARACTERS) -> str:
    """Return the beginning of an error text as a command can carry it."""
    # It may hold half a character, such as that of a file's name that is not UTF-8.
    return text[:characters].encode(errors="replace").decode()


def is_token(prefix: bytes) -> bool:
    """Whether a subscription is a token; else it is the prefix of a name."""
    return len(prefix) == TOKEN_BYTES and prefix.startswith(b"\0")
