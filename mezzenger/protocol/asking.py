"""What clients ask the server about what it keeps, and what it answers."""

from typing import Annotated

from msgspec import Meta, Struct

from mezzenger.protocol.command import NAMES_PER_SUBSCRIBE, NUMBERS_PER_QUESTION, Command, Number, Text, Word


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
    """The queue, ``PATTERN|GROUP``, of the group whose members could not handle it; None if it was for subscribers."""


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
Question = DeadQuestion | RetainedQuestion | ListGroups | DropGroup
Answer = Letters | LastMessages | Groups | Completed | Failed
