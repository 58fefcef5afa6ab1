"""Tokens that surface on the XPUB socket, and who waits for them.

A client subscribes its SUB socket to a token and names the token in a command over its DEALER socket. The two come in
either order; once both are there, all that the client subscribed before the token is active.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

MAX_UNCLAIMED: Final = 100_000


class Tokens:
    """The tokens that are subscribed, and the ones that are waited for."""

    def __init__(self) -> None:
        self._waited_for: dict[bytes, Callable[[float], None]] = {}
        self._unclaimed: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, token: bytes) -> bool:
        """Whether somebody waits for the token."""
        return token in self._waited_for

    def expect(self, token: bytes, then: Callable[[float], None], now: float) -> None:
        """Call ``then`` once with the time, as soon as the token has surfaced; at once if it has."""
        if token in self._unclaimed:
            del self._unclaimed[token]
            then(now)
        else:
            self._waited_for[token] = then

    def surfaced(self, token: bytes, now: float) -> None:
        """Take note that somebody subscribed to the token."""
        then = self._waited_for.pop(token, None)
        if then is not None:
            then(now)
            return
        self._unclaimed[token] = None
        if len(self._unclaimed) > MAX_UNCLAIMED:
            # A client that named this one would wait in vain, give its connection up, and try again.
            self._unclaimed.popitem(last=False)

    def forget(self, token: bytes) -> None:
        """Take note that the token is subscribed no more, or that nobody waits for it any more."""
        self._waited_for.pop(token, None)
        self._unclaimed.pop(token, None)
