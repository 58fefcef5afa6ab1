"""An engine with threads: one for callbacks, and one that sends and receives while the others do not."""

import logging
import os
import threading
from collections.abc import Callable
from typing import Final, NamedTuple

from mezzenger.client import lifetime
from mezzenger.client.dispatch import Dispatcher
from mezzenger.client.engine import Engine
from mezzenger.client.line import socket_line
from mezzenger.client.log import log
from mezzenger.client.lookup import with_lookup
from mezzenger.client.now import run_now
from mezzenger.client.pump import Pump
from mezzenger.client.sleep import Sleep
from mezzenger.errors import ServerUnreachable
from mezzenger.protocol.session import ClientSession
from mezzenger.settings import ClientSettings

_PATIENCE: Final = 2.0
"""Seconds after which who waits for the end is told what it waits for."""


def socket_pump(session: ClientSession, settings: ClientSettings) -> Pump:
    """Make the pump of a client that reaches its server as the settings have it."""
    return Pump(session, socket_line(session, settings), Sleep())


class Parts(NamedTuple):
    """What an engine is made of, where that is not always the same."""

    pump: Callable[[ClientSession, ClientSettings], Pump] = socket_pump
    dispatcher: type[Dispatcher] = Dispatcher


PARTS: Final = Parts()


class ThreadEngine(Engine):
    """What drives a ``Mezzenger``; any thread may use it."""

    def __init__(self, settings: ClientSettings, parts: Parts = PARTS) -> None:
        super().__init__(settings)
        self._pump = parts.pump(self.session, settings)
        self._set_up(self._pump)
        self._receiver = self.dispatcher = parts.dispatcher(
            self.payloads,
            self._responder,
            settings.receive_queue,
            handled=self._on_handled,
            ignored=self._on_ignored,
            ended=self._disconnect,
            rest=self._pump.rest,
            rouse=self._pump.rouse,
        )
        self._pump.arrived = self._arriving(self.dispatcher.put)
        self._pump.ended = self._on_ended
        self._pump.before_sleep = self._gatherer.leave_if_due
        self._pump.leaves_by = self._gatherer.leaves_by
        self._lifecycle = threading.Lock()
        self._is_receiving = False
        self._has_stopped = threading.Event()

    def connect(self) -> None:
        """Wait until the server has answered; if it does not, the engine has stopped."""
        lifetime.began(self)
        try:
            self._pump.run(lambda session, now: session.start(now))
            if self.settings.auto_start:
                self._start_io()
            try:
                run_now(self._flush_session(self.patience))
            except ServerUnreachable as error:
                raise with_lookup(error, self.settings.server_address) from None
        except BaseException:
            self.is_stopping = True
            self.gather = self._ask_first
            self._close()
            raise

    def start(self) -> None:
        """Start the threads; does nothing if they run."""
        self._start_io()
        self.dispatcher.start()

    def stop(self) -> None:
        """Finish the callback that runs, send what is still to be sent, and disconnect; from a callback: soon."""
        if os.getpid() != self._pid:
            return
        with self._lifecycle:
            is_first = not self.is_stopping
            self.is_stopping = True
            self.gather = self._ask_first
        self.dispatcher.stop()
        if self.dispatcher.is_current_thread():
            return
        if is_first and not self.dispatcher.has_started:
            self._disconnect()
        if not self._has_stopped.wait(_PATIENCE):
            log(logging.WARNING, "still stopping: a callback has not returned yet, or the server has not answered")
            self._has_stopped.wait()

    def join_callbacks(self, seconds: float) -> bool:
        """Wait so long at most until no callback will run any more, and return whether that is so.

        Not to be called from a callback.
        """
        return self.dispatcher.join(seconds)

    def _subscribed(self) -> None:
        if self._is_receiving:
            self.dispatcher.start()

    async def _give_turn(self) -> None:
        """Do nothing: other threads go on anyway."""

    def _start_io(self) -> None:
        with self._lifecycle:
            if not self._is_receiving and not self.is_stopping:
                self._pump.start()
                self._is_receiving = True
                if self._pump.is_attended:
                    self.gather = self._gathering()

    def _disconnect(self) -> None:
        """Send what is still to be sent, and close; nothing here raises."""
        try:
            run_now(self._send_the_rest())
        finally:
            self._close()

    def _close(self) -> None:
        try:
            self._pump.close()
            self._pump.join()
        finally:
            self._has_stopped.set()
            lifetime.ended(self)
