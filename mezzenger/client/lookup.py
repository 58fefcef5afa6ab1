"""Whether a host that does not answer has an address at all; ZeroMQ does not tell."""

import socket
import threading
from typing import Final

from mezzenger.errors import ServerUnreachable

_PATIENCE: Final = 1.0
"""Seconds that are waited for whoever knows the addresses of names."""


def with_lookup(error: ServerUnreachable, host: str) -> ServerUnreachable:
    """Return the error of a client that could not connect, with what is wrong with the host's name, if anything is."""
    found: list[str] = []

    def look() -> None:
        try:
            # As ZeroMQ asks: by name it finds IPv4 addresses only.
            socket.getaddrinfo(host, None, family=socket.AF_INET6 if ":" in host else socket.AF_INET)
        except (OSError, UnicodeError) as problem:
            found.append(str(getattr(problem, "strerror", None) or problem))

    # Nothing can break it off, and nobody is to wait for it at the program's end.
    asking = threading.Thread(target=look, name="mezzenger-lookup", daemon=True)
    asking.start()
    asking.join(_PATIENCE)
    return ServerUnreachable(f"{error}; the name {host!r} cannot be resolved: {found[0]}") if found else error
