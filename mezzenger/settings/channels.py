"""What differs for the messages of some names."""

from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer
from pydantic_core import InitErrorDetails

from mezzenger.errors import InvalidName
from mezzenger.patterns import check_pattern
from mezzenger.policy import Overflow, Retain
from mezzenger.protocol.command import MAX_SECONDS
from mezzenger.queues import check_group
from mezzenger.settings.resend import ChannelResendSettings, ResendSettings
from mezzenger.settings.section import Section, conflict
from mezzenger.units import Duration, Size


def _check_group(group: str) -> str:
    try:
        return check_group(group)
    except InvalidName as error:
        raise ValueError(error) from None


class ChannelSettings(Section):
    """What applies to the messages whose names match a pattern."""

    _place = ("channel",)

    resend: ChannelResendSettings = Field(
        default_factory=ChannelResendSettings,
        description="How often these are sent again; what is not set is as in server.resend.",
    )
    ttl: Duration | None = Field(
        None,
        gt=0,
        le=MAX_SECONDS,
        description="How long an ack=1 message lives if its publisher said nothing; null is for ever.",
    )
    delay: Duration = Field(
        0.0, le=MAX_SECONDS, description="How long it waits before it is first delivered, likewise."
    )
    max_pending: int | None = Field(
        None, ge=1, description="Unacknowledged messages of a name, or of a group, kept at most; null is without limit."
    )
    max_pending_size: Size | None = Field(
        None, ge=1, description="Unacknowledged bytes of a name, or of a group, kept at most; null is without limit."
    )
    groups: tuple[Annotated[str, AfterValidator(_check_group)], ...] = Field(
        (), description="Groups for this name or pattern that are there before their first member comes."
    )
    overflow: Overflow | None = Field(
        None, description="What happens to a publish beyond these two; null is as in server.overflow."
    )
    retain: Retain | None = Field(
        None, description="What a new subscriber of a name is given at once: its last message, or null for nothing."
    )


def _check_pattern(pattern: str) -> str:
    try:
        return check_pattern(pattern)
    except InvalidName as error:
        # pydantic knows no other errors than ValueError, and tells which key it was.
        raise ValueError(error) from None


class FrozenMapping(Mapping[str, ChannelSettings]):
    """Channels by pattern, in order. Unlike a dict it cannot be changed, unlike a mappingproxy it can be pickled."""

    def __init__(self, channels: Mapping[str, ChannelSettings]) -> None:
        self._channels = dict(channels)

    def __getitem__(self, pattern: str) -> ChannelSettings:
        return self._channels[pattern]

    def __iter__(self) -> Iterator[str]:
        return iter(self._channels)

    def __len__(self) -> int:
        return len(self._channels)

    def __eq__(self, other: object) -> bool:
        # The order counts: the first pattern that matches applies.
        return isinstance(other, Mapping) and list(self.items()) == list(other.items())

    def __hash__(self) -> int:
        return hash(tuple(self.items()))

    def __repr__(self) -> str:
        return repr(self._channels)


Channels = Annotated[
    Mapping[Annotated[str, AfterValidator(_check_pattern)], ChannelSettings],
    AfterValidator(FrozenMapping),
    PlainSerializer(dict, return_type=dict[str, ChannelSettings]),
]
"""Channels by pattern; the first pattern that matches a name applies."""


def contradiction(pattern: str, channel: ChannelSettings, server: ResendSettings) -> InitErrorDetails | None:
    """Return what is wrong if the longest pause of a channel is shorter than its first, one of them the server's."""
    resend, merged = channel.resend, channel.resend.over(server)
    if merged.max >= merged.initial:
        return None
    if resend.max is None:
        key, rule, values = "initial", "must be at most server.resend.max", (merged.initial, merged.max)
    else:
        other = "initial" if resend.initial is not None else "server.resend.initial"
        key, rule, values = "max", f"must be at least {other}", (merged.max, merged.initial)
    error = conflict(rule, *values)
    return InitErrorDetails(type=error, loc=(pattern, "resend", key), input=values[0])
