"""Mezzenger: typed messages between Python processes, through one server."""

from typing import TYPE_CHECKING

from mezzenger.channel import Channel
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
    UntrustedPayload,
    UsedAfterFork,
)
from mezzenger.message import Message
from mezzenger.protocol.states import State
from mezzenger.retained_message import RetainedMessage
from mezzenger.settings import (
    ChannelResendSettings,
    ChannelSettings,
    ClientSettings,
    ResendSettings,
    ServerSettings,
    Settings,
)

if TYPE_CHECKING:
    from mezzenger.server.server import MezzengerServer

__version__ = "0.1.0"

__all__ = [
    "AlreadySubscribed",
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
    "MessageTooLarge",
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
    "UntrustedPayload",
    "UsedAfterFork",
    "__version__",
]


def __getattr__(name: str) -> object:
    # Clients do without the server's half, and need not wait for it to load.
    if name == "MezzengerServer":
        from mezzenger.server.server import MezzengerServer

        return MezzengerServer
    raise AttributeError(f"module 'mezzenger' has no attribute {name!r}")
