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


class ListGroups(Command, tag="list_groups", frozen=True):
    """C: which groups are there? Ask again, behind the last one, until there are no more."""

    request: Number
    after: str
    """Of queues, as ``PATTERN|GROUP``, that come after this one."""


class DropGroup(Command, tag="drop_group", frozen=True):
    """C: forget this group, which has no members, and what waits for it."""

    request: Number
    name: str
    group: str


class GroupState(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """A group, and how it fares."""

    name: str
    group: str
    members: Number
    pending: Number
    """Messages that wait, those in hand among them."""
    pending_size: Number
    """Bytes of their frames."""
    in_hand: Number
    """Frames that members have in hand."""
    delayed: Number
    """Messages that are not due yet."""


class Groups(Command, tag="groups", frozen=True):
    """S: these are the groups; an answer to ListGroups."""

    request: Number
    groups: list[GroupState]


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
    group: str | None
    """Whose members could not handle it; None if it was for subscribers."""


class Letters(Command, tag="letters", frozen=True):
    """S: these are the dead letters; an answer to ListDead or ShowDead."""

    request: Number
    letters: list[Letter]


class Completed(Command, tag="done", frozen=True):
    """S: that is done, with so many; an answer to ResendDead or DropDead."""

    request: Number
    count: Number


class Failed(Command, tag="failed", frozen=True):
    """S: that cannot be done; an answer to any of these."""

    request: Number
    reason: Word
    text: Text


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


Question = ListDead | ShowDead | ResendDead | DropDead | ListGroups | DropGroup
Answer = Letters | Groups | Completed | Failed
OfRequests = Serve | Withdraw | Response
"""What the server says about requests."""
ClientCommand = Hello | Subscribe | Unsubscribe | Join | Leave | Ack | Nack | Ping | Question | Request | Respond
ServerCommand = (
    Welcome | Linked | Goodbye | Subscribed | Declined | Confirm | Refuse | Deliver | Pong | Answer | OfRequests
)


def fit_text(text: str, characters: int = MAX_ERROR_CHARACTERS) -> str:
    """Return the beginning of an error text as a command can carry it."""
    # It may hold half a character, such as that of a file's name that is not UTF-8.
    return text[:characters].encode(errors="replace").decode()


def is_token(prefix: bytes) -> bool:
    """Whether a subscription is a token; else it is the prefix of a name."""
    return len(prefix) == TOKEN_BYTES and prefix.startswith(b"\0")
