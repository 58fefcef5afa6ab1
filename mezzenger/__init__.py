"""Mezzenger: typed messages between Python processes, through one server."""

from importlib import import_module
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from mezzenger.channel import Channel
    from mezzenger.client.aio import AsyncMezzenger
    from mezzenger.client.messages import MessageInHand, Messages
    from mezzenger.client.stats import ClientStats
    from mezzenger.client.sync import Mezzenger
    from mezzenger.dead_letter import DeadLetter
    from mezzenger.errors import (
        AlreadySubscribed,
        BindError,
        ClientStopped,
        ConfigurationError,
        InvalidCallback,
        InvalidChannel,
        InvalidMembership,
        InvalidMessage,
        InvalidName,
        MessageTooLarge,
        MezzengerError,
        NoDeadLetter,
        NoResponders,
        NotSubscribed,
        PayloadError,
        PayloadInvalid,
        PayloadNotDecodable,
        PayloadNotEncodable,
        ProtocolError,
        Rejected,
        RemoteError,
        RequestError,
        RequestLost,
        RequestTimeout,
        ServerUnreachable,
        StorageError,
        StorageFull,
        UntrustedPayload,
        UsedAfterFork,
        UsedInAnotherLoop,
    )
    from mezzenger.message import Message
    from mezzenger.protocol.states import State
    from mezzenger.retained_message import RetainedMessage
    from mezzenger.server.server import MezzengerServer
    from mezzenger.settings import (
        ChannelResendSettings,
        ChannelSettings,
        ClientSettings,
        ResendSettings,
        ServerSettings,
        Settings,
    )

__version__ = "0.1.0"

# Nothing is loaded before it is asked for: clients do without the server's half, and pytest, which loads the plugin of
# each installed package, without both. What is not here is an error.
_SETTINGS: Final = "mezzenger.settings"
_PLACES: Final = {
    "AsyncMezzenger": "mezzenger.client.aio",
    "Channel": "mezzenger.channel",
    "ChannelResendSettings": _SETTINGS,
    "ChannelSettings": _SETTINGS,
    "ClientSettings": _SETTINGS,
    "ClientStats": "mezzenger.client.stats",
    "DeadLetter": "mezzenger.dead_letter",
    "Message": "mezzenger.message",
    "MessageInHand": "mezzenger.client.messages",
    "Messages": "mezzenger.client.messages",
    "Mezzenger": "mezzenger.client.sync",
    "MezzengerServer": "mezzenger.server.server",
    "ResendSettings": _SETTINGS,
    "RetainedMessage": "mezzenger.retained_message",
    "ServerSettings": _SETTINGS,
    "Settings": _SETTINGS,
    "State": "mezzenger.protocol.states",
}

__all__ = [
    "AlreadySubscribed",
    "AsyncMezzenger",
    "BindError",
    "Channel",
    "ChannelResendSettings",
    "ChannelSettings",
    "ClientSettings",
    "ClientStats",
    "ClientStopped",
    "ConfigurationError",
    "DeadLetter",
    "InvalidCallback",
    "InvalidChannel",
    "InvalidMembership",
    "InvalidMessage",
    "InvalidName",
    "Message",
    "MessageInHand",
    "MessageTooLarge",
    "Messages",
    "Mezzenger",
    "MezzengerError",
    "MezzengerServer",
    "NoDeadLetter",
    "NoResponders",
    "NotSubscribed",
    "PayloadError",
    "PayloadInvalid",
    "PayloadNotDecodable",
    "PayloadNotEncodable",
    "ProtocolError",
    "Rejected",
    "RemoteError",
    "RequestError",
    "RequestLost",
    "RequestTimeout",
    "ResendSettings",
    "RetainedMessage",
    "ServerSettings",
    "ServerUnreachable",
    "Settings",
    "State",
    "StorageError",
    "StorageFull",
    "UntrustedPayload",
    "UsedAfterFork",
    "UsedInAnotherLoop",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'mezzenger' has no attribute {name!r}")
    value: object = getattr(import_module(_PLACES.get(name, "mezzenger.errors")), name)
    globals()[name] = value  # the next time Python finds it by itself
    return value


def __dir__() -> list[str]:
    return __all__
