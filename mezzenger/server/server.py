"""The server as others use it: in the foreground, or embedded in a thread."""

import asyncio
import logging
import random
import signal
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import uvloop

from mezzenger.broker.core import Broker
from mezzenger.broker.stats import BrokerStats
from mezzenger.errors import MezzengerError
from mezzenger.server import options
from mezzenger.server.loop import ServerLoop
from mezzenger.settings import ChannelSettings, ServerSettings, Settings
from mezzenger.storage.base import Storage
from mezzenger.transport.sockets import ServerSockets, bind_server

_LOOK_SECONDS: Final = 0.5
"""Between two looks at whether the server still runs, for who waits for its answer."""

logger = logging.getLogger("mezzenger.server")


class MezzengerServer:
    """One server: ``run()`` it in the foreground, or ``start()`` and ``stop()`` it within another program.

    What differs for some names is in ``channels``, by pattern; the first pattern that matches a name applies.

    As a context manager it is started and stopped. Ports that are 0 in the settings are any free ones; ``pub_port`` and
    ``recv_port`` tell which, once it has started. ``config_file`` is the YAML file that ``from_config`` read, if any.

    Raises:
        ConfigurationError: A setting is wrong.
    """

    def __init__(
        self, settings: ServerSettings | None = None, channels: Mapping[str, ChannelSettings] | None = None
    ) -> None:
        # Whether the two fit together is known to the settings as a whole.
        checked = Settings(server=settings or ServerSettings(), channels=channels or {})
        self.settings = checked.server
        self.channels = checked.channels
        self.config_file: Path | None = None
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
        settings = Settings.load(path, server=overrides)
        server = cls(settings.server, settings.channels)
        server.config_file = Settings.find_file(path)
        return server

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
        if self._thread is not None:
            self._ready.wait()  # another thread may be about to start it
        self._in_loop(ServerLoop.request_stop)
        if self._thread is not None:
            self._thread.join()

    def stats(self) -> BrokerStats:
        """Return what was counted since the server started.

        Raises:
            MezzengerError: It does not run in a thread of this process.
        """
        thread = self._thread
        answer: Future[BrokerStats] = Future()
        self._in_loop(lambda loop: answer.set_result(loop.stats()))
        # Who ends does not come to answer.
        while thread is not None and thread.is_alive():
            with suppress(TimeoutError):
                return answer.result(_LOOK_SECONDS)
        raise MezzengerError("the server does not run; start() it first")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _in_loop(self, act: Callable[[ServerLoop], None]) -> None:
        """Have the loop do something, if it runs."""
        if self._loop is not None and self._asyncio_loop is not None:
            with suppress(RuntimeError):  # it has ended, perhaps just now
                self._asyncio_loop.call_soon_threadsafe(partial(act, self._loop))

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
        sockets = bind_server(options.socket_options(self.settings))
        self.pub_port, self.recv_port = sockets.pub_port, sockets.recv_port
        with asyncio.Runner(loop_factory=uvloop.Loop) as runner:
            runner.run(self._serve(sockets, options.storage(self.settings), with_signals=with_signals))

    async def _serve(self, sockets: ServerSockets, storage: Storage, *, with_signals: bool) -> None:
        settings = self.settings
        self._asyncio_loop = asyncio.get_running_loop()
        self._loop = ServerLoop(
            Broker(options.broker_options(settings, self.channels), random.random),
            storage,
            sockets,
            send_queue=settings.send_queue,
            send_queue_size=settings.send_queue_size,
            drain_timeout=settings.drain_timeout,
            verbose=settings.verbose,
        )
        if with_signals:
            for number in (signal.SIGTERM, signal.SIGINT):
                self._asyncio_loop.add_signal_handler(number, self._loop.interrupt)
        await self._loop.run(self._on_ready)
        logger.info("stopped")

    def _on_ready(self) -> None:
        logger.info("listening on %s, pub_port %d, recv_port %d", self.settings.bind, self.pub_port, self.recv_port)
        if self.settings.persist_file is None:
            logger.info("without persist_file: ack=1 messages are kept in memory only")
        else:
            logger.info("ack=1 messages are kept in %s", self.settings.persist_file.absolute())
        if self.config_file is None:
            logger.info("no configuration file")
        else:
            logger.info("configuration file %s", self.config_file)
        self._ready.set()
