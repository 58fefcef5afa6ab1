"""What a client's session has between itself and the server: sockets, or something that stands for them."""

from collections.abc import Callable, Iterable
from typing import Protocol

from mezzenger.client.connection import Connection
from mezzenger.client.options import socket_options
from mezzenger.protocol.session import ClientSession
from mezzenger.settings import ClientSettings


class Line(Protocol):
    """Does what a session asks for, and tells it what arrives; over as many connections as the session makes.

    ``Connection`` does so with sockets. One that has none, in memory for example, has no descriptors either: it calls
    ``wake`` when something has arrived. Nothing here waits, and one thread at a time uses it; only ``wake`` may be
    called at any time.
    """

    clock: Callable[[], float]
    """Tells the time, in seconds, by which the session lives."""
    generation: int
    """Another one whenever ``descriptors`` may return something else than before."""
    wake: Callable[[], None]
    """Set by the pump; has it call ``has_more`` and ``receive`` soon. Any thread may call it."""
    before_close: Callable[[], None]
    """Set by the pump; to be called before descriptors become invalid."""

    def descriptors(self) -> list[int]:
        """Return the file descriptors that become readable when something arrives."""

    def signalled(self, descriptors: Iterable[int]) -> None:
        """Take note that these are readable; those of others may be among them."""

    def doubt_all(self) -> None:
        """Look everywhere the next time: it may be that no descriptor has told of what has arrived."""

    def has_more(self) -> bool:
        """Whether something has arrived that ``receive`` did not take in; if not, the pump is told of what comes."""

    def receive(self, now: float) -> bool:
        """Hand in what has arrived, or a part of it: ``session.receive``, ``session.broadcast``, ``session.lost``.

        Returns:
            Whether there may be something for ``perform`` that cannot wait, or the session have another deadline now.
        """

    def send(self, frame: bytes) -> None:
        """Do what the action ``Send`` asks for; to be called when ``perform`` has nothing to do."""

    def perform(self, now: float) -> None:
        """Do what ``session.take_actions`` returns, until it returns nothing.

        What the server takes no more of for now is kept, and the session told: ``blocked``, and later ``unblocked``.
        ``Disconnect`` makes an end of the connection, and of what it has not carried yet.
        """


LineMaker = Callable[[ClientSession, ClientSettings], Line]
"""Makes the line of a session."""


def socket_line(session: ClientSession, settings: ClientSettings) -> Line:
    """Make the line of a session that reaches a server as the settings have it."""
    return Connection(session, socket_options(settings))
