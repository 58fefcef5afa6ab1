"""The server as others use it: in the foreground, or embedded in a thread."""

import asyncio
import logging
import random
import signal
import sys
import threading
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from mezzenger.broker.core import Broker, BrokerOptions
from mezzenger.broker.deliveries import DeliveryOptions
from mezzenger.broker.room import RoomOptions
from mezzenger.broker.stats import BrokerStats
from mezzenger.errors import MezzengerError
from mezzenger.policy import Policies, Policy
from mezzenger.server.loop import ServerLoop
from mezzenger.settings import ServerSettings, Settings
from mezzenger.storage.base import Storage
from mezzenger.storage.memory import MemoryStorage
from mezzenger.storage.sqlite import SqliteStorage
from mezzenger.transport.sockets import ServerSocketOptions, ServerSockets, bind_server

_PENDING_IN_MEMORY: Final = 256 * 2**20
_PENDING_IN_FILE: Final = 10 * 2**30

logger = logging.getLogger("mezzenger.server")


class MezzengerServer:
    """One server: ``run()`` it in the foreground, or ``start()`` and ``stop()`` it within another program.

    As a context manager it is started and stopped. Ports that are 0 in the settings are any free ones; ``pub_port`` and
    ``recv_port`` tell which, once it has started.

    Raises:
        ConfigurationError: A setting is wrong.
    """

    def __init__(self, settings: ServerSettings | None = None) -> None:
        self.settings = settings or ServerSettings()
        self.pub_port = self.settings.pub_port
        self.recv_port = self.settings.recv_port
        self._loop: ServerLoop | None = None
        self._asyncio_loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None

    @classmethod
    def from_config(cls, path: str | Path | None = None, **overrides: object) -> Self:
        """Make a server from the YAML file, the environment, and ``overrides`` of the server section.

        Raises:
            ConfigurationError: A setting is wrong.
        """
        return cls(Settings.load(path, server=overrides).server)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT; a second one does not wait for what is under way.

        Raises:
            BindError: It cannot listen.
            StorageError: The store cannot be read.
        """
        self._run(with_signals=True)

    def start(self) -> None:
        """Serve in a thread; return when clients can connect. Call ``stop()`` at the end.

        Raises:
            BindError: It cannot listen.
            StorageError: The store cannot be read.
            MezzengerError: It has been started before.
        """
        if self._thread is not None:
            raise MezzengerError("this server was started before; make a new one")
        self._thread = threading.Thread(target=self._run_in_thread, name="mezzenger-server", daemon=True)
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Finish what is under way, for ``drain_timeout`` at most, and stop; does nothing if it is not running."""
        if self._loop is not None and self._asyncio_loop is not None and not self._asyncio_loop.is_closed():
            self._asyncio_loop.call_soon_threadsafe(self._loop.request_stop)
        if self._thread is not None:
            self._thread.join()

    def stats(self) -> BrokerStats:
        """Return what was counted since the server started.

        Raises:
            MezzengerError: It does not run in a thread of this process.
        """
        if self._loop is None or self._asyncio_loop is None or self._thread is None or not self._thread.is_alive():
            raise MezzengerError("the server does not run; start() it first")
        return asyncio.run_coroutine_threadsafe(_stats(self._loop), self._asyncio_loop).result()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _run_in_thread(self) -> None:
        try:
            self._run(with_signals=False)
        except BaseException as error:
            # Before it was ready start() raises it; afterwards nobody waits for it.
            if self._ready.is_set():
                logger.critical("the server has failed", exc_info=True)
                raise
            self._error = error
        finally:
            self._ready.set()

    def _run(self, *, with_signals: bool) -> None:
        sockets = bind_server(_socket_options(self.settings))
        self.pub_port, self.recv_port = sockets.pub_port, sockets.recv_port
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(self._serve(sockets, _storage(self.settings), with_signals=with_signals))

    async def _serve(self, sockets: ServerSockets, storage: Storage, *, with_signals: bool) -> None:
        settings = self.settings
        self._asyncio_loop = asyncio.get_running_loop()
        self._loop = ServerLoop(
            Broker(_broker_options(settings), random.random),
            storage,
            sockets,
            send_queue=settings.send_queue,
            send_queue_size=256 * 2**20,
            drain_timeout=settings.drain_timeout,
            verbose=settings.verbose,
        )
        if with_signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._asyncio_loop.add_signal_handler(number, self._loop.request_stop)
        await self._loop.run(self._on_ready)
        logger.info("stopped")

    def _on_ready(self) -> None:
        logger.info("listening on %s, pub_port %d, recv_port %d", self.settings.bind, self.pub_port, self.recv_port)
        self._ready.set()


async def _stats(loop: ServerLoop) -> BrokerStats:
    return loop.stats()


def _loop_factory() -> "type[asyncio.AbstractEventLoop] | None":
    if sys.platform == "win32":
        return asyncio.SelectorEventLoop
    import uvloop

    return uvloop.Loop


def _storage(settings: ServerSettings) -> Storage:
    return MemoryStorage() if settings.persist_file is None else SqliteStorage(settings.persist_file)


def _pending_limit(settings: ServerSettings) -> int:
    if settings.max_pending_size is not None:
        return settings.max_pending_size
    return _PENDING_IN_MEMORY if settings.persist_file is None else _PENDING_IN_FILE


def _broker_options(settings: ServerSettings) -> BrokerOptions:
    policies = Policies(
        Policy(
            settings.resend_initial,
            settings.resend_multiplier,
            settings.resend_max,
            0.1,
            20,
            None,
            0.0,
            None,
            None,
            "reject",
        )
    )
    return BrokerOptions(
        max_message_size=settings.max_message_size,
        link_timeout=settings.heartbeat_timeout,
        delivery=DeliveryOptions(settings.credit, settings.send_queue, 100_000, policies),
        room=RoomOptions(None, _pending_limit(settings), policies),
        max_names=100_000,
        max_peers=10_000,
    )


def _socket_options(settings: ServerSettings) -> ServerSocketOptions:
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
