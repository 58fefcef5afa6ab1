"""The server's end in memory: a real broker and a real store; what the server's loop does, without a loop."""

from typing import Final

from mezzenger.broker.core import Broker
from mezzenger.broker.effects import Effect, Mark, Publish, Send
from mezzenger.broker.stats import BrokerStats
from mezzenger.client.now import run_now
from mezzenger.errors import MezzengerError, ProtocolError
from mezzenger.protocol import wire
from mezzenger.protocol.commands import Ack, is_token
from mezzenger.server import options
from mezzenger.server.storing import Storing
from mezzenger.settings import Settings
from mezzenger.testing.clock import Act, Alarms, FakeClock
from mezzenger.testing.wires import Wires

_MIDDLE: Final = 0.5
"""Instead of a random number: pauses are exactly as the settings have them."""


class MemoryServer:
    """Runs brokers, one after the other.

    Args:
        settings: Of the server and the channels. A ``persist_file`` is used; else each broker begins with nothing.
        clock: Whose time it is.
    """

    def __init__(self, settings: Settings, clock: FakeClock) -> None:
        self._settings = settings
        self._clock = clock
        self._alarms = Alarms()
        """What is to be done with it; the clock's own may do anything, so they are not for this."""
        self._wires: dict[bytes, Wires] = {}
        self._acks_to_drop = 0
        self.messages = 0
        """Frames with messages that clients have sent, since the beginning."""
        self.is_up = False
        self.start()

    # Its life.

    def start(self) -> None:
        """Begin, with what the store has."""
        server = self._settings.server
        self._storage = options.storage(server, on_a_thread=False)
        self._broker = Broker(options.broker_options(server, self._settings.channels), lambda: _MIDDLE)
        self._storing = Storing(self._broker, self._storage, now=self._clock, perform=self._perform, later=self._later)
        try:
            self._broker.restored(run_now(self._storage.open()))
        except BaseException:
            # What has not started will not be stopped: nobody else lets go of the file.
            run_now(self._storage.close())
            raise
        self.is_up = True
        self._perform()

    def crash(self) -> None:
        """End at once; what was not committed is lost, and every client's connection."""
        if self.is_up:
            self.is_up = False
            for wires in self._wires.values():
                wires.cut()
            self._wires.clear()
            run_now(self._storage.close())

    def crash_and_restart(self, seconds: float) -> None:
        """End at once, and come back after so many seconds."""
        self.crash()
        if seconds:
            self._later(seconds, self.start)
        else:
            self.start()

    def stop(self) -> None:
        """Say goodbye, commit what is left, and end; does nothing if it has ended."""
        if self.is_up:
            self._broker.farewell(self._clock.now)
            self._perform()
            run_now(self._storing.commit())
            self.crash()

    def stats(self) -> BrokerStats:
        """Return what was counted since it started.

        Raises:
            MezzengerError: It has ended.
        """
        if not self.is_up:
            raise MezzengerError("the server does not run")
        return self._broker.stats()

    # Its work.

    @property
    def has_work(self) -> bool:
        """Whether something is to be stored or read."""
        return self.is_up and self._storing.has_work

    def work(self) -> None:
        """Store what is to be stored, then read what is wanted."""
        run_now(self._storing.work())

    def tick(self) -> None:
        """Do what is due."""
        while (alarm := self._alarms.take(self._clock.now)) is not None:
            _, act = alarm
            act()
        if self.is_up:
            self._broker.tick(self._clock.now)
            self._perform()

    def next_deadline(self) -> float | None:
        """When ``tick`` must be called next, if nothing happens before."""
        deadlines = [self._alarms.next_moment(), self._broker.next_deadline() if self.is_up else None]
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    # What goes wrong.

    def drop_next_ack(self) -> None:
        """Have the connection break on which the next ack comes, before it arrives."""
        self._acks_to_drop += 1

    # What clients do.

    def accept(self, wires: Wires) -> bool:
        """Take new wires, if it is up."""
        if self.is_up:
            self._wires[wires.peer] = wires
        return self.is_up

    def received(self, wires: Wires, frame: bytes) -> None:
        """Take what a client has sent."""
        self.messages += not wire.is_control(frame)
        if self._acks_to_drop and _is_ack(frame):
            self._acks_to_drop -= 1
            wires.cut()
        else:
            self._broker.receive(wires.peer, [frame], self._clock.now)
            self._perform()

    def wished(self, prefix: bytes, *, is_subscribed: bool) -> None:
        """Take note of what a client has subscribed to, or wants no more of."""
        if is_token(prefix):
            if is_subscribed:
                self._broker.surfaced(prefix, self._clock.now)
            else:
                self._broker.sunk(prefix, self._clock.now)
            self._perform()

    def lost(self, wires: Wires) -> None:
        """Take note that a client is gone: all that it was subscribed to sinks."""
        if self._wires.pop(wires.peer, None) is not None:
            for prefix in wires.wanted:
                self.wished(prefix, is_subscribed=False)

    # What the broker wants.

    def _later(self, seconds: float, act: Act) -> None:
        self._alarms.set(self._clock.now + seconds, act)

    def _perform(self) -> None:
        while effects := self._broker.take_effects():
            for effect in effects:
                self._do(effect)

    def _do(self, effect: Effect) -> None:
        match effect:
            case Send():
                self._send(effect)
            case Publish():
                self._broadcast(bytes(effect.frame))
            case Mark():
                self._broadcast(effect.token)
            case _:
                self._storing.add(effect)

    def _send(self, effect: Send) -> None:
        wires = self._wires.get(effect.peer)
        if wires is None:
            self._broker.unreachable(effect.peer, self._clock.now)
        else:
            wires.answer(list(effect.frames))

    def _broadcast(self, frame: bytes) -> None:
        for wires in self._wires.values():
            wires.broadcast(frame)


def _is_ack(frame: bytes) -> bool:
    if not wire.is_control(frame):
        return False
    try:
        return isinstance(wire.decode_client_command(frame), Ack)
    except ProtocolError:
        return False
