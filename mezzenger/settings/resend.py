"""How often a message is sent again: for all names, and for those of one pattern."""

from operator import ge
from typing import Annotated

from pydantic import Field

from mezzenger.settings.section import Section, compared
from mezzenger.units import Duration

_Pause = Annotated[Duration, Field(gt=0)]
_Multiplier = Annotated[float, Field(ge=1, allow_inf_nan=False)]
_Jitter = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Attempts = Annotated[int, Field(ge=1)]


class ResendSettings(Section):
    """How often an ``ack=1`` message is sent again until it is acknowledged."""

    _place = ("server", "resend")

    initial: _Pause = Field(1.0, description="Pause before an ack=1 message is first sent again.")
    multiplier: _Multiplier = Field(2.0, description="How much longer each pause is than the one before.")
    max: Annotated[Duration, compared("initial", ge, "must be at least")] = Field(
        60.0, description="Longest pause between two deliveries of one message."
    )
    jitter: _Jitter = Field(0.1, description="Part by which chance makes each pause longer or shorter, from 0 to 1.")
    max_attempts: _Attempts = Field(20, description="Deliveries after which a message becomes a dead letter.")


def _as_for_all(key: str) -> str | None:
    return ResendSettings.model_fields[key].description


class ChannelResendSettings(Section):
    """The same for the names of one channel; what is ``None`` is as in ``server.resend``."""

    _place = ("channel", "resend")

    initial: _Pause | None = Field(None, description=_as_for_all("initial"))
    multiplier: _Multiplier | None = Field(None, description=_as_for_all("multiplier"))
    max: _Pause | None = Field(None, description=_as_for_all("max"))
    jitter: _Jitter | None = Field(None, description=_as_for_all("jitter"))
    max_attempts: _Attempts | None = Field(None, description=_as_for_all("max_attempts"))

    def over(self, server: ResendSettings) -> ResendSettings:
        """Return what holds for the channel: what is set here, and the rest as in ``server``."""
        return server.model_copy(update=self.model_dump(exclude_none=True))
