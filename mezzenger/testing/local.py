"""A real server for tests, on whatever ports are free."""

import asyncio
from typing import Any

from mezzenger.client.aio import AsyncMezzenger
from mezzenger.client.sync import Mezzenger
from mezzenger.errors import ServerUnreachable
from mezzenger.server.server import MezzengerServer
from mezzenger.settings import ClientSettings, Settings

_DRAIN_SECONDS = 1.0


class _LocalAsyncMezzenger(AsyncMezzenger):
    """A client that somebody else may end, too."""

    def kill(self) -> None:
        """End it at once, in its own loop if that runs, and cancel the callbacks that run."""
        loop = self._engine.pump._own.loop  # noqa: SLF001  # for tests only, and of the same project
        here = asyncio._get_running_loop()  # noqa: SLF001  # the public one raises
        if loop is not None and loop.is_running() and loop is not here:
            loop.call_soon_threadsafe(self._engine.kill)
        else:
            self._engine.kill()


class LocalServer(MezzengerServer):
    """A server on free ports of this machine, in a thread of this process; its clients are stopped with it.

    Args:
        settings: Of the server, of its channels, and of clients where ``client`` is not told otherwise. Address and
            ports are chosen here; unless they say otherwise, a stop waits for acks for a second at most.

    Raises:
        ConfigurationError: A setting is wrong.
    """

    def __init__(self, settings: Settings | None = None) -> None:
        settings = settings or Settings()
        given: dict[str, Any] = settings.server.model_dump(exclude_unset=True)
        own = {"bind": "127.0.0.1", "pub_port": 0, "recv_port": 0}
        server = settings.server.model_copy(update=own | {"drain_timeout": given.get("drain_timeout", _DRAIN_SECONDS)})
        super().__init__(server, settings.channels)
        self._of_clients = settings.client
        self._clients: list[Mezzenger] = []
        self._async_clients: list[_LocalAsyncMezzenger] = []

    def client(self, **settings: object) -> Mezzenger:
        """Connect a client, which is stopped before the server.

        Args:
            settings: Such as ``send_timeout=0.5``: keys of the client section.

        Raises:
            ConfigurationError: A setting is wrong.
            ServerUnreachable: The server is not started yet, or was stopped.
        """
        client = Mezzenger(settings=self._of_client(settings))
        self._clients.append(client)
        return client

    def async_client(self, **settings: object) -> AsyncMezzenger:
        """Make a client for asyncio, to be connected as any: ``async with server.async_client() as mc``.

        Args:
            settings: As for ``client``.

        Raises:
            ConfigurationError: A setting is wrong.
            ServerUnreachable: The server is not started yet.
        """
        client = _LocalAsyncMezzenger(settings=self._of_client(settings))
        self._async_clients.append(client)
        return client

    def environ(self) -> dict[str, str]:
        """Return the variables with which ``Mezzenger.from_config()`` finds it, in this process and in others.

        Raises:
            ServerUnreachable: It is not started yet.
        """
        return {f"MEZZENGER_CLIENT__{key.upper()}": str(value) for key, value in self._address().items()}

    def stop(self) -> None:
        """Stop all clients, then the server; those for asyncio that are not stopped yet end at once."""
        for client in self._async_clients:
            client.kill()
        for other in self._clients:
            other.stop()
        super().stop()

    def _of_client(self, settings: dict[str, object]) -> ClientSettings:
        values: dict[str, Any] = self._of_clients.model_dump(exclude_unset=True) | self._address() | settings
        return ClientSettings(**values)

    def _address(self) -> dict[str, object]:
        if not self.recv_port:
            raise ServerUnreachable("this server is not started yet, and has no ports; use it as a context manager")
        return {"server_address": "127.0.0.1", "send_port": self.recv_port, "sub_port": self.pub_port}
