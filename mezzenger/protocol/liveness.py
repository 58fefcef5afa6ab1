"""When a client asks whether the server lives, when it gives the connection up, and when it tries again."""

from collections.abc import Callable

from mezzenger.protocol.states import SessionOptions, State


class Liveness:
    """What a client knows of its connection, as times by the shell's clock.

    Args:
        options: Time limits.
        jitter: Returns a random number between 0 and 1 at each call.
    """

    def __init__(self, options: SessionOptions, jitter: Callable[[], float]) -> None:
        self._options = options
        self._jitter = jitter
        self._heard = 0.0
        self._asked: float | None = None
        self._failures = 0
        self.deadline = 0.0
        """When the attempt to connect fails if no answer comes; between attempts, when the next one begins."""

    def connecting(self, now: float) -> None:
        """An attempt to connect begins."""
        self.heard(now)
        self.deadline = now + self._options.attempt_timeout

    def linked(self) -> None:
        """The attempt succeeded."""
        self._failures = 0

    def lost(self, now: float) -> None:
        """The connection broke, or the attempt failed; each failure in a row doubles the pause, up to the limit."""
        pause = min(self._options.reconnect_min * 2.0 ** min(self._failures, 30), self._options.reconnect_max)
        self._failures += 1
        # Half of it by chance: clients that lost their server together must not come back together.
        self.deadline = now + pause * (0.5 + 0.5 * self._jitter())

    def heard(self, now: float) -> None:
        """Something came from the server."""
        self._heard = now
        self._asked = None

    def asked(self, now: float) -> None:
        """A ping was sent."""
        if self._asked is None:
            self._asked = now

    @property
    def is_asking(self) -> bool:
        """Whether a ping waits for its answer."""
        return self._asked is not None

    def is_alive(self, now: float) -> bool:
        """Whether the server was heard lately, so that what is sent now may be taken as handed over."""
        return now - self._heard <= self._options.heartbeat_timeout

    def due(self, state: State) -> float | None:
        """When the connection needs something, if nothing happens before."""
        if state is State.OPEN:
            return self.ask_or_give_up()
        return self.deadline if state in {State.CONNECTING, State.RECONNECTING} else None

    def ask_or_give_up(self) -> float:
        """When a ping is to be sent; if one was, when the connection is to be given up."""
        if self._asked is None:
            return self._heard + self._options.heartbeat_interval
        return self._asked + self._options.heartbeat_timeout
