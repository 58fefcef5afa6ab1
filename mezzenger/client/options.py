"""The settings, as the parts of a client that must not know the settings want them."""

from mezzenger.protocol.states import SessionOptions
from mezzenger.settings import ClientSettings
from mezzenger.transport.sockets import ClientSocketOptions


def session_options(settings: ClientSettings) -> SessionOptions:
    """Return what a session needs to know."""
    return SessionOptions(
        server=f"{settings.server_address} (send_port {settings.send_port}, sub_port {settings.sub_port})",
        attempt_timeout=settings.send_timeout,
        heartbeat_interval=settings.heartbeat_interval,
        heartbeat_timeout=settings.heartbeat_timeout,
        reconnect_min=settings.reconnect_min,
        reconnect_max=settings.reconnect_max,
        window=settings.window,
    )


def socket_options(settings: ClientSettings) -> ClientSocketOptions:
    """Return what a connection's sockets need to know."""
    return ClientSocketOptions(
        server_address=settings.server_address,
        send_port=settings.send_port,
        sub_port=settings.sub_port,
        receive_queue=settings.receive_queue,
        connect_timeout=settings.send_timeout,
        heartbeat_interval=settings.heartbeat_interval,
        heartbeat_timeout=settings.heartbeat_timeout,
    )
