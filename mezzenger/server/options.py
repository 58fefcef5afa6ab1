"""The settings, as the parts of a server that must not know the settings want them."""

from collections.abc import Mapping
from typing import Final

from mezzenger.broker.connections import ConnectionOptions
from mezzenger.broker.core import BrokerOptions
from mezzenger.broker.fates import DeliveryOptions
from mezzenger.broker.memberships import GroupOptions
from mezzenger.broker.requests import RequestOptions
from mezzenger.broker.retained import RetainedOptions
from mezzenger.broker.room import RoomOptions
from mezzenger.policy import Policies, Policy
from mezzenger.queues import queue_of
from mezzenger.settings import ChannelSettings, ServerSettings
from mezzenger.storage.base import Storage
from mezzenger.storage.memory import MemoryStorage
from mezzenger.storage.sqlite import SqliteStorage
from mezzenger.transport.sockets import ServerSocketOptions

_PENDING_IN_MEMORY: Final = 256 * 2**20
_PENDING_IN_FILE: Final = 10 * 2**30


def broker_options(settings: ServerSettings, channels: Mapping[str, ChannelSettings]) -> BrokerOptions:
    """Return what the broker needs to know."""
    by_name = policies(settings, channels)
    return BrokerOptions(
        connection=ConnectionOptions(settings.max_message_size, settings.heartbeat_timeout, settings.max_peers),
        delivery=DeliveryOptions(settings.credit, settings.send_queue, settings.max_dead_letters, by_name),
        room=RoomOptions(settings.max_pending, pending_limit(settings), by_name),
        retained=RetainedOptions(settings.max_retained, settings.max_retained_size, by_name),
        requests=RequestOptions(settings.max_requests, settings.max_message_size),
        groups=GroupOptions(settings.max_groups, group_queues(channels)),
        max_names=settings.max_names,
    )


def group_queues(channels: Mapping[str, ChannelSettings]) -> tuple[str, ...]:
    """Return the queues of the groups that are there from the start."""
    return tuple(queue_of(pattern, group) for pattern, channel in channels.items() for group in channel.groups)


def socket_options(settings: ServerSettings) -> ServerSocketOptions:
    """Return what the sockets need to know."""
    return ServerSocketOptions(
        bind=settings.bind,
        pub_port=settings.pub_port,
        recv_port=settings.recv_port,
        max_message_size=settings.max_message_size,
        send_queue=settings.send_queue,
        credit=settings.credit,
        heartbeat_interval=settings.heartbeat_interval,
        heartbeat_timeout=settings.heartbeat_timeout,
    )


def storage(settings: ServerSettings, *, on_a_thread: bool = True) -> Storage:
    """Return a store that has not been opened: a file if one is named, else memory.

    Args:
        settings: Name the file.
        on_a_thread: Whether work that takes long is done on another thread; if not, nothing is waited for.
    """
    if settings.persist_file is None:
        return MemoryStorage()
    return SqliteStorage(settings.persist_file, on_a_thread=on_a_thread)


def pending_limit(settings: ServerSettings) -> int:
    """Return how many unacknowledged bytes are kept; what a file may hold is more than what memory may."""
    if settings.max_pending_size is not None:
        return settings.max_pending_size
    return _PENDING_IN_MEMORY if settings.persist_file is None else _PENDING_IN_FILE


def policies(server: ServerSettings, channels: Mapping[str, ChannelSettings]) -> Policies:
    """Return which policy applies to which name: that of its channel, or the server's settings alone."""
    rules = [(pattern, _policy(server, channel)) for pattern, channel in channels.items()]
    return Policies(_policy(server, ChannelSettings()), rules)


def _policy(server: ServerSettings, channel: ChannelSettings) -> Policy:
    resend = channel.resend.over(server.resend)
    return Policy(
        resend_initial=resend.initial,
        resend_multiplier=resend.multiplier,
        resend_max=resend.max,
        resend_jitter=resend.jitter,
        max_attempts=resend.max_attempts,
        ttl=channel.ttl,
        delay=channel.delay,
        max_pending=channel.max_pending,
        max_pending_size=channel.max_pending_size,
        overflow=channel.overflow or server.overflow,
        retain=channel.retain,
    )
