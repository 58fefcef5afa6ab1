"""An engine in an asyncio loop: no thread, callbacks are tasks."""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Final, NamedTuple

from mezzenger.client import lifetime
from mezzenger.client.async_pump import DONE, AsyncPump
from mezzenger.client.batches import Item
from mezzenger.client.engine import Engine
from mezzenger.client.lanes import Lanes
from mezzenger.client.line import socket_line
from mezzenger.client.lookup import with_lookup
from mezzenger.errors import MezzengerError, ServerUnreachable
from mezzenger.protocol.session import ClientSession
from mezzenger.protocol.wire import Extra
from mezzenger.settings import ClientSettings


def socket_pump(session: ClientSession, settings: ClientSettings) -> AsyncPump:
    """Make the pump of a client that reaches its server as the settings have it."""
    return AsyncPump(session, socket_line(session, settings))


class AsyncParts(NamedTuple):
    """What an engine is made of, where that is not always the same."""

    pump: Callable[[ClientSession, ClientSettings], AsyncPump] = socket_pump


ASYNC_PARTS: Final = AsyncParts()


class AsyncEngine(Engine):
    """What drives an ``AsyncMezzenger``; all tasks of one loop may use it."""

    def __init__(self, settings: ClientSettings, parts: AsyncParts = ASYNC_PARTS) -> None:
        super().__init__(settings)
        self.gather = self._ask_first
        self.pump = self._pump = parts.pump(self.session, settings)
        """Runs the session."""
        self._set_up(self._pump)
        self._pump.before_sleep = self._gatherer.leave_if_due
        self._receiver = self._lanes = Lanes(
            self.payloads,
            self._responder,
            settings.receive_queue,
            handled=self._on_handled,
            ignored=self._on_ignored,
        )
        self._pump.arrived = self._arriving(self._lanes.put)
        self._pump.ended = self._on_ended
        self._pump.failed = self._lanes.fail
        self._connecting = asyncio.Lock()
        self._is_connected = False
        self._ending: asyncio.Task[None] | None = None

    def check_usable(self) -> None:
        """Do nothing if the client may be used.

        Raises:
            MezzengerError: It is not connected yet.
            ClientStopped: ``stop()`` was called.
            UsedAfterFork: This process did not make the client.
            UsedInAnotherLoop: It was connected in another loop.
        """
        super().check_usable()
        if not self._is_connected:
            raise MezzengerError("this client is not connected yet: use it in an 'async with', or await it first")
        self._pump.check_loop()

    async def connect(self) -> None:
        """Wait until the server has answered; if it does not, the engine has stopped. Does nothing if it has."""
        super().check_usable()
        self._pump.open()
        async with self._connecting:
            if self._is_connected:
                return
            lifetime.began(self)
            try:
                self._pump.run(lambda session, now: session.start(now))
                try:
                    await self._flush_session(self.patience)
                except ServerUnreachable as error:
                    raise await asyncio.to_thread(with_lookup, error, self.settings.server_address) from None
                super().check_usable()  # it may have been stopped meanwhile
            except BaseException:
                self.is_stopping = True
                self._close()
                raise
            self._is_connected = True
            self.gather = self._gathering() if self._pump.is_attended else self._send_at_once
            if self.settings.auto_start:
                self._lanes.start()

    def start(self) -> None:
        """Have callbacks run; does nothing if they do."""
        self._lanes.start()

    async def turn(self) -> None:
        """Wait for the loop's next turn; who sends on and on does so once for each frame."""
        try:
            await self._give_turn()
        except asyncio.CancelledError as cancelled:
            cancelled.add_note(DONE)
            raise
        self._gatherer.resumed()

    async def send(self, name: str, item: Item, codec: int, ack: int, extra: Extra) -> None:
        """Send one message, and let others have their turn if it had ``ack=0`` and a frame has left."""
        await super().send(name, item, codec, ack, extra)
        if not ack and self.pump.is_turn_due:
            await self.turn()

    async def shut_down(self) -> None:
        """Finish the callbacks that run, send what is still to be sent, and disconnect; from a callback: soon.

        If this is cancelled, what is not done by then is cancelled, too.

        Raises:
            UsedInAnotherLoop: The client's own loop is another one, and not closed.
        """
        if os.getpid() != self._pid:
            return
        if self._pump.is_deserted:
            self.stop()
            return
        self._pump.open()
        self.is_stopping = True
        self.gather = self._ask_first
        if not self._is_connected:
            self._close()  # whoever connects it is told
            return
        if self._ending is None:
            self._lanes.stop()
            self._ending = asyncio.get_running_loop().create_task(self._end(), name="mezzenger-stop")
        if self._lanes.is_in_callback():
            return
        try:
            await asyncio.wait([self._ending])
        except asyncio.CancelledError:
            self._ending.cancel()
            raise

    def stop(self) -> None:
        """Let go of everything, for the program ends."""
        self.is_stopping = True
        with suppress(RuntimeError):  # the loop is closed
            self._close()

    def kill(self) -> None:
        """Let go of everything, begin no further callback, and cancel those that run."""
        self.stop()
        self._lanes.stop()
        with suppress(RuntimeError):  # the loop is closed
            self._lanes.cancel()

    def join_callbacks(self, _seconds: float) -> bool:
        """Do nothing: callbacks end with their loop."""
        return True

    def _subscribed(self) -> None:
        """Do nothing: callbacks run as soon as there is something for them."""

    async def _give_turn(self) -> None:
        await asyncio.sleep(0)

    async def _end(self) -> None:
        try:
            await self._lanes.join()
            await self._send_the_rest()
        finally:
            self._lanes.cancel()
            self._close()

    def _close(self) -> None:
        self.gather = self._ask_first
        self._pump.close()
        lifetime.ended(self)
